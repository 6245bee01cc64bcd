"""What a call carries through the house: who calls, under which id, and until when."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field

import grpc

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a call comes from, as the authentication established it."""

    name: str
    key_id: str
    scopes: frozenset[int]
    expire_time: float | None = None


NOBODY = Principal(name="", key_id="", scopes=frozenset())


@dataclass(slots=True)
class Call:
    """One call on its way through the interceptors to a service and back.

    `deadline` is on the clock of `time.monotonic`. `facts` is what the access log tells beside the usual. `authorization` is the
    metadata of that name as it came; it holds the key, so it is never shown.
    """

    method: str
    request_id: str
    context: grpc.aio.ServicerContext  # type: ignore[type-arg]  # the same for every request and response type
    deadline: float
    principal: Principal = NOBODY
    authorization: str = field(default="", repr=False)
    facts: dict[str, object] = field(default_factory=dict)


def set_deadline(deadline: float | None) -> None:
    """Make the deadline known to everything that the current task calls."""
    _deadline.set(deadline)


def remaining(default: float) -> float:
    """Seconds that the current call may still take, never below zero; `default` outside a call."""
    deadline = _deadline.get()
    return default if deadline is None else max(0.0, deadline - time.monotonic())
