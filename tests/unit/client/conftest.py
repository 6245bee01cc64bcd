"""A fake platform and a client of it, once with each of the client's two APIs, so that every claim is made of both."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self, cast

import pytest

from ml_platform import AsyncMLPlatform, MLPlatform
from tests.support.fake_platform import FakePlatform

KEY = "mlp_test_key"


class Driven:
    """An asynchronous object driven from synchronous code: coroutines are run, asynchronous iterators are iterated."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, name)
        return self._method(value) if inspect.ismethod(value) else value

    def __getitem__(self, key: Any) -> Any:
        return self._target[key]

    def __iter__(self) -> Iterator[Any]:
        iterator = cast("AsyncIterator[Any]", self._target)
        while True:
            try:
                yield self._runner.run(_next(iterator))
            except StopAsyncIteration:
                return

    def __enter__(self) -> Self:
        self._runner.run(self._target.__aenter__())
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.run(self._target.__aexit__(*exception))

    def _method(self, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            async def inside() -> Any:
                result = method(*args, **kwargs)
                return await result if inspect.isawaitable(result) else result

            result = self._runner.run(inside())
            return self if result is self._target else self._wrapped(result)

        return call

    def _wrapped(self, result: Any) -> Any:
        is_driven = type(result).__name__ in {"AsyncTrainingJob", "AsyncJobWatch", "AsyncMLPlatform", "async_generator"}
        return Driven(result, self._runner) if is_driven else result


async def _next(iterator: AsyncIterator[Any]) -> Any:
    return await anext(iterator)


@pytest.fixture
def fake() -> Iterator[FakePlatform]:
    """A fake platform that listens."""
    with FakePlatform() as platform:
        yield platform


@pytest.fixture(params=["sync", "async"])
def platform(request: pytest.FixtureRequest, fake: FakePlatform, monkeypatch: pytest.MonkeyPatch) -> Iterator[MLPlatform]:
    """A client of the fake, of either API, whose retries do not wait long."""
    monkeypatch.setattr("ml_platform.retry.FIRST_PAUSE", 0.001)
    if request.param == "sync":
        with MLPlatform(fake.url, KEY) as client:
            yield client
    else:
        with asyncio.Runner() as runner, Driven(AsyncMLPlatform(fake.url, KEY), runner) as driven:
            yield cast("MLPlatform", driven)
