"""How far to trust a result: from the daemon to subscriber, recorder, preview, status and files."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from engines.test_graph import a_model
from helpers import (
    AXIS,
    Collected,
    Published,
    a_line,
    a_start,
    an_end,
    daemon_in_thread,
    preview_of,
    spectra_of,
    wait_until,
)
from numpy.typing import NDArray

import cars_rt
from cars_rt.daemon.seen.status import Status
from cars_rt.engines import compose, load_model
from cars_rt.engines.graph import RAMAN
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.files.offline import process
from cars_rt.files.recorder import Recorder, RecordSettings
from cars_rt.files.recording import Recording
from cars_rt.files.verify import verify
from cars_rt.physics.fitness import NAMES, Fitness, Flag, named
from cars_rt.protocol import DEVIATION, Frame

BOTH = (RAMAN, DEVIATION)


def spectra() -> NDArray[np.uint16]:
    """Spectra of which some are saturated, empty, or have a spike."""
    noise = np.random.default_rng(0).normal(0, 40, (60, len(AXIS)))
    counts = np.clip(spectra_of(60) + noise, 0, 65535).astype(np.uint16)
    counts[3:6, 20:30] = 65535
    counts[10] = 500
    counts[59, 100] += 9000
    return counts


def expected(model: Path, counts: NDArray[np.uint16], ratio: bool = True) -> dict[str, NDArray[np.generic]]:
    """What comes out, computed here."""
    with OnnxRuntime(compose(load_model(str(model)), AXIS), len(counts), slabs=1) as engine:
        results = engine.retrieve(counts)
    raman = results[RAMAN] if ratio else None
    flags = Fitness(AXIS).flags(counts.astype(np.float32), raman, None, 65535.0)
    assert flags[3:6].all() and flags[10] == Flag.EMPTY and flags[59] & Flag.SPIKE
    return {**results, "flags": flags}


def all_of(frames: list[Frame], name: str) -> NDArray[np.generic]:
    return np.concatenate([frame.arrays[name] for frame in frames])


@pytest.mark.parametrize("deviation", [True, False], ids=["deviation", "flags alone"])
def test_flags_and_deviation_reach_everybody(deviation: bool, tmp_path: Path) -> None:
    counts, model = spectra(), tmp_path / "test.onnx"
    a_model(tmp_path, BOTH)
    settings = {"model": str(model), "deviation": deviation, "receipts": tmp_path}
    with (
        Published() as source,
        daemon_in_thread(source.address, **settings) as daemon,
        Collected(daemon.publisher.address) as results,
    ):
        recording = RecordSettings(raman=daemon.publisher.address, raw=source.address)
        recorder = Recorder(tmp_path / "scan.h5", recording)
        with Collected(preview_of(daemon).address, "preview") as preview:
            source.wait(2)
            wait_until(lambda: daemon.publisher.subscribers == 2)
            wait_until(lambda: preview_of(daemon).subscribers == 1)
            source.run("run-1", counts, 7, spectra=60)
            (recorded,) = recorder.serve()
            results.ends()
            preview.ends()
        wait_until(lambda: daemon.parts.runs.current is None)
        now = daemon.snapshot()
    wanted = expected(model, counts)
    assert recorded.complete
    assert all(frame.flags is not None and frame.flags.dtype == np.uint8 for frame in results.frames)
    assert np.array_equal(all_of(results.frames, "flags"), wanted["flags"])
    assert np.array_equal(all_of(preview.frames, "flags"), wanted["flags"])
    found = named(wanted["flags"])
    assert found["saturated"] == 3 and found["empty"] == 1 and found["spike"] >= 1
    assert now.flagged == daemon.receipts[0].flagged == found and not now.run_flagged
    assert json.loads((tmp_path / "run-1.json").read_text())["flagged"] == found
    about = results.starts[0].model
    assert about is not None and about["flags"] == "saturated empty spike unlike"
    assert all((frame.deviation is not None) == deviation for frame in results.frames)
    with h5py.File(tmp_path / "scan.h5") as file:
        group = file["raman"]
        assert np.array_equal(group["flags"], wanted["flags"]) and group["flags"].dtype == np.uint8
        assert group.attrs["model_flags"] == "saturated empty spike unlike"
        assert ("deviation" in group) == ("deviation" in about) == deviation
        if deviation:
            assert np.allclose(group["deviation"], wanted[DEVIATION], rtol=1e-5)
            assert np.allclose(all_of(results.frames, "deviation"), wanted[DEVIATION], rtol=1e-5)
    findings = verify(tmp_path / "scan.h5", tmp_path / "scan.h5", model=str(model))
    assert all(finding.true for finding in findings), findings


def test_what_a_model_does_not_claim_is_not_looked_for(tmp_path: Path) -> None:
    """A model whose result is no ratio; counts above the stated full scale; a dark of the run."""
    a_model(tmp_path, target="chi3", scaling="minmax")
    counts, dark = spectra(), np.full(len(AXIS), 300, np.float32)
    with a_line(model=str(tmp_path / "test.onnx"), deviation=True) as (source, _, results):
        source.run("run-1", counts + 300, 9, full_scale=65_000.0, dark=dark)
        results.ends()
    raised = (counts + 300).astype(np.float32)
    wanted = Fitness(AXIS).flags(raised, None, dark, 65_000.0)
    assert np.array_equal(all_of(results.frames, "flags"), wanted)
    assert not (wanted & Flag.UNLIKE).any()
    assert all(frame.deviation is None for frame in results.frames)


def test_process_writes_what_the_daemon_sends(tmp_path: Path) -> None:
    a_model(tmp_path, BOTH)
    counts, model = spectra(), tmp_path / "test.onnx"
    np.savez(tmp_path / "in.npz", spectra=counts, raman_shift=AXIS)
    wanted = expected(model, counts)
    for kind in (".npz", ".h5", ".csv"):
        done = process(tmp_path / "in.npz", tmp_path / f"out{kind}", model=str(model), engine="onnxruntime")
        assert done.flagged == named(wanted["flags"])
    with np.load(tmp_path / "out.npz") as found:
        assert np.array_equal(found["flags"], wanted["flags"])
        assert np.allclose(found["deviation"], wanted[DEVIATION], rtol=1e-5)
    with h5py.File(tmp_path / "out.h5") as file:
        assert np.array_equal(file["raman/flags"], wanted["flags"])
        assert np.allclose(file["raman/deviation"], wanted[DEVIATION], rtol=1e-5)
    about, names = (tmp_path / "out.csv").read_text().splitlines()[:2]
    written = about.split("flags ")[1].split(",")[0].split()
    assert [int(each) for each in written] == wanted["flags"].tolist()
    assert names.split(",")[61:63] == ["deviation_0", "deviation_1"]
    table = np.loadtxt(tmp_path / "out.csv", delimiter=",", skiprows=2)
    assert np.allclose(table[:, 61:].T, wanted[DEVIATION], rtol=1e-5)


def test_recording_has_what_the_run_announced_and_nothing_else(tmp_path: Path) -> None:
    """Of a daemon that knows no flags, and of one whose second model states no deviation."""
    raman = np.ones((2, len(AXIS)), np.float32)
    for name, announced in (("old", {}), ("new", {"flags": "saturated", "deviation": "of raman"})):
        start = a_start(stream="raman", dtype="float32", block=2, model={"name": "cnn"} | announced)
        recording = Recording(tmp_path / f"{name}.h5")
        recording.start(start)
        flags = np.array([1, 0], np.uint8)
        for number, arrays in enumerate(
            ({"raman": raman, "flags": flags, "deviation": raman / 2}, {"raman": raman, "flags": flags})
        ):
            recording.append(Frame("raman", "run-1", number, 2 * number, start.time_ns, arrays))
        recording.close()
    with h5py.File(tmp_path / "old.h5") as file:
        assert "flags" not in file["raman"] and "deviation" not in file["raman"]
    with h5py.File(tmp_path / "new.h5") as file:
        assert file["raman/flags"][:].tolist() == [1, 0, 1, 0]
        deviation = file["raman/deviation"][:]
        assert (deviation[:2] == 0.5).all() and np.isnan(deviation[2:]).all()


def test_client_shows_flags_and_their_names() -> None:
    raman = np.ones((2, len(AXIS)), np.float32)
    with Published("raman") as source, cars_rt.connect(source.address, timeout=30) as stream:
        source.wait()
        source.publisher.open(a_start(stream="raman", dtype="float32", block=2))
        for number, extra in enumerate(({"flags": np.array([9, 0], np.uint8)}, {})):
            arrays = {"raman": raman} | extra
            assert source.publisher.send(Frame("raman", "run-1", number, 2 * number, 1, arrays))
        source.publisher.end(an_end(2, 4, stream="raman"))
        first, second = list(next(iter(stream)))
    assert first.flags is not None and first.deviation is None and second.flags is None
    assert cars_rt.Flag(int(first.flags[0])) == cars_rt.Flag.SATURATED | cars_rt.Flag.UNLIKE


def test_status_says_what_share_has_a_flag(tmp_path: Path) -> None:
    with Published() as source, daemon_in_thread(source.address) as daemon:
        source.wait()
        source.publisher.open(a_start(block=60))
        counts = spectra()
        counts[30:] = 500
        assert source.publisher.send(Frame("raw", "run-1", 0, 0, 1, {"counts": counts}))
        wait_until(lambda: daemon.snapshot().run_flagged.get("empty") == 31)
        wait_until(lambda: "no driver" not in Status().describe(daemon.snapshot()))  # seen a little later
        assert "52 % " in (said := Status().describe(daemon.snapshot())) and " empty" in said
    assert set(daemon.snapshot().run_flagged) <= set(NAMES.values())
