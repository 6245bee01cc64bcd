"""Parts that are made when something first needs them, and opened and closed in their order."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import cached_property
from typing import Protocol, TypeVar


class Openable(Protocol):
    """A part that begins and ends with the process."""

    async def open(self) -> None:
        """Begin."""

    async def close(self) -> None:
        """End."""


T = TypeVar("T", bound=Openable)


class Parts:
    """Base of a class whose parts are cached properties. Asking for a part makes it, and those that it needs before it.

    Args:
        given: parts by name that are used in place of those that would be made. The caller opens and closes them.

    Raises:
        ValueError: a name is no part's.
    """

    def __init__(self, given: Mapping[str, object]) -> None:
        self._to_open: list[Openable] = []
        if unknown := [name for name in given if not self._is_part(name)]:
            raise ValueError(f"{type(self).__name__} has no part {', '.join(unknown)}.")
        self.__dict__.update(given)

    @property
    def made(self) -> frozenset[str]:
        """The parts that were made or given so far, by name."""
        return frozenset(filter(self._is_part, self.__dict__))

    async def open(self, stack: AsyncExitStack) -> None:
        """Open what was made since the last time, and have it closed in the opposite order, even if that fails half-way."""
        parts, self._to_open = self._to_open, []
        for part in parts:
            stack.push_async_callback(part.close)
            await part.open()

    def _kept(self, part: T) -> T:
        """Remember to open and to close a part."""
        self._to_open.append(part)
        return part

    @classmethod
    def _is_part(cls, name: str) -> bool:
        return isinstance(getattr(cls, name, None), cached_property)
