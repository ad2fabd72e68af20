"""Who subscribes: connections are counted, and who floods the publisher with subscriptions is sent away."""

import logging
import math
import os
import socket
from pathlib import Path

import pytest
import zmq
from chaos.churn import connect, subscription
from helpers import PATIENCE_S, Collected, Published, spectra_of, wait_until

from cars_rt import descriptors
from cars_rt.sockets import audience

FLOODS = {
    "many topics": [subscription(f"topic {number}".encode()) for number in range(audience.MOST_FOREIGN + 1)],
    "on and off": [subscription(b"raw.", bool(number % 2)) for number in range(audience.MOST_IN_WINDOW + 1)],
    "a long topic": [b"\x02" + (1_000_000).to_bytes(8, "big") + b"\x01" + bytes(999_999)],
    "no subscription": [b"\x00\x01\x07"] * (audience.MOST_FOREIGN + 1),
}


def ended(peer: socket.socket) -> bool:
    """Whether the other end has closed the connection."""
    peer.settimeout(0.05)
    try:
        return not peer.recv(65_536)
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_descriptor_that_is_no_connection_any_more_leaves_none_behind(tmp_path: Path) -> None:
    with (tmp_path / "no socket").open("w") as other:
        before = descriptors.used()
        for _ in range(3):
            assert audience._connection(other.fileno()) is None
        assert descriptors.used() == before


def test_what_was_not_looked_at_is_looked_at_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    with Published() as source, Collected(source.address, "raw"):
        source.wait(1)
        publisher = source.publisher
        wait_until(lambda: publisher.serve() or publisher.due_s == math.inf)
        with monkeypatch.context() as patch, Collected(source.address, "raw"):
            patch.setattr(audience, "TURN_S", 0)
            publisher.audience.look()
            assert publisher.is_behind()
            assert publisher.due_s < PATIENCE_S
            patch.undo()
            source.wait(2)
        wait_until(lambda: publisher.serve() or not publisher.is_behind())


def test_a_socket_with_three_topics_is_one_subscriber() -> None:
    with Published() as source, zmq.Context() as context, context.socket(zmq.SUB) as plain:
        plain.setsockopt(zmq.LINGER, 0)
        for topic in ("raw.start", "raw.frame", "raw.end"):
            plain.subscribe(topic)
        plain.connect(source.address)
        with Collected(source.address, "raw"):
            source.wait(2)
            assert source.publisher.subscribers == 2
        wait_until(lambda: source.publisher.serve() or source.publisher.subscribers == 1)
        for topic in ("raw.start", "raw.frame", "raw.end"):
            plain.unsubscribe(topic)
        wait_until(lambda: source.publisher.serve() or source.publisher.subscribers == 0)
        assert source.publisher.audience.ended == 0


def test_signs_that_came_while_nobody_looked_are_no_flood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A camera may expose for minutes while a daemon says each second that it waits on purpose."""
    monkeypatch.setattr(audience, "WINDOW_S", PATIENCE_S)
    with Published() as source, connect(source.address) as peer:
        peer.sendall(subscription(b"raw."))
        source.wait()
        heard = source.publisher.audience
        (listener,) = heard._listeners.values()
        listener.since -= 100
        signs = [subscription(b"raw.waits", not n % 2) for n in range(audience.MOST_IN_WINDOW + 30)]
        peer.sendall(b"".join([*signs, subscription(b"raw.s")]))
        wait_until(lambda: heard.look() or b"raw.s" in listener.topics)
        assert not heard.ended and heard.sign_at > 0 and len(heard) == 1


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_subscriptions_ends_its_connection_and_no_other(
    flood: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audience, "WINDOW_S", PATIENCE_S)  # a busy computer takes longer to read them
    with Published() as source, Collected(source.address, "raw") as friend:
        source.wait()
        with connect(source.address) as peer, caplog.at_level(logging.WARNING):
            try:
                peer.sendall(b"".join(FLOODS[flood]))
            except OSError:
                assert flood == "a long topic"  # of which the first bytes are enough
            stays = os.name == "nt" and flood != "a long topic"
            wait_until(
                lambda: (
                    source.publisher.serve() or (source.publisher.audience.ended if stays else ended(peer))
                )
            )
        assert source.publisher.audience.ended == (flood != "a long topic") == len(caplog.records)
        source.run("run-1", spectra_of(20))
        assert friend.ends().spectra == 20 and not friend.problems
        wait_until(lambda: source.publisher.serve() or source.publisher.subscribers == 1)


def test_nobody_is_counted_who_left_without_a_word() -> None:
    with Published() as source:
        for _ in range(20):
            with connect(source.address) as peer:
                peer.sendall(subscription(b"raw."))
                source.wait()
                peer.sendall(subscription(b"raw.", False))  # ZeroMQ does not tell that this one ends
        source.publisher.audience._check_at = 0.0
        wait_until(lambda: source.publisher.serve() or not source.publisher.audience._listeners, PATIENCE_S)
