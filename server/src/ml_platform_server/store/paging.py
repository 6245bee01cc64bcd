"""Pages of rows, newest first, with opaque tokens that stay right while rows are added."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol, Self, TypeVar

from google.protobuf.message import Message
from sqlalchemy import ColumnElement, Select, tuple_
from sqlalchemy.orm import InstrumentedAttribute

from ml_platform_server.backends.paging import fitting, page_length, page_token_invalid, position_of, token_after

Statement = TypeVar("Statement", bound=Select[Any])
Row = TypeVar("Row")
Entry = TypeVar("Entry", bound=Message)


class ListRequest(Protocol):
    """A request for a page of a list."""

    page_size: int
    page_token: str


@dataclass(frozen=True)
class Page:
    """The page of a list that a caller asks for. `size` 0 means the default; too large a size is capped.

    `list_id` identifies the list and its filters: a token is valid for the list that issued it.
    """

    size: int = 0
    token: str = ""
    list_id: str = ""

    @classmethod
    def of(cls, request: ListRequest) -> Self:
        """The page that a request of the contract asks for. Whatever else is in the request belongs to the list's identity."""
        assert isinstance(request, Message)  # noqa: S101  # every request of the contract is one
        rest = type(request)()
        rest.CopyFrom(request)
        rest.ClearField("page_size")
        rest.ClearField("page_token")
        identity = f"{request.DESCRIPTOR.full_name}:{rest.SerializeToString(deterministic=True).hex()}"
        return cls(request.page_size, request.page_token, identity)

    @property
    def limit(self) -> int:
        """How many rows the page holds at most."""
        return page_length(self.size)

    def select(self, query: Statement, time: InstrumentedAttribute[datetime], key: InstrumentedAttribute[str]) -> Statement:
        """Limit a query to this page, and to one row more, which shows whether there is a next page.

        Raises:
            PlatformError: PAGE_TOKEN_INVALID.
        """
        if self.token:
            query = query.where(_before(time, key, *self._position()))
        return query.order_by(time.desc(), key.desc()).limit(self.limit + 1)

    def cut(self, rows: Sequence[Row], position: Any) -> tuple[list[Row], str]:  # noqa: ANN401  # a function of a Row
        """The rows of this page and the token of the next; `position` gives a row's (time, key)."""
        page = list(rows[: self.limit])
        return page, self._token_after(*position(page[-1])) if len(rows) > self.limit else ""

    def shortened(
        self,
        entries: Sequence[Entry],
        token: str,
        rows: Sequence[Row],
        position: Any,  # noqa: ANN401  # a function of a Row
    ) -> tuple[list[Entry], str]:
        """The entries made of this page's rows, as many as fit into one reply, and the token of the next page."""
        count = fitting(entries)
        return list(entries[:count]), token if count == len(entries) else self._token_after(*position(rows[count - 1]))

    def _token_after(self, time: datetime, key: str) -> str:
        return token_after(json.dumps([time.isoformat(), key]), self.list_id)

    def _position(self) -> tuple[datetime, str]:
        try:
            time, key = json.loads(position_of(self.token, self.list_id))
            moment = datetime.fromisoformat(time)
            if moment.tzinfo is None or "\0" in key:  # Neither is in any row, and databases refuse them.
                raise page_token_invalid()
            return moment.astimezone(UTC), key
        except (ValueError, TypeError, OverflowError):
            raise page_token_invalid() from None


def _before(
    time: InstrumentedAttribute[datetime], key: InstrumentedAttribute[str], last_time: datetime, last_key: str
) -> ColumnElement[bool]:
    return tuple_(time, key) < tuple_(last_time, last_key)
