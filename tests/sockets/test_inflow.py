"""Who is cut off: this connection, and no other one that has come to its number meanwhile."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from helpers import wait_until

from cars_rt.sockets.inflow import Gate, Inflow

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what flows in is watched on Linux only")


class Port:
    """A port, connections to it, and the watch over them."""

    def __init__(self, stack: ExitStack, budget: int = 0) -> None:
        self.stack = stack
        self.server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = self.server.getsockname()[1]
        self.inflow = Inflow([Gate("a port", port, lambda: budget)])
        stack.callback(self.inflow.close)

    def connection(self) -> tuple[socket.socket, socket.socket]:
        """The peer's end, and ours."""
        peer = self.stack.enter_context(socket.create_connection(self.server.getsockname()))
        peer.settimeout(20)
        return peer, self.stack.enter_context(self.server.accept()[0])

    def cut_all(self) -> None:
        """What the watch does to whatever it saw in its last look."""
        (watched,) = self.inflow._watched
        for each in watched.connections.values():
            self.inflow._cut_off(watched, each, "why")


@contextmanager
def a_port() -> Iterator[Port]:
    with ExitStack() as stack:
        yield Port(stack)


def test_a_connection_that_has_the_number_of_another_one_is_left_alone() -> None:
    with a_port() as port:
        gone, ours = port.connection()
        gone.sendall(b"something")
        ours.recv(100)
        port.inflow._read()
        peer, other = port.connection()
        os.dup2(other.fileno(), ours.fileno())  # closed, and given to the next one
        port.cut_all()
        assert not port.inflow.cut
        ours.sendall(b"still here")
        assert peer.recv(100) == b"still here"
        with open(os.devnull, "rb") as file:  # noqa: PTH123 - or to a file
            os.dup2(file.fileno(), ours.fileno())
        port.cut_all()
        assert not port.inflow.cut


def test_one_is_cut_off_even_where_no_descriptor_is_left() -> None:
    with a_port() as port, ExitStack() as taken:
        peer, ours = port.connection()
        port.inflow._read()
        import resource

        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        resource.setrlimit(resource.RLIMIT_NOFILE, (ours.fileno() + 8, limit[1]))
        with suppress(OSError):
            while True:
                taken.callback(os.close, os.dup(ours.fileno()))
        port.cut_all()
        assert port.inflow.cut == {"a port": 1} and peer.recv(1) == b""


def test_who_goes_through_what_was_cut_is_not_disturbed_by_the_next_cut() -> None:
    with a_port() as port:
        port.connection()
        port.inflow._read()
        going_through = iter(port.inflow.cut.items())
        port.cut_all()
        assert list(going_through) == [] and port.inflow.cut == {"a port": 1}


def test_heartbeats_add_up_to_no_message_and_what_comes_faster_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A subscriber sends nothing else, for weeks, and none of it comes out of the socket."""
    now = time.monotonic()
    monkeypatch.setattr("cars_rt.sockets.inflow.time.monotonic", lambda: now)
    with ExitStack() as stack:
        port = Port(stack, budget=1_500)
        peer, ours = port.connection()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def a_second(sent: bytes) -> None:
            nonlocal now
            now += 1
            peer.sendall(sent)
            assert ours.recv(len(sent), socket.MSG_WAITALL) == sent
            port.inflow.look()

        for _ in range(200):
            a_second(b"\4\7\4PING..")
        assert not port.inflow.cut
        a_second(bytes(4_096))
        assert port.inflow.cut == {"a port": 1}


class Waiting(Inflow):
    """Each look waits, as where another thread has Python's lock or other programs the cores."""

    looks = 0

    def look(self) -> None:
        time.sleep(1)
        self.looks += 1


def test_a_look_that_waits_for_others_is_followed_by_the_next_one_as_soon() -> None:
    """It rested for 20 times as long: a flood, which takes the lock, went on for that long."""
    watch = Waiting([])
    watch.start()
    try:
        wait_until(lambda: watch.looks >= 5)
    finally:
        watch.close()
