"""`cars-rt check`: real drivers, sockets, files; what it says of them, and its exit code."""

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers import (
    AXIS,
    PATIENCE_S,
    Command,
    Published,
    a_frame,
    a_line,
    a_start,
    an_end,
    spectra_of,
    wait_until,
)

from cars_rt.check import CheckError, CheckSettings, Line, Report, Verdict, check
from cars_rt.check.load import Load
from cars_rt.check.processor import judge_processor
from cars_rt.check.report import compared, report_of
from cars_rt.check.source import measure_source
from cars_rt.cli import check as cli_check
from cars_rt.engines import ENGINES, EngineError, ModelError
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.engines.passthrough import Passthrough
from cars_rt.protocol import StreamName
from cars_rt.sockets.addresses import AddressError
from cars_rt.sockets.free import free_addresses
from cars_rt.stops import STOPS
from cars_rt.trust import keys
from cars_rt.trust.curve import ServerKeys
from cars_rt.trust.flags import ClientAccess

BRIEF: dict[str, Any] = {"seconds": 0.3, "engine": "passthrough"}


def line(report: Report, name: str) -> Line:
    (found,) = [line for line in report.lines if line.name == name]
    return found


def nobody() -> str:
    return free_addresses(1)[0]


class Sending:
    """A driver in a thread: sends spectra at a rate until it is told to stop."""

    def __init__(
        self,
        source: Published,
        rate: float = 400,
        block: int = 4,
        leave_out: Collection[int] = (),
        ahead_ns: int = 0,
        **fields: Any,
    ) -> None:
        self.source, self.rate, self.block, self.fields = source, rate, block, fields
        self.leave_out, self.ahead_ns = leave_out, ahead_ns
        self.frames = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        self.source.wait()
        counts = spectra_of(self.block)
        self.source.publisher.open(a_start(block=self.block, **self.fields))
        begin = time.perf_counter()
        while not self._stop.wait(max(begin + self.frames * self.block / self.rate - time.perf_counter(), 0)):
            if self.frames not in self.leave_out:
                frame = a_frame(self.frames, counts, time_ns=time.time_ns() + self.ahead_ns)
                self.source.publisher.serve()
                self.source.publisher.send(frame, PATIENCE_S)
            self.frames += 1

    def __enter__(self) -> "Sending":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_S)


def test_driver_at_a_known_rate_is_measured(tmp_path: Path) -> None:
    """A real driver, the real network, the command as a user runs it."""
    (raw,) = free_addresses(1)
    np.savez(tmp_path / "in.npz", spectra=spectra_of(64), raman_shift=AXIS)
    with Command(
        "drive", "replay", tmp_path / "in.npz", "--rate", 400, "--block", 4, "--loops", 0, "--publish", raw
    ) as driver:
        driver.wait_for("publishing at")
        flags = ("--seconds", 1, "--output", tmp_path, "--json", tmp_path / "found.json")
        code, out, _ = Command.ran("check", "--listen", raw, *flags)
    found = json.loads((tmp_path / "found.json").read_text())
    by_name = {each["name"]: each for each in found["lines"]}
    assert list(by_name) == ["source", "engine", "network", "disk", "memory", "processor"]
    assert by_name["source"]["measured"] == found["rate"] and 100 < found["rate"] < 1600
    assert found["pixels"] == len(AXIS) and not found["assumed"]
    assert "up to 4 spectra to a message" in by_name["source"]["note"]
    assert "4 at once" in by_name["engine"]["note"] and "256 at once" in by_name["engine"]["note"]
    assert by_name["engine"]["head_room"] == pytest.approx(by_name["engine"]["measured"] / found["rate"])
    assert code == (0 if found["ready"] else 3)
    assert out.strip().splitlines()[-1] == found["summary"] and found["summary"].split()[0] in (
        "READY:",
        "TIGHT:",
        "NOT",
    )
    assert {path.name for path in tmp_path.iterdir()} == {"in.npz", "found.json"}


TERMINATED = """
import signal
from cars_rt.cli import main
from cars_rt.files.recording import Recording
Recording.flush = lambda self: signal.raise_signal(signal.SIGTERM)
main()
"""


def test_check_that_is_terminated_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    program = [sys.executable, "-c", TERMINATED, "check", "--listen", nobody(), "--output", tmp_path]
    done = subprocess.run(
        [*map(str, program), "--engine", "passthrough", "--seconds", "0.3"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 130 and "Traceback" not in done.stderr, done.stderr
    assert not list(tmp_path.iterdir())


def test_impossible_rate_is_too_slow_and_exit_code_three(tmp_path: Path) -> None:
    flags = ("--rate", "1e7", "--seconds", 0.3, "--output", tmp_path)
    code, out, said = Command.ran("check", "--listen", nobody(), *flags)
    assert code == 3
    last = out.strip().splitlines()[-1]
    assert last.startswith("NOT READY for 10,000,000 spectra/s of 1340 pixels (assumed")
    assert "engine too slow" in last and "network too slow" in last and "memory too slow" in last
    assert not list(tmp_path.iterdir()) and "Traceback" not in said


def test_without_a_driver_it_says_so_and_assumes(tmp_path: Path) -> None:
    report = check(
        CheckSettings(listen=nobody(), output=tmp_path, pixels=500, block=8, rate=7, max_batch=16, **BRIEF)
    )
    assert line(report, "source").verdict is Verdict.NOT_MEASURED
    assert line(report, "source").note.startswith("no driver at tcp://")
    assert report.assumed and report.rate == 7 and report.pixels == 500
    assert report.verdict is Verdict.OK and report.ready
    assert report.summary.startswith("READY: 7 spectra/s of 500 pixels (assumed")
    assert "8 at once" in line(report, "engine").note and "16 at once" in line(report, "engine").note
    assert all(each.head_room and each.head_room > 1 for each in report.lines if each.name != "source")


def test_driver_without_a_run_is_told_from_no_driver(tmp_path: Path) -> None:
    with Published() as source:
        report = check(CheckSettings(listen=source.address, output=tmp_path, **BRIEF))
    assert "no run is under way" in line(report, "source").note and report.assumed


@pytest.mark.parametrize(
    ("stream", "own", "said"),
    [
        ("raw", "alice", "no gap"),
        ("raw", None, "expects keys"),
        ("raw", "mallory", "refused our key mallory|breaks off the handshake"),  # whichever comes first
        ("raman", None, "the raman stream is published there, not the raw stream; the raw stream is at"),
    ],
)
def test_driver_with_keys_and_another_stream_are_told_from_no_driver(
    stream: StreamName, own: str | None, said: str, tmp_path: Path
) -> None:
    for name in ("driver", "alice", "mallory"):
        keys.create(name, tmp_path)
    access, security = ClientAccess(), None
    if own is not None:
        access = ClientAccess(key=tmp_path / f"{own}.key", server_key=tmp_path / "driver.pub")
    if stream == "raw":
        security = ServerKeys.load(tmp_path / "driver.key", [tmp_path / "alice.pub"])
    with Published(stream, security=security) as source, ThreadPoolExecutor(1) as pool:
        settings = CheckSettings(listen=source.address, seconds=PATIENCE_S, access=access)
        measuring = pool.submit(measure_source, settings, lambda part, done: None)
        if own == "alice":
            source.wait()
            source.run("run-1", spectra_of(50))
        while not measuring.done():
            source.publisher.serve()
            time.sleep(0.01)
    found, _ = measuring.result()
    assert found.verdict is (Verdict.OK if own == "alice" else Verdict.FAILS)
    assert re.search(said, found.note)


@pytest.mark.parametrize(
    ("sent", "verdict", "said"),
    [
        ({}, Verdict.OK, "no gap"),
        ({"leave_out": (5, 7, 8)}, Verdict.FAILS, "2 sequence jump|2 source skip"),
        ({"ahead_ns": 5_000_000_000}, Verdict.OK, "its clock is (49..|5000) ms ahead"),
        ({"ahead_ns": -9_000_000_000}, Verdict.OK, "time stamp to here p50 9"),
    ],
)
def test_source_alone(sent: dict[str, Any], verdict: Verdict, said: str) -> None:
    with Published() as source, Sending(source, **sent):
        settings = CheckSettings(listen=source.address, seconds=1)
        found, load = measure_source(settings, lambda part, done: None)
    assert found.verdict is verdict and re.search(said, found.note)
    assert load.rate == found.measured and len(load.counts) >= 64 and not load.assumed


@pytest.mark.parametrize(
    ("rate", "verdict"), [(None, Verdict.OK), (1.0, Verdict.OK), (1e9, Verdict.TOO_SLOW)]
)
def test_run_that_ends_while_it_is_measured_is_enough(rate: float | None, verdict: Verdict) -> None:
    with Published() as source:
        settings = CheckSettings(listen=source.address, seconds=PATIENCE_S, rate=rate)

        def run() -> None:
            source.wait()
            source.say(a_start(), *(a_frame(n, spectra_of(1)) for n in range(50)), an_end(50))

        thread = threading.Thread(target=run)
        thread.start()
        found, load = measure_source(settings, lambda part, done: None)
        thread.join(PATIENCE_S)
    assert found.verdict is verdict and found.measured and len(load.counts) == 50
    assert ("the driver gives less than --rate" in found.note) is (verdict is Verdict.TOO_SLOW)


def test_daemon_beside_it_loses_nothing(tmp_path: Path) -> None:
    with a_line() as (source, daemon, results):
        with Sending(source, rate=200, scan=(10, 10)) as sending:
            wait_until(lambda: daemon.parts.runs.taken.spectra > 0)
            report = check(CheckSettings(listen=source.address, output=tmp_path, **BRIEF | {"seconds": 1}))
        source.publisher.end(an_end(sending.frames, sending.frames * 4))
        results.ends()
    end = results.closed[0].end
    assert line(report, "source").verdict is Verdict.OK  # it joined late, which is no loss
    assert results.spectra == end.spectra == end.announced == sending.frames * 4 and not end.lost


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can write")
def test_output_that_cannot_be_written_fails_the_disk_and_measures_the_rest() -> None:
    report = check(CheckSettings(listen=nobody(), output=Path("/proc/self"), rate=1, **BRIEF))
    disk = line(report, "disk")
    assert disk.verdict is Verdict.FAILS and not report.ready
    assert report.summary.endswith(": disk fails")
    assert line(report, "engine").verdict is Verdict.OK
    assert line(report, "processor").verdict is Verdict.NOT_MEASURED


def test_folder_that_is_not_there_is_an_error_and_no_other_disk_is_measured(tmp_path: Path) -> None:
    (tmp_path / "a-file").touch()
    for name, reason in (
        ("not-mounted", "does not exist; make it, mount"),
        ("a-file", "is no folder; make it"),
    ):
        with pytest.raises(CheckError, match=f"^--output: .*{name} {reason}"):
            check(CheckSettings(listen=nobody(), output=tmp_path / name, rate=1, **BRIEF))
    assert [each.name for each in tmp_path.iterdir()] == ["a-file"]


def test_run_that_does_not_fit_on_the_disk_fails(tmp_path: Path) -> None:
    with Published() as source, Sending(source, spectra=2**50):
        report = check(CheckSettings(listen=source.address, output=tmp_path, **BRIEF))
    assert line(report, "disk").verdict is Verdict.FAILS and "the run needs" in line(report, "disk").note


@pytest.mark.skipif(not shutil.which("false"), reason="needs a program that fails")
def test_network_that_cannot_be_measured_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    report = check(CheckSettings(listen=nobody(), output=tmp_path, rate=1, **BRIEF))
    assert "the other process ended" in line(report, "network").note
    assert report.summary.endswith(": network fails")


class NotHere(OnnxRuntime):
    """An engine that needs something which is not there."""

    name: ClassVar[str] = "not-here"

    @classmethod
    def unavailable(cls) -> str | None:
        return "there is no such device; buy one"


class Nan(OnnxRuntime):
    """An engine that is right on a small batch and wrong on a full one."""

    name: ClassVar[str] = "nan"

    def launch(self, slab: int, rows: int) -> None:
        super().launch(slab, rows)
        if rows == self.max_batch:
            self.outputs[slab][rows - 1] = np.nan


class Slower(OnnxRuntime):
    """An engine that does not like large batches."""

    name: ClassVar[str] = "slower"

    def wait(self, slab: int) -> None:
        time.sleep(0.001 * Slower.rows)

    def launch(self, slab: int, rows: int) -> None:
        Slower.rows = rows**2


def test_engine_is_judged_by_its_largest_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a pause the daemon computes in those, and has to catch up with them."""
    monkeypatch.setitem(ENGINES, "slower", (__name__, "Slower"))
    monkeypatch.setattr("cars_rt.engines.choice.check", lambda engine: None)
    settings = CheckSettings(
        listen=nobody(), output=tmp_path, rate=1, max_batch=16, **BRIEF | {"engine": "slower"}
    )
    found = line(check(settings), "engine")
    assert found.measured is not None and found.measured < 1000 / 16
    assert "--max-batch 1 would be faster" in found.note


class Swallowing(Passthrough):
    """An engine whose library is interrupted while it is loaded, and goes on."""

    name: ClassVar[str] = "swallowing"

    def __init__(self, *args: Any, **more: Any) -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        super().__init__(*args, **more)


def test_ctrl_c_that_a_library_swallows_ends_it_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, "swallowing", (__name__, "Swallowing"))
    settings = CheckSettings(listen=nobody(), output=tmp_path, rate=1, **BRIEF | {"engine": "swallowing"})
    # As a program begins: an earlier test may have left others.
    before = {number: signal.signal(number, signal.default_int_handler) for number in STOPS}
    try:
        with pytest.raises(KeyboardInterrupt):
            cli_check.check(settings=settings)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(("cls", "reason"), [(NotHere, "buy one"), (Nan, "not finite")])
def test_engine_that_cannot_run_fails(
    cls: type[OnnxRuntime], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENGINES, cls.name, (__name__, cls.__name__))
    settings = CheckSettings(listen=nobody(), output=tmp_path, rate=1, **BRIEF | {"engine": cls.name})
    report = check(settings)
    assert line(report, "engine").verdict is Verdict.FAILS and reason in line(report, "engine").note
    assert report.summary.endswith(": engine fails")


def test_axis_that_the_model_cannot_do_fails_the_engine(tmp_path: Path) -> None:
    short = np.linspace(1000, 1100, len(AXIS))
    with Published() as source, Sending(source, axis=short):
        report = check(CheckSettings(listen=source.address, output=tmp_path, **BRIEF))
    assert "spans 100 cm-1" in line(report, "engine").note and not report.ready


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ({"rate": 0}, CheckError, "--rate must be"),
        ({"rate": float("nan")}, CheckError, "--rate must be"),
        ({"seconds": 0}, CheckError, "--seconds must be"),
        ({"pixels": 1}, CheckError, "--pixels must be"),
        ({"block": 5000}, CheckError, "--block from"),
        ({"max_batch": 0}, CheckError, "--max-batch"),
        ({"max_batch": 10**12}, CheckError, "--max-batch must be from 1 to 4096"),
        ({"buffer_mb": float("inf")}, CheckError, "--buffer-mb must be"),
        ({"model": "nonsense"}, ModelError, "no model is called"),
        ({"engine": "nonsense"}, EngineError, "no engine is called"),
        ({"listen": "nowhere"}, AddressError, "HOST:PORT"),
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, Any], error: type[Exception], reason: str) -> None:
    with pytest.raises(error, match=reason):
        check(CheckSettings(**BRIEF | {"listen": nobody()} | wrong))


def test_command_refuses_in_one_line() -> None:
    with Command("check", "--rate", "-1") as checking:
        assert checking.end() == 1
    assert checking.said.strip() == "cars-rt: --rate must be a number above 0"


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(99, Verdict.TOO_SLOW), (100, Verdict.TIGHT), (149, Verdict.TIGHT), (150, Verdict.OK)],
)
def test_verdict_follows_from_the_head_room(measured: float, verdict: Verdict) -> None:
    found = compared("engine", 100, measured, "spectra/s", "")
    assert found.verdict is verdict and found.head_room == measured / 100


def test_worst_line_decides_and_tight_can_go_ahead() -> None:
    load = Load(100, a_start(), spectra_of(1), assumed=False)

    def judged(source: Verdict = Verdict.OK, **measured: float) -> Report:
        lines = [compared(name, 100, value, "", "") for name, value in measured.items()]
        return report_of(load, [Line(name="source", verdict=source), *lines])

    assert (
        judged(engine=200, disk=900).summary == "READY: 100 spectra/s of 160 pixels, head-room 2.0x (engine)"
    )
    tight = judged(engine=200, disk=110)
    assert tight.ready and tight.summary == "TIGHT: 100 spectra/s of 160 pixels, head-room 1.1x (disk)"
    assert judged(Verdict.NOT_MEASURED, engine=200).ready
    slow = judged(Verdict.TOO_SLOW, engine=200)
    assert not slow.ready and slow.summary.endswith(": source too slow")
    slow = judged(engine=50, disk=110)
    assert not slow.ready and slow.summary == "NOT READY for 100 spectra/s of 160 pixels: engine too slow"


def test_busy_computer_is_named() -> None:
    load = Load(100, a_start(), spectra_of(1), assumed=False)
    costs = dict.fromkeys(("engine", "send raw", "receive raw", "record"), 1e-06)
    assert "other programs want" not in judge_processor(load, costs, 0.5).note
    found = judge_processor(load, costs, 5000)
    assert "other programs want 5000.0 cores" in found.note
    assert found.required == pytest.approx(100 * 5e-6)  # the daemon and the recorder both receive counts


def test_notes_can_be_read_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "other programs want 5.3 cores, which spoils every number here"
    line = Line(name="processor", verdict=Verdict.TIGHT, note=note)
    report = Report(
        verdict=Verdict.TIGHT, summary="TIGHT", rate=1e3, pixels=1340, assumed=False, lines=[line]
    )
    for columns in (80, 160):
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        cli_check._print(report)
        assert note in capsys.readouterr().out
