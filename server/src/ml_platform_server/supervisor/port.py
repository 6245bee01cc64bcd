"""Takes the port that workers are to share, so that a port that is taken is noticed before anything slow begins."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack, suppress
from typing import Self

from ml_platform_server.start import StartupError

# How often a number that the system chose for one address may turn out to be taken on another.
_TRIES = 10


class PortTakenError(StartupError):
    """The port is not to be had; the message is for the operator."""


class SharedPort:
    """A port that workers of this user may listen on, and nobody who wants it for itself.

    Its sockets are bound but do not listen, so that every connection goes to a worker.

    Args:
        host: a name or an address.
        port: 0 lets the system choose.

    Raises:
        PortTakenError: the port is not to be had.

    Attributes:
        number: the port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._sockets = ExitStack()
        addresses = _addresses(host)
        for attempt in range(_TRIES):
            try:
                self.number = self._take(addresses, port)
            except OSError as error:
                self._sockets.close()
                if port == 0 and error.errno == errno.EADDRINUSE and attempt < _TRIES - 1:
                    continue
                raise _taken(host, port) from error
            return

    def __enter__(self) -> Self:
        """Hold the port."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the port."""
        self._sockets.close()

    def _take(self, addresses: list[tuple[socket.AddressFamily, str]], port: int) -> int:
        for family, address in addresses:
            if port:
                _see_that_it_is_free(family, address, port)
            held = self._sockets.enter_context(_bound(family, address, port))
            port = held.getsockname()[1]
        return port


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    """What a host stands for, each once."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise PortTakenError(f"{host} is no address of this machine: {error.strerror}.") from error
    return list(dict.fromkeys((family, str(place[0])) for family, _, _, _, place in found))


def _see_that_it_is_free(family: socket.AddressFamily, address: str, port: int) -> None:
    """Bind as one who shares with nobody, but not with connections that are only fading out."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address, port))


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    """A socket that shares its port with workers.

    Without SO_REUSEADDR, so that another supervisor that starts now finds the port taken, though nobody listens yet; with it only
    if connections of an earlier, single process are still fading out.
    """
    with suppress(OSError):
        return _sharing(family, address, port, reuse_address=0)
    return _sharing(family, address, port, reuse_address=1)


def _sharing(family: socket.AddressFamily, address: str, port: int, *, reuse_address: int) -> socket.socket:
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, reuse_address)
        held.bind((address, port))
    except OSError:
        held.close()
        raise
    return held


def _taken(host: str, port: int) -> PortTakenError:
    return PortTakenError(f"Port {port} on {host} cannot be had: another process uses it, or it may not be used.")
