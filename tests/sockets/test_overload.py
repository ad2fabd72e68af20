"""Subscribers that are too slow and publishers that vanish: nobody else pays for them."""

import logging
import math
import signal
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import zmq
from helpers import (
    LOCAL,
    PATIENCE_S,
    Collected,
    Command,
    Published,
    a_frame,
    a_start,
    an_end,
    daemon_in_thread,
    spectra_of,
    wait_until,
)

import cars_rt
from cars_rt.accounting import Ledger
from cars_rt.files.recorder import Recorder, RecordSettings
from cars_rt.protocol import Frame, StreamName
from cars_rt.sockets import Overload, Publisher, subscriber
from cars_rt.sockets.free import free_addresses

WIDE = np.linspace(400, 3000, 4000)  # 1 MB a frame of 64: queues of a few MB are full at once


def short_of_room(address: str, stream: StreamName = "raman", messages: int = 1) -> Collected:
    """Who does not read is full soon. Else all of a run may fit into the system's buffers of a connection."""
    made = Collected(address, stream, connect=False)
    for option, value in ((zmq.RCVHWM, messages), (zmq.RCVBUF, 65_536)):
        made.subscriber.socket.setsockopt(option, value)
    made.subscriber.connect()
    return made


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that is away has vanished at once."""
    monkeypatch.setattr(subscriber, "VANISHED_S", 0.2)


@pytest.mark.parametrize("overload", ["drop-oldest", "drop-newest"])
def test_full_queue_drops_frames_at_one_end_and_counts_them(overload: Overload) -> None:
    """A subscriber that stops reading for a while costs frames, exactly those that are named."""
    frames, block = 300, 64
    with (
        Publisher(LOCAL, "raw", buffer_mb=16, overload=overload, stall_s=0) as publisher,
        Collected(publisher.address, "raw") as slow,
    ):
        assert publisher.wait_for_subscribers(1, PATIENCE_S)
        counts, ledger = np.zeros((block, len(WIDE)), np.float32), Ledger()
        publisher.open(a_start(axis=WIDE, dtype="float32", block=block), ledger)
        for number in range(frames):
            counts[:] = number
            assert publisher.send(a_frame(number, counts))
            if not number:  # ZeroMQ's places are free again when it has passed on the start and a frame
                slow.until(lambda all_: publisher.serve() or all_.frames)
        lost = ledger.lost["overload"]
        assert lost > 0 and publisher.waiting * WIDE.size * 4 <= 16e6
        publisher.end(
            lambda: an_end(
                ledger.frames,
                ledger.spectra,
                announced=frames * block,
                lost=ledger.lost,
                ranges=tuple(ledger.ranges),
            )
        )
        while not publisher.flush(0.01):
            slow.more()
        slow.ends()
    assert slow.spectra == frames * block - lost == ledger.spectra
    assert slow.closed[0].ledger.lost == {"upstream": lost}
    assert [frame.sequence for frame in slow.frames] == list(range(len(slow.frames)))
    assert all((frame.block == frame.index // block).all() for frame in slow.frames)
    came = {frame.index for frame in slow.frames}
    gone = {index for index in range(0, frames * block, block) if index not in came}
    named = {index for _, first, count in ledger.ranges for index in range(first, first + count, block)}
    assert gone == named
    if overload == "drop-oldest":
        assert (frames - 1) * block in came
    else:  # what had room before the first one that was dropped: 11 frames here, and 4 at ZeroMQ
        assert min(gone) >= 15 * block


def test_subscriber_that_stopped_reading_is_left_out_while_the_others_get_everything(
    caplog: pytest.LogCaptureFixture,
) -> None:
    frames, block = 400, 64
    with (
        Publisher(LOCAL, "raw", buffer_mb=400, overload="drop-newest", stall_s=0.05) as publisher,
        short_of_room(publisher.address, "raw", messages=10) as quick,
        short_of_room(publisher.address, "raw") as slow,
    ):
        assert publisher.wait_for_subscribers(2, PATIENCE_S)
        ledger = Ledger()
        publisher.open(a_start(axis=WIDE, dtype="float32", block=block), ledger)
        counts = np.zeros((block, len(WIDE)), np.float32)
        for number in range(frames):
            counts[:] = number
            assert publisher.send(a_frame(number, counts)) and publisher.flush(PATIENCE_S)
            quick.until(lambda all_, wanted=number + 1: len(all_.frames) >= wanted)
        # The quick one pauses for less than it takes to count as stalled, and misses nothing either.
        publisher.outlet.stall_s = PATIENCE_S
        for number in range(frames, frames + 300):
            counts[:] = number
            publisher.send(a_frame(number, counts))
        assert publisher.blocked
        frames += 300
        publisher.end(an_end(frames, frames * block))
        while not publisher.flush(0.01):
            quick.more()
        quick.ends()
        assert not ledger.lost and not quick.problems
        assert quick.closed[0].ledger.spectra == frames * block
        assert publisher.stalls > 0 and "is left out until it reads again" in caplog.text
        # Reading makes room, but the end was sent when there was none: only silence tells the slow one.
        while parts := slow.subscriber.receive(0.5):
            slow.events += slow.reader.read(parts)
        assert 0 < len(slow.frames) < frames
        assert all((frame.block == frame.sequence).all() for frame in slow.frames)


def test_close_does_not_wait_for_who_was_left_out_when_the_others_have_everything() -> None:
    with (
        Publisher(LOCAL, "raw", buffer_mb=4, stall_s=0.05) as publisher,
        Collected(publisher.address, "raw") as quick,
        short_of_room(publisher.address, "raw"),
    ):
        assert publisher.wait_for_subscribers(2, PATIENCE_S)
        publisher.open(a_start(axis=WIDE, dtype="float32", block=64))
        counts, sent = np.zeros((64, len(WIDE)), np.float32), 0
        while not publisher.stalls:
            sent += publisher.send(a_frame(sent, counts))
            publisher.flush()
            if len(quick.frames) < sent - publisher.waiting // 64:
                quick.more()
        publisher.end(an_end(sent, 64 * sent))
        while not publisher.flush(0.01):
            quick.more()
        quick.ends()
        begin = time.monotonic()
        assert publisher.close(PATIENCE_S) and time.monotonic() - begin < PATIENCE_S / 2


def test_close_says_for_whom_it_waits_and_whether_that_was_in_vain(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("cars_rt.sockets.publisher.SAY_S", 0.01)
    caplog.set_level(logging.INFO)
    with (
        Publisher(LOCAL, "raw", buffer_mb=1000, stall_s=0) as publisher,
        short_of_room(publisher.address, "raw"),
    ):
        assert publisher.wait_for_subscribers(1, PATIENCE_S)
        publisher.open(a_start(axis=WIDE, dtype="float32", block=64))
        for number in range(60):  # more than the system takes, and ZeroMQ has room for
            assert publisher.send(a_frame(number, np.zeros((64, len(WIDE)), np.float32)))
        publisher.end(an_end(60, 60 * 64))
        assert publisher.flush()
        assert not publisher.close(0.3)
    said = "the end of the raw stream waits for 0.3 s at most for a subscriber that has not taken all of it"
    assert said in caplog.text


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there is no such signal here")
def test_signal_that_asks_where_a_daemon_stands_does_not_end_its_wait_for_subscribers() -> None:
    (publish,) = free_addresses(1)
    with (
        Published(buffer_mb=1000) as source,
        Command(
            "run", "--listen", source.address, "--publish", publish, "--engine", "passthrough",
            "--subscribers", 1, "--buffer-mb", 1000,
        ) as daemon,
        short_of_room(publish) as slow,
    ):  # fmt: skip
        source.wait()
        source.run("run-1", spectra_of(60 * 64, WIDE), 64, axis=WIDE)
        daemon.wait_for("run run-1 complete")
        daemon.process.send_signal(signal.SIGINT)
        daemon.wait_for("the end of the raman stream waits for 10 s at most")
        daemon.process.send_signal(signal.SIGUSR1)
        daemon.wait_for("Thread 0x")
        assert slow.ends().spectra == 60 * 64
        assert daemon.end() == 0 and "they are lost" not in daemon.said


def test_daemon_goes_on_for_the_others_when_one_stops_reading() -> None:
    """The one that stopped is left out, the others get every spectrum."""
    block, frames = 64, 300
    axis = np.linspace(600, 2400, 1500)
    counts = spectra_of(block, axis)
    with (
        Published() as source,
        daemon_in_thread(source.address, stall_s=1, engine="passthrough") as daemon,
        Collected(daemon.publisher.address) as quick,
        short_of_room(daemon.publisher.address) as slow,
    ):
        source.wait()
        wait_until(lambda: daemon.publisher.subscribers == 2)
        reading = threading.Thread(target=quick.ends)
        reading.start()
        source.publisher.open(a_start(axis=axis, block=block))
        for sequence in range(frames):
            assert source.publisher.send(a_frame(sequence, counts), PATIENCE_S)
        source.publisher.end(an_end(frames, frames * block))
        assert source.publisher.flush(PATIENCE_S)
        reading.join(PATIENCE_S)
        wait_until(lambda: daemon.parts.runs.book.closed)
        assert not quick.problems and not quick.closed[0].end.lost
        (receipt,) = daemon.receipts
        assert receipt.sent == frames * block and not receipt.lost
        assert receipt.stalls > 0
        assert not slow.events  # it never read


def test_run_of_a_driver_that_vanished_is_closed_as_interrupted(soon: None) -> None:
    with Published() as source, daemon_in_thread(source.address) as daemon:
        with Collected(daemon.publisher.address) as results:
            source.wait()
            wait_until(lambda: daemon.publisher.subscribers == 1)
            source.say(a_start(spectra=100), *(a_frame(n, spectra_of(1, first=n)) for n in range(20)))
            results.until(lambda all_: all_.spectra == 20)
            source.publisher.close(PATIENCE_S)
            results.ends()
            end = results.closed[0].end
            assert (end.reason, end.spectra, end.announced, dict(end.lost)) == ("interrupted", 20, 20, {})
        wait_until(lambda: daemon.publisher.subscribers == 0)  # or it is taken for the next one
        with Published(address=source.address) as again:  # the driver is restarted: a new run, in order
            again.wait()
            with Collected(daemon.publisher.address) as results:
                wait_until(lambda: daemon.publisher.subscribers == 1 and daemon.parts.intake.connected)
                again.run("run-2", spectra_of(30))
                results.ends()
                assert results.closed[0].end.spectra == 30 and not results.problems


def test_client_and_recorder_end_a_run_whose_publisher_vanished(soon: None, tmp_path: Path) -> None:
    with Published() as source, cars_rt.connect(source.address, "raw", timeout=PATIENCE_S) as client:
        recorder = Recorder(tmp_path / "scan.h5", RecordSettings(raman=None, raw=source.address))
        source.wait(2)
        source.say(a_start(), *(a_frame(n, spectra_of(1, first=n)) for n in range(20)))
        source.publisher.close(PATIENCE_S)
        run = next(iter(client))
        frames: list[Frame] = list(run)
        (recorded,) = recorder.serve()
    assert len(frames) == 20 and run.end is not None and run.end.reason == "interrupted"
    assert recorded.rows == {"raw": 20} and not recorded.complete
    with h5py.File(recorded.path) as file:
        assert file.attrs["reason"] == "interrupted" and len(file["raw/counts"]) == 20


def test_recorder_does_not_wait_for_ever_for_a_stream_that_never_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cars_rt.files.recorder.recorder.OTHER_S", 0.2)
    with Published() as source, Published("raman") as silent:
        settings = RecordSettings(raman=silent.address, raw=source.address)
        recorder = Recorder(tmp_path / "scan.h5", settings)
        source.wait()
        source.run("run-1", spectra_of(10))
        (recorded,) = recorder.serve()
    assert recorded.rows == {"raw": 10} and not recorded.complete
    with h5py.File(recorded.path) as file:
        assert not file.attrs["complete"] and len(file["raw/counts"]) == 10


def test_nothing_that_was_bound_gets_a_new_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    """libzmq 4.3.5 tells it to connections that are just ending, too, and the process dies of it."""
    bound: set[int] = set()
    late: list[int] = []
    bind, setting = zmq.Socket.bind, zmq.Socket.setsockopt

    def noted(socket: zmq.Socket[bytes], address: str) -> object:
        bound.add(id(socket))
        return bind(socket, address)

    def watched(socket: zmq.Socket[bytes], option: int, value: int | bytes) -> None:
        if id(socket) in bound and option in (zmq.SNDHWM, zmq.RCVHWM):
            late.append(option)
        setting(socket, option, value)

    monkeypatch.setattr(zmq.Socket, "bind", noted)
    monkeypatch.setattr(zmq.Socket, "setsockopt", watched)
    with Published() as source, Collected(source.address, "raw") as results:
        source.wait()
        for run in ("run-1", "run-2"):
            source.run(run, spectra_of(20))
        results.ends(2)
    assert bound and not late


@pytest.mark.parametrize("when", ["before the run", "in the run"])
def test_a_subscriber_that_reads_nothing_costs_no_more_than_the_buffer(when: str) -> None:
    """Whenever it came: ZeroMQ bounds its queue in messages, and they are large."""
    block, buffer_mb = 64, 8
    counts = np.zeros((block, len(WIDE)), np.float32)  # 1 MB
    with (
        Publisher(LOCAL, "raw", buffer_mb=buffer_mb, overload="drop-newest", stall_s=0) as publisher,
        zmq.Context() as context,
        context.socket(zmq.SUB) as idle,
    ):
        for option, value in ((zmq.RCVHWM, 1), (zmq.RCVBUF, 65_536), (zmq.LINGER, 0)):
            idle.setsockopt(option, value)
        idle.subscribe("raw.")
        if when == "before the run":
            idle.connect(publisher.address)
            assert publisher.wait_for_subscribers(1, PATIENCE_S)
        ledger = Ledger()
        publisher.open(a_start(axis=WIDE, dtype="float32", block=block), ledger)
        if when == "in the run":
            idle.connect(publisher.address)
            assert publisher.wait_for_subscribers(1, PATIENCE_S)
        for number in range(100):
            publisher.send(a_frame(number, counts))
        kept = ledger.frames + publisher.waiting // block  # also what lies in the system's own buffers
        publisher.surrender()
        publisher.close(0)
    assert ledger.lost["overload"] and kept * counts.nbytes < 3 * buffer_mb * 1e6


def test_a_subscriber_that_reads_slowly_has_not_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """One message is progress, long before ZeroMQ tells that half of its queue was taken."""
    monkeypatch.setattr("cars_rt.sockets.outlet.FOLLOW_S", 0.0)
    counts = np.zeros((64, len(WIDE)), np.float32)  # 1 MB
    with (
        Publisher(LOCAL, "raw", stall_s=PATIENCE_S) as publisher,
        zmq.Context() as context,
        context.socket(zmq.SUB) as slow,
    ):
        for option, value in ((zmq.RCVHWM, 1), (zmq.RCVBUF, 65_536), (zmq.LINGER, 0)):
            slow.setsockopt(option, value)
        slow.subscribe("raw.")
        slow.connect(publisher.address)
        assert publisher.wait_for_subscribers(1, PATIENCE_S)
        publisher.open(a_start(axis=WIDE, dtype="float32", block=64))
        number = 0
        while not publisher.blocked:
            publisher.send(a_frame(number, counts))
            number += 1
        for _ in range(5):
            publisher.flush()
            before = publisher.outlet.full_since or math.inf
            slow.recv_multipart()
            wait_until(
                lambda before=before: publisher.flush() or (publisher.outlet.full_since or 0.0) > before
            )
            assert publisher.blocked and not publisher.stalls
        publisher.surrender()
        publisher.close(0)


def test_a_start_that_is_said_again_keeps_no_end_waiting() -> None:
    """A stop waited for ever behind a start for who had just come, since another one had no room for it."""
    counts = np.zeros((64, len(WIDE)), np.float32)
    with (
        Publisher(LOCAL, "raw", buffer_mb=4, stall_s=0) as publisher,
        short_of_room(publisher.address, "raw"),
    ):
        assert publisher.wait_for_subscribers(1, PATIENCE_S)
        publisher.open(a_start(axis=WIDE, dtype="float32", block=64))
        sent = 0
        while publisher.send(a_frame(sent, counts)):
            sent += 1
        with Collected(publisher.address, "raw") as newcomer:
            assert publisher.wait_for_subscribers(2, PATIENCE_S)
            publisher.surrender()
            publisher.end(an_end(sent, 64 * sent))
            publisher.serve()
            assert not publisher.blocked
            newcomer.ends()
        publisher.close(0)
