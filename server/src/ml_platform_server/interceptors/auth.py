"""Establishes who calls, and whether the key allows this method."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from ml_platform.v1 import auth_pb2, errors_pb2
from ml_platform_server import scopes
from ml_platform_server.call import Call, Principal, credentials_in
from ml_platform_server.errors import PlatformError, overloaded
from ml_platform_server.method import UNAUTHENTICATED, Handler, Method, Response
from ml_platform_server.store.keys import expired

_MOST_KNOWN = 1000
# Unknown keys of one peer that are looked up at once, and calls that wait for that. Refusals of one peer in a minute, before each
# further one waits.
_MOST_KEYS = 20
_MOST_WAITING = 1000
_FREE_REFUSALS = 20
_WINDOW_SECONDS = 60.0
_DELAY_SECONDS = 1.0
_MOST_PEERS = 10_000


class Keys(Protocol):
    """The store's keys, as far as callers need them."""

    def find(self, key: str) -> Principal | None:
        """The principal of a live key, from memory alone."""

    async def verify(self, key: str) -> Principal:
        """The principal of a live key; PlatformError (CREDENTIALS_INVALID) if there is none. May look into the store."""

    def is_live(self, key_id: str) -> bool:
        """Whether a key that was found before is still live."""

    def subscribe(self, on_ended: Callable[[frozenset[str]], None]) -> None:
        """Have a function called with the ids of keys that are live no more."""


class Auth:
    """Lets a call pass whose key is valid and has the scope that the method declares.

    Most callers are identified before their request is read, by `identify`. As an interceptor it stands around the calls that
    were not: it looks up the key, or refuses the call, before anything of the request is read.

    Args:
        keys: the store's keys.
        delay: seconds that a refusal takes, for a peer that was refused often.
    """

    def __init__(self, *, keys: Keys, delay: float = _DELAY_SECONDS) -> None:
        self._keys = keys
        self._peers = _Peers(delay)
        # Who was identified a moment ago, by a digest that costs less than the store's. It means nothing in another process.
        self._known: dict[bytes, Principal] = {}
        self._blank = hashlib.blake2b(key=secrets.token_bytes(32), digest_size=16)
        keys.subscribe(lambda _: self._known.clear())

    def identify(self, authorization: str) -> Principal | None:
        """Who calls with this authorization, from memory alone; None if this process does not know."""
        hasher = self._blank.copy()
        hasher.update(authorization.encode("utf-8", "replace"))
        digest = hasher.digest()
        principal = self._known.get(digest)
        if principal is not None:
            return principal if principal.expire_time is None or not expired(principal) else None
        principal = self._keys.find(_key_in(authorization))
        if principal is not None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[digest] = principal
        return principal

    def wrap(self, method: Method, continuation: Handler) -> Handler:
        """See Interceptor."""
        if method.scope == UNAUTHENTICATED:
            return continuation

        may_call = allowed(method)

        async def handle(request: object, call: Call) -> Response:
            call.principal = await self._verified(call)
            if not may_call(call.principal):
                raise _scope_missing(method)
            return await continuation(request, call)

        return handle

    async def _verified(self, call: Call) -> Principal:
        authorization, _ = credentials_in(call.metadata)
        principal = self.identify(authorization)
        if principal is not None:
            return principal
        key = _key_in(authorization)
        if not key:
            raise _key_missing()
        async with self._peers.attempt(call.context.peer(), key):
            return await self._keys.verify(key)


class _Peers:
    """Slows down peers that try one unknown key after another."""

    def __init__(self, delay: float) -> None:
        self._delay = delay
        self._waiting: dict[str, Counter[int]] = {}
        self._refused: OrderedDict[str, tuple[float, int]] = OrderedDict()

    @asynccontextmanager
    async def attempt(self, address: str, key: str) -> AsyncIterator[None]:
        """Stands around the look-up of a key for one call.

        Raises:
            PlatformError: OVERLOADED when too many other keys of the peer, or too many of its calls, wait already.
        """
        peer = address.rpartition(":")[0]
        waiting, token = self._waiting.setdefault(peer, Counter()), hash(key)
        if (token not in waiting and len(waiting) >= _MOST_KEYS) or waiting.total() >= _MOST_WAITING:
            raise overloaded("Too many calls with unknown API keys come from this address.")
        waiting[token] += 1
        try:
            try:
                yield
            except PlatformError:
                if self._count(peer) > _FREE_REFUSALS:
                    await asyncio.sleep(self._delay)
                raise
        finally:
            waiting[token] -= 1
            if not waiting[token]:
                del waiting[token]
            if not waiting:
                self._waiting.pop(peer, None)

    def _count(self, peer: str) -> int:
        """Count a refusal, and return how many there were within the window."""
        now = time.monotonic()
        start, count = self._refused.pop(peer, (now, 0))
        if now - start > _WINDOW_SECONDS:
            start, count = now, 0
        self._refused[peer] = (start, count + 1)
        if len(self._refused) > _MOST_PEERS:
            self._refused.popitem(last=False)
        return count + 1


def allowed(method: Method) -> Callable[[Principal], bool]:
    """What finds out whether a principal may call a method."""
    scope = method.scope
    if scope == auth_pb2.SCOPE_AUTHENTICATED:
        return lambda _: True
    return lambda principal: scope in principal.scopes


def _key_in(authorization: str) -> str:
    """The key in an authorization; empty if there is none. HTTP compares the scheme's name without regard to case."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _key_missing() -> PlatformError:
    return PlatformError(
        errors_pb2.ERROR_REASON_CREDENTIALS_MISSING,
        "The call brought no API key, or several.",
        remedy="Send one in the metadata 'authorization', as 'Bearer mlp_...'.",
    )


def _scope_missing(method: Method) -> PlatformError:
    name = scopes.name_of(method.scope)
    return PlatformError(
        errors_pb2.ERROR_REASON_SCOPE_MISSING,
        f"{method.name} needs the scope {name}, which this API key lacks.",
        remedy=f"Use a key that has the scope {name}.",
        metadata={"scope": name},
    )
