"""One recording, one writer: two recorders on a name, kills at any moment, what is left, limits."""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from math import inf
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import (
    AXIS,
    LOCAL,
    PATIENCE_S,
    Command,
    Published,
    a_frame,
    a_start,
    an_end,
    spectra_of,
    vouched_for,
    wait_until,
)

from cars_rt.accounting import Ledger
from cars_rt.files.recorder import Recorder, RecordSettings
from cars_rt.files.recorder import recorder as recorder_module
from cars_rt.files.recording import (
    TRIAL,
    InUseError,
    Recording,
    RecordingError,
    claimed,
    partial_path,
    repair,
    repair_all,
    writer,
)
from cars_rt.files.recording import claim as claim_module
from cars_rt.files.written import read_rows
from cars_rt.remote import Recorder as Asking
from cars_rt.remote import RemoteError
from cars_rt.sockets.free import free_addresses
from cars_rt.storage.write import rename
from files.test_recording import RecorderThread

TESTS = str(Path(__file__).parents[1])


def written(path: Path, spectra: int = 6) -> Recording:
    """A recording that is open, with some spectra on disk."""
    recording = Recording(path, streams=["raw"])
    recording.start(a_start(spectra=100))
    for number, counts in enumerate(spectra_of(spectra)):
        recording.append(a_frame(number, counts[None]))
    recording.flush()
    return recording


class Sending:
    """A camera that goes on and on, in a thread."""

    def __init__(self, source: Published) -> None:
        self.sent, self._stop, self._source = 0, threading.Event(), source
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        counts = spectra_of(1)
        while not self._stop.wait(0.005):
            self._source.publisher.send(a_frame(self.sent, counts), PATIENCE_S)
            self.sent += 1

    def __enter__(self) -> "Sending":
        self._source.publisher.open(a_start(spectra=1_000_000))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)


@pytest.mark.parametrize("locks", ["TRUE", "FALSE"])
def test_a_recording_that_is_written_belongs_to_its_recorder(locks: str, tmp_path: Path) -> None:
    """With HDF5's locks and without: two others on its name, `repair`, and all on one folder."""
    path, folder = tmp_path / "scan.h5", tmp_path / "runs"
    folder.mkdir()
    environment = {"HDF5_USE_FILE_LOCKING": locks}
    with Published() as source:

        def record(*arguments: object) -> Command:
            return Command("record", *arguments, "--raw", source.address, "--raman", "none", **environment)

        with record(path) as first, record(folder) as one, record(folder) as two:
            source.wait(3)
            source.publisher.open(a_start(spectra=40))
            for number, counts in enumerate(spectra_of(20)):
                assert source.publisher.send(a_frame(number, counts[None]), PATIENCE_S)
            wait_until(lambda: partial_path(path).exists())
            for arguments in (["record", path], ["record", path, "--overwrite"], ["repair", path]):
                with Command(*arguments, **environment) as other:
                    assert other.end() == 1
                    assert "is being recorded by another program" in other.said, other.said
            for number, counts in enumerate(spectra_of(20, first=20)):
                assert source.publisher.send(a_frame(20 + number, counts[None]), PATIENCE_S)
            source.publisher.end(an_end(40))
            assert source.publisher.flush(PATIENCE_S)
            assert first.end() == 0, first.said
            for each in (one, two):
                each.wait_for("40 spectra raw, complete")
                each.process.terminate()
                assert each.end() == 0, each.said
    files = [path, *folder.glob("*.h5")]
    assert len(files) == 3 and not list(tmp_path.rglob("*.partial*")) and not list(tmp_path.rglob("*.lock"))
    for each in files:
        with h5py.File(each) as file:
            assert file.attrs["complete"] and np.array_equal(file["raw/counts"], spectra_of(40))


def test_only_one_of_two_recorders_that_wait_gets_the_name(tmp_path: Path) -> None:
    settings = RecordSettings(raman=None, raw="tcp://127.0.0.1:5555", overwrite=True)
    recorder = Recorder(tmp_path / "scan.h5", settings)
    with pytest.raises(InUseError, match="is being recorded by another program; choose another name"):
        Recorder(tmp_path / "scan.h5", settings)
    with pytest.raises(InUseError, match="is being recorded by another program: repair it if that has not"):
        repair(tmp_path / "scan.partial.h5")
    recorder.stop()
    recorder.serve()
    assert not list(tmp_path.iterdir())


def test_a_file_that_came_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    recording = written(path)
    path.write_bytes(b"precious")
    assert recording.close() == tmp_path / "scan-2.h5"
    assert path.read_bytes() == b"precious"


@pytest.mark.skipif(os.name == "nt", reason="locks are of another kind on Windows")
def test_a_copy_of_the_descriptor_does_not_keep_a_recorder_from_its_own_file(tmp_path: Path) -> None:
    """HDF5's lock ends with the last copy: one in a process that is just being started, for instance."""
    recording = written(tmp_path / "scan.h5")
    copy = os.dup(recording._file.id.get_vfd_handle())
    try:
        recording.end(an_end(6), Ledger())
        assert recording.close() == tmp_path / "scan.h5"
        assert recording.contents is not None and recording.contents.complete
    finally:
        os.close(copy)


def moved(partial: Path) -> None:
    partial.rename(partial.with_name("elsewhere.h5"))


def exchanged(partial: Path) -> None:
    shutil.copy(partial, partial.with_name("copy"))
    partial.with_name("copy").replace(partial)


def cut(partial: Path) -> None:
    os.truncate(partial, 5000)


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody do this to an open file")
@pytest.mark.parametrize("meddle", [moved, exchanged, cut, Path.unlink])
def test_what_others_do_to_the_file_is_noticed_at_the_next_flush(
    meddle: Callable[[Path], None], tmp_path: Path
) -> None:
    recording = written(tmp_path / "scan.h5")
    meddle(recording.partial)
    with pytest.raises(RecordingError, match=r"cannot be written: it was (moved|cut)"):
        recording.flush()
    assert recording.close() == recording.partial and recording.contents is None
    assert recording.rescue() is None and not (tmp_path / "scan.h5").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody do this to an open file")
@pytest.mark.parametrize("meddle", [exchanged, cut])
def test_complete_is_said_of_what_is_there(meddle: Callable[[Path], None], tmp_path: Path) -> None:
    """Between the last flush and the end: the file that gets the name was opened again and counted."""
    recording = written(tmp_path / "scan.h5")
    recording.end(an_end(6), Ledger())
    recording.flush()
    meddle(recording.partial)
    with pytest.raises(RecordingError):
        recording.close()
    assert recording.contents is None and not (tmp_path / "scan.h5").exists()


LINKS = pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")


@LINKS
@pytest.mark.parametrize("name", ["scan.h5", "scan.partial.h5", ".scan.h5.lock"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_no_link_is_followed(name: str, overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / name).symlink_to(tmp_path / "victim")
    with pytest.raises(RecordingError, match=r"is a link|links"):
        Recording(tmp_path / "scan.h5", overwrite=overwrite)
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_no_program_of_ours_writes_over_a_recording_that_is_being_written(tmp_path: Path) -> None:
    recording = written(tmp_path / "scan.h5")
    np.savez(tmp_path / "in.npz", spectra=spectra_of(2), raman_shift=AXIS)
    partial = recording.partial
    for arguments in (
        ["process", tmp_path / "in.npz", "-o", partial, "--overwrite", "--engine", "passthrough"],
        ["drive", "simulator", "--truth", partial, "--scan", "4x4", "--publish", LOCAL, "--subscribers", "0"],
    ):
        with Command(*arguments) as other:
            assert other.end() == 1 and "is a name of recordings that are being written" in other.said, (
                other.said
            )
    recording.end(an_end(6), Ledger())
    assert recording.close() == tmp_path / "scan.h5"
    assert recording.contents is not None and recording.contents.complete


# -- stops ------------------------------------------------------------------------------------------


def test_a_stop_ends_a_recording_although_the_stream_goes_on(tmp_path: Path) -> None:
    with (
        Published() as source,
        RecorderThread(tmp_path / "scan.h5", raw=source.address) as recorder,
    ):
        source.wait()
        with Sending(source) as camera:
            wait_until(lambda: recorder.recorder.spectra > 20)
            recorder.recorder.stop()
            (recorded,) = recorder.end()
            assert camera.sent > 20
    assert not recorded.complete and recorded.rows["raw"] > 20
    with h5py.File(tmp_path / "scan.h5") as file:
        assert len(file["raw/counts"]) == recorded.rows["raw"] and file.attrs["reason"] == "stopped"


def test_ctrl_c_twice_names_the_partial_file_and_repair_completes_it(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with (
        Published() as source,
        Command("record", path, "--raw", source.address, "--raman", "none") as program,
    ):
        source.wait()
        with Sending(source):
            wait_until(lambda: vouched_for(partial_path(path)) > 0)
            program.process.send_signal(signal.SIGINT)
            program.wait_for("once more to leave at once")
            program.process.send_signal(signal.SIGINT)
            code = program.end()
    if code == 130:  # else the file was closed before the second one came
        assert f"{partial_path(path)} holds what came: cars-rt repair {partial_path(path)}" in program.said
        with Command("repair", partial_path(path)) as again:
            assert again.end() == 0 and re.search(r"scan\.h5: .*, incomplete", again.said), again.said
    else:
        assert code == 3, program.said
    with h5py.File(path) as file:
        assert len(file["raw/counts"]) == file["raw/written"][()]


def test_leaving_at_once_leaves_a_partial_file_that_is_named(tmp_path: Path) -> None:
    def leave() -> None:
        if recorder.spectra:
            raise KeyboardInterrupt

    with Published() as source:
        recorder = Recorder(tmp_path / "scan.h5", RecordSettings(raman=None, raw=source.address))
        with Sending(source), pytest.raises(KeyboardInterrupt):
            recorder.serve(leave)
    assert recorder.left == [tmp_path / "scan.partial.h5"]
    assert repair(tmp_path / "scan.h5").path == tmp_path / "scan.h5"


KILLED = """
import os, sys
from importlib import import_module
sys.path.insert(0, {tests!r})
from pathlib import Path
from files.test_recording_files import written
from helpers import an_end
from cars_rt.accounting import Ledger
module, name = sys.argv[2].rsplit(".", 1)
recording = written(Path(sys.argv[1]))
recording.end(an_end(6), Ledger())
setattr(import_module(module), name, lambda *_, **__: os._exit(9))
recording.close()
"""


@pytest.mark.parametrize(
    ("at", "says_complete"),
    [("writer.finish", False), ("finish.settle", False), ("finish._named", True), ("claim.rename", True)],
)
def test_a_kill_while_a_recording_is_closed_costs_nothing(
    at: str, says_complete: bool, tmp_path: Path
) -> None:
    """Whether it is complete is counted before it gets its name: a partial file that says so is."""
    path = tmp_path / "scan.h5"
    program = [sys.executable, "-c", KILLED.format(tests=TESTS), str(path), f"cars_rt.files.recording.{at}"]
    assert subprocess.run(program, timeout=PATIENCE_S, check=False).returncode == 9
    with h5py.File(partial_path(path)) as file:
        assert bool(file.attrs["complete"]) == says_complete
        assert not says_complete or len(file["raw/counts"]) == 6
    contents = repair(partial_path(path))
    assert contents.complete and contents.path == path and contents.rows == {"raw": 6}
    with h5py.File(path) as file:
        assert file.attrs["complete"] and np.array_equal(file["raw/counts"], spectra_of(6))
    before = path.stat()
    assert not repair(path).changed and path.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.skipif(os.name == "nt", reason="renames otherwise there")
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_between_two_names_leaves_one_recording(overwrite: bool, tmp_path: Path) -> None:
    path = written(tmp_path / "scan.h5").close()
    os.link(path, partial_path(path))
    if overwrite:
        claimed(path, overwrite=True).release()
    else:
        assert repair(partial_path(path)).path == path
    assert list(tmp_path.iterdir()) == [path]


def killed(path: Path) -> None:
    """What is left of a recorder that was killed in mid-run."""
    program = f"import sys, os; sys.path.insert(0, {TESTS!r}); from pathlib import Path\n"
    program += f"from files.test_recording_files import written; written(Path({str(path)!r})); os._exit(9)"
    subprocess.run([sys.executable, "-c", program], timeout=PATIENCE_S, check=False)
    assert partial_path(path).exists()


def test_the_next_recorder_of_a_folder_finishes_what_was_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed(tmp_path / "a.h5")
    shutil.copy(tmp_path / "a.partial.h5", tmp_path / "taken.partial.h5")
    (tmp_path / "taken.h5").write_bytes(b"precious")
    (tmp_path / "b.partial.h5").write_bytes(b"not HDF5")
    damaged = bytearray((tmp_path / "a.partial.h5").read_bytes())
    damaged[136] ^= 1  # of the tree of its first group
    (tmp_path / "c.partial.h5").write_bytes(damaged)
    trial = shutil.copy(tmp_path / "a.partial.h5", partial_path(tmp_path / f"{TRIAL}0.h5"))
    live = written(tmp_path / "live.h5")
    Recorder(tmp_path, RecordSettings(raman=None, raw="tcp://127.0.0.1:5555")).close()
    assert "a.h5: closed what a recorder left that was killed: 6 of 100 spectra raw" not in caplog.text
    assert "a.h5: closed what a recorder left that was killed: 6 spectra raw, incomplete" in caplog.text
    assert "b.partial.h5 cannot be read: it is no HDF5 file" in caplog.text
    assert "c.partial.h5 is damaged: 'process' cannot be read" in caplog.text
    assert (tmp_path / "taken.h5").read_bytes() == b"precious" and (tmp_path / "taken-2.h5").exists()
    for name in ("a.h5", "taken-2.h5"):
        with h5py.File(tmp_path / name) as file:
            assert np.array_equal(file["raw/counts"], spectra_of(6)) and not file.attrs["complete"]
    assert live.close() == tmp_path / "live.h5" and repair_all(tmp_path) == []
    assert Path(trial).exists()  # of `cars-rt check`, and nobody's measurement


def test_overwrite_puts_aside_what_cannot_be_finished(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "scan.h5"
    partial_path(path).write_bytes(b"not HDF5")
    with pytest.raises(RecordingError, match="cannot be read: it is no HDF5 file"):
        Recording(path)
    recording = Recording(path, overwrite=True)
    recording.start(a_start())
    aside = partial_path(tmp_path / "scan-2.h5")
    assert recording.close() == path and sorted(tmp_path.iterdir()) == [aside, path]
    assert aside.read_bytes() == b"not HDF5" and f"is {aside} now, as it cannot be finished" in caplog.text


def test_repair_refuses_what_is_no_recording(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["raw"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
    with h5py.File(tmp_path / "out.partial.h5", "w") as file:
        file.attrs.update({"format": "cars-rt recording", "version": 2, "complete": False})
        group = file.create_group("raw")
        group["written"] = 3
        group.create_dataset("counts", (3, 8), "u2", external=[(str(tmp_path / "secret"), 0, 48)])
    with Command("repair", tmp_path / "other.h5", tmp_path / "none.h5", tmp_path) as program:
        assert program.end() == 1
        line = program.said.splitlines()[-1]
    assert "other.h5 is no recording" in line and "there is no file" in line and "is a folder" in line
    with pytest.raises(RecordingError, match=r"^\. is a folder: name the recordings in it"):
        repair(Path())
    with pytest.raises(
        RecordingError, match=r"left as it is: the raw stream in it cannot be read: .*in other files"
    ):
        repair(tmp_path / "out.partial.h5")


def test_a_recording_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And meanwhile a disk that takes long holds nothing up; what it cannot write is said."""
    path, there, slow, failed = tmp_path / "scan.h5", list[tuple[bool, bool]](), threading.Event(), []
    folder, sync = tmp_path.stat().st_ino, os.fsync

    def synced(descriptor: int) -> None:
        if threading.current_thread() is not threading.main_thread():
            assert slow.wait(PATIENCE_S)
            if failed:
                raise failed[0]
        sync(descriptor)
        there.append((os.fstat(descriptor).st_ino == folder, path.exists()))

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(writer, "SYNC_S", 0.0)
    recording = written(path)
    recording.flush()
    assert there == []
    slow.set()
    recording.close()
    named = [(True, True)] if os.name == "posix" else []
    before = len(there) - len(named)
    assert before >= 2 and there == [(False, False)] * before + named
    failed.append(OSError(errno.EIO, "Input/output error"))
    with pytest.raises(RecordingError, match=r"b\.partial\.h5 cannot be written: Input/output error"):
        written(tmp_path / "b.h5").close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> dict[Path, float]:
    """Files that other programs have open, which Windows does not rename, and how many tries they keep it."""
    files: dict[Path, float] = {}

    def renamed(source: Path, target: Path, *, overwrite: bool) -> None:
        files[source] = files.get(source, 0) - 1
        if files[source] >= 0:
            raise PermissionError(13, "Permission denied", str(source))
        rename(source, target, overwrite=overwrite)

    monkeypatch.setattr(claim_module, "rename", renamed)
    return files


def test_a_recording_that_another_program_holds_is_whole_and_gets_its_name_later(
    held: dict[Path, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(claim_module, "HELD_S", 0.02)
    with Published() as source, RecorderThread(tmp_path, raw=source.address, name="{run}") as recorder:
        source.wait()
        held[partial := tmp_path / "one.partial.h5"] = inf
        tiny(source, "one")
        tiny(source, "two")
        wait_until(lambda: recorder.recorder.runs == 2)
        recorder.recorder.stop()
        one, two = recorder.end()
    assert (one.path, two.path) == (str(partial), str(tmp_path / "two.h5"))
    assert one.complete and two.complete
    assert "another program may have it open: it is whole, and `cars-rt repair " in caplog.text
    with pytest.raises(RecordingError, match="may have it open: close it there, and try again"):
        repair(partial)
    held.clear()
    assert repair(partial).path == tmp_path / "one.h5"


def test_what_holds_a_new_file_for_a_moment_does_not_keep_it_from_its_name(
    held: dict[Path, float], tmp_path: Path
) -> None:
    held[partial_path(path := tmp_path / "scan.h5")] = 1
    assert written(path).close() == path


# -- limits -----------------------------------------------------------------------------------------


def tiny(source: Published, run: str) -> None:
    source.run(run, spectra_of(1, AXIS[:20]), axis=AXIS[:20])


def test_recordings_that_wait_for_the_other_stream_have_a_limit_in_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 3)
    with (
        Published() as source,
        Published("raman") as results,
        RecorderThread(tmp_path, raw=source.address, raman=results.address) as recorder,
    ):
        source.wait()
        results.wait()
        for number in range(12):
            tiny(source, f"run-{number}")
        wait_until(lambda: recorder.recorder.spectra == 12 and len(recorder.recorder._open) == 3)
        said = recorder.recorder.describe()
        recorder.recorder.stop()
        recorded = recorder.end()
    assert len(recorded) == recorder.recorder.incomplete == 12 and not any(each.complete for each in recorded)
    other = "their other stream"
    assert said == f"12 spectra written, open for {other}: 3 recordings, closed without {other}: 9 recordings"
    assert "nothing came of the raman stream and 3 later runs wait, too" in caplog.text
    assert len(list(tmp_path.glob("*.h5"))) == 12 and not list(tmp_path.glob("*.partial*"))


def test_each_recording_that_waits_has_a_limit_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own: other runs that come and end do not make it wait for longer."""
    monkeypatch.setattr(recorder_module, "OTHER_S", 0.3)
    with (
        Published() as source,
        Published("raman") as results,
        RecorderThread(tmp_path, raw=source.address, raman=results.address) as recorder,
    ):
        source.wait()
        results.wait()
        tiny(source, "first")
        numbers = iter(range(10_000))

        def given_up() -> bool:
            tiny(source, f"run-{next(numbers)}")
            return recorder.recorder.runs > 0

        wait_until(given_up)
        assert recorder.recorder.recorded[0].run == "first"


def test_one_run_that_cannot_be_recorded_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Recording.append

    def append(self: Recording, frame: object) -> None:
        if frame.run == "odd":  # type: ignore[attr-defined]
            raise OverflowError("Python int too large to convert to C long")
        real(self, frame)  # type: ignore[arg-type]

    monkeypatch.setattr(Recording, "append", append)
    with Published() as source, RecorderThread(tmp_path, raw=source.address) as recorder:
        source.wait()
        for run in ("one", "odd", "two"):
            tiny(source, run)
        wait_until(lambda: recorder.recorder.runs == 3)
        recorder.recorder.stop()
        recorded = recorder.end()
    assert {each.run: each.complete for each in recorded} == {"one": True, "odd": False, "two": True}
    assert recorder.recorder.failed == 1


def test_status_counts_spectra_once(tmp_path: Path) -> None:
    values = spectra_of(4).astype(np.float32)
    with (
        Published() as source,
        Published("raman") as results,
        RecorderThread(tmp_path, raw=source.address, raman=results.address) as recorder,
    ):
        source.wait()
        results.wait()
        source.run("run-1", spectra_of(4))
        results.say(a_start(stream="raman", dtype="float32", model={"name": "m", "sha256": "0" * 64}))
        results.say(
            *(
                a_frame(n, values[n : n + 1], stream="raman", arrays={"raman": values[n : n + 1]})
                for n in range(4)
            )
        )
        results.say(an_end(4, stream="raman"))
        wait_until(lambda: recorder.recorder.runs == 1)
        wait_until(lambda: recorder.recorder.spectra == 4)


@pytest.fixture
def small_disk(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("90m")


def test_a_full_disk_ends_the_recording_with_a_file(small_disk: Path) -> None:
    counts = np.random.default_rng(1).integers(0, 60_000, (2000, 1000), np.uint16)
    axis = np.linspace(600, 3000, 1000)
    with Published() as source, Command(
        "record", small_disk / "scan.h5", "--raw", source.address, "--raman", "none"
    ) as program:  # fmt: skip
        source.wait()
        source.publisher.open(a_start(axis=axis, spectra=2**40, block=2000))
        number = 0

        def send(frames: int) -> None:
            nonlocal number
            for _ in range(frames):
                source.publisher.send(a_frame(number, counts), 1.0)
                number += 1

        for frames in (4, 8):  # 16 MB from one look at the disk to the next
            send(4)
            wait_until(
                lambda frames=frames: (
                    program.process.poll() is not None  # it may have seen the end of the disk already
                    or vouched_for(partial_path(small_disk / "scan.h5")) >= 2000 * frames
                )
            )
        program.wait_for("make room, or stop")
        while program.process.poll() is None:
            send(1)
        assert program.end() == 1
    assert re.search(r"has [\d.]+ GB left, enough for \d s at [\d.]+ MB/s", program.said), program.said
    last = program.said.splitlines()[-1]
    assert "is full" in last or ("No space left" in last and "scan.h5 has" in last), program.said
    assert "the run needs" in program.said and "Traceback" not in program.said
    with h5py.File(small_disk / "scan.h5") as file:
        found = read_rows(file["raw"], "counts")
        assert len(found) == len(file["raw/counts"]) >= 2000 and not file.attrs["complete"]
        assert np.array_equal(found[:2000], counts)


def test_a_disk_that_is_full_at_once_ends_a_recording_and_not_the_recorder(small_disk: Path) -> None:
    """Another program takes all that is left between two looks: the next write fails, what was flushed is a
    file, and the recorder takes commands again when there is room."""
    counts = np.random.default_rng(1).integers(0, 60_000, (1000, 1000), np.uint16)
    control, axis = free_addresses(1)[0], np.linspace(600, 3000, 1000)
    with Published() as source, Command(
        "record", "--idle", small_disk, "--raw", source.address, "--raman", "none", "--control", control,
        "--compression", "none",
    ) as program, Asking(control) as asking:  # fmt: skip
        source.wait()
        program.wait_for("takes commands")
        asking.start("map")
        source.publisher.open(a_start(axis=axis, block=1000))
        sent = 0

        def send(frames: int) -> None:
            nonlocal sent
            for _ in range(frames):
                assert source.publisher.send(a_frame(sent, counts), PATIENCE_S)
                sent += 1

        send(3)
        wait_until(lambda: asking.status()["rows"] == {"raw": 3000})
        with (small_disk / "junk").open("wb", buffering=0) as junk, pytest.raises(OSError, match="No space"):
            while True:
                junk.write(bytes(65_536))
        send(2)  # no more: what is recorded between two looks is kept free twice, and the disk is small
        wait_until(lambda: asking.status()["trouble"])
        now = asking.status()
        assert now["state"] == "idle" and "has 3000 spectra raw, incomplete" in now["trouble"], now
        with pytest.raises(RemoteError, match="make room on it"):
            asking.start("map")
        (small_disk / "junk").unlink()
        wait_until(lambda: asking.start("again"))
        send(2)
        wait_until(lambda: asking.status()["rows"].get("raw", 0) >= 2000)
        (again,) = asking.stop()["files"]
        assert "Traceback" not in program.said
    for path, rows in (("map.h5", 3000), (again["path"], 2000)):
        with h5py.File(small_disk / path) as file:
            found = read_rows(file["raw"], "counts")
            assert len(found) >= rows and np.array_equal(found[:rows].reshape(-1, 1000, 1000)[-1], counts)


NO_ROOM = """
import os, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {tests!r})
from helpers import a_start
from cars_rt.files.recording import Packing, Recording, RecordingError
folder, axis = Path({folder!r}), np.linspace(500.0, 3100.0, 1340)
model = {{"name": "m", "sha256": "0" * 64, "deviation": "true"}}
for room in (0, 16_384, 90_112, 1_200_000):
    for stream, dtype, packing in (("raw", "uint16", "none"), ("raman", "float32", "gzip")):
        start = a_start(axis=axis, stream=stream, dtype=dtype, model=model if stream == "raman" else None)
        recording = Recording(folder / "a.h5", streams=["raw", "raman"], packing=Packing(packing))
        with (folder / "fill").open("wb") as fill:
            os.posix_fallocate(fill.fileno(), 0, os.statvfs(folder).f_bavail * 4096 - room)
        try:
            recording.start(start)
            recording.flush()
        except RecordingError as error:
            print(room, stream, str(error).split(";")[0].split(": ")[1])
        try:
            Recording(folder / "b.h5").fail()
        except RecordingError as error:
            print(room, "file", str(error).split(": ")[1])
        recording.fail()
        for each in folder.iterdir():
            each.unlink()
"""


def test_a_stream_that_begins_on_a_full_disk_is_refused(disk_of: Callable[[str], Path]) -> None:
    """HDF5 ends the process where there is no room for its own tables."""
    program = NO_ROOM.format(tests=TESTS, folder=str(disk_of("4m")))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
    refused = [f"{room} {what} No space left on device" for room in (0, 16_384, 90_112)
               for stream in ("raw", "raman") for what in (stream, "file")]  # fmt: skip
    assert done.stdout.splitlines() == refused  # and with more room nothing is
