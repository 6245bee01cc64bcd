"""What paged lists have in common."""

from __future__ import annotations

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from ml_platform_server.backends.paging import LARGEST_BYTES, fitting, key_of, page_length, token_after
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
    assert key_of(token_after(key)) == key


def test_no_token_is_the_first_page() -> None:
    """The empty key comes before all others."""
    assert key_of("") == ""


@pytest.mark.parametrize("token", ["garbage!", "a", "____", "é"])
def test_a_token_that_no_list_gave_is_refused(token: str) -> None:
    """As an error of the field, not of the server."""
    with refused("PAGE_TOKEN_INVALID") as error:
        key_of(token)
    assert error.value.violations[0].field == "page_token"
