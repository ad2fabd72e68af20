"""Drivers: what every one shares, the simulator, and the replay of files."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zmq
from helpers import (
    AXIS,
    LOCAL,
    MEASURED,
    PATIENCE_S,
    Camera,
    Collected,
    Command,
    spectra_of,
    summary,
    wait_until,
)
from numpy.typing import NDArray

from cars_rt.accounting import Ledger
from cars_rt.cli.drive import _drive, _said
from cars_rt.console import EXIT_INCOMPLETE, write_summary
from cars_rt.drivers import DriveSettings, DriveTotals, Instrument, InstrumentError, Waiting, drive
from cars_rt.drivers.replay import Replay, ReplaySettings
from cars_rt.drivers.simulator import SimulatedMicroscope, SimulatorSettings
from cars_rt.files.recording import Recording
from cars_rt.physics.substances import SUBSTANCES
from cars_rt.protocol import End, Frame, Reason, Start
from cars_rt.sockets import Publisher
from cars_rt.trust.keys import KeysError


def driven(instrument: Instrument, **settings: Any) -> tuple[DriveTotals, Collected]:
    """One run of an instrument, and what a subscriber got of it."""
    totals: list[DriveTotals] = []
    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as collected:
        thread = threading.Thread(
            target=lambda: totals.append(drive(instrument, publisher, DriveSettings(settle_s=0, **settings)))
        )
        thread.start()
        collected.ends()
        thread.join(PATIENCE_S)
    return totals[0], collected


def counts_of(collected: Collected) -> NDArray[Any]:
    return np.concatenate([frame.block for frame in collected.frames])


# -- what every driver shares -------------------------------------------------------------------------


def test_run_of_an_instrument_arrives_as_it_was_yielded() -> None:
    counts = spectra_of(50)
    camera = Camera(np.array_split(counts, 9), spectra=50, scan=(5, 10), exposure_s=0.002)
    totals, collected = driven(camera)
    assert (totals.produced, totals.sent, totals.frames, totals.lost) == (50, 50, 9, {})
    assert np.array_equal(counts_of(collected), counts)
    assert [frame.sequence for frame in collected.frames] == list(range(9))
    start, closed = collected.starts[0], collected.closed[0]
    assert (start.run, start.source, start.scan) == (totals.run, "a small camera", (5, 10))
    assert (start.spectra, start.exposure_s, start.block) == (50, 0.002, 6)
    assert closed.end.reason == Reason.COMPLETE and closed.end.announced == 50
    assert not closed.ledger.lost and camera.closed == 1


def test_block_may_be_overwritten_after_the_next_is_asked_for() -> None:
    class Reuses(Camera):
        def frames(self) -> Any:
            buffer = np.empty((2, len(AXIS)), np.uint16)
            for number in range(100):
                buffer[:] = number
                yield buffer

    _, collected = driven(Reuses([spectra_of(2)]))
    assert np.array_equal(counts_of(collected)[::2, 0], np.arange(100))


def test_instrument_that_fails_ends_its_run_as_failed() -> None:
    camera = Camera([spectra_of(1)] * 3, fails=InstrumentError("the shutter is stuck"))
    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as collected:
        publisher.wait_for_subscribers(1, PATIENCE_S)
        with pytest.raises(InstrumentError, match="the shutter is stuck"):
            drive(camera, publisher, DriveSettings(settle_s=0))
        collected.ends()
    assert collected.closed[0].end.reason == Reason.FAILED and collected.spectra == 3
    assert camera.closed == 1


@pytest.mark.parametrize(
    ("camera", "reason"),
    [
        (
            Camera([np.zeros((1, len(AXIS)), np.int64)], dtype="uint16"),
            "yielded int64, .* said uint16: convert",
        ),
        (Camera([spectra_of(1).astype(np.float32)], dtype="uint16"), "said uint16: state dtype='float32'"),
        (Camera([np.zeros((1, 1, 3), np.uint16)]), r"shape \(1, 1, 3\), where \(k, 160\) with k from 1 to 1"),
        (Camera([spectra_of(1)[0]]), r"shape \(160,\), where .*; counts\[None\] makes one spectrum a block"),
        (Camera([spectra_of(1)[:, :7]]), "yielded 7 pixels, raman_shift has 160"),
        (Camera([spectra_of(160)[:, :7]], block=7), r"yielded 7 pixels, .*; counts\.T turns it over"),
        (Camera([spectra_of(3)], block=2), "yielded 3 spectra at once, .* said 1 to 2: .* as block"),
        (Camera([spectra_of(0)], block=2), "yielded 0 spectra at once"),
        (Camera([spectra_of(1)], dtype="complex64"), "dtype is 'complex64'|dtype 'complex64'"),
        (Camera([spectra_of(1)], dtype="nonsense"), "nonsense"),
        (Camera([spectra_of(1)], raman_shift=AXIS * 0), "not strictly monotonic"),
        (Camera([spectra_of(1)], block=10**6), "block is 1000000"),
    ],
)
def test_instrument_that_breaks_the_rules_is_told_which(camera: Camera, reason: str) -> None:
    with Publisher(LOCAL, "raw") as publisher, pytest.raises(InstrumentError, match=reason):
        drive(camera, publisher, DriveSettings(subscribers=0))
    assert camera.closed == 1


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        ("acquisition", r"acquisition\(\) must return an Acquisition, and returns None"),
        ("frames", r"frames\(\) must yield blocks of counts, and returns None"),
        ("frames", r"frames\(\) yielded a list, where a NumPy array"),
    ],
)
def test_forgotten_return_or_yield_is_said(method: str, reason: str) -> None:
    value = iter([[[1, 2]]]) if "list" in reason else None
    forgetful = type("Forgetful", (Camera,), {method: lambda self: value})
    with Publisher(LOCAL, "raw") as publisher, pytest.raises(InstrumentError, match=reason):
        drive(forgetful([spectra_of(1)]), publisher, DriveSettings(subscribers=0))


def test_lists_and_types_are_taken_where_arrays_and_names_are_meant() -> None:
    camera = Camera([spectra_of(1)], raman_shift=AXIS.tolist(), dtype=np.uint16, dark=[0] * len(AXIS))
    _, collected = driven(camera)
    assert collected.starts[0].dtype == "uint16" and np.array_equal(counts_of(collected), spectra_of(1))


def test_run_begins_when_all_who_look_for_the_driver_have_found_it() -> None:
    """One is enough, but as long as another may come the run waits: neither misses anything."""
    found = threading.Event()

    def progress(*_: object) -> None:
        if publisher.subscribers == 1:
            found.set()
        else:
            publisher.audience.newest_at = 0.0  # long ago

    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as first:
        camera, settings = Camera([spectra_of(1)] * 9), DriveSettings(settle_s=PATIENCE_S)
        thread = threading.Thread(target=lambda: drive(camera, publisher, settings, progress=progress))
        thread.start()
        assert found.wait(PATIENCE_S)
        with Collected(publisher.address, "raw") as second:
            for each in (first, second):
                each.ends()
                assert each.spectra == 9 and not each.closed[0].ledger.lost
        thread.join(PATIENCE_S)


@pytest.mark.parametrize("back_in_time", [True, False])
def test_what_nobody_listens_to_waits_and_then_is_lost_and_said(
    back_in_time: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The only listener dies in mid-run; another one comes, before or after the patience is over."""
    another = threading.Event()
    ended: list[DriveTotals] = []

    class Watched(Camera):
        def frames(self) -> Any:
            for number, block in enumerate(self.blocks):
                if number == 10:
                    wait_until(lambda: publisher.serve() or not publisher.subscribers)
                if number == 20:
                    wait_until(lambda: publisher.flush() is not back_in_time)  # lost, or still waiting
                    another.set()
                    assert publisher.wait_for_subscribers(1, PATIENCE_S)
                yield block

    with Publisher(LOCAL, "raw", stall_s=3600 if back_in_time else 0.01) as publisher:
        camera, settings = Watched([spectra_of(1)] * 30), DriveSettings(settle_s=0)
        thread = threading.Thread(target=lambda: ended.append(drive(camera, publisher, settings)))
        with Collected(publisher.address, "raw") as first:
            thread.start()
            first.until(lambda all_: all_.spectra == 10)
        assert another.wait(PATIENCE_S)
        with Collected(publisher.address, "raw") as second:
            second.ends()
        thread.join(PATIENCE_S)
    (totals,) = ended
    lost = {} if back_in_time else {"unheard": 10}
    assert totals.lost == lost and totals.produced == 30 == totals.sent + sum(lost.values())
    assert totals.complete is back_in_time and not totals.deserted
    assert totals.ranges == [(cause, 10, count) for cause, count in lost.items()]
    assert second.spectra == (20 if back_in_time else 10) and second.closed[0].end.lost == lost
    assert second.closed[0].ledger.lost == {"missing": 10} | ({"upstream": 10} if lost else {})
    assert "nobody listens any more" in caplog.text


def test_run_whose_only_listener_left_is_not_called_complete() -> None:
    with Publisher(LOCAL, "raw", stall_s=0.01) as publisher:
        first = Collected(publisher.address, "raw")

        class Leaves(Camera):
            def frames(self) -> Any:
                yield spectra_of(1)
                first.subscriber.close()
                wait_until(lambda: publisher.serve() or not publisher.subscribers)

        totals = drive(Leaves([spectra_of(1)]), publisher, DriveSettings(settle_s=0))
    assert totals.deserted and not totals.complete and totals.lost == {}


def test_driver_says_that_it_left_out_a_subscriber(caplog: pytest.LogCaptureFixture) -> None:
    """It lost nothing, but the other end misses what was sent meanwhile."""
    with (
        Publisher(LOCAL, "raw", buffer_mb=4, stall_s=0.05) as publisher,
        Collected(publisher.address, "raw", connect=False) as idle,
    ):
        idle.subscriber.socket.setsockopt(zmq.RCVHWM, 1)
        idle.subscriber.socket.setsockopt(zmq.RCVBUF, 65_536)
        idle.subscriber.connect()
        camera = Camera([np.zeros((64, len(AXIS)), np.float32)] * 200, dtype="float32", block=64)
        totals = drive(camera, publisher, DriveSettings(settle_s=0))
        _said(totals)
        publisher.close(0)
    assert totals.stalls and not totals.lost
    assert f"lost: none; a subscriber that read nothing was left out {totals.stalls} time" in caplog.text
    assert publisher.address in caplog.text


def test_stop_ends_the_run_as_stopped() -> None:
    camera = Camera([spectra_of(1)] * 1000)
    seen: list[int] = []
    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as collected:
        publisher.wait_for_subscribers(1, PATIENCE_S)
        totals = drive(
            camera, publisher, DriveSettings(settle_s=0), lambda: len(seen) >= 5, lambda *_: seen.append(1)
        )
        collected.ends()
    assert totals.reason == collected.closed[0].end.reason == Reason.STOPPED
    assert totals.produced == totals.sent == collected.spectra == 5


def test_stop_while_waiting_for_subscribers_makes_no_run() -> None:
    with Publisher(LOCAL, "raw") as publisher:
        totals = drive(Camera([spectra_of(1)]), publisher, DriveSettings(settle_s=0), lambda: True)
    assert (totals.reason, totals.produced) == (Reason.STOPPED, 0)


WIDE = np.linspace(500, 3000, 4096)
MANY = [np.full((1, 4096), number, np.uint16) for number in range(4000)]  # more than all buffers hold


def test_overload_drop_counts_what_is_dropped(tmp_path: Path) -> None:
    """The camera is never held up; index jumps over what is dropped, sequence does not."""
    camera = Camera(MANY, raman_shift=WIDE)
    ended: list[DriveTotals] = []
    full, empty = threading.Event(), threading.Event()

    def progress(_: object, totals: DriveTotals) -> None:
        if totals.lost:
            full.set()
            assert empty.wait(PATIENCE_S)

    with (
        Publisher(LOCAL, "raw", buffer_mb=1, overload="drop-newest") as publisher,
        Collected(publisher.address, "raw") as collected,
    ):
        settings = DriveSettings(settle_s=0)
        thread = threading.Thread(
            target=lambda: ended.append(drive(camera, publisher, settings, progress=progress))
        )
        thread.start()
        assert full.wait(PATIENCE_S)  # nothing is read until a frame was dropped, then all there is
        while parts := collected.subscriber.receive(0.5):
            collected.events += collected.reader.read(parts)
        empty.set()
        collected.ends()
        thread.join(PATIENCE_S)
    (totals,) = ended
    assert totals.produced == 4000 == totals.sent + totals.lost["overload"]
    assert totals.lost["overload"] > 0
    assert [frame.sequence for frame in collected.frames] == list(range(totals.sent))
    assert all(frame.index == frame.counts[0, 0] for frame in collected.frames)
    assert any(frame.index > frame.sequence for frame in collected.frames)
    assert collected.spectra == totals.sent
    assert collected.closed[0].ledger.lost == {"upstream": totals.lost["overload"]}
    assert dict(collected.closed[0].end.lost) == totals.lost
    assert sum(lost.spectra for lost in collected.closed[0].end.ranges) == totals.lost["overload"]
    write_summary(tmp_path / "driver.json", [totals])
    (said,) = summary(tmp_path / "driver.json")
    assert said["lost"] == totals.lost and said["ranges"] == [list(lost) for lost in totals.ranges]


def test_overload_block_loses_nothing() -> None:
    camera = Camera(MANY[:1500], raman_shift=WIDE)
    with (
        Publisher(LOCAL, "raw", buffer_mb=1) as publisher,
        Collected(publisher.address, "raw") as collected,
    ):
        ended: list[DriveTotals] = []
        thread = threading.Thread(
            target=lambda: ended.append(drive(camera, publisher, DriveSettings(settle_s=0)))
        )
        thread.start()
        thread.join(1)  # the camera is held up
        assert thread.is_alive()
        collected.ends()
        thread.join(PATIENCE_S)
    assert ended[0].produced == ended[0].sent == collected.spectra == 1500


# -- a driver of one's own -----------------------------------------------------------------------------


@contextmanager
def my_camera() -> Iterator[tuple[Command, str]]:
    """The example as a process that waits for its subscriber, and its address."""
    program = Path(__file__).parents[2] / "docs" / "examples" / "my_camera.py"
    with Command("--publish", LOCAL, "--settle-s", 0, module=program) as camera:
        camera.wait_for("waiting for 1 subscriber")
        yield camera, camera.said.partition("publishing at ")[2].split()[0]


def test_own_camera_says_what_it_does_and_makes_its_run() -> None:
    with my_camera() as (camera, address), Collected(address, "raw") as collected:
        collected.ends()
        assert camera.end() == 0
    assert collected.spectra == 1000 and "complete: 1000 spectra sent; lost: none" in camera.said


@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal of Ctrl-C")
def test_own_camera_ends_at_ctrl_c_without_a_traceback() -> None:
    with my_camera() as (camera, _):
        camera.process.send_signal(signal.SIGINT)
        assert camera.end() == 0
    assert "nothing was measured" in camera.said and "Traceback" not in camera.said


LOSES_FIRST = """
import sys
import numpy as np
import cars_rt.cli.drive
from cars_rt.drivers import Acquisition, Gap, Instrument

cars_rt.cli.drive.RUNS_KEPT = 2

class Loses(Instrument):
    made = 0

    def acquisition(self):
        return Acquisition(source="", raman_shift=np.arange(4) + 500.0, dtype="uint16")

    def frames(self):
        if not self.made:
            yield Gap(1)
        self.made += 1
        yield np.zeros((1, 4), np.uint16)

cars_rt.cli.drive.drive_program(Loses)
"""


def test_loss_in_a_run_that_the_summary_has_left_out_is_in_the_exit_code(tmp_path: Path) -> None:
    program, said = tmp_path / "loses.py", tmp_path / "summary.json"
    program.write_text(LOSES_FIRST, encoding="utf-8")
    given = ("--publish", LOCAL, "--settle-s", 0, "--runs", 4, "--summary", said)
    with Command(*given, module=program) as camera:
        camera.wait_for("publishing at ")
        with Collected(camera.said.partition("publishing at ")[2].split()[0], "raw") as collected:
            collected.ends(4)
            assert camera.end() == EXIT_INCOMPLETE
    assert [each["lost"] for each in summary(said)] == [{}, {}]


# -- the simulator ------------------------------------------------------------------------------------


def simulated(**settings: Any) -> SimulatedMicroscope:
    return SimulatedMicroscope(SimulatorSettings(**{"rate": 0.0, "scan": "8x8", "pixels": 256} | settings))


def test_same_seed_is_the_same_sample_and_noise() -> None:
    first, second, other = (
        np.concatenate(list(simulated(seed=seed, block=8).frames())) for seed in (3, 3, 4)
    )
    assert first.shape == (64, 256) and first.dtype == np.uint16
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_simulator_describes_its_scan() -> None:
    about = simulated(scan="6x9", block=9, exposure_ms=2).acquisition()
    assert (about.spectra, about.scan, about.block, about.dtype) == (54, (6, 9), 9, "uint16")
    assert about.exposure_s == 0.002 and len(about.raman_shift) == 256
    assert about.dark is not None and about.dark.shape == (256,)


def test_truth_belongs_to_the_spectra_that_were_sent(tmp_path: Path) -> None:
    microscope = simulated(truth=tmp_path / "truth.h5", truth_every=3, block=8)
    totals, collected = driven(microscope)
    assert totals.sent == collected.spectra == 64
    with h5py.File(tmp_path / "truth.h5") as file:
        assert np.array_equal(file["index"], np.arange(0, 64, 3))
        assert file["raman"].shape == (22, 256) and np.isfinite(file["raman"][:]).all()
        assert list(file.attrs["substances"]) == [substance.name for substance in SUBSTANCES]
        assert np.array_equal(file["raman_shift"], collected.starts[0].raman_shift)
        expected = microscope.simulator.raman(file["concentrations"][:])
        assert np.allclose(file["raman"], expected, rtol=1e-5)


def test_truth_has_the_last_spectra_before_a_stop(tmp_path: Path) -> None:
    microscope = simulated(truth=tmp_path / "truth.h5", block=8)
    microscope.acquisition()
    frames = microscope.frames()
    assert len(next(frames)) == 8
    frames.close()  # type: ignore[attr-defined]
    microscope.close()
    with h5py.File(tmp_path / "truth.h5") as file:
        assert np.array_equal(file["index"], np.arange(8))


@pytest.mark.parametrize("megabytes", [0, -1, float("inf"), float("nan")])
def test_memory_that_is_no_size_is_refused(megabytes: float) -> None:
    with pytest.raises(InstrumentError, match="--buffer-mb must be more than 0 and finite"):
        DriveSettings(buffer_mb=megabytes)


def test_truth_replaces_an_earlier_one_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "truth.h5"
    for seed in (1, 2):
        driven(simulated(truth=path, seed=seed, block=8))
    with h5py.File(path) as file:
        assert np.array_equal(file["raman_shift"], simulated(seed=2).simulator.raman_shift)
    for other in (tmp_path / "notes.h5", write(tmp_path / "scan.h5", spectra_of(2))):
        if not other.exists():
            other.write_text("of a week", encoding="utf-8")
        content = other.read_bytes()
        with pytest.raises(InstrumentError, match="is there and holds no truth; choose another name"):
            simulated(truth=other)
        assert other.read_bytes() == content


def test_flags_that_are_refused_touch_neither_instrument_nor_an_earlier_truth(tmp_path: Path) -> None:
    path, made = tmp_path / "truth.h5", list[Instrument]()
    driven(simulated(truth=path))
    content = path.read_bytes()

    def make() -> Instrument:
        made.append(simulated(truth=path))
        return made[-1]

    with pytest.raises(KeysError, match=r"other computers can reach tcp://0\.0\.0\.0:5555"):
        _drive(make, DriveSettings(publish="tcp://0.0.0.0:5555"), None, False)
    assert not made and path.read_bytes() == content
    make().close()  # no run was to begin, such as at an address that is taken
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "settings",
    [
        {"scan": "8"},
        {"scan": "0x8"},
        {"scan": "8x99999"},
        {"block": 0},
        {"block": 10**6},
        {"rate": -1.0},
        {"rate": float("nan")},
        {"truth_every": 0},
        {"pixels": 1},
        {"pixels": 10**12},
        {"exposure_ms": 0.0},
        {"exposure_ms": float("nan")},
        {"seed": -1},
        {"truth": Path("/nowhere/truth.h5")},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InstrumentError):
        simulated(**settings)


# -- replay -------------------------------------------------------------------------------------------


def replayed(path: Path, **settings: Any) -> tuple[DriveTotals, Collected]:
    return driven(Replay(path, ReplaySettings(**{"rate": 0.0} | settings)))


def write(path: Path, counts: NDArray[Any], dark: NDArray[Any] | None = None) -> Path:
    """Counts in a file of the kind that its name says."""
    arrays = {"spectra": counts, "raman_shift": AXIS} | ({} if dark is None else {"dark": dark})
    match path.suffix:
        case ".npz":
            np.savez(path, **arrays)
        case ".h5":
            with h5py.File(path, "w") as file:
                for name, values in arrays.items():
                    file[name] = values
        case ".csv":
            np.savetxt(path, np.column_stack([AXIS, counts.T]), delimiter=",", header="shift,...")
    return path


@pytest.mark.parametrize("name", ["counts.csv", "counts.npz", "counts.h5"])
def test_replay_publishes_the_spectra_of_a_file(name: str, tmp_path: Path) -> None:
    counts = spectra_of(30)
    totals, collected = replayed(write(tmp_path / name, counts), block=7)
    assert totals.sent == 30 and collected.starts[0].source == f"replay of {name}"
    assert counts_of(collected).dtype == np.uint16
    assert np.array_equal(counts_of(collected), counts)
    assert np.allclose(collected.starts[0].raman_shift, AXIS)


def test_replay_keeps_the_dark_and_loops(tmp_path: Path) -> None:
    counts, dark = spectra_of(5), np.full(len(AXIS), 3, np.float32)
    totals, collected = replayed(write(tmp_path / "counts.npz", counts, dark), loops=4, block=3)
    assert totals.sent == collected.starts[0].spectra == 20
    assert np.array_equal(counts_of(collected), np.tile(counts, (4, 1)))
    assert np.array_equal(collected.starts[0].dark, dark)


@pytest.mark.parametrize("planned", [None, 12])
def test_replay_of_a_run_whose_last_spectra_were_lost_ends_as_it_did(
    planned: int | None, tmp_path: Path
) -> None:
    recording = Recording(tmp_path / "stopped.h5")
    recording.start(Start("raw", "run", 0, "a camera", AXIS, "uint16", block=2, spectra=planned))
    recording.append(Frame("raw", "run", 0, 0, 5, {"counts": spectra_of(2)}))
    end = End("raw", "run", 9, 1, 2, Reason.STOPPED, announced=6, lost={"overload": 4})
    recording.end(end, Ledger())
    recording.close()
    totals, collected = replayed(tmp_path / "stopped.h5")
    assert (totals.produced, totals.sent, totals.lost) == (6, 2, {"upstream": 4})
    assert collected.starts[0].spectra == (planned or 6)


@pytest.mark.parametrize("along", [True, False])
def test_replay_makes_no_map_of_spectra_that_lie_elsewhere_than_their_order_says(
    along: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    there = np.tile(np.stack(np.divmod(np.arange(6), 3), axis=1), (2, 1))  # two planes
    there = there if along else there[::-1]
    axis = np.linspace(500, 3000, 1000)
    np.savez(tmp_path / "a.npz", spectra=np.ones((12, 1000)), raman_shift=axis, scan=[2, 3], position=there)
    _, collected = replayed(tmp_path / "a.npz")
    assert collected.starts[0].scan == ((2, 3) if along else None)
    assert ("elsewhere in the scan than their order says" in caplog.text) is not along


def test_replay_that_loops_for_ever_has_no_planned_total(tmp_path: Path) -> None:
    replay = Replay(write(tmp_path / "counts.npz", spectra_of(2)), ReplaySettings(rate=0, loops=0))
    assert replay.acquisition().spectra is None
    frames = replay.frames()
    assert all(len(next(frames)) == 1 for _ in range(11))


def test_stop_is_noticed_however_slow_the_rate(tmp_path: Path) -> None:
    """A wait of years is yielded in pieces, by the simulator and the replay."""
    rate, path = 1e-30, write(tmp_path / "counts.npz", spectra_of(2))
    slow = SimulatedMicroscope(SimulatorSettings(scan="1x2", pixels=64, rate=rate))
    for frames in (slow.frames(), Replay(path, ReplaySettings(rate=rate)).frames()):
        next(frames)
        assert next(frames) == Waiting()


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.uint64, np.float16, ">u2", ">f8"])
def test_replay_takes_every_type_of_number(dtype: Any, tmp_path: Path) -> None:
    counts = (spectra_of(3) // 3).astype(dtype)
    counts[0, 0] = 2**24 + 1 if counts.itemsize >= 4 else 7  # which a float32 has not
    _, collected = replayed(write(tmp_path / "counts.npz", counts))
    assert np.array_equal(counts_of(collected), counts.astype(np.float64))


@pytest.mark.parametrize("settings", [{"block": 0}, {"rate": -1.0}, {"loops": -1}, {"rate": float("inf")}])
def test_replay_refuses_impossible_settings(settings: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InstrumentError):
        Replay(write(tmp_path / "counts.npz", spectra_of(2)), ReplaySettings(**settings))


def test_replay_of_a_bad_file_says_why(tmp_path: Path) -> None:
    with pytest.raises(InstrumentError, match="there is no file"):
        Replay(tmp_path / "none.npz", ReplaySettings())


@pytest.mark.skipif(not MEASURED.is_dir(), reason=f"the measured spectra are not at {MEASURED}")
@pytest.mark.parametrize("path", sorted(MEASURED.glob("*.csv")), ids=lambda path: path.stem)
def test_replay_of_measured_spectra(path: Path) -> None:
    totals, collected = replayed(path)
    assert totals.sent == 1
    assert np.array_equal(counts_of(collected)[0], np.loadtxt(path, delimiter=",", skiprows=1)[:, 1])
