"""Puts the interceptors around a method once, when it is registered, so that a call costs only what they do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from ml_platform_server.method import ContractError, Handler, Method


class Interceptor(Protocol):
    """One concern that every call passes."""

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """Return a handler that does its own part and calls `continuation`; or `continuation` itself, if there is nothing to do.

        An interceptor that only acts before the call is a plain function that returns what `continuation` returns: a coroutine
        for each layer would cost every call more than most layers do.
        """


class Chain:
    """The interceptors in the order in which a call meets them.

    Raises:
        ContractError: one of them is there twice: each call would be counted, logged or limited twice.
    """

    def __init__(self, interceptors: Sequence[Interceptor]) -> None:
        self._interceptors = tuple(interceptors)
        if twice := [name for name, count in Counter(self.names).items() if count > 1]:
            raise ContractError(f"{', '.join(twice)} stands twice in the chain of interceptors.")

    @property
    def names(self) -> tuple[str, ...]:
        """The interceptors' names, in their order."""
        return tuple(type(interceptor).__name__ for interceptor in self._interceptors)

    def wrap(self, method: Method, handler: Handler) -> Handler:
        """Return the handler with every interceptor around it."""
        for interceptor in reversed(self._interceptors):
            handler = interceptor.wrap(method, handler)
        return handler
