"""Pages of MLflow's lists, which change between two of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

import pytest
from mlflow.store.entities.paged_list import PagedList

from ml_platform.v1 import experiments_pb2
from ml_platform_server.backends.mlflow.searches import PageRequest, fetch_page
from ml_platform_server.backends.paging import token_after
from tests.support.refusals import refused


class Listed:
    """A list that MLflow pages by offset, and that changes between two pages."""

    def __init__(self, count: int) -> None:
        self.names = [f"e{number}" for number in reversed(range(count))]
        self.searches = 0

    def search(self, length: int, token: str | None) -> PagedList[str]:
        self.searches += 1
        offset = json.loads(base64.b64decode(token))["offset"] if token else 0
        assert token is None or offset > 0  # MLflow refuses it
        more = offset + length < len(self.names)
        return PagedList(self.names[offset : offset + length], "more" if more else None)

    def page(self, length: int, token: str = "") -> tuple[list[str], str]:
        found, token = fetch_page(
            self.search, lambda name: experiments_pb2.Experiment(name=name), str, PageRequest(("list",), length, token)
        )
        return [each.name for each in found], token

    def all_pages(self, length: int, between: Callable[[int], None] = lambda _: None) -> list[str]:
        found, token = self.page(length)
        pages = 1
        while token:
            between(pages)
            more, token = self.page(length, token)
            found += more
            pages += 1
        return found


@pytest.mark.parametrize("length", [1, 2, 3, 7, 100])
def test_pages_hold_every_entry_once(length: int) -> None:
    """One search a page, whatever its length."""
    listed = Listed(7)
    assert listed.all_pages(length) == listed.names
    assert listed.searches <= -(-7 // length)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_what_comes_meanwhile_shifts_no_page(length: int) -> None:
    """New entries come first in the list: none that was there is given twice."""
    listed = Listed(9)
    before = [*listed.names]
    assert listed.all_pages(length, lambda page: listed.names.insert(0, f"new{page}")) == before


@pytest.mark.parametrize("gone", [0, 1, 2, 3, 8])
def test_what_goes_meanwhile_takes_no_other_with_it(gone: int) -> None:
    """Whether it was on a page that was given, the last there, or is still to come."""
    listed = Listed(9)
    before = [*listed.names]
    lost = before[gone]
    found = listed.all_pages(3, lambda page: listed.names.remove(lost) if page == 1 else None)
    assert found == [name for name in before if name != lost or gone < 3]


@pytest.mark.parametrize("position", ["5", "[]", '["a", "b"]', '[0, "e"]', '[-1, "e"]', "[1, 2]", '[1, "e", 3]', "nothing"])
def test_a_position_that_no_list_gave_is_refused(position: str) -> None:
    """Though its list is the right one."""
    with refused("PAGE_TOKEN_INVALID"):
        Listed(3).page(1, token_after(position, "list"))
