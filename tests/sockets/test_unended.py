"""A publisher whose message does not end is cut off, whoever reads; one that sends much is not."""

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import numpy as np
import pytest
from helpers import LOCAL, PATIENCE_S, Collected, a_frame, a_start, an_end, spectra_of, wait_until
from hostile.peers import part, shake

import cars_rt
from cars_rt.listener import Listener, ListenSettings
from cars_rt.remote import Remote, RemoteError
from cars_rt.sockets import Publisher
from cars_rt.sockets.inflow import look_at
from cars_rt.sockets.subscriber import UNFINISHED_BYTES
from cars_rt.sockets.unended import LOOK_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what flows in is watched on Linux only")


def test_whole_messages_that_wait_while_nobody_reads_are_no_message_that_does_not_end() -> None:
    """The frames of the next run were, while an engine finished the last one: the driver was cut off."""
    axis, block, frames = np.linspace(400, 3000, 4000), 64, 120
    counts = np.zeros((block, len(axis)), np.float32)  # 1 MB
    with (
        Publisher(LOCAL, "raw", buffer_mb=400) as publisher,
        Collected(publisher.address, "raw") as slow,
    ):
        subscriber = slow.subscriber
        assert publisher.wait_for_subscribers(1, PATIENCE_S)
        publisher.open(a_start("tiny"))
        publisher.send(a_frame(0, spectra_of(1), "tiny"))
        slow.until(lambda all_: all_.frames)
        subscriber.watch()
        assert slow.subscriber.receive() is None
        publisher.end(an_end(1, run="tiny"))
        publisher.open(a_start("large", axis=axis, dtype="float32", block=block))
        for number in range(frames):
            assert publisher.send(a_frame(number, counts, "large"))
        publisher.end(an_end(frames, frames * block, "large"))

        def received() -> int:
            publisher.serve()
            found = look_at(subscriber._unended._descriptor)
            return 0 if found is None else found[3]

        wait_until(lambda: received() > UNFINISHED_BYTES + 10**6)
        for _ in range(2):  # all was read when it looked last
            time.sleep(LOOK_S)
            subscriber.watch()
        while not publisher.flush(0.01):
            slow.more()
            subscriber.watch()
        slow.ends(2)
        assert not subscriber.cut_off and not slow.problems and slow.spectra == 1 + frames * block


def test_the_number_of_a_connection_that_ended_is_forgotten() -> None:
    """The connection of another client got it, and was cut off as this one's."""
    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as collected:
        assert publisher.wait_for_subscribers(1, PATIENCE_S)
        wait_until(collected.subscriber.watch)
        assert look_at(collected.subscriber._unended._descriptor) is not None
        publisher.close()
        wait_until(lambda: not collected.subscriber.watch())
        assert collected.subscriber._unended._descriptor < 0


@pytest.mark.parametrize(
    ("begin", "piece"),
    [
        (part(b"raw.frame", more=True), part(bytes(2**20), more=True)),
        (b"", part(b"images", more=True) + part(bytes(2**20), more=False)),  # which nobody subscribed to
    ],
)
def test_message_that_does_not_end_is_cut_off_behind_whole_ones_that_are_read(
    begin: bytes, piece: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        reading = stack.enter_context(Collected(f"tcp://127.0.0.1:{server.getsockname()[1]}", "raw"))
        subscriber = reading.subscriber
        peer = stack.enter_context(server.accept()[0])
        peer.settimeout(20)
        shake(peer, b"PUB")
        assert subscriber.receive(0) is None
        peer.sendall(50 * (part(b"raw.frame", more=True) + part(b"no header", more=False)))
        peer.sendall(begin)
        sent = 0
        peer.settimeout(2)  # cut off, or not read any more
        with suppress(OSError):
            while sent < 4 * UNFINISHED_BYTES:
                peer.sendall(piece)
                sent += len(piece)
                while subscriber.receive() is not None:
                    pass
                subscriber.watch()
        assert subscriber.cut_off == 1 and sent < 3 * UNFINISHED_BYTES
    assert "a publisher has to filter by topic" in caplog.text


MOST_SENT = 2_000_000_000  # bytes that a peer may get rid of


class Endless:
    """Sends the parts of one message to whoever connects, until it is cut off."""

    def __init__(self, kind: bytes) -> None:
        self.kind = kind
        self.sent = 0
        self.then: Callable[[], None] = lambda: None
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._server.getsockname()[1]}"

    def talk(self) -> None:
        with self._server, closing(self._server.accept()[0]) as peer, suppress(OSError):
            peer.settimeout(20)
            shake(peer, self.kind)
            peer.sendall(part(b"" if self.kind == b"ROUTER" else b"raman.frame", more=True))
            piece = part(bytes(2**20), more=True)
            while self.sent < MOST_SENT:
                peer.sendall(piece)
                self.sent += len(piece)
        self.then()


@contextmanager
def endless(kind: bytes = b"PUB") -> Iterator[Endless]:
    one = Endless(kind)
    thread = threading.Thread(target=one.talk)
    thread.start()
    try:
        yield one
    finally:
        thread.join()
    assert one.sent < MOST_SENT


def test_client_cuts_it_off() -> None:
    with endless() as peer, cars_rt.connect(peer.address) as client:
        peer.then = client.close
        assert not list(client)


def test_listen_names_it() -> None:
    with endless() as peer:
        lines: list[str] = []
        listener = Listener(peer.address, ListenSettings(stream="raman"))
        peer.then = listener.stop
        listener.listen(lines.append)
    assert lines[0].startswith("FAULT: a message does not end -> send the last part")
    assert lines[-1] == "this publisher does not keep the protocol: 1 fault"


def test_request_with_an_answer_without_end_is_given_up() -> None:
    with (
        endless(b"ROUTER") as peer,
        Remote(peer.address) as remote,
        pytest.raises(RemoteError, match="its answer does not end"),
    ):
        remote.ask("status")
