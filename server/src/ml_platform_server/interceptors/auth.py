"""Establishes who calls, and whether the key allows this method."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable

from ml_platform.v1 import auth_pb2, errors_pb2
from ml_platform_server import scopes
from ml_platform_server.call import Call, Principal
from ml_platform_server.errors import PlatformError
from ml_platform_server.method import OPEN, Handler, Method, Response

# Turns a key into its principal; raises PlatformError (API_KEY_INVALID) for a key that is none.
Verify = Callable[[str], Awaitable[Principal]]


_KNOWN_SECONDS = 5.0
_MOST_KNOWN = 1000


class Auth:
    """Lets a call pass whose key is valid and has the scope that the method declares.

    Args:
        verify: the store's look-up of keys.
    """

    def __init__(self, *, verify: Verify) -> None:
        self._verify = verify
        # Who was let in a moment ago is let in again without the digest of the key, which the store's own cache needs.
        self._known: dict[str, tuple[float, Principal]] = {}

    def wrap(self, method: Method, proceed: Handler) -> Handler:
        """See Interceptor."""
        verify, scope = self._verify, method.scope
        if scope == OPEN:
            return proceed
        anyone = scope == auth_pb2.SCOPE_AUTHENTICATED
        known = self._known

        def admit(request: object, call: Call, principal: Principal) -> Awaitable[Response]:
            call.principal = principal
            if not anyone and scope not in principal.scopes:
                raise _scope_missing(method)
            return proceed(request, call)

        async def look_up(request: object, call: Call) -> Response:
            principal = self._remember(call.authorization, await verify(_key_in(call.authorization)))
            return await admit(request, call, principal)

        def handle(request: object, call: Call) -> Awaitable[Response]:
            entry = known.get(call.authorization)
            if entry is None or entry[0] <= time.time():
                return look_up(request, call)
            return admit(request, call, entry[1])

        return handle

    def _remember(self, authorization: str, principal: Principal) -> Principal:
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        until = min(time.time() + _KNOWN_SECONDS, principal.expire_time or math.inf)
        self._known[authorization] = (until, principal)
        return principal


def _key_in(authorization: str) -> str:
    """The key in the metadata. The scheme's name is compared as HTTP has it, without regard to case."""
    scheme, _, key = authorization.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise PlatformError(
            errors_pb2.ERROR_REASON_API_KEY_MISSING,
            "The call brought no API key, or several.",
            remedy="Send one in the metadata 'authorization', as 'Bearer mlp_...'.",
        )
    return key.strip()


def _scope_missing(method: Method) -> PlatformError:
    name = scopes.name_of(method.scope)
    return PlatformError(
        errors_pb2.ERROR_REASON_SCOPE_MISSING,
        f"{method.name} needs the scope {name}, which this API key lacks.",
        remedy=f"Use a key that has the scope {name}.",
        metadata={"scope": name},
    )
