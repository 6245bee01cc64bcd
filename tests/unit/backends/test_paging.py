"""What paged lists have in common."""

from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from ml_platform_server.backends.paging import LARGEST_BYTES, fitting, page_length, position_of, token_after
from tests.support.refusals import refused


@pytest.mark.parametrize(("asked", "length"), [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (2**31 - 1, 1000)])
def test_pages_are_capped(asked: int, length: int) -> None:
    """Nothing asked for is a hundred; too much is a thousand."""
    assert page_length(asked) == length


def test_a_page_holds_as_much_as_a_reply_can() -> None:
    """Entries are counted until they are too many bytes; one that is too large by itself is a page of its own."""
    small, large, huge = (StringValue(value="x" * size) for size in (10, LARGEST_BYTES // 2 - 100, LARGEST_BYTES + 1))
    pages: tuple[list[StringValue], ...] = ([], [small] * 5, [large] * 5, [huge, small], [small, huge])
    assert [fitting(page) for page in pages] == [0, 5, 2, 1, 1]


@pytest.mark.parametrize("key", ["a", "fraud_features", "ünïcode", "with/slash+plus"])
def test_a_token_stands_for_its_key(key: str) -> None:
    """Whatever characters the key has."""
    assert position_of(token_after(key, "views"), "views") == key


@pytest.mark.parametrize("other", [("models",), ("runs", "1", "", ""), ("runs", "1", "", "metrics.m"), ()])
def test_a_token_is_valid_for_the_list_that_issued_it(other: tuple[str, ...]) -> None:
    """Another list, another parent, another filter and another order refuse it."""
    with refused("PAGE_TOKEN_INVALID"):
        position_of(token_after("100", "runs", "2", "", "metrics.m"), *other)


def test_no_token_is_the_first_page() -> None:
    """The empty key comes before all others."""
    assert position_of("", "views") == ""


@pytest.mark.parametrize("token", ["garbage!", "a", "____", "é", "A" * 100_000, "[" * 4000, "MQ", "WzEsMl0"])
def test_a_token_that_no_list_gave_is_refused(token: str) -> None:
    """As an error of the field, not of the server."""
    with refused("PAGE_TOKEN_INVALID") as error:
        position_of(token, "views")
    assert error.value.violations[0].field == "page_token"
