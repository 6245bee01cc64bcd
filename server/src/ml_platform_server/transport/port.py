"""The port: what the server needs of a transport, and what a transport is given to serve.

A transport accepts calls. For each it finds the route of the method and asks it, with the call's metadata, whether the call is
admitted. Then it runs one of the route's two handlers in a task of its own, with a Call whose context is the transport's
(CallContext in call.py). It cancels the task when the caller cancels or its deadline passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ml_platform_server.call import Metadata, Principal
from ml_platform_server.method import Handler

Admit = Callable[[Metadata], tuple[Principal | None, str]]
"""Returns who calls, or None if the call is not admitted yet; and the call's correlation id, empty if it has none."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method and how its calls are handled.

    Attributes:
        name: the method's path: "/ml_platform.v1.PredictionService/Predict".
        client_streaming: whether callers send a stream of requests.
        server_streaming: whether the handlers write the responses themselves, with `context.write`, and return None.
        admit: decides from the metadata alone whether a call is admitted.
        admitted: handles admitted calls. Its request is the message's bytes, or an async iterator of them if the client streams.
            Returns the response, a message or its bytes.
        waiting: handles all other calls, without a request: it reads with `context.read` once it knows the caller, or refuses the
            call. Returns as `admitted`.
    """

    name: str
    client_streaming: bool
    server_streaming: bool
    admit: Admit
    admitted: Handler
    waiting: Handler


class Health(Protocol):
    """The standard health service, as far as the server sets its statuses."""

    async def set_serving(self, service: str, serving: bool) -> None:  # the status is what is set
        """Set the status of a service; "" is the server as a whole."""

    async def enter_graceful_shutdown(self) -> None:
        """Answer NOT_SERVING for every service from now on."""


class Transport(Protocol):
    """Accepts calls on one port and sends their responses."""

    @property
    def port(self) -> int:
        """Where it listens, once it is open."""

    @property
    def health(self) -> Health:
        """The standard health service that it offers."""

    @property
    def ended(self) -> tuple[type[Exception], ...]:
        """What a call's context raises when the call is over: its status was sent, or the connection is gone."""

    async def open(self) -> None:
        """Take the port without answering yet.

        Raises:
            StartupError: the port is not to be had, must not be offered in plaintext, or the TLS files cannot be used.
        """

    async def serve(self, routes: Sequence[Route], *, fallback: Handler, services: Sequence[str]) -> None:
        """Answer from now on.

        Args:
            routes: the methods.
            fallback: handles calls of every other method, without a request, as `Route.waiting`.
            services: the services that reflection lists, beside the standard ones that the transport offers itself.
        """

    async def wait(self) -> None:
        """Wait until it has stopped."""

    async def stop(self, grace: float) -> None:
        """Accept no new connection, send GOAWAY to clients, and cancel what still runs after `grace` seconds.

        A second call shortens the grace of the first.
        """
