"""The flight recorder: what it keeps, when it writes, and that its files can be replayed."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import h5py
import numpy as np
import pytest
from helpers import (
    AXIS,
    LOCAL,
    PATIENCE_S,
    Collected,
    Command,
    Published,
    a_frame,
    a_start,
    an_end,
    daemon_in_thread,
    is_of_a_run,
    spectra_of,
    wait_until,
)

from cars_rt.daemon import flight as flight_module
from cars_rt.daemon.flight import FlightRecorder
from cars_rt.drivers import Block, DriveSettings, drive
from cars_rt.drivers.replay import Replay, ReplaySettings
from cars_rt.engines import ENGINES, EngineError
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.files.recording import RecordingError
from cars_rt.protocol import Frame, decode, encode
from cars_rt.sockets import Publisher


def received(frame: Frame) -> Frame:
    """As it comes off a socket: read-only views of bytes."""
    back = decode([bytes(part) for part in encode(frame)])
    assert isinstance(back, Frame)
    return back


def only_file(folder: Path) -> Path:
    wait_until(lambda: list(folder.glob("flight-*.h5")) and not list(folder.glob("*.partial.h5")))
    (path,) = folder.glob("flight-*.h5")
    return path


def attrs(path: Path) -> dict[str, Any]:
    with h5py.File(path) as file:
        return dict(file["flight"].attrs)


# -- the ring ---------------------------------------------------------------------------------------


def test_ring_is_bounded_in_bytes_and_keeps_the_last_frames(tmp_path: Path) -> None:
    flight = FlightRecorder(tmp_path, seconds=1e6, megabytes=1)
    flight.start(a_start(block=4))
    for sequence in range(2000):
        flight.frame(received(a_frame(sequence, spectra_of(4))))
        assert flight.bytes <= 1_000_000
    assert flight.bytes > 990_000
    flight.alarm("missing")
    flight.close()
    with h5py.File(only_file(tmp_path)) as file:
        index, counts = file["raw/index"][:], file["raw/counts"][:]
        assert json.loads(file["raw"].attrs["ranges"]) == [["missing", 0, index[0]]]
    assert len(index) == 4 * (1_000_000 // (4 * len(AXIS) * 2 + flight_module.FRAME_BYTES))
    assert np.array_equal(index, np.arange(8000 - len(index), 8000))
    assert np.array_equal(counts, np.tile(spectra_of(4), (len(index) // 4, 1)))


def test_frame_beyond_the_whole_limit_is_let_go(tmp_path: Path) -> None:
    flight = FlightRecorder(tmp_path, megabytes=0.01)
    flight.start(a_start(block=64))
    flight.frame(received(a_frame(0, spectra_of(64))))
    assert flight.bytes == 0


def test_ring_is_bounded_in_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(flight_module.time, "monotonic", lambda: now)
    flight = FlightRecorder(tmp_path, seconds=2)
    flight.start(a_start())
    for sequence in range(50):
        now = 1000 + sequence / 10
        flight.frame(received(a_frame(sequence, spectra_of(1))))
    monkeypatch.undo()
    assert flight.request("a test")
    flight.close()
    with h5py.File(only_file(tmp_path)) as file:
        assert list(file["raw/index"]) == list(range(29, 50))


def test_frames_are_not_copied(tmp_path: Path) -> None:
    flight = FlightRecorder(tmp_path)
    flight.start(a_start())
    frame = received(a_frame(0, spectra_of(4)))
    flight.frame(frame)
    assert flight._ring[0][2] is frame and not frame.counts.flags.owndata


def test_new_run_begins_a_new_ring_and_what_was_asked_for_before_is_written(tmp_path: Path) -> None:
    flight = FlightRecorder(tmp_path)
    flight.start(a_start("first"))
    flight.frame(received(a_frame(0, spectra_of(1), "first")))
    assert flight.alarm("missing")
    flight.start(a_start("second", axis=AXIS[:50]))
    flight.frame(received(a_frame(0, spectra_of(1, AXIS[:50]), "second")))
    assert flight.bytes == flight_module.FRAME_BYTES + 100
    flight.start(a_start("third", block=3))
    flight.frame(received(a_frame(0, spectra_of(3), "third")))
    wait_until(flight.request)
    flight.close()
    for reason, run, spectra in (("missing", "first", 1), ("request", "third", 3)):
        (path,) = tmp_path.glob(f"flight-*-{reason}.h5")
        with h5py.File(path) as file:
            assert file.attrs["run"] == run and file["raw/counts"].shape == (spectra, len(AXIS))


# -- alarms -----------------------------------------------------------------------------------------


def test_burst_of_alarms_gives_one_file_and_all_are_counted(tmp_path: Path) -> None:
    flight = FlightRecorder(tmp_path)
    flight.start(a_start())
    flight.frame(received(a_frame(0, spectra_of(1))))
    for number in range(40):
        assert flight.alarm("missing", f"number {number}", {"missing": number})
    flight.tick(at_once=True)
    wait_until(lambda: flight.files == 1 and not flight.writing)
    for sequence in range(1, 9):
        flight.frame(received(a_frame(sequence, spectra_of(1))))
        assert not flight.alarm("engine")
    assert flight.request()  # somebody who asks gets a file, cool-down or not
    flight.close()
    assert flight.alarms == 49 and flight.files == 2
    first, second = sorted(tmp_path.glob("flight-*.h5"), key=lambda path: attrs(path)["time_ns"])
    told = json.loads(attrs(first)["alarms"])
    assert [alarm["text"] for alarm in told] == [f"number {number}" for number in range(16)]
    assert json.loads(attrs(first)["lost"]) == {"missing": 0} and told[3]["lost"] == {"missing": 3}
    assert attrs(second)["reason"] == "request"
    assert json.loads(attrs(first)["merged"]) == {"missing": 24}
    assert json.loads(attrs(second)["merged"]) == {"engine": 8}


def test_file_shows_what_came_after_the_alarm(tmp_path: Path) -> None:
    """Until a quarter of the memory is full of it, or a second has gone by."""
    flight = FlightRecorder(tmp_path, megabytes=1)
    flight.start(a_start(block=64))
    for sequence in range(100):
        flight.frame(received(a_frame(sequence, spectra_of(64))))
        if sequence == 80:
            flight.alarm("missing")
    flight.close()
    size = 64 * len(AXIS) * 2 + flight_module.FRAME_BYTES
    with h5py.File(only_file(tmp_path)) as file:
        sequences = sorted(set(file["raw/sequence"]))
    assert sequences[0] < 80 < sequences[-1] == 80 - (-250_000 // size)


def test_alarm_before_anything_came_writes_nothing(tmp_path: Path) -> None:
    flight = FlightRecorder(tmp_path)
    flight.alarm("rejected")
    assert not flight.request()
    flight.close()
    assert not list(tmp_path.iterdir()) and flight.alarms == 1


def test_refused_messages_are_in_the_file_and_bounded(tmp_path: Path) -> None:
    flight = FlightRecorder(tmp_path)
    for number in range(100):
        flight.rejected([b"raw.frame", bytes([number]), b"x" * 1_000_000], f"refused {number}")
    assert sum(len(message.data) for message in flight._rejected) == 16 * 65_536
    flight.alarm("rejected")
    flight.close()
    with h5py.File(only_file(tmp_path)) as file:
        group = file["flight/rejected"]
        assert len(group) == 16 and "raw" not in file
        assert bytes(group["0"][:]) == (b"raw.frame" + bytes([84]) + b"x" * 65_536)[:65_536]
        assert group["0"].attrs["text"] == "refused 84" and group["0"].attrs["bytes"] == 1_000_010
        assert json.loads(group["0"].attrs["parts"]) == [9, 1, 1_000_000]


# -- the folder -------------------------------------------------------------------------------------


def test_impossible_settings_are_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    with pytest.raises(RecordingError, match="cannot write in"):
        FlightRecorder(tmp_path / "a-file" / "flights")
    for limits in ({"seconds": 0}, {"megabytes": -1}, {"seconds": float("nan")}):
        with pytest.raises(RecordingError, match="more than 0 seconds"):
            FlightRecorder(tmp_path, **limits)


def test_command_refuses_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    with Command("run", "--publish", LOCAL, "--flight", tmp_path / "a-file" / "flights") as daemon:
        assert daemon.end() == 1
    assert len(daemon.said.strip().splitlines()) == 1 and "cannot write in" in daemon.said


def test_folder_that_went_away_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "flights"
    flight = FlightRecorder(folder)
    folder.rmdir()
    flight.start(a_start())
    for sequence in range(3):
        flight.frame(received(a_frame(sequence, spectra_of(1))))
        assert flight.request()
        wait_until(lambda: not flight.writing)
    assert flight.files == 0 and caplog.text.count("no flight file of the alarm") == 1
    folder.mkdir()
    flight.frame(received(a_frame(3, spectra_of(1))))
    assert flight.request()
    flight.close()
    assert flight.files == 1 and only_file(folder)


def test_disk_that_is_nearly_full_is_left_to_the_recorder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flight_module, "SPARE_BYTES", 2**62)
    flight = FlightRecorder(tmp_path)
    flight.start(a_start())
    flight.frame(received(a_frame(0, spectra_of(1))))
    flight.alarm("missing")
    flight.close()
    assert not list(tmp_path.iterdir()) and "to spare" in caplog.text


def test_no_more_than_so_many_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(flight_module, "MOST_FILES", 3)
    flight = FlightRecorder(tmp_path)
    flight.start(a_start())
    for sequence in range(5):
        flight.frame(received(a_frame(sequence, spectra_of(1))))
        assert flight.request()
        wait_until(lambda: not flight.writing)
    assert flight.files == 3 == len(list(tmp_path.iterdir()))
    assert caplog.text.count("holds 3 flight files; move some away") == 1


def test_requests_leave_places_to_alarms(tmp_path: Path) -> None:
    flight = FlightRecorder(tmp_path)
    flight.start(a_start())
    for sequence in range(flight_module.MOST_REQUESTED):
        flight.frame(received(a_frame(sequence, spectra_of(1))))
        assert flight.request("again")
        wait_until(lambda: not flight.writing)
    flight.frame(received(a_frame(99, spectra_of(1))))
    with pytest.raises(RecordingError, match="holds 10 flight files that were asked for"):
        flight.request()
    assert flight.alarm("engine")
    flight.close()
    assert len(list(tmp_path.glob("flight-*-engine.h5"))) == 1


# -- with the daemon --------------------------------------------------------------------------------


class FailsThird(OnnxRuntime):
    """An engine that fails on one full batch."""

    name: ClassVar[str] = "fails-third"
    left = 0

    def launch(self, slab: int, rows: int) -> None:
        FailsThird.left -= rows == self.max_batch and is_of_a_run(self, slab)
        if FailsThird.left == 0:
            raise EngineError("the device had enough")
        super().launch(slab, rows)


def test_engine_failure_leaves_a_file_that_replays_to_the_same_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "fails-third", (__name__, "FailsThird"))
    monkeypatch.setattr(flight_module, "AFTER_S", 10 * PATIENCE_S)  # until the daemon ends
    FailsThird.left = 3
    counts, dark = spectra_of(160), np.linspace(3, 9, len(AXIS)).astype(np.float32)
    with (
        Published() as source,
        daemon_in_thread(
            source.address,
            engine="fails-third",
            max_batch=16,
            flight=tmp_path,
            flight_seconds=100 * PATIENCE_S,
        ) as daemon,
        Collected(daemon.publisher.address) as results,
    ):
        source.wait()
        wait_until(lambda: daemon.publisher.subscribers == 1)
        source.run("run-1", counts, 16, dark=dark, scan=(10, 16), exposure_s=0.001)
        results.ends()
        assert dict(results.closed[0].end.lost) == {"engine": 16}
    path = only_file(tmp_path)
    about = attrs(path)
    assert about["reason"] == "engine" and "the device had enough" in about["text"]
    assert about["block"] == 16 and json.loads(about["alarms"])[0]["lost"] == {"engine": 16}
    with h5py.File(path) as file:
        assert file.attrs["run"] == "run-1" and file["raw"].attrs["exposure_s"] == 0.001
        assert file.attrs["reason"] == "interrupted" and not file.attrs["complete"]
        assert np.array_equal(file["raw/counts"], counts) and file["raw/counts"].dtype == np.uint16
    with (
        Publisher(LOCAL, "raw") as driver,
        daemon_in_thread(driver.address, engine="onnxruntime") as daemon,  # in float32, too
        Collected(driver.address, "raw") as raw,
        Collected(daemon.publisher.address) as again,
    ):
        assert daemon.compute.model.sha256 == (results.starts[0].model or {})["sha256"]
        wait_until(lambda: daemon.publisher.subscribers == 1)
        totals = drive(
            Replay(path, ReplaySettings(rate=0, block=int(about["block"]))),
            driver,
            DriveSettings(subscribers=2, settle_s=0),
        )
        raw.ends()
        again.ends()
    assert totals.sent == 160 and not totals.lost
    assert np.array_equal(np.concatenate([frame.counts for frame in raw.frames]), counts)
    assert raw.starts[0].dark is not None and np.array_equal(raw.starts[0].dark, dark)
    replayed, first = np.concatenate([frame.block for frame in again.frames]), results.raman()
    replayed = replayed[results.index]  # the engine had lost some
    assert np.abs(replayed - first).max() < 1e-5 * np.abs(first).max()


def test_gap_and_refused_message_leave_one_file_that_names_what_is_missing(tmp_path: Path) -> None:
    counts = spectra_of(40)
    with Published() as source, daemon_in_thread(source.address, flight=tmp_path) as daemon:
        source.wait()
        source.say(a_start(scan=(4, 10)))
        for sequence in [*range(10), *range(15, 40)]:
            source.say(a_frame(sequence, counts[sequence : sequence + 1]))
            if sequence == 20:
                source.bytes(b"raw.frame", b"this is not msgpack", b"at all")
        source.say(an_end(40))
        wait_until(lambda: daemon.parts.runs.book.closed)
        path = only_file(tmp_path)
    about = attrs(path)
    assert about["reason"] == "missing" and "the sequence jumps from 10 to 15" in about["text"]
    assert [alarm["reason"] for alarm in json.loads(about["alarms"])] == ["missing", "rejected"]
    with h5py.File(path) as file:
        raw = file["raw"]
        here = [*range(10), *range(15, 40)]
        assert list(raw["index"]) == here and np.array_equal(raw["counts"], counts[here])
        assert raw["position"][12].tolist() == [1, 7]
        assert json.loads(raw.attrs["lost"]) == {"missing": 5} and raw.attrs["announced"] == 40
        assert json.loads(raw.attrs["ranges"]) == [["missing", 10, 5]]
        refused = file["flight/rejected/0"]
        assert bytes(refused[:]) == b"raw.framethis is not msgpackat all"
        assert "not msgpack" in refused.attrs["text"]
    example = Path(__file__).parents[2] / "docs" / "examples" / "read_flight.py"
    said = subprocess.run([sys.executable, example, path], capture_output=True, text=True, check=True).stdout
    assert "missing: the sequence jumps from 10 to 15" in said and "35 spectra from 0 to 39" in said
    assert "not in the file: [['missing', 10, 5]]" in said and "refused message 0, 34 bytes" in said
    blocks = list(Replay(path, ReplaySettings(rate=0)).frames())
    assert [
        block.index for block in blocks if isinstance(block, Block)
    ] == here  # at their places in the scan


def test_driver_that_vanished_leaves_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cars_rt.sockets.subscriber.VANISHED_S", 0.2)
    with Published() as source, daemon_in_thread(source.address, flight=tmp_path) as daemon:
        source.wait()
        source.say(a_start(), *(a_frame(n, spectra_of(1, first=n)) for n in range(20)))
        wait_until(lambda: daemon.parts.runs.taken.spectra == 20)
        source.publisher.close(PATIENCE_S)
        path = only_file(tmp_path)
    assert attrs(path)["reason"] == "driver vanished"
    with h5py.File(path) as file:
        assert np.array_equal(file["raw/counts"], spectra_of(20))


def test_run_in_good_order_writes_nothing(tmp_path: Path) -> None:
    with Published() as source, daemon_in_thread(source.address, flight=tmp_path) as daemon:
        source.wait()
        source.run("run-1", spectra_of(100), 4)
        wait_until(lambda: daemon.parts.runs.book.closed)
        assert daemon.parts.flight is not None and daemon.parts.flight.bytes > 100 * len(AXIS) * 2
    assert not list(tmp_path.iterdir()) and daemon.parts.flight.alarms == 0


def test_alarm_in_the_last_moment_is_still_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with Published() as source, daemon_in_thread(source.address, flight=tmp_path) as daemon:
        source.wait()
        source.say(a_start(), a_frame(0, spectra_of(1)), a_frame(5, spectra_of(1)))
        wait_until(lambda: daemon.parts.runs.taken.spectra == 2)
    assert attrs(only_file(tmp_path))["reason"] == "missing"
    assert "the input of the last seconds is in" in caplog.text
