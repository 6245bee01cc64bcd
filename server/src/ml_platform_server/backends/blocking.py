"""Runs a vendor's blocking calls outside the event loop, with a bound on how many run and how many wait."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from ml_platform_server.call import remaining
from ml_platform_server.errors import PlatformError, deadline_exceeded, overloaded
from ml_platform_server.observability.tracing import current

P = ParamSpec("P")
R = TypeVar("R")


DEFAULT_TIMEOUT = 30.0
_REQUESTS = 3
"""How many requests in a row a function makes at most, as a rule."""


class BlockingPool:
    """A bounded executor that belongs to one backend.

    A call that outlives its caller's deadline keeps its thread until the vendor's own timeout ends it; the bound on waiting calls
    keeps a hanging backend from piling up work.
    """

    def __init__(self, name: str, *, threads: int, waiting: int = 256, timeout: float | None = None) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads + waiting
        self._timeout = DEFAULT_TIMEOUT if timeout is None else timeout

    async def run(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a blocking function in the pool and wait for it until the call's deadline.

        Raises:
            PlatformError: OVERLOADED when too many calls wait; DEADLINE_EXCEEDED when the time is up.
        """
        if self._free <= 0:
            raise too_many_wait(self._name)
        self._free -= 1
        trace, start = current.get(), time.perf_counter()
        # In the call's context: what the function logs has the id of the call.
        future = self._executor.submit(contextvars.copy_context().run, partial(function, *args, **kwargs))
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._release) if not loop.is_closed() else None)
        try:
            async with asyncio.timeout(remaining(self._timeout)):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise deadline_exceeded(f"The call to {self._name}") from None
        finally:
            if trace is not None:
                trace.add_child_span(f"{self._name} {operation_of(function)}", start, time.perf_counter())

    def _release(self) -> None:
        self._free += 1

    def close(self) -> None:
        """Let the threads end without waiting for what still runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)


def longest_run(request_timeout: float) -> float:
    """How long a function may run outside of a call, where no deadline counts: long enough for slow requests to be answered."""
    return max(DEFAULT_TIMEOUT, _REQUESTS * request_timeout)


def too_many_wait(name: str) -> PlatformError:
    """The error for a backend that has fallen too far behind."""
    return overloaded(f"Too many calls wait for {name}.")


def operation_of(function: Callable[..., object]) -> str:
    """What a function does, in words, for the trace of a call: "get version", for a lambda in `get_version` too.

    A function that only wraps another one says which in `__wrapped__`, as functools.wraps has it.
    """
    unwrapped: Callable[..., object] = inspect.unwrap(function)
    inner = getattr(unwrapped, "__qualname__", "call")
    while inner.endswith(".<lambda>"):
        inner = inner.removesuffix(".<lambda>").removesuffix(".<locals>")
    return inner.rpartition(".")[2].strip("_").replace("_", " ") or "call"
