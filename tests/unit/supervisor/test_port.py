"""The port that workers share."""

from __future__ import annotations

import socket

import pytest

from ml_platform_server.supervisor.port import PortTakenError, SharedPort


def listening(port: int, *, shared: bool) -> socket.socket:
    """A socket that listens, as a server of gRPC does."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener


def test_workers_share_the_port_and_get_all_connections():
    """Workers can listen on a port that is held, and no connection is lost to the holder."""
    with (
        SharedPort("127.0.0.1", 0) as port,
        listening(port.number, shared=True) as one,
        listening(port.number, shared=True) as two,
    ):
        one.settimeout(0.05)
        two.settimeout(0.05)
        with socket.create_connection(("127.0.0.1", port.number)):
            accepted = 0
            for listener in (one, two):
                try:
                    listener.accept()[0].close()
                    accepted += 1
                except TimeoutError:
                    continue
        assert accepted == 1


@pytest.mark.parametrize("shared", [False, True])
def test_a_port_that_somebody_listens_on_is_taken(shared):
    """Who listens already is noticed, though he would share the port."""
    with listening(0, shared=shared) as listener:
        number = listener.getsockname()[1]
        with pytest.raises(PortTakenError, match=f"Port {number} on 127.0.0.1 cannot be had"):
            SharedPort("127.0.0.1", number)


def test_a_held_port_is_taken_for_everybody_else():
    """Neither another supervisor nor a server that wants the port for itself gets it while it is held, and both do afterwards."""
    with SharedPort("127.0.0.1", 0) as port:
        with pytest.raises(PortTakenError):
            SharedPort("127.0.0.1", port.number)
        with pytest.raises(OSError, match="in use"):
            listening(port.number, shared=False)
    with SharedPort("127.0.0.1", port.number):
        pass
    listening(port.number, shared=False).close()


def test_connections_that_fade_out_are_no_obstacle():
    """A port on which a server of one process has just ended, with a connection that it closed first, can be had."""
    with listening(0, shared=False) as listener:
        number = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", number)) as client:
            listener.accept()[0].close()
            assert client.recv(1) == b""
    with SharedPort("127.0.0.1", number) as port, listening(port.number, shared=True):
        assert port.number == number


def test_a_name_with_several_addresses_is_held_on_all_of_them():
    """The port of `localhost` is one number on each of its addresses."""
    with SharedPort("localhost", 0) as port:
        assert port.number > 0
        with pytest.raises(PortTakenError):
            SharedPort("127.0.0.1", port.number)


def test_a_host_that_is_none_is_told():
    """An address that is not this machine's, or no address, ends with a sentence."""
    with pytest.raises(PortTakenError, match="no address of this machine"):
        SharedPort("nowhere.invalid", 0)
    with pytest.raises(PortTakenError, match=r"Port 0 on 192\.0\.2\.1 cannot be had"):
        SharedPort("192.0.2.1", 0)
