"""What a driver says of its run goes through every path that publishes or writes again.

The fields are those of the messages: a new one has to be named here, and then has to arrive.
"""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import (
    AXIS,
    LOCAL,
    Collected,
    Published,
    a_frame,
    a_start,
    an_end,
    daemon_in_thread,
    spectra_of,
    wait_until,
)

from cars_rt.daemon.flight import FlightRecorder
from cars_rt.drivers import DriveSettings, InstrumentError, drive
from cars_rt.drivers.replay import Replay, ReplaySettings
from cars_rt.files.formats import open_spectra, read_spectra
from cars_rt.files.measurement import ABOUT, COLUMNS, RECEIPT, stored
from cars_rt.files.offline import process
from cars_rt.files.recorder import Recorder, RecordSettings
from cars_rt.files.spectra import START_NAMES, Spectra, SpectraError
from cars_rt.protocol import End, Frame, Start
from cars_rt.sockets import Publisher

BEGUN = 1_700_000_000_123_456_789
COUNTS = spectra_of(15)
DARK = np.linspace(3, 9, len(AXIS)).astype(np.float32)
SAID: dict[str, Any] = {
    "source": "cam, of some kind", "time_ns": BEGUN, "block": 3, "spectra": 15, "scan": (3, 5),
    "step_um": (0.5, 0.25), "exposure_s": 0.0125, "full_scale": 4095.0, "dark": DARK,
    "instrument": {"model": "iXon 3 µm", "gain": 2, "temperature_c": -60.5, "region": [0, 10, 1340, 4]},
    "calibration": {"id": "0a1b", "kind": "lamp", "coefficients": [398.5, 1.25, -2e-4], "residual_cm1": 0.1},
}  # fmt: skip
BLOCKS = {0: 3, 3: 1, 6: 3, 9: 2}  # index: spectra; 4, 5 and those from 11 on were lost at the source
INDEX = np.concatenate([np.arange(first, first + count) for first, count in BLOCKS.items()])

START_OWN = {"stream", "run", "sequence", "index", "model"}  # of the one publication, or of the results
FRAME_OWN = {"stream", "run", "time_in_ns", "time_out_ns", "lost", "made_by", "bands"}
END_OWN = {"stream", "run", "time_ns", "frames", "spectra"}


def names(message: type) -> set[str]:
    return {field.name for field in fields(message)}


def test_every_field_of_the_messages_has_its_place() -> None:
    assert names(Start) - START_OWN == set(SAID) | {"raman_shift", "dtype"}
    assert set(ABOUT) == (names(Start) - START_OWN - {"raman_shift", "dtype", "dark"}) | {"run"}
    assert names(Frame) - FRAME_OWN == {"sequence", "index", "time_ns", "arrays"}
    assert set(COLUMNS) == {"sequence", "index", "time_ns", "position"}
    assert names(End) - END_OWN <= set(RECEIPT)
    assert set(ABOUT) < names(Spectra)


def messages(run: str = "run-1") -> list[Start | Frame | End]:
    frames = [
        a_frame(number, COUNTS[first : first + count], run, index=first, time_ns=BEGUN + 10**9 * number)
        for number, (first, count) in enumerate(BLOCKS.items())
    ]
    start = a_start(run, **SAID)
    return [start, *frames, an_end(4, 9, run, announced=15, lost={"overload": 6})]


@contextmanager
def recorded(path: Path, address: str, **settings: Any) -> Iterator[None]:
    """A recorder of what is published within the block."""
    import threading

    recorder = Recorder(path, RecordSettings(**{"raman": None, "raw": address} | settings))
    thread = threading.Thread(target=recorder.serve)
    thread.start()
    try:
        yield
        thread.join(60)
    finally:
        recorder.stop()
        thread.join()


def replayed(source: Path, target: Path, reason: str = "complete", **settings: Any) -> None:
    with Publisher(LOCAL, "raw") as publisher, recorded(target, publisher.address):
        replay = Replay(source, ReplaySettings(**{"rate": 0} | settings))
        totals = drive(replay, publisher, DriveSettings(settle_s=0))
        assert totals.reason == reason and totals.sent == 9


def same(path: Path, stream: str = "raw", announced: int = 15) -> None:
    """Whether a recording holds what the driver said."""
    with h5py.File(path) as file:
        group = file[stream]
        written = int(group["written"][()])
        held = {name: group[name][:written] for name in COLUMNS}
        for place in (file, group):
            joined = {"block"} if place is not file and stream == "raman" else set()
            for name in set(ABOUT) - {"run"} - joined:
                assert np.array_equal(place.attrs[name], stored(SAID[name])), (stream, name)
        if stream == "raw":
            assert np.array_equal(group["counts"][:written], COUNTS[INDEX])
            assert group["counts"].dtype == np.uint16
            assert np.array_equal(group["dark"], DARK)
        assert np.array_equal(group["raman_shift"], AXIS)
        columns_are_right(held, stream)
        assert group.attrs["announced"] == announced
        assert stream == "raman" or group.attrs["ranges"] == (
            '[["upstream", 4, 2], ["upstream", 11, 4]]' if announced == 15 else '[["upstream", 4, 2]]'
        )


def columns_are_right(held: dict[str, Any], stream: str = "raw") -> None:
    sequence = np.repeat(np.arange(4), list(BLOCKS.values()))
    assert np.array_equal(held["index"], INDEX)
    assert stream == "raman" or np.array_equal(held["sequence"], sequence)  # results may come joined
    assert np.array_equal(held["time_ns"], BEGUN + 10**9 * sequence)
    assert np.array_equal(held["position"], np.stack(np.divmod(INDEX, 5), axis=1))


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts and results, as the recorder wrote them."""
    path = tmp_path_factory.mktemp("measured") / "scan.h5"
    with (
        Published() as source,
        daemon_in_thread(source.address) as daemon,
        recorded(path, source.address, raman=daemon.publisher.address),
    ):
        source.wait(2)
        wait_until(lambda: daemon.publisher.subscribers == 1)
        source.say(*messages())
    same(path)
    same(path, "raman")
    return path


def test_recorder_replay_recorder(recording: Path, tmp_path: Path) -> None:
    replayed(recording, tmp_path / "again.h5")
    same(tmp_path / "again.h5")
    replayed(tmp_path / "again.h5", tmp_path / "and again.h5")
    same(tmp_path / "and again.h5")


def test_flight_recorder_replay_recorder(tmp_path: Path) -> None:
    flight = FlightRecorder(tmp_path)
    start, *frames, _ = messages()
    assert isinstance(start, Start)
    flight.start(start)
    for frame in frames:
        assert isinstance(frame, Frame)
        flight.frame(frame)
    assert flight.request()
    flight.close()
    (path,) = tmp_path.glob("flight-*.h5")
    same(path, announced=11)  # what it had seen by then
    replayed(path, tmp_path / "again.h5", "stopped")  # there are more in the plan of the run
    same(tmp_path / "again.h5", announced=11)


@pytest.mark.parametrize("kind", [".h5", ".npz", ".csv"])
def test_process_passes_on_what_a_recording_holds(kind: str, recording: Path, tmp_path: Path) -> None:
    target = tmp_path / f"out{kind}"
    process(recording, target, engine="onnxruntime")
    with h5py.File(recording) as file:
        expected = file["raman/raman"][:]
        run = file["raw"].attrs["run"]
    held: dict[str, Any]
    if kind == ".csv":
        about, _, *_ = target.read_text().splitlines()
        words = dict(each.strip("# ").split(" ", 1) for each in about.split(","))
        held = {name: np.array(text.split(), float).reshape(-1, 2 if name == "position" else 1).squeeze()
                for name, text in words.items() if name in COLUMNS}  # fmt: skip
        held["time_ns"] = np.array(words["time_ns"].split(), np.int64)
        said = {name: words[START_NAMES.get(name, name)] for name in ABOUT}
        wanted = {
            name: " ".join(map(str, np.ravel(stored(value)))).replace(",", ";")
            for name, value in (SAID | {"run": run}).items()
        }
        assert said == {name: wanted[name] for name in ABOUT}
        assert words["announced"] == "15"
    else:
        if kind == ".h5":
            same(target, "raman")
            with h5py.File(target) as file:
                group = file["raman"]
                held = dict(group.attrs) | {name: group[name][()] for name in group}
                held |= {START_NAMES[name]: group.attrs[name] for name in START_NAMES}
                assert json.loads(group.attrs["lost_before"]) == {"overload": 6}
        else:
            with np.load(target) as archive:
                held = dict(archive)
        for name in ABOUT:
            assert np.array_equal(held[START_NAMES.get(name, name)], stored((SAID | {"run": run})[name])), (
                name
            )
        assert held["announced"] == 15 and held["reason"] == "complete"
        assert np.array_equal(held["dark"], DARK)
        assert np.abs(held["raman"] - expected).max() <= 1e-5 * np.abs(expected).max()
        # What was written is read with all of it again, were it counts.
        again = tmp_path / f"again{kind}"
        if kind == ".npz":
            np.savez(again, **{"spectra" if name == "raman" else name: held[name] for name in held})
        else:
            with h5py.File(target) as file, h5py.File(again, "w") as copy:
                for name in file["raman"]:
                    file.copy(f"raman/{name}", copy, "spectra" if name == "raman" else name)
                copy.attrs.update(file["raman"].attrs)
        found = read_spectra(again)
        assert {name: getattr(found, name) for name in ABOUT} == {
            name: (SAID | {"run": run})[name] for name in ABOUT
        }
        columns_are_right(dict(found.columns))
    columns_are_right(held)


def test_replay_in_other_blocks_and_loops(recording: Path, tmp_path: Path) -> None:
    with Publisher(LOCAL, "raw") as publisher, Collected(publisher.address, "raw") as raw:
        drive(Replay(recording, ReplaySettings(rate=0, block=2)), publisher, DriveSettings(settle_s=0))
        raw.ends()
        drive(Replay(recording, ReplaySettings(rate=0, loops=2)), publisher, DriveSettings(settle_s=0))
        raw.ends(2)
    first, second = raw.starts
    assert [(frame.index, len(frame.block)) for frame in raw.frames[:6]] == [
        (0, 2), (2, 2), (6, 2), (8, 2), (10, 1), (0, 3),
    ]  # fmt: skip
    assert [frame.time_ns - BEGUN for frame in raw.frames[:5]] == [0, 10**9, 2 * 10**9, 3 * 10**9, 3 * 10**9]
    assert (first.block, first.spectra) == (2, 15) and raw.closed[0].end.announced == 15
    assert (second.scan, second.spectra) == (None, 18) and second.full_scale == 4095
    assert [frame.index for frame in raw.frames if frame.run == second.run] == list(range(0, 18, 3))
    assert min(frame.time_ns for frame in raw.frames if frame.run == second.run) > BEGUN + 10**15


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"raw/index": INDEX[::-1]}, "index does not grow"),
        ({"raw/time_ns": np.zeros(5, np.int64)}, "says that 9 rows of 'time_ns' are data, and has 5"),
        ({"exposure_s": -1.0}, "exposure_s is .*, which it cannot be"),
        ({"scan": (0, 5)}, "scan is .*, which it cannot be"),
        ({"full_scale": np.nan}, "full_scale is .*, which it cannot be"),
        ({"calibration": '{"id": ["a"]}'}, "calibration is .*, which it cannot be"),
        ({"calibration": "[" * 9999}, "calibration is .*, which it cannot be"),
    ],
)
def test_a_recording_that_is_none_is_refused(
    change: dict[str, Any], reason: str, recording: Path, tmp_path: Path
) -> None:
    path = tmp_path / "changed.h5"
    path.write_bytes(recording.read_bytes())
    with h5py.File(path, "r+") as file:
        for name, value in change.items():
            if name in file:
                del file["raw/columns_crc32"], file[name]
                file[name] = value
            else:
                file["raw"].attrs[name] = value
    with pytest.raises(InstrumentError, match=reason):
        Replay(path, ReplaySettings())


@pytest.mark.parametrize("dimensions", [0, 1, 2])
@pytest.mark.parametrize("beside", ["datasets", "attributes", "npz"])
def test_what_a_plain_file_says_of_its_measurement_is_taken(
    beside: str, dimensions: int, tmp_path: Path
) -> None:
    """Also in arrays of more dimensions than need be: MATLAB's have two."""
    about = {"scan": [2, 3], "step_um": [1.0, 0.5], "exposure_s": 0.002, "full_scale": 60_000.0}
    about = {name: np.array(value, ndmin=dimensions) for name, value in about.items()}
    lines = {"raman_shift": np.array(AXIS, ndmin=dimensions).T, "dark": np.array(DARK, ndmin=dimensions)}
    path = tmp_path / ("a.npz" if beside == "npz" else "a.h5")
    if beside == "npz":
        np.savez(path, spectra=spectra_of(6), **lines, **about)
    else:
        with h5py.File(path, "w") as file:
            file.update({"spectra": spectra_of(6)} | lines)
            (file if beside == "datasets" else file.attrs).update(about)
    found = read_spectra(path)
    assert np.array_equal(found.raman_shift, AXIS) and np.array_equal(found.dark, DARK)
    assert (found.scan, found.step_um) == ((2, 3), (1.0, 0.5))
    assert (found.exposure_s, found.full_scale) == (0.002, 60_000)


@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_each_spectrum_of_a_cube_and_a_single_one_has_its_time_and_place(
    shape: tuple[int, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    places = np.stack(np.divmod(np.arange(6), 3), axis=1)[: math.prod(shape)]
    cube = spectra_of(len(places)).reshape(*shape, -1)
    given = {"spectra": cube, "raman_shift": AXIS, "time_ns": BEGUN + np.arange(len(places))}
    np.savez(tmp_path / "a.npz", **given, position=places)
    found = read_spectra(tmp_path / "a.npz")
    assert found.scan == (shape or None) and np.array_equal(found.columns["time_ns"], given["time_ns"])
    assert np.array_equal(found.columns["position"], places) and not caplog.text
    if shape:
        np.savez(tmp_path / "a.npz", **given | {"time_ns": BEGUN + np.arange(2)}, position=places + 1)
        assert not read_spectra(tmp_path / "a.npz").columns
        assert "left out, since it is not what the name means here: time_ns, position" in caplog.text


def test_what_has_a_name_of_ours_and_is_something_else_is_left_alone(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectra"], file["raman_shift"] = spectra_of(6), AXIS
        file["scan/rows"], file["block"], file["exposure_s"] = 2, "a text", np.arange(6.0)
        file["full_scale"], file["step_um"] = -1.0, h5py.ExternalLink("other.h5", "/x")
    found = read_spectra(tmp_path / "a.h5")
    assert found.scan is found.block is found.exposure_s is found.full_scale is found.step_um is None


def test_counts_of_a_large_file_are_read_and_judged_piece_by_piece(tmp_path: Path) -> None:
    counts = spectra_of(20).astype(">f4")
    counts[13, 7] = np.nan
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["spectra"], file["raman_shift"] = counts, AXIS
        file["position"] = np.ones((20, 2))  # of a stage, not ours
    with open_spectra(tmp_path / "a.h5") as spectra:
        assert np.array_equal(spectra.counts[4:8], counts[4:8]) and not spectra.columns
        with pytest.raises(SpectraError, match="spectrum 13 is NaN or infinite at pixel 7"):
            spectra.counts[10:20]
