"""What a call carries through the house: who calls, under which id, and until when."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from ml_platform_server.codes import Code

Metadata = Sequence[tuple[str, str | bytes]]

CORRELATION_ID_HEADER = "x-request-id"
# Stands for two keys or more in one call, of which none can be chosen.
SEVERAL = "several"

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)
_correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller."""

    name: str
    key_id: str
    scopes: frozenset[int]
    expire_time: float | None = None


class CallContext(Protocol):
    """A call as its transport has it. What is named `ended` there may be raised by each of these methods."""

    def peer(self) -> str:
        """The caller's address: "ipv4:127.0.0.1:40718"."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None if there is none."""

    async def read(self) -> object:
        """The next request's bytes. Anything else than bytes means that no further one comes."""

    async def write(self, message: object) -> None:
        """Send a response, a message or its bytes. Waits while the caller reads slowly."""

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Set what is sent with the status."""

    async def abort(self, code: Code, details: str, trailing_metadata: Metadata) -> NoReturn:
        """End the call with a status."""


ANONYMOUS = Principal(name="", key_id="", scopes=frozenset())


@dataclass(slots=True)
class Call:
    """One call on its way through the interceptors to a service and back.

    `metadata` is what the caller sent, and holds the key, so it is never shown. `deadline` is on the clock of `time.monotonic`.
    `log_fields` are further fields of the access log's line. A response that is written part by part stops beyond
    `response_limit` bytes; only methods with such a response have one.
    """

    method: str
    context: CallContext
    metadata: Metadata = field(default=(), repr=False)
    correlation_id: str = ""
    deadline: float = math.inf
    principal: Principal = ANONYMOUS
    response_limit: int = sys.maxsize
    log_fields: dict[str, object] = field(default_factory=dict)


def credentials_in(metadata: Metadata) -> tuple[str, str]:
    """The authorization and the correlation id that a call brings; empty where it brings none."""
    authorization = correlation_id = ""
    for key, value in metadata:
        if key == "authorization":
            authorization = SEVERAL if authorization else str(value)
        elif key == CORRELATION_ID_HEADER:
            correlation_id = str(value)
    return authorization, correlation_id


def set_correlation_id(correlation_id: str) -> None:
    """Make the call's id known to every line that the current task logs."""
    _correlation_id.set(correlation_id)


def current_correlation_id() -> str:
    """The id of the call that the current task works for; empty outside a call."""
    return _correlation_id.get()


def set_deadline(deadline: float | None) -> None:
    """Make the deadline known to everything that the current task calls."""
    _deadline.set(deadline)


def current_deadline() -> float:
    """When the current call must have ended, on the clock of `time.monotonic`; never, outside a call."""
    deadline = _deadline.get()
    return math.inf if deadline is None else deadline


def remaining(default: float) -> float:
    """Seconds that the current call may still take, never below zero; `default` outside a call."""
    deadline = _deadline.get()
    return default if deadline is None else max(0.0, deadline - time.monotonic())
