"""Subscribers that are too slow and publishers that vanish: nobody else pays for them."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import (
    LOCAL,
    PATIENCE_S,
    Collected,
    Published,
    a_frame,
    a_start,
    an_end,
    daemon_in_thread,
    spectra_of,
    wait_until,
)

import cars_rt
from cars_rt import stream
from cars_rt.protocol import Frame
from cars_rt.recorder import Recorder, RecordSettings
from cars_rt.stream import Publisher

WIDE = np.linspace(400, 3000, 4000)  # 1 MB a frame of 64: queues of a few MB are full at once


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A publisher that is away has vanished at once."""
    monkeypatch.setattr(stream, "VANISHED_S", 0.2)


def test_slow_subscriber_is_left_out_and_knows_it_while_the_others_get_everything() -> None:
    frames, block = 400, 64
    counts = np.zeros((block, len(WIDE)), np.float32)
    with (
        Publisher(LOCAL, "raw", buffer_mb=8, leave_out_slow=True) as publisher,
        Collected(publisher.address, "raw") as quick,
        Collected(publisher.address, "raw") as slow,
    ):
        assert publisher.wait_for_subscribers(2, PATIENCE_S)
        publisher.open(a_start(axis=WIDE, dtype="float32", block=block))
        for sequence in range(frames):
            counts[:] = sequence
            assert publisher.send(a_frame(sequence, counts))
            quick.until(lambda all_, wanted=sequence + 1: len(all_.frames) == wanted)
        assert publisher.left_out > 0
        publisher.end(an_end(frames, frames * block))
        quick.ends()
        # Reading makes room, but the end was sent when there was none: only silence tells the slow one.
        while parts := slow.subscriber.receive(0.5):
            slow.events += slow.reader.read(parts)
        assert not quick.problems and quick.closed[0].ledger.spectra == frames * block
        assert 0 < len(slow.frames) < frames
        assert [frame.sequence for frame in slow.frames] == sorted({f.sequence for f in slow.frames})
        assert all((frame.block == frame.sequence).all() for frame in slow.frames)


def test_daemon_goes_on_for_the_others_if_told_to_drop(caplog: pytest.LogCaptureFixture) -> None:
    block, frames = 64, 150
    axis = np.linspace(600, 2400, 1500)
    counts = spectra_of(block, axis)
    with (
        Published() as source,
        daemon_in_thread(source.address, overload="drop", buffer_mb=2) as daemon,
        Collected(daemon.publisher.address) as quick,
        Collected(daemon.publisher.address) as slow,
    ):
        source.wait()
        wait_until(lambda: daemon.publisher.subscribers == 2)
        source.publisher.open(a_start(axis=axis, block=block))
        for sequence in range(frames):
            assert source.publisher.send(a_frame(sequence, counts), PATIENCE_S)
            quick.until(lambda all_, wanted=sequence + 1: len(all_.frames) == wanted)
        source.publisher.end(an_end(frames, frames * block))
        quick.ends()
        assert not quick.problems and not quick.closed[0].end.lost
        assert daemon.runs[0].sent == frames * block
        assert daemon.runs[0].problems["slow subscriber"] > 0
        assert not slow.events  # it never read
    assert caplog.text.count("a subscriber is too slow") == 1


def test_run_of_a_driver_that_vanished_is_closed_as_interrupted(soon: None) -> None:
    with Published() as source, daemon_in_thread(source.address) as daemon:
        with Collected(daemon.publisher.address) as results:
            source.wait()
            wait_until(lambda: daemon.publisher.subscribers == 1)
            source.say(a_start(spectra=100), *(a_frame(n, spectra_of(1, first=n)) for n in range(20)))
            results.until(lambda all_: len(all_.frames) == 20)
            source.publisher.close(PATIENCE_S)
            results.ends()
            end = results.closed[0].end
            assert (end.reason, end.spectra, end.announced, dict(end.lost)) == ("interrupted", 20, 20, {})
        with Published(address=source.address) as again:  # the driver is restarted: a new run, in order
            again.wait()
            with Collected(daemon.publisher.address) as results:
                wait_until(lambda: daemon.publisher.subscribers == 1)
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
    monkeypatch.setattr("cars_rt.recorder.OTHER_S", 0.2)
    with Published() as source, Published("raman") as silent:
        settings = RecordSettings(raman=silent.address, raw=source.address)
        recorder = Recorder(tmp_path / "scan.h5", settings)
        source.wait()
        source.run("run-1", spectra_of(10))
        (recorded,) = recorder.serve()
    assert recorded.rows == {"raw": 10} and not recorded.complete
    with h5py.File(recorded.path) as file:
        assert not file.attrs["complete"] and len(file["raw/counts"]) == 10
