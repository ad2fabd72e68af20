"""The recorder told what to do while it runs: start, stop, open, status, close; names, parts, room."""

import json
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import LOCAL, PATIENCE_S, Command, Published, a_frame, a_start, an_end, spectra_of, wait_until

from cars_rt import remote
from cars_rt.files.recorder import Recorder, RecordSettings
from cars_rt.files.recorder.commands import COMMANDS, Commands
from cars_rt.files.recorder.disk import LOW_BYTES, Disk
from cars_rt.files.recorder.names import Template
from cars_rt.files.recorder.piece import Piece
from cars_rt.files.recording import Claim, Recording, RecordingError
from cars_rt.protocol import Reason, RunReader
from cars_rt.protocol.control import RECORDER_REQUESTS
from cars_rt.remote import Remote, RemoteError
from cars_rt.sockets import AddressInUseError
from cars_rt.trust import keys
from cars_rt.trust.curve import ClientKeys
from cars_rt.trust.flags import RecorderAccess


@contextmanager
def recording(
    folder: Path, *, idle: bool = True, **settings: Any
) -> Iterator[tuple[Recorder, remote.Recorder]]:
    """A recorder at work in a thread, and a connection to its control socket."""
    given: dict[str, Any] = {"raman": None, "control": LOCAL} | settings
    recorder = Recorder(folder, RecordSettings(**given), idle=idle)
    with Commands(recorder) as commands:
        assert commands.control is not None
        thread = threading.Thread(target=lambda: recorder.serve(commands.serve))
        thread.start()
        try:
            with remote.Recorder(commands.control.address) as asking:
                yield recorder, asking
        finally:
            recorder.stop()
            thread.join(PATIENCE_S)
    assert not thread.is_alive()


@contextmanager
def recording_both(folder: Path) -> Iterator[tuple[Published, Published, Recorder]]:
    """A recorder of counts and results, and who publishes them."""
    with (
        Published() as raw,
        Published("raman") as raman,
        recording(folder, idle=False, raw=raw.address, raman=raman.address) as (recorder, _),
    ):
        raw.wait()
        raman.wait()
        yield raw, raman, recorder


class Camera:
    """Sends one spectrum after the other of a run that plans more of them."""

    def __init__(self, source: Published, planned: int = 100, run: str = "run-1") -> None:
        self.source, self.planned, self.run, self.sent = source, planned, run, 0
        self.counts = spectra_of(planned)
        source.publisher.open(a_start(run, spectra=planned))

    def send(self, count: int) -> None:
        for _ in range(count):
            frame = a_frame(self.sent, self.counts[self.sent : self.sent + 1], self.run)
            assert self.source.publisher.send(frame, PATIENCE_S)
            self.sent += 1

    def end(self) -> None:
        self.source.publisher.end(an_end(self.sent, run=self.run))
        assert self.source.publisher.flush(PATIENCE_S)


def test_each_request_has_its_command_and_none_is_the_daemons() -> None:
    assert set(COMMANDS) == set(RECORDER_REQUESTS)


def test_a_recorder_of_one_run_says_that_it_ends_with_it(tmp_path: Path) -> None:
    with recording(tmp_path / "scan.h5", idle=False, raw="tcp://127.0.0.1:9") as (_, asking):
        assert asking.status()["one_run"] is True and asking.status()["name"] == "scan.h5"


def test_a_recorder_that_was_started_again_is_another_one_and_knows_which_runs_go_by(tmp_path: Path) -> None:
    with Published() as source:
        with recording(tmp_path, raw=source.address) as (recorder, asking):
            source.wait()
            Camera(source).send(3)
            wait_until(lambda: recorder.sources["raw"].reader.index == 3)
            first = asking.status()
            assert first["begun_ns"] == asking.status()["begun_ns"]
        with recording(tmp_path, raw=source.address) as (_, asking):
            wait_until(lambda: source.publisher.serve() or asking.status()["passed_over"] == 1)  # in mid-run
            assert asking.status()["begun_ns"] > first["begun_ns"]


def test_start_and_stop_at_will_in_the_middle_of_a_run(tmp_path: Path) -> None:
    """Late and early: the file has what came between, and says what it lacks and how many were planned."""
    with Published() as source, recording(tmp_path, raw=source.address) as (recorder, asking):
        source.wait()
        camera = Camera(source)
        camera.send(10)
        wait_until(lambda: recorder.sources["raw"].reader.index == 10)
        idle = asking.status()
        assert idle["state"] == "idle" and idle["name"] is None
        began = asking.start("liver", sample="liver, slice 7", notes="dry\n20 mW")
        assert began == {"path": str(tmp_path / "liver.h5"), "waits": False, "first": 10}
        with pytest.raises(RemoteError, match="recording already: `cars-rt ctl record stop` first"):
            asking.start("other")
        camera.send(20)
        wait_until(lambda: asking.status()["rows"] == {"raw": 20})
        now = asking.status()
        assert (now["state"], now["run"], now["planned"], now["first"]) == ("recording", "run-1", 100, 10)
        assert now["sample"] == "liver, slice 7" and now["bytes"] > 0 and now["disk_free"] > 0
        assert now["one_run"] is False and now["name"] == "liver"
        (file,) = asking.stop()["files"]
        assert file["rows"] == {"raw": 20} and file["planned"] == 100 and not file["complete"]
        with pytest.raises(RemoteError, match="nothing is being recorded"):
            asking.stop()
        camera.send(5)
        wait_until(lambda: recorder.sources["raw"].reader.index == 35)
        assert asking.start("liver")["path"] == str(tmp_path / "liver-2.h5")
        camera.send(5)
        camera.end()
        wait_until(lambda: recorder.runs == 2)
        Camera(source, run="run-2").end()  # until it is stopped, each run gets a file
        wait_until(lambda: recorder.runs == 3)
        assert asking.stop() == {"files": []}
    with h5py.File(tmp_path / "liver.h5") as one, h5py.File(tmp_path / "liver-2.h5") as two:
        assert np.array_equal(one["raw/counts"], camera.counts[10:30])
        assert list(one["raw/index"]) == list(range(10, 30))
        assert one.attrs["reason"] == "stopped" and one.attrs["spectra"] == 100 and not one.attrs["complete"]
        assert one.attrs["sample"] == "liver, slice 7" and one.attrs["notes"] == "dry\n20 mW"
        assert json.loads(one["raw"].attrs["lost"]) == {"unrecorded": 10}
        assert json.loads(one["raw"].attrs["ranges"]) == [["unrecorded", 0, 10]]
        assert one["raw"].attrs["announced"] == 30 and one.attrs["began_at"] == 10
        assert np.array_equal(two["raw/counts"], camera.counts[35:40])
        assert two["raw"].attrs["announced"] == 40 and two["raw"].attrs["reason"] == "complete"
    assert (tmp_path / "liver-3.h5").exists()


def test_open_takes_one_run_and_close_says_what_is_in_the_file(tmp_path: Path) -> None:
    with Published() as source, recording(tmp_path, raw=source.address) as (recorder, asking):
        source.wait()
        assert asking.close_file() == {"path": None}
        path = str(tmp_path / "today" / "map.h5")
        assert asking.open("today/map.h5") == {"path": path}
        assert asking.status()["state"] == "waiting"
        first = Camera(source)
        first.send(100)
        wait_until(lambda: asking.status()["rows"] == {"raw": 100})  # on disk, while it goes on
        first.end()
        wait_until(lambda: asking.status()["state"] == "idle")
        Camera(source, run="run-2").end()
        wait_until(lambda: asking.status()["passed_over"] == 1)
        wait_until(lambda: recorder.sources["raw"].reader.run is None)  # a run that goes on would be taken
        closed = asking.close_file()
        assert closed["path"] == path and closed["complete"] and closed["rows"] == {"raw": 100}
        with pytest.raises(RemoteError, match="exists already"):
            asking.open(path)
        asking.open("other.h5")
        assert asking.close_file() == {"path": None}  # no run came, and the one before is not it
    assert [each.name for each in tmp_path.rglob("*.h5")] == ["map.h5"]


def test_both_streams_end_at_the_same_spectrum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results lag behind the counts: a stop waits for those of the spectra that are in the file."""
    values = spectra_of(40).astype(np.float32)
    with (
        Published() as source,
        Published("raman") as results,
        recording(tmp_path, raw=source.address, raman=results.address) as (recorder, asking),
    ):
        source.wait()
        results.wait()

        def result(first: int, last: int) -> None:
            block = values[first:last]
            results.publisher.send(
                a_frame(first, block, stream="raman", index=first, arrays={"raman": block}), PATIENCE_S
            )

        camera = Camera(source)
        model = {"name": "m", "sha256": "0" * 64}
        results.publisher.open(a_start(stream="raman", dtype="float32", model=model, spectra=100, block=40))
        camera.send(10)
        result(0, 5)
        wait_until(lambda: [each.index for each in recorder._readers.values()] == [10, 5])
        assert asking.start("both")["first"] == 10
        camera.send(20)
        wait_until(lambda: recorder.sources["raw"].reader.index == 30)
        answers: list[Any] = []
        monkeypatch.setattr("cars_rt.files.recorder.recorder.CATCH_UP_S", PATIENCE_S)
        stopping = threading.Thread(target=lambda: answers.append(asking.stop()))
        stopping.start()
        wait_until(lambda: recorder.now is None or recorder.now.limit == 30)
        camera.send(5)
        result(5, 35)
        stopping.join(PATIENCE_S)
        (file,) = answers[0]["files"]
        assert file["rows"] == {"raw": 20, "raman": 20}
        assert file["lost"] == {"raw": {"unrecorded": 10}, "raman": {"unrecorded": 10}}
    with h5py.File(tmp_path / "both.h5") as file:
        assert np.array_equal(file["raman/raman"], values[10:30])
        assert np.array_equal(file["raw/index"], file["raman/index"])


def test_a_request_for_the_other_program_or_without_the_token_does_nothing(tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.token"
    stranger.write_text("x" * 43)
    with recording(tmp_path, raw="tcp://127.0.0.1:9") as (recorder, asking):
        with Remote(asking.address) as wrong, pytest.raises(RemoteError, match="asked of a daemon"):
            wrong.ask("stop")
        assert asking.status()["state"] == "idle" and not recorder._stopping
        with Remote(asking.address, token=stranger) as wrong, pytest.raises(RemoteError) as refused:
            wrong.ask("record-start", name="x")
        assert "this recorder answers only who gives its token" in str(refused.value)
        assert recorder.plan is None


def test_keys_lock_the_recorders_commands_too(tmp_path: Path) -> None:
    for name in ("recorder", "operator", "stranger"):
        keys.create(name, tmp_path)
    access = RecorderAccess(control_key=tmp_path / "recorder.key", control_allow=(tmp_path / "operator.pub",))
    folder = tmp_path / "scans"
    folder.mkdir()
    with recording(folder, raw="tcp://127.0.0.1:9", access=access) as (recorder, without):
        for name, let_in in (("operator", True), ("stranger", False)):
            own = ClientKeys.load(tmp_path / f"{name}.key", tmp_path / "recorder.pub")
            with remote.Recorder(without.address, own) as asking:
                if let_in:
                    assert asking.start("x")["waits"] and asking.stop() == {"files": []}
                else:
                    with pytest.raises(RemoteError):
                        asking.ask("record-start", name="x", timeout_s=0.5)
        assert recorder.plan is None


def test_idle_recorder_makes_its_folder_and_none_above_it(tmp_path: Path) -> None:
    settings = RecordSettings(raman=None, raw="tcp://127.0.0.1:9")
    (tmp_path / "a-file").touch()
    Recorder(tmp_path / "scans", settings, idle=True).close()
    for output, said in (
        (tmp_path / "disk" / "scans", r"make the folder first: mkdir .*scans"),
        (tmp_path / "a-file", "for all runs name another"),
        (tmp_path / "scan.h5", "recordings on command need a folder"),
    ):
        with pytest.raises(RecordingError, match=said):
            Recorder(output, settings, idle=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a-file", "scans"]


@pytest.mark.parametrize(
    "path",
    [
        "../out.h5", "/etc/out.h5", "a/../../out.h5", "out", "out.txt", "..", "", "link/new/out.h5",
        "link/out.h5", "con/out.h5", "a:b/out.h5", ".hidden/out.h5",
        "a\0.h5", "con.h5", ".hidden.h5", "a:b.h5", "x.partial.h5", "a\x1b[31m.h5", "x" * 300 + ".h5",
    ],
)  # fmt: skip
def test_nothing_is_written_but_below_the_folder(path: str, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    (tmp_path / "elsewhere").mkdir()
    if os.name != "nt":  # where links need a privilege
        (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecordingError):
        Recorder(folder, RecordSettings(raman=None, raw="tcp://127.0.0.1:9"), idle=True).open(path)
    with pytest.raises(RecordingError):
        Template(path + "/")
    left = {each for each in tmp_path.rglob("*") if each.name != "link"}
    assert left <= {folder, tmp_path / "elsewhere"}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("{sample}", "say which with --sample"),
        ("{sample.__class__}", "a field that is none"),
        ("{number:999d}", "a field that is none"),
        ("{0}", "a field that is none"),
        ("{date!r}", "a field that is none"),
        ("{", "cannot be read"),
        ("../{date}", "no part of a name"),
        ("x" * 201, "longer than 200 bytes"),
    ],
)
def test_a_name_is_checked_before_anything_begins(name: str, said: str, tmp_path: Path) -> None:
    with recording(tmp_path, raw="tcp://127.0.0.1:9") as (_, asking), pytest.raises(RemoteError, match=said):
        asking.start(name)


def test_names_have_sample_date_run_and_the_next_number(tmp_path: Path) -> None:
    template = "{sample}_{date}_{number:03d}"
    date = "20260102"
    for name in (f"liver-7_{date}_002.h5", f"liver-7_{date}_010.partial.h5", f"other_{date}_050.h5"):
        (tmp_path / name).touch()
    start = 1_767_355_200_000_000_000  # 2026-01-02 12:00 UTC
    with Published() as source, recording(tmp_path, raw=source.address, name=template) as (recorder, asking):
        source.wait()
        asking.start(sample="liver/7")
        for run in ("one", "two"):
            source.run(run, spectra_of(2), time_ns=start)
        wait_until(lambda: recorder.runs == 2)
        names = [Path(each["path"]).name for each in asking.status()["files"]]
    assert names == [f"liver-7_{date}_011.h5", f"liver-7_{date}_012.h5"]


@pytest.mark.parametrize("template", ["{source}", "{source}-{number}", "{run}"])
def test_no_name_of_a_source_or_a_run_ends_the_recording(template: str, tmp_path: Path) -> None:
    hostile = [("CON", "nul"), ("con.h5", "CON"), ("漢" * 1000, "com1"), ("\U00010400" * 500, "../../x")]
    with Published() as source, recording(tmp_path, idle=False, raw=source.address, name=template) as (it, _):
        source.wait()
        for name, run in [*hostile, ("a camera", "legitimate")]:
            source.run(run, spectra_of(2), source=name)
        wait_until(lambda: it.runs == len(hostile) + 1)
        assert not it.trouble and all(each.complete for each in it.recorded)


def parts_of(folder: Path) -> list[Path]:
    return [folder / "map.h5", *sorted(folder.glob("map-part*.h5"), key=lambda path: int(path.stem[8:]))]


def test_parts_of_a_size_hold_every_spectrum_once_and_name_each_other(tmp_path: Path) -> None:
    """Counts and results, the results some spectra behind: each part has the same ones of both."""
    values = spectra_of(3000).astype(np.float32)
    with (
        Published() as source,
        Published("raman") as results,
        recording(tmp_path, raw=source.address, raman=results.address, split_gb=4e-4) as (recorder, asking),
    ):
        source.wait()
        results.wait()
        camera = Camera(source, 3000)
        model = {"name": "m", "sha256": "0" * 64}
        results.publisher.open(a_start(stream="raman", dtype="float32", model=model, block=200, spectra=3000))
        asking.open("map.h5", sample="bead")
        for first in range(0, 3000, 100):
            camera.send(100)
            if first:
                block = values[first - 130 if first > 100 else 0 : first - 30]
                at = first - 30 - len(block)
                results.publisher.send(
                    a_frame(first // 100 - 1, block, stream="raman", index=at, arrays={"raman": block}),
                    PATIENCE_S,
                )
            if first == 1400:  # another model takes over
                results.publisher.say_again("run-1", model | {"name": "n"})
            if first == 1500:
                wait_until(lambda: len(list(tmp_path.glob("map-part*"))) >= 1)
        results.publisher.send(
            a_frame(29, values[2870:], stream="raman", index=2870, arrays={"raman": values[2870:]}), 60
        )
        camera.end()
        results.publisher.end(an_end(30, 3000, stream="raman"))
        assert results.publisher.flush(PATIENCE_S)
        wait_until(lambda: recorder.runs == 1)
        assert recorder.incomplete == 0
        assert [each["part"] for each in asking.status()["files"]] == list(
            range(1, len(parts_of(tmp_path)) + 1)
        )
    paths = parts_of(tmp_path)
    assert len(paths) >= 2 and not list(tmp_path.glob("*.partial*"))
    files = [h5py.File(path) for path in paths]
    assert [files[number]["raman"].attrs["model_name"] for number in (0, -1)] == ["m", "n"]
    for name, whole in (("raw/counts", camera.counts), ("raman/raman", values)):
        assert np.array_equal(np.concatenate([file[name] for file in files]), whole)
    for number, (before, file, after) in enumerate(
        zip([None, *paths], files, [*paths[1:], None], strict=False)
    ):
        assert file.attrs["part"] == number + 1 and file.attrs["sample"] == "bead"
        assert file.attrs.get("previous_part", None) == (before and before.name)
        assert file.attrs.get("next_part", None) == (after and after.name)
        assert np.array_equal(file["raw/index"], file["raman/index"])
        first = int(file["raw/index"][0])
        assert json.loads(file["raw"].attrs["lost"]) == ({"elsewhere": first} if first else {})
    for file in files:
        file.close()


def a_disk(free: Iterator[int]) -> Any:
    """What the system says of a disk whose room shrinks from one look to the next."""
    return lambda _: shutil._ntuple_diskusage(10**12, 0, next(free))


def test_minutes_left_are_said_once_for_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """100 MB/s of a disk with room for 35 minutes."""
    room = 35 * 60 * 100_000_000
    monkeypatch.setattr(shutil, "disk_usage", a_disk(iter(range(room + LOW_BYTES, 0, -100_000_000))))
    disk = Disk(tmp_path)
    said, minutes = [], []
    for second in range(35 * 60 - 1):
        disk.look(second * 100_000_000, second * 100_000_000, float(second))
        if warning := disk.warning():
            said.append(warning)
            minutes.append(disk.minutes_left)
    assert minutes == pytest.approx([30, 10, 3, 1], abs=0.05)
    assert "180 GB left, enough for 30 minutes at 100 MB/s" in said[0] and "enough for 59 s" in said[-1]
    assert disk.full


def test_a_full_disk_ends_a_recording_and_not_the_recorder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is closed with its receipt; a new one is refused before there is room, and begins then."""
    real = shutil.disk_usage
    full = threading.Event()
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: real(path)._replace(free=LOW_BYTES // 2) if full.is_set() else real(path),
    )
    with Published() as source, recording(tmp_path, raw=source.address) as (recorder, asking):
        source.wait()
        asking.start("map")
        camera = Camera(source)
        camera.send(30)
        wait_until(lambda: asking.status()["rows"] == {"raw": 30})
        full.set()
        wait_until(lambda: recorder.trouble)
        now = asking.status()
        assert now["state"] == "idle" and "is full (17 MB left), so the recording ended" in now["trouble"]
        assert "map.h5 has 30 spectra raw" in now["trouble"]
        with pytest.raises(RemoteError, match="has 17 MB left; make room on it"):
            asking.start("map")
        full.clear()
        camera.send(5)
        wait_until(lambda: recorder.sources["raw"].reader.index == 35)
        assert asking.start("map")["first"] == 35
    with h5py.File(tmp_path / "map.h5") as file:
        assert np.array_equal(file["raw/counts"], camera.counts[:30])
        assert file.attrs["reason"] == "stopped" and file["raw"].attrs["announced"] == 30


def test_a_run_that_begins_on_a_full_disk_is_not_recorded(disk_of: Callable[[str], Path]) -> None:
    folder = disk_of("80m")
    with Published() as source, recording(folder, raw=source.address) as (recorder, asking):
        source.wait()
        asking.start("map")
        with (folder / "junk").open("wb") as junk:
            os.posix_fallocate(junk.fileno(), 0, shutil.disk_usage(folder).free - 16_384)
        source.run("run-1", spectra_of(3))
        wait_until(lambda: recorder.trouble)
        now = asking.status()
        assert now["trouble"] == f"the disk of {folder} is full (0 MB left), so run run-1 is not recorded"
        assert now["state"] == "idle" and now["passed_over"] == 1
        assert [each.name for each in folder.iterdir()] == ["junk"]
        (folder / "junk").unlink()
        asking.start("map")
        source.run("run-2", spectra_of(3))
        wait_until(lambda: recorder.runs)
    assert recorder.recorded[0].complete and not recorder.trouble


def test_the_documented_program_drives_a_recorder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = Path(__file__).parents[2].joinpath("docs/operation.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python recorder\n(.+?)```", text, re.DOTALL)
    with Published("raman") as source, recording(tmp_path, raman=source.address) as (_, asking):
        source.wait()

        def measure() -> None:  # fewer than the program waits for
            rows = {"stream": "raman", "arrays": {"raman": np.zeros((1, 160), np.float32)}}
            frames = [a_frame(each, np.zeros((1, 160)), **rows) for each in range(40)]
            source.say(a_start(stream="raman", dtype="float32"), *frames, an_end(40, stream="raman"))

        exec(program, {"ADDRESS": asking.address, "measure": measure, "time": time})
    said = f"{tmp_path / 'monday' / 'bead-3.h5'} {{'raman': 40}} True"
    assert capsys.readouterr().out.strip() == said


@pytest.mark.parametrize("reason", ["interrupted", "stopped", "failed"])
def test_a_stream_that_goes_on_after_its_publisher_had_ended_is_recorded(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon is killed, or stopped, and takes its time to come back, while the driver goes on."""
    monkeypatch.setattr("cars_rt.sockets.subscriber.VANISHED_S", 0.0)
    with recording_both(tmp_path) as (raw, raman, recorder):
        camera = Camera(raw, planned=20)
        camera.send(8)
        results = {"stream": "raman", "dtype": "float32"}
        one = {"stream": "raman", "arrays": {"raman": np.zeros((1, 160), np.float32)}}
        raman.publisher.open(a_start(**results))
        for sequence in range(5):
            raman.publisher.send(a_frame(sequence, np.zeros((1, 160)), **one))
        wait_until(lambda: recorder.sources["raman"].reader.index == 5)
        if reason != "interrupted":
            raman.say(an_end(5, 5, announced=8, lost={"overload": 3}, stream="raman", reason=Reason(reason)))
        raman.publisher.close(0)
        wait_until(lambda: recorder.sources["raman"].reader.run is None)
        with Published("raman", raman.address) as again:
            again.wait()
            wait_until(lambda: recorder.sources["raman"].connected)  # or what is silent has vanished again
            again.say(a_start(sequence=8, index=8, **results))
            camera.send(12)
            for sequence in range(8, 20):
                again.say(a_frame(sequence, np.zeros((1, 160)), **one))
            again.say(an_end(20, 12, announced=20, lost={"missing": 8}, stream="raman"))
            camera.end()
            wait_until(lambda: recorder.runs == 2)
    first, second = sorted(tmp_path.glob("*.h5"), key=lambda path: path.stem)
    with h5py.File(first) as file:
        assert len(file["raw/counts"]) == 20 and list(file["raman/index"]) == [*range(5)]
        assert file["raman"].attrs["reason"] == reason and not file.attrs["complete"]
    with h5py.File(second) as file:
        assert "raw" not in file and list(file["raman/index"]) == [*range(8, 20)]
        assert json.loads(file["raman"].attrs["lost"]) == {"upstream": 8}


def test_a_run_id_that_is_used_again_is_said_and_its_file_waits_for_both_streams(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with recording_both(tmp_path) as (raw, raman, recorder):
        results = {"stream": "raman", "arrays": {"raman": np.zeros((1, 160), np.float32)}}
        for runs in (1, 2):
            raw.say(a_start(), a_frame(0, spectra_of(1)), an_end(1))
            wait_until(lambda: any(each.waiting for each in recorder._open))
            raman.say(a_start(stream="raman", dtype="float32"), a_frame(0, np.zeros((1, 160)), **results))
            raman.say(an_end(1, stream="raman"))
            wait_until(lambda runs=runs: recorder.runs == runs)
            assert caplog.text.count("stream begins run run-1 once more: give each run an id") == 2 * (
                runs - 1
            )
    assert recorder.incomplete == 0 and len(list(tmp_path.glob("*.h5"))) == 2


@pytest.mark.parametrize("stands_still", [False, True])
def test_results_that_keep_coming_are_waited_for(stands_still: bool, tmp_path: Path) -> None:
    """However late they are: patience counts anew from each spectrum on."""
    readers = {"raw": RunReader("raw"), "raman": RunReader("raman")}
    piece = Piece(Claim(tmp_path / "late.h5"), "run-1", set(readers), {})
    for stream, fields in (("raw", {}), ("raman", {"dtype": "float32"})):
        start = a_start(stream=stream, spectra=100, **fields)
        readers[stream].accept(start)
        piece.start(start)
    values = spectra_of(30)

    def takes(number: int, stream: str) -> None:
        main = "counts" if stream == "raw" else "raman"
        block = values[[number]].astype(np.uint16 if stream == "raw" else np.float32)
        frame = a_frame(number, block, stream=stream, arrays={main: block})
        assert readers[stream].accept(frame) == [frame]
        piece.take(frame)

    for number in range(30):
        takes(number, "raw")
    piece.cut(readers, 2.0, now=0.0)
    for number in range(29):
        takes(number, "raman")
        assert not piece.catch_up(readers, now=1.9 * (number + 1))
    if not stands_still:
        takes(29, "raman")
    assert piece.catch_up(readers, now=1.9 * 30 + 0.2)
    piece.close()
    assert piece.recorded.rows == {"raw": 30, "raman": 29 if stands_still else 30}


def test_ctl_record_as_a_user_calls_it(tmp_path: Path) -> None:
    with Published() as source, recording(tmp_path, raw=source.address) as (recorder, asking):
        source.wait()

        def ctl(*arguments: str) -> tuple[int, str]:
            few = {"PYTHONIOENCODING": "ascii"}  # letters, as in a file on Windows
            code, out, said = Command.ran("ctl", "record", *arguments, "--address", asking.address, **few)
            return code, said if code else out

        assert ctl("stop") == (1, "cars-rt: nothing is being recorded\n")
        camera = Camera(source)
        camera.send(3)
        wait_until(lambda: recorder.sources["raw"].reader.index == 3)
        code, said = ctl(
            "start", "{sample}-{number}", "--sample", "bead 1", "--note", "dry", "--note", "20 µW"
        )
        assert code == 0 and f"recording into {tmp_path / 'bead-1-1.h5'}, from spectrum 3 on" in said
        camera.send(5)
        wait_until(lambda: asking.status()["rows"] == {"raw": 5})
        code, said = ctl("status")
        for each in (
            "recording",
            "bead 1",
            "dry; 20 µW",
            "5 raw of 100 planned",
            "GB free",
            "nobody there",
        ):
            assert code == 0 and (each in said) == (each != "nobody there"), said
        code, said = ctl("stop")
        assert code == 0 and "bead-1-1.h5: 5 spectra raw, 100 were planned, incomplete" in said, said


def test_a_second_recorder_goes_on_without_commands_unless_it_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Published() as taken:
        monkeypatch.setattr("cars_rt.files.recorder.commands.RECORDER_ADDRESS", taken.address)
        settings = RecordSettings(raman=None, raw="tcp://127.0.0.1:9", control=taken.address)
        for idle in (False, True):
            recorder = Recorder(tmp_path, settings, idle=idle)
            if idle:
                with pytest.raises(AddressInUseError, match="another program already uses it"):
                    Commands(recorder)
            else:
                with Commands(recorder) as commands:
                    assert commands.control is None
            recorder.close()
    assert "so this recorder takes no commands" in caplog.text
    with pytest.raises(RecordingError, match="waits for commands needs a --control address"):
        Commands(Recorder(tmp_path, replace(settings, control="none"), idle=True))


def test_a_recording_that_cannot_begin_is_said_and_not_half_begun(tmp_path: Path) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    with Published() as source, recording(folder, raw=source.address) as (recorder, asking):
        source.wait()
        camera = Camera(source)
        camera.send(3)
        wait_until(lambda: recorder.sources["raw"].reader.index == 3)
        folder.rmdir()
        with pytest.raises(RemoteError, match=f"cannot write in {folder}: No such file"):
            asking.start("map")
        assert asking.status()["state"] == "idle"
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recording, "start", failing)
            with pytest.raises(RemoteError, match="it cannot be"):
                asking.start("map")
        assert asking.status()["state"] == "idle" and not list(folder.glob("*.partial*"))
        assert asking.start("map")["path"] == str(folder / "map-2.h5")


def failing(*_: object) -> None:
    raise RecordingError("it cannot be")
