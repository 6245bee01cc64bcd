"""Ends the open streams of a key that was revoked or has expired."""

from __future__ import annotations

import asyncio
from typing import Any

from ml_platform_server.call import Call
from ml_platform_server.interceptors.auth import Keys
from ml_platform_server.method import UNAUTHENTICATED, Handler, Method, Response
from ml_platform_server.store.keys import invalid_key


class Revocation:
    """Knows the open streams of each key. Unary calls are left alone: their deadline ends them.

    Args:
        keys: announces the keys that are live no more.
    """

    def __init__(self, *, keys: Keys) -> None:
        self._keys = keys
        self._open: dict[str, set[asyncio.Task[Any]]] = {}
        self._ending: set[asyncio.Task[Any]] = set()
        keys.subscribe(self._end)

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        if not (method.client_streaming or method.server_streaming) or method.scope == UNAUTHENTICATED:
            return continuation

        async def handle(request: object, call: Call) -> Response:
            key_id = call.principal.key_id
            if not self._keys.is_live(key_id):  # It ended after the call was admitted.
                raise invalid_key()
            task = asyncio.current_task()
            assert task is not None  # noqa: S101  # a coroutine always runs in a task
            self._open.setdefault(key_id, set()).add(task)
            try:
                return await continuation(request, call)
            except asyncio.CancelledError:
                if task not in self._ending:
                    raise
                task.uncancel()
                raise invalid_key() from None
            finally:
                self._ending.discard(task)
                self._leave(key_id, task)

        return handle

    def _leave(self, key_id: str, task: asyncio.Task[Any]) -> None:
        tasks = self._open.get(key_id, set())
        tasks.discard(task)
        if not tasks:
            self._open.pop(key_id, None)

    def _end(self, key_ids: frozenset[str]) -> None:
        for key_id in key_ids:
            # A key whose scopes changed is announced too. Its caller opens the stream again, if the scopes still allow it.
            for task in self._open.get(key_id, ()):
                self._ending.add(task)
                task.cancel()
