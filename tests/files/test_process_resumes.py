"""`process` into a recording: equal to the live results, and goes on where a kill left it."""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import AXIS, Command, Published, daemon_in_thread, spectra_of, vouched_for, wait_until
from numpy.typing import NDArray
from scripts.process_memory import peak_of

from cars_rt.engines.registry import REFERENCE, reason_against
from cars_rt.files import resumed
from cars_rt.files.filters import FilterError
from cars_rt.files.hdf5 import StoredRows, opened
from cars_rt.files.offline import Processed, process, retrieval
from cars_rt.files.offline.recipe import Recipe
from cars_rt.files.recorder import Recorder, RecordSettings
from cars_rt.files.recording import (
    RecordingError,
    claimed,
    damage,
    partial_path,
    repair,
    repair_all,
    rows,
)
from cars_rt.files.results import is_result
from cars_rt.files.resumed import earlier_path
from cars_rt.files.spectra import SpectraError
from cars_rt.files.verify import verify
from cars_rt.files.written import read_rows, stored_rows
from cars_rt.storage import StorageError, changes

SIZE = 200  # spectra
NAMES = ("raman", "deviation", "flags", "index", "time_ns", "position")
PIECES = 16 * len(AXIS) * 4


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    with h5py.File(path) as file:
        return {name: read_rows(file["raman"], name) for name in NAMES}


def same_bytes(path: Path, expected: dict[str, NDArray[Any]]) -> None:
    for name, values in arrays(path).items():
        assert values.dtype == expected[name].dtype and np.array_equal(values, expected[name]), name


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Counts and results of one run, which came to the daemon in frames of 1 to 7 spectra."""
    path = tmp_path_factory.mktemp("live") / "scan.h5"
    counts, dark = spectra_of(SIZE), np.linspace(10, 90, len(AXIS)).astype(np.float32)
    with (
        Published() as source,
        daemon_in_thread(source.address, engine=REFERENCE, max_batch=24, deviation=True) as daemon,
    ):
        recorder = Recorder(path, RecordSettings(raw=source.address, raman=daemon.publisher.address))
        thread = threading.Thread(target=recorder.serve)
        thread.start()
        source.wait(2)
        wait_until(lambda: daemon.publisher.subscribers == 1)
        source.run("run-1", counts, block=7, scan=(10, 20), dark=dark, exposure_s=0.01, step_um=(0.5, 0.25))
        thread.join()
    return path


def processed(live: Path, target: Path, **options: Any) -> Processed:
    return process(live, target, engine=REFERENCE, overwrite=False, again=False, **options)


def test_what_was_live_comes_again_to_the_last_bit(live: Path, tmp_path: Path) -> None:
    """Results, flags and deviations; and the recordings of both prove to belong together."""
    before = live.read_bytes()
    done = processed(live, tmp_path / "out.h5")
    assert done.computed == SIZE
    same_bytes(tmp_path / "out.h5", arrays(live))
    assert all(finding.true for finding in verify(live, tmp_path / "out.h5", engine=REFERENCE))
    with h5py.File(live) as one, h5py.File(tmp_path / "out.h5") as other:
        for name in (
            "run",
            "source",
            "scan",
            "step_um",
            "exposure_s",
            "model_sha256",
            "made_by",
            "model_dark",
        ):
            assert np.array_equal(one["raman"].attrs[name], other["raman"].attrs[name]), name
        assert np.array_equal(one["raw/dark"], other["raman/dark"]) and other.attrs["complete"]
    assert live.read_bytes() == before
    # A second time there is nothing to do, unless another model is asked for.
    assert processed(live, tmp_path / "out.h5").computed == 0
    with pytest.raises(SpectraError, match="exists already"):
        processed(live, tmp_path / "out.h5", model="rnn")


def test_what_people_wrote_and_the_reference_go_along(live: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.h5"
    source.write_bytes(live.read_bytes())
    with h5py.File(source, "r+") as file:
        file.attrs.update({"sample": "liver 7", "notes": "objective 60x\nlamp off"})
    np.savez(tmp_path / "glass.npz", spectra=spectra_of(1) * 0 + 500, raman_shift=AXIS)
    processed(source, tmp_path / "out.h5", model="kk", reference=tmp_path / "glass.npz")
    with h5py.File(tmp_path / "out.h5") as file:
        assert (file.attrs["sample"], file.attrs["notes"]) == ("liver 7", "objective 60x\nlamp off")
        assert np.allclose(file["process/reference"], 500) and "glass" in file["process"].attrs["reference"]
        assert np.array_equal(file["process/reference_raman_shift"], AXIS)


def test_results_of_a_run_that_never_ended_say_so(live: Path, tmp_path: Path) -> None:
    """And not that it was stopped after so many spectra."""
    source, target = tmp_path / "in.h5", tmp_path / "out.h5"
    source.write_bytes(live.read_bytes())
    with h5py.File(source, "r+") as file:
        file["raw"].attrs.update({"announced": -1, "reason": "not closed"})
    process(source, target, engine="passthrough")
    with h5py.File(target) as file:
        said = file["raman"].attrs
        assert (said["announced"], said["reason"], file.attrs["reason"]) == (-1, "not closed", "not closed")
        assert len(file["raman/raman"]) == SIZE and not file.attrs["complete"]


def test_what_was_interrupted_goes_on_where_it_was(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retrieval, "LANE_BYTES", PIECES)
    monkeypatch.setattr(retrieval, "BATCH", 16)
    target = tmp_path / "out.h5"
    for attempt in range(3):

        def interrupted(done: int, total: int, attempt: int = attempt) -> None:
            if done >= 80 + 32 * attempt:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            processed(live, target, progress=interrupted)
        assert not target.exists() and partial_path(target).exists()
    done = processed(live, target)
    assert done.computed <= SIZE - 48
    same_bytes(target, arrays(live))
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_what_is_slow_is_kept_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BATCH", 8)
    np.savez(tmp_path / "in.npz", spectra=spectra_of(20), raman_shift=AXIS)
    recipe, kept = Recipe("mem"), []
    with recipe.opened(tmp_path / "in.npz") as spectra:
        model = retrieval.chosen(recipe, spectra)
        with retrieval.retrieving(tmp_path / "in.npz", spectra, model) as found:
            found.rows(0, 20, lambda rows: kept.append(len(rows["raman"])))
    assert kept == [8, 8, 4]


def test_a_kill_while_rows_are_taken_over_costs_none(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt with more rows counts, whichever it is."""
    target = tmp_path / "out.h5"
    for stop in (160, 64):
        with pytest.raises(KeyboardInterrupt):
            part_of(live, target, stop)
        if stop == 160:
            partial_path(target).rename(tmp_path / "most")
    (tmp_path / "most").replace(earlier_path(target))
    assert repair_all(tmp_path) == []  # a recorder that starts there leaves it to the next attempt
    for finish in (repair, claimed):  # and so do others: finished it would be begun anew
        with pytest.raises(RecordingError, match="has 64 of 200 results of a `cars-rt process`"):
            finish(target)
    synced, sync = [], os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        synced.append((os.fstat(descriptor).st_ino, earlier_path(target).exists()))

    monkeypatch.setattr(os, "fsync", noted)
    assert processed(live, target).computed == SIZE - 128
    assert (target.stat().st_ino, True) in synced  # what was taken over is on the disk before the other goes
    same_bytes(target, arrays(live))
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_a_kill_amid_the_changes_of_its_end_costs_nothing(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was under way is completed first: the file was in the way, and its engine unknown."""
    target, killed, put = tmp_path / "out.h5", tmp_path / "killed", changes._put
    left: list[Path] = []

    def noted(*page: Any) -> None:
        left.append(killed / str(len(left)))
        shutil.copy(partial_path(target), left[-1])
        put(*page)

    killed.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(changes, "_put", noted)
        processed(live, target)
    for number, place in enumerate((partial_path(target), earlier_path(target)), 1):
        target.unlink()
        shutil.copy(left[number * len(left) // 3], place)
        assert process(live, target, overwrite=False, again=False).computed < SIZE // 10  # the last batch
        same_bytes(target, arrays(live))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "out.h5"]


@pytest.mark.parametrize("place", [earlier_path, partial_path])
def test_an_earlier_attempt_that_is_damaged_is_put_aside(
    place: Callable[[Path], Path], live: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It went, with what could have been saved of it; or `process` sent to `repair`, and that back."""
    target, damaged = tmp_path / "out.h5", b"\x89HDF\r\n\x1a\n" + bytes(5000)
    place(target).write_bytes(damaged)
    assert processed(live, target).computed == SIZE
    aside = tmp_path / "out-2.partial.h5"
    assert aside.read_bytes() == damaged and f"cannot be read, and is {aside} now" in caplog.text


def part_of(live: Path, target: Path, stop: int, engine: str = REFERENCE) -> None:
    def interrupted(done: int, total: int) -> None:
        if done >= stop:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "LANE_BYTES", PIECES)
        patch.setattr(retrieval, "PIECE_BYTES", PIECES)
        patch.setattr(retrieval, "BATCH", 16)
        process(live, target, engine=engine, overwrite=False, again=False, progress=interrupted)


def test_rows_that_a_disk_has_spoiled_are_computed_again(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those before them are taken over."""
    monkeypatch.setattr(rows, "CHUNK_BYTES", 2 * PIECES)
    monkeypatch.setattr(resumed, "PIECE_BYTES", 0)
    target = tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        part_of(live, target, 160)
    with h5py.File(partial_path(target)) as file:
        chunk = file["raman/raman"].id.get_chunk_info(2)
    assert chunk.chunk_offset == (64, 0)
    with partial_path(target).open("r+b") as file:
        file.seek(chunk.byte_offset + chunk.size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    assert processed(live, target).computed == SIZE - 64
    same_bytes(target, arrays(live))
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_what_was_done_before_an_error_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A part of the counts cannot be read, and the next time it can."""
    source, target = tmp_path / "in.h5", tmp_path / "out.h5"
    with h5py.File(source, "w") as file:
        file.create_dataset("spectra", data=spectra_of(SIZE), chunks=(16, len(AXIS)), fletcher32=True)
        file["raman_shift"] = AXIS
        at = file["spectra"].id.get_chunk_info(8).byte_offset
    whole, before = source.read_bytes(), source.stat()

    def write(content: bytes) -> None:
        source.write_bytes(content)
        os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))

    write(whole[:at] + bytes(16) + whole[at + 16 :])
    with pytest.raises(SpectraError, match=r"in\.h5 is damaged: '/spectra' cannot be read"):
        part_of(source, target, SIZE + 1)
    assert "what is done of it is kept: the same command goes on from there" in caplog.text
    write(whole)
    assert processed(source, target).computed == SIZE - 128
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.h5", "out.h5"]


def gone(file: h5py.File) -> None:
    """From here on the system reads nothing of it, as of a drive that is gone: a folder takes its place."""
    there, folder = Path(file.filename).stat(), os.open(Path(file.filename).parent, os.O_RDONLY)
    for each in range(1024):
        with suppress(OSError):
            if os.path.samestat(os.fstat(each), there):
                os.dup2(folder, each)
    os.close(folder)


@pytest.mark.skipif(os.name == "nt", reason="needs file descriptors of the system")
def test_what_the_system_refuses_to_read_is_not_called_damaged(live: Path) -> None:
    """Nor taken for the rows that are, where a file has some."""
    with opened(live) as file:
        rows = stored_rows(file["raw"], "counts")
        gone(file)
        for read in (
            lambda: rows[:9],
            lambda: rows.sound(0, 9),
            lambda: damage._lost(rows, 9, 9),
        ):
            with pytest.raises(StorageError, match=r"cannot be read: Is a directory \(at '/raw/counts'\)$"):
                read()


def refused_then_gone_on_with(
    live: Path, target: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[..., StoredRows], said: str
) -> None:
    """An attempt whose earlier rows are read like this ends, and the next one goes on with them."""
    with monkeypatch.context() as patch, pytest.raises(SpectraError, match=said):
        patch.setattr(resumed, "stored_rows", read)
        processed(live, target)
    assert processed(live, target).computed < SIZE


@pytest.mark.skipif(os.name == "nt", reason="needs file descriptors of the system")
def test_an_earlier_attempt_that_the_system_cannot_read_stays(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither damaged nor none: the next time it may be read."""
    import fcntl

    target = tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        part_of(live, target, 160)
    for path in (partial_path(target), earlier_path(target)):
        if not path.exists():
            partial_path(target).rename(path)
        for overwrite in (False, True):
            with path.open("rb") as held:
                fcntl.flock(held, fcntl.LOCK_EX)
                with pytest.raises(SpectraError, match=rf"{path.name} is open in another program"):
                    process(live, target, engine=REFERENCE, overwrite=overwrite)

    def of_a_drive_that_goes(group: h5py.Group, name: str) -> StoredRows:
        rows = stored_rows(group, name)
        gone(group.file)
        return rows

    refused_then_gone_on_with(live, target, monkeypatch, of_a_drive_that_goes, "earlier cannot be read: Is a")


def test_rows_that_want_a_plug_in_wait_for_it(
    live: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is wrong with them."""
    target = tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        part_of(live, target, 160)

    def missing(*_: object) -> StoredRows:
        raise FilterError(target, "needs a filter that is not here")

    refused_then_gone_on_with(live, target, monkeypatch, missing, "a filter that is not here")


@pytest.mark.parametrize("engine", [REFERENCE, "openvino"])
def test_auto_means_the_engine_that_has_begun(engine: str, live: Path, tmp_path: Path) -> None:
    """Whichever of the two is the faster one here."""
    if (reason := reason_against(engine)) is not None:
        pytest.skip(reason)
    target = tmp_path / "out.h5"
    with pytest.raises(KeyboardInterrupt):
        part_of(live, target, 160, engine)
    done = process(live, target, engine="auto", overwrite=False, again=False)
    assert done.engine.startswith(engine) and done.computed < SIZE


def test_rows_of_other_counts_or_another_model_are_put_aside(
    live: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And gone on with when they are named as before."""
    target, aside = tmp_path / "out.h5", tmp_path / "out-2.partial.h5"
    with pytest.raises(KeyboardInterrupt):
        part_of(live, target, 160)
    partial_path(target).rename(earlier_path(target))  # where it lies while rows are taken over
    assert processed(live, target, model="rnn").computed == SIZE
    with h5py.File(target) as file:
        assert file["raman"].attrs["model_name"] == "rnn"
    said = "an earlier attempt was of other counts, model or engine, and is "
    assert f"{said}{aside} now; named out.partial.h5 it is gone on with" in caplog.text
    aside.rename(partial_path(target))  # an earlier result that may be replaced is no leave to delete it
    again: dict[str, Any] = {"overwrite": False, "may_replace": lambda target: True}
    assert process(live, target, model="rnn", engine=REFERENCE, **again).computed == SIZE
    target.unlink()
    copy = tmp_path / "copy.h5"
    copy.write_bytes(live.read_bytes())
    with h5py.File(copy, "r+") as file:
        file["raw/dark"][:] = 0
        del file["raw/dark"].attrs["crc32"]  # so that it is not taken for spoiled
    aside.rename(partial_path(target))
    assert processed(copy, target).computed == SIZE
    target.unlink()
    aside.rename(partial_path(target))
    assert processed(live, target).computed < SIZE
    with pytest.raises(KeyboardInterrupt):
        part_of(copy, tmp_path / "other.h5", 160)
    partial_path(tmp_path / "other.h5").rename(partial_path(target))
    assert process(live, target, engine=REFERENCE).computed == SIZE  # --overwrite
    assert f"{said}deleted" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.h5", "out.h5"]


def test_going_on_wants_room_for_what_is_missing(tmp_path: Path, disk_of: Callable[[str], Path]) -> None:
    """And, as long as they are taken over, for the rows that are there once more."""
    source, count, folder = tmp_path / "in.npz", 4_000, disk_of("6m")
    np.savez(source, spectra=spectra_of(count), raman_shift=AXIS)
    target, other = folder / "out.h5", folder / "other"
    with pytest.raises(KeyboardInterrupt):
        part_of(source, target, 3_000, "passthrough")
    free = shutil.disk_usage(folder).free
    assert free < count * len(AXIS) * 8  # where nothing is compressed
    other.write_bytes(bytes(free - 2**20))
    with pytest.raises(SpectraError, match=r"the results need \d\.\d MB of room, and .* has 1\.0 MB"):
        process(source, target, engine="passthrough", overwrite=False, again=False)
    other.unlink()
    assert process(source, target, engine="passthrough", overwrite=False, again=False).computed < 1_100
    assert [path.name for path in folder.iterdir()] == ["out.h5"]


def test_another_file_of_the_same_size_and_time_is_not_taken_for_done(tmp_path: Path) -> None:
    source, counts = tmp_path / "a.npz", spectra_of(9)
    np.savez(source, spectra=counts, raman_shift=AXIS)
    before = source.stat()
    assert processed(source, tmp_path / "out.h5").computed == 9
    assert processed(source, tmp_path / "out.h5").computed == 0
    np.savez(source, spectra=counts[::-1], raman_shift=AXIS)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert source.stat().st_size == before.st_size
    assert process(source, tmp_path / "out.h5", engine=REFERENCE, again=False).computed == 9


def test_a_recording_that_was_cut_short_is_not_taken_for_results(live: Path, tmp_path: Path) -> None:
    partial_path(tmp_path / "out.h5").write_bytes(live.read_bytes())
    with pytest.raises(SpectraError, match="was cut short, finish it first: cars-rt repair"):
        processed(live, tmp_path / "out.h5")
    assert partial_path(tmp_path / "out.h5").read_bytes() == live.read_bytes()


@pytest.mark.parametrize("group", ["entry", "process"])
def test_a_file_of_another_program_in_the_way_stays(group: str, live: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.h5"
    foreign = partial_path(target)
    with h5py.File(foreign, "w") as file:
        file[f"{group}/data"] = np.arange(9)
    before = foreign.read_bytes()
    with pytest.raises(SpectraError, match="is in the way: choose another name"):
        processed(live, target)
    assert foreign.read_bytes() == before
    shutil.copy(foreign, target)
    assert not is_result(target)
    assert process(live, target, engine=REFERENCE, overwrite=True, again=False).computed == SIZE
    assert (tmp_path / "out-2.partial.h5").read_bytes() == before


def test_an_input_that_lies_where_results_are_written_first_is_refused(tmp_path: Path) -> None:
    source = partial_path(tmp_path / "scan.h5")
    with h5py.File(source, "w") as file:
        file["spectra"], file["raman_shift"] = spectra_of(8), AXIS
    before = source.read_bytes()
    with pytest.raises(SpectraError, match="is the input, and results lie there until they are whole"):
        processed(source, tmp_path / "scan.h5")
    assert source.read_bytes() == before
    assert processed(source, tmp_path / "scan.npz").computed == 8  # made in memory


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_killed_process_is_gone_on_with(tmp_path: Path) -> None:
    """A real one, killed without warning when some of its rows are on disk."""
    count = 60_000
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["spectra"], file["raman_shift"] = np.tile(spectra_of(2_000), (30, 1)), AXIS
    target = tmp_path / "out" / "out.h5"
    target.parent.mkdir()
    given = ("process", tmp_path / "in.h5", "-o", target, "--engine", "passthrough")

    with Command(*given) as command:
        partial = partial_path(target)
        wait_until(lambda: vouched_for(partial, "raman") > 0 or command.process.poll() is not None)
        command.process.send_signal(signal.SIGKILL)
        command.process.wait()
    if target.exists():
        pytest.skip("it was done before it could be killed")
    assert vouched_for(partial, "raman") > 0
    with Command(*given) as command:
        assert command.end() == 0
    assert f"goes on after {rows_taken(command.said)} of {count} spectra" in command.said
    process(tmp_path / "in.h5", tmp_path / "whole.h5", engine="passthrough")
    with h5py.File(target) as one, h5py.File(tmp_path / "whole.h5") as other:
        for name in ("raman", "flags", "index"):
            assert np.array_equal(one[f"raman/{name}"], other[f"raman/{name}"]), name
        assert json.loads(one["process"].attrs["made_from"])["spectra"] == count
    assert [path.name for path in target.parent.iterdir()] == ["out.h5"]


def rows_taken(said: str) -> int:
    return int(said.split("goes on after ")[1].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A process of its own; tests/scripts/process_memory.py does the same with 20 GB."""
    with h5py.File(tmp_path / "in.h5", "w") as file:  # sparse: 26 MB of counts make 102 MB of results
        file.create_dataset("spectra", (80_000, len(AXIS)), "u2", chunks=(500, len(AXIS)))[:500] = 900
        file["raman_shift"] = AXIS
    peak, _ = peak_of(tmp_path / "in.h5", tmp_path / "out.h5", "passthrough")
    assert peak < 0.27, f"{peak:.2f} GB"  # where nothing is kept: 0.2
