"""Recordings, read back by plain h5py: complete, cut short, killed, on a full disk."""

import json
import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest
from chaos.files import rows_of
from helpers import (
    AXIS,
    PATIENCE_S,
    Command,
    Published,
    a_frame,
    a_start,
    an_end,
    daemon_in_thread,
    spectra_of,
    summary,
    vouched_for,
    wait_until,
)

from cars_rt.accounting import Ledger
from cars_rt.files import recording
from cars_rt.files.recorder import Recorded, Recorder, RecordSettings
from cars_rt.files.recording import Claim, Recording, RecordingError, partial_path, repair, writer
from cars_rt.files.written import read_rows, rows_written
from cars_rt.protocol import Start
from cars_rt.protocol.messages import MAIN_ARRAY


class RecorderThread:
    """A recorder at work in a thread."""

    def __init__(self, output: Path, **settings: object) -> None:
        self.recorder = Recorder(output, RecordSettings(**{"raman": None} | settings))  # type: ignore[arg-type]
        self.recorded: list[Recorded] = []
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        self.recorded = self.recorder.serve()

    def end(self) -> list[Recorded]:
        """What it recorded, once it has ended by itself."""
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()
        return self.recorded

    def __enter__(self) -> "RecorderThread":
        return self

    def __exit__(self, *_: object) -> None:
        self.recorder.stop()
        self.end()


def test_recording_of_both_streams_holds_every_row(tmp_path: Path) -> None:
    counts, dark = spectra_of(600), np.linspace(0, 5, len(AXIS)).astype(np.float32)
    with (
        Published() as source,
        daemon_in_thread(source.address) as daemon,
        RecorderThread(tmp_path / "scan.h5", raman=daemon.publisher.address, raw=source.address) as recorder,
    ):
        source.wait(2)
        wait_until(lambda: daemon.publisher.subscribers == 1)
        source.run(
            "run-1", counts, 7, spectra=600, scan=(30, 20), step_um=(0.5, 0.25),
            exposure_s=0.001, full_scale=65_535.0, dark=dark,
        )  # fmt: skip
        (recorded,) = recorder.end()
    assert recorded.complete and recorded.rows == {"raw": 600, "raman": 600}
    assert recorded.lost == {"raw": {}, "raman": {}}
    assert not list(tmp_path.glob("*.partial*"))
    with h5py.File(tmp_path / "scan.h5") as file:
        about = dict(file.attrs)
        assert about["complete"] and about["run"] == "run-1" and about["source"] == "a test"
        assert list(about["scan"]) == [30, 20] and list(about["step_um"]) == [0.5, 0.25]
        assert about["exposure_s"] == 0.001 and about["full_scale"] == 65_535
        raw, raman = file["raw"], file["raman"]
        assert np.array_equal(raw["counts"], counts) and raw["counts"].dtype == np.uint16
        assert np.array_equal(raw["dark"], dark)
        assert raman["raman"].shape == counts.shape and raman["raman"].dtype == np.float32
        assert raman["raman"][:].any(axis=1).all()
        for group in (raw, raman):
            assert np.array_equal(group["raman_shift"], AXIS)
            assert np.array_equal(group["index"], np.arange(600))
            assert np.array_equal(group["position"], np.stack(np.divmod(np.arange(600), 20), 1))
            assert group["written"][()] == group.attrs["announced"] == 600
            assert group.attrs["reason"] == "complete" and json.loads(group.attrs["lost"]) == {}
        assert np.array_equal(raw["sequence"], np.arange(600) // 7)
        numbers = raman["sequence"][:]  # the daemon may have joined frames
        assert numbers[0] == 0 and set(np.diff(numbers)) <= {0, 1} and (numbers <= raw["sequence"][:]).all()
        assert np.array_equal(raw["time_ns"], raman["time_ns"])  # of each spectrum, joined or not
        assert (raman["time_in_ns"][:] <= raman["time_out_ns"][:]).all()
        assert raman.attrs["model_name"] == daemon.compute.model.card.name
        assert raman.attrs["model_sha256"] == daemon.compute.model.sha256


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32", "float64"])
def test_counts_keep_their_dtype(dtype: str, tmp_path: Path) -> None:
    counts = (spectra_of(5) % 251).astype(dtype)
    with Published() as source, RecorderThread(tmp_path / "scan.h5", raw=source.address) as recorder:
        source.wait()
        source.run("run-1", counts, 2)
        recorder.end()
    with h5py.File(tmp_path / "scan.h5") as file:
        assert file["raw/counts"].dtype == dtype
        assert np.array_equal(file["raw/counts"], counts)


def test_total_that_is_not_known_grows_the_file(tmp_path: Path) -> None:
    counts = spectra_of(2 * recording.FIRST_ROWS + 500, AXIS[:40])
    with Published() as source, RecorderThread(tmp_path / "scan.h5", raw=source.address) as recorder:
        source.wait()
        source.run("run-1", counts, 50, axis=AXIS[:40])
        (recorded,) = recorder.end()
    assert recorded.complete
    with h5py.File(tmp_path / "scan.h5") as file:
        assert np.array_equal(file["raw/counts"], counts)


def test_folder_takes_every_run(tmp_path: Path) -> None:
    with Published() as source, RecorderThread(tmp_path, raw=source.address) as recorder:
        source.wait()
        source.run("first", spectra_of(5))
        source.run("second", spectra_of(9))
        wait_until(lambda: len(recorder.recorder.recorded) == 2)
        recorder.recorder.stop()
        recorded = recorder.end()
    assert [(each.run, each.rows["raw"], each.complete) for each in recorded] == [
        ("first", 5, True),
        ("second", 9, True),
    ]
    for each in recorded:
        with h5py.File(each.path) as file:
            assert len(file["raw/counts"]) == each.rows["raw"]


def test_lost_spectra_make_a_recording_incomplete(tmp_path: Path) -> None:
    with Published() as source, RecorderThread(tmp_path / "scan.h5", raw=source.address) as recorder:
        source.wait()
        source.say(a_start(), a_frame(0, spectra_of(1)), a_frame(3, spectra_of(1)))
        source.say(an_end(4, 4, announced=6, lost={"overload": 2}))
        (recorded,) = recorder.end()
    assert not recorded.complete and recorded.lost == {"raw": {"missing": 2, "upstream": 2}}
    with h5py.File(tmp_path / "scan.h5") as file:
        assert not file.attrs["complete"]
        assert list(file["raw/index"]) == [0, 3]
        assert json.loads(file["raw"].attrs["lost_before"]) == {"overload": 2}
        assert json.loads(file["raw"].attrs["lost"]) == {"missing": 2, "upstream": 2}
        assert file["raw"].attrs["announced"] == 6


def test_stop_in_a_run_keeps_what_came(tmp_path: Path) -> None:
    with Published() as source, RecorderThread(tmp_path / "scan.h5", raw=source.address) as recorder:
        source.wait()
        source.publisher.open(a_start(spectra=100))
        for sequence, row in enumerate(spectra_of(30)):
            source.publisher.send(a_frame(sequence, row[None]))
        wait_until(lambda: recorder.recorder.spectra == 30)
        recorder.recorder.stop()
        (recorded,) = recorder.end()
    assert not recorded.complete
    with h5py.File(tmp_path / "scan.h5") as file:
        assert np.array_equal(file["raw/counts"], spectra_of(30))
        assert file.attrs["reason"] == "stopped" and not file.attrs["complete"]


@pytest.mark.parametrize("rows", [1, 400, 3000])
def test_killed_recorder_leaves_every_row_it_vouched_for(rows: int, tmp_path: Path) -> None:
    """At whatever moment: a plain h5py.File opens, and the rows below `written` are what was sent."""
    counts = spectra_of(20_000, AXIS[:60])
    partial = tmp_path / "scan.partial.h5"
    with (
        Published() as source,
        Command("record", tmp_path / "scan.h5", "--raw", source.address, "--raman", "none") as recorder,
    ):
        source.wait()
        source.publisher.open(a_start(axis=AXIS[:60], block=20))

        def sent(stop: threading.Event) -> None:
            for sequence in range(1000):
                if stop.wait(0.002):
                    return
                source.publisher.send(
                    a_frame(sequence, counts[20 * sequence : 20 * sequence + 20]), PATIENCE_S
                )

        stop = threading.Event()
        sending = threading.Thread(target=sent, args=(stop,))
        sending.start()
        wait_until(lambda: vouched_for(partial) >= rows or not sending.is_alive())
        recorder.process.kill()
        recorder.end()
        stop.set()
        sending.join(PATIENCE_S)
    assert not (tmp_path / "scan.h5").exists()
    with h5py.File(partial) as file:
        assert rows_written(file["raw"]) >= rows
        found = read_rows(file["raw"], "counts")
        assert np.array_equal(found, counts[: len(found)])
        assert np.array_equal(read_rows(file["raw"], "index"), np.arange(len(found)))
        assert not file.attrs["complete"] and file.attrs["reason"] == "not closed"
    with pytest.raises(
        RecordingError, match=r"exists already \(closed just now, .*: \d+ spectra raw, incomplete"
    ):
        Recorder(tmp_path / "scan.h5", RecordSettings(raman=None, raw=source.address))
    assert not partial.exists()
    with h5py.File(tmp_path / "scan.h5") as file:
        assert np.array_equal(file["raw/counts"], found) and len(file["raw/index"]) == len(found)
        assert not file.attrs["complete"] and file.attrs["reason"] == "not closed"


FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {tests!r})
from helpers import AXIS, a_frame, a_start, spectra_of
from cars_rt.files.recording import Recording, RecordingError
recording = Recording(Path({path!r}))
recording.start(a_start(spectra={spectra}, block=100))
counts = spectra_of(100)
try:
    for sequence in range(200):
        if sequence == 50:
            recording.flush()
            at = recording.rows["raw"].count * counts.itemsize * counts.shape[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (at + 2_000_000, at + 2_000_000))
        recording.append(a_frame(sequence, counts + np.uint16(sequence)))
    recording.flush()
except RecordingError as error:
    print(error, recording.close())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize("spectra", [20_000, None])
def test_full_disk_is_said_and_what_was_flushed_stays_readable(spectra: int | None, tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    program = FULL_DISK.format(tests=str(Path(__file__).parents[1]), path=str(path), spectra=spectra)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    partial = tmp_path / "scan.partial.h5"
    assert done.stdout.startswith(f"{partial} cannot be written: File too large; what was flushed stays")
    assert done.stdout.endswith(f"{partial}\n") and not path.exists()
    assert "Traceback" not in done.stderr
    assert repair(partial).path == path
    with h5py.File(path) as file:
        found = read_rows(file["raw"], "counts")
        assert len(found) >= 5000
        expected = np.concatenate([spectra_of(100) + np.uint16(sequence) for sequence in range(200)])
        assert np.array_equal(found, expected[: len(found)])


def test_recording_is_not_written_over_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(b"precious")
    settings = RecordSettings(raman=None, raw="tcp://127.0.0.1:5555")
    with pytest.raises(RecordingError, match="exists already; choose another name or give --overwrite"):
        Recorder(path, settings)
    with pytest.raises(RecordingError, match="exists already"):
        Recording(path)
    assert path.read_bytes() == b"precious"
    with Published() as source, RecorderThread(path, raw=source.address, overwrite=True) as recorder:
        source.wait()
        source.run("run-1", spectra_of(3))
        assert recorder.end()[0].complete
    with h5py.File(path) as file:
        assert len(file["raw/counts"]) == 3


def test_output_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    settings = RecordSettings(raman=None, raw="tcp://127.0.0.1:5555")
    (tmp_path / "a-file").touch()
    (tmp_path / "notes.txt").mkdir()
    for output, reason in (
        (
            tmp_path / "a-file",
            "neither a .h5 file nor a folder: name one NAME.h5 for one run, or",
        ),
        (tmp_path / "scan.txt", "neither a .h5 file nor a folder"),
        (tmp_path / "scan", r"for all runs make the folder first: mkdir \S*scan"),
        (tmp_path / "my scans", r"for all runs make the folder first: mkdir ['\"].*my scans['\"]"),
        (tmp_path / "new" / "scan.h5", "cannot write in .*new: it does not exist; make it first .mkdir "),
        (tmp_path / "a-file" / "scan.h5", "cannot write in .*a-file: it is no folder"),
        (Path("/proc/nothing/scan.h5"), "cannot write in /proc/nothing"),
    ):
        with pytest.raises(RecordingError, match=reason):
            Recorder(output, settings)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a-file", "notes.txt"]
    with pytest.raises(RecordingError, match="nothing to record"):
        Recorder(tmp_path / "scan.h5", RecordSettings(raman=None, raw=None))


def test_closing_a_failed_recording_raises_nothing(tmp_path: Path) -> None:
    recorder = Recording(tmp_path / "scan.h5")
    start: Start = a_start()
    recorder.start(start)
    recorder.append(a_frame(0, spectra_of(1)))
    recorder.flush()
    recorder.fail()
    assert recorder.close() == tmp_path / "scan.partial.h5"
    with pytest.raises(RecordingError, match="closed after an error"):
        recorder.append(a_frame(1, spectra_of(1)))
    with pytest.raises(RecordingError, match="closed after an error"):
        recorder.end(an_end(1), Ledger())


def test_summary_of_the_command_says_what_is_in_the_file(tmp_path: Path) -> None:
    totals = tmp_path / "totals.json"
    with (
        Published("raman") as results,
        Command("record", tmp_path / "scan.h5", "--raman", results.address, "--summary", totals) as recorder,
    ):
        results.wait()
        model = {"name": "m", "sha256": "0" * 64}
        results.say(a_start(stream="raman", dtype="float32", model=model))
        values = spectra_of(1).astype(np.float32)
        for sequence in range(4):
            results.say(a_frame(sequence, values, stream="raman", arrays={"raman": values}))
        results.say(an_end(4, stream="raman"))
        assert recorder.end() == 0, recorder.said
    (run,) = summary(totals)
    assert run["complete"] and run["rows"] == {"raman": 4} and run["path"] == str(tmp_path / "scan.h5")


def test_names_that_are_taken_get_a_number(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    partial_path(path).touch()
    (tmp_path / "scan-2.h5").touch()
    held = Claim(tmp_path / "scan-3.h5")
    claim = Claim.unused(path)
    assert claim.path == tmp_path / "scan-4.h5"
    held.release()
    claim.release()


def test_the_end_of_a_stream_adds_nothing_to_the_files_structure(tmp_path: Path) -> None:
    """New attributes would move the group's header, and a kill amid that costs the rows."""
    recording = Recording(tmp_path / "scan.h5")
    recording.start(a_start(block=2))
    recording.append(a_frame(0, spectra_of(2)))
    recording.flush()
    group = recording._file["raw"]
    before, size = set(group.attrs), recording.partial.stat().st_size
    assert group.attrs["announced"] == -1
    recording.end(an_end(1, 2), Ledger())
    recording.flush()
    assert set(group.attrs) == before and recording.partial.stat().st_size == size
    recording.close()


class Written:
    """A file that keeps what was written to it, in order."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b")
        self.done: list[tuple[int, bytes | None]] = []  # where and what; None: cut there
        self.seek, self.tell, self.flush = self._file.seek, self._file.tell, self._file.flush
        self.read, self.readinto = self._file.read, self._file.readinto
        self.close = self._file.close

    def write(self, data: bytes) -> int:
        self.done.append((self.tell(), bytes(data)))
        return self._file.write(data)

    def truncate(self, size: int) -> int:
        self.done.append((size, None))
        return self._file.truncate(size)


@pytest.mark.parametrize("first", ["raw", "raman"])
def test_a_kill_amid_the_second_streams_beginning_costs_no_row_of_the_first(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each write of those that HDF5 makes, in its order, the file is opened. Writes that follow one
    another without a gap are one, as HDF5 gathers them.
    """
    path, real, written = tmp_path / "scan.h5", h5py.File, list[Written]()

    def opened(partial: Path, _: str) -> h5py.File:
        written.append(Written(partial))
        return real(written[0], "w")

    with monkeypatch.context() as patch:
        patch.setattr(writer.h5py, "File", opened)
        recording = Recording(path)
    begun = len(written[0].done)
    model = {"name": "m", "sha256": "0" * 64, "description": "d" * 2000}
    about = {
        "spectra": 64,
        "source": "camera " * 9,
        "scan": (8, 8),
        "exposure_s": 0.1,
        "instrument": {"a": 1.0},
    }
    starts = {
        "raw": a_start(**about, step_um=(1.0, 1.0)),
        "raman": a_start(stream="raman", dtype="float32", model=model, **about),
    }
    values = spectra_of(10)
    results = {"stream": "raman", "arrays": {"raman": values.astype(np.float32)}} if first == "raman" else {}
    recording.start(starts.pop(first))
    recording.append(a_frame(0, values, **results))
    recording.flush()
    (file,), content, before = written, bytearray(), len(written[0].done)
    recording.start(*starts.values())
    for number, (at, data) in enumerate(file.done, 1):
        content[len(content) :] = bytes(max(at - len(content), 0))
        if data is None:
            del content[at:]
        else:
            content[at : at + len(data)] = data
        goes_on = data is not None and number < len(file.done) and file.done[number][0] == at + len(data)
        if number >= begun and not goes_on:
            with h5py.File(BytesIO(content), "r") as killed:
                if number >= before:
                    assert rows_of(killed[first], "index").tolist() == list(range(10)), number
                    assert np.array_equal(rows_of(killed[first], MAIN_ARRAY[first]), values)
    assert len(file.done) > before + 10
    recording.close()
    file.close()
