"""kill -9 of driver, daemon and recorder, at moments chosen by progress: what is left says what is true.

CHAOS_KILLS=500 CHAOS_SEED=7 python -m pytest tests/chaos/test_kills.py kills more often, and others.
"""

import os
import random
import time
from bisect import bisect
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Command, wait_until

from cars_rt.files.verify import verify
from chaos import programs
from chaos.files import Kept, kept
from chaos.judge import came_out, disagreements
from chaos.wire import Seen, Tap

KILLS = int(os.environ.get("CHAOS_KILLS", "8"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
SPECTRA = 500, 3000, 8000  # of one run after the other: some outlast a restart, some do not
RATE = 2000


@dataclass
class Measurement:
    """Driver, daemon and recorder at work, and two taps that nobody kills."""

    folder: Path
    raw: str
    raman: str
    stack: ExitStack
    killed: list[tuple[int, str]] = field(default_factory=list)  # when it was dead for sure (ns), which

    def __post_init__(self) -> None:
        self.counts = self.stack.enter_context(Tap(self.raw, "raw"))
        self.results = self.stack.enter_context(Tap(self.raman, "raman"))
        (self.folder / "files").mkdir()
        self.programs: dict[str, Command] = {}
        self.cameras = 0
        for name in ("daemon", "recorder", "camera"):
            self.begin(name)

    def begin(self, name: str) -> None:
        match name:
            case "camera":
                program = programs.camera(
                    self.raw, self.folder / "truth.jsonl", runs=100_000, first=self.cameras * 1000,
                    spectra=",".join(map(str, SPECTRA)), rate=RATE, subscribers=3,
                )  # fmt: skip
                self.cameras += 1
            case "daemon":
                program = programs.daemon(self.raw, self.raman, self.folder / "totals.json", subscribers=2)
            case _:
                program = programs.recorder(self.folder / "files", self.raw, self.raman)
        self.programs[name] = self.stack.enter_context(program)

    def kill(self, name: str) -> None:
        program = self.programs[name]
        assert program.process.poll() is None, f"the {name} died by itself:\n{program.said}"
        program.process.kill()
        program.end()
        self.killed.append((time.time_ns(), name))

    def goes_on(self, name: str) -> None:
        """Wait until the program that was started last does its work.

        What the one before had sent may still be on its way: only what was stamped since counts.
        """
        program, since = self.programs[name], self.killed[-1][0]

        def works() -> bool:
            assert program.process.poll() is None, f"the {name} ended:\n{program.said}"
            return "writing" in program.said

        if name == "recorder":
            wait_until(works)
        else:
            tap = self.results if name == "daemon" else self.counts
            stamp = "time_out_ns" if name == "daemon" else "time_ns"
            seen = len(tap.messages)
            tap.until(
                lambda tap: (
                    any(each.kind == "frame" and each.header[stamp] > since for each in tap.messages[seen:])
                    or program.process.poll() is not None
                )
            )
            assert program.process.poll() is None, f"the {name} ended:\n{program.said}"

    def one_in_peace(self) -> None:
        """Let one whole run pass."""
        seen = len(self.counts.messages)

        def begun() -> list[str]:
            return [each.header["run"] for each in self.counts.messages[seen:] if each.kind == "start"]

        self.counts.until(lambda tap: begun())
        self.results.until(lambda tap: tap.of("end", begun()[0]))

    def end(self) -> list[dict[str, Any]]:
        """Ask all of them to end, in the order of the stream; the daemon's totals."""
        self.programs["camera"].process.terminate()
        assert self.programs["camera"].end() == 0, self.programs["camera"].said
        last = programs.truth_of(self.folder / "truth.jsonl")[-1]["run"]
        self.results.until(lambda tap: tap.of("end", last))
        recorder = self.programs["recorder"]
        recorder.process.terminate()
        assert recorder.end() in (0, 3), recorder.said
        return programs.totals_of(self.programs["daemon"], self.folder / "totals.json")


@pytest.mark.timeout(120 + 6 * KILLS)
def test_receipts_are_true_whoever_is_killed(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    raw, raman = programs.addresses(2)
    with ExitStack() as stack:
        measurement = Measurement(tmp_path, raw, raman, stack)
        for _ in range(KILLS):
            target = measurement.counts.spectra + rng.randrange(10, 2000)
            measurement.counts.until(lambda tap, target=target: tap.spectra >= target)
            name = rng.choice(["camera", "daemon", "recorder"])
            measurement.kill(name)
            measurement.begin(name)
            measurement.goes_on(name)
        measurement.one_in_peace()
        totals = measurement.end()
        truth = {each["run"]: each for each in programs.truth_of(tmp_path / "truth.jsonl")}
        results = list(measurement.results.messages)
        killed = measurement.killed
    assert len(killed) == KILLS
    lives = lives_of(results, [at for at, name in killed if name == "daemon"])
    check_daemons(lives, truth, totals, 1 + sum(name == "daemon" for _, name in killed))
    check_files(tmp_path / "files", lives, truth)


Lives = dict[tuple[int, str], list[Seen]]  # number of the daemon's life, run: what it sent


def lives_of(results: list[Seen], deaths: list[int]) -> Lives:
    """Whatever a daemon stamped before it was dead is from that life."""
    lives: Lives = defaultdict(list)
    for seen in results:
        if seen.kind == "start":
            continue
        stamp = seen.header["time_out_ns" if seen.kind == "frame" else "time_ns"]
        lives[bisect(deaths, stamp), seen.run].append(seen)
    return lives


def check_daemons(lives: Lives, truth: dict[str, Any], totals: list[dict[str, Any]], count: int) -> None:
    """Each `end` says what really came out of that daemon; only a killed one owes an `end`."""
    receipts = {each["run"]: each for each in totals}
    for (life, run), messages in lives.items():
        index = came_out(messages)
        assert (np.diff(index) == 1).all(), f"run {run}: not every spectrum once, in order, without a gap"
        ends = [seen.header for seen in messages if seen.kind == "end"]
        if not ends:
            assert life < count - 1, f"the last daemon sent no end of run {run}"
            continue
        end = ends[0]
        assert all(each == end for each in ends), f"run {run}: its end was said again, and otherwise"
        if run in truth:
            announced, reason = truth[run]["yielded"], truth[run]["reason"]
            assert not len(index) or index[-1] == announced - 1, f"run {run}: its last spectra are not there"
        else:  # the driver was killed, and nobody knows of more than what came
            announced, reason = int(index.max(initial=-1)) + 1, "interrupted"
        fate = np.full(announced, "missing", dtype="U16")  # they came before this daemon did
        fate[index] = ""
        assert not disagreements(end, fate), run
        assert end["reason"] == reason
        frames = [seen.header["sequence"] for seen in messages if seen.kind == "frame"]
        assert frames == list(range(end["frames"] - len(frames), end["frames"])), run
        if life == count - 1:
            assert not disagreements(receipts.pop(run), fate), run
    assert not receipts, "the last daemon has receipts of runs that it did not publish"


def check_files(folder: Path, lives: Lives, truth: dict[str, Any]) -> None:
    """Each file holds what it says, and says what it does not hold."""
    complete = 0
    for path in sorted(folder.glob("*.h5")):
        file = kept(path)
        whole = True
        for stream, part in file.parts.items():
            assert part.genuine and (np.diff(part.index) > 0).all(), path
            whole &= part.run in truth and truth[part.run]["reason"] == "complete"
            if part.receipt is None:  # its recorder was killed, and the next one finished the file
                assert not file.complete, path
                whole = False
                continue
            announced = truth[part.run]["yielded"] if part.run in truth else part.receipt["announced"]
            whole &= len(part.index) == announced
            check_part(path, stream, part.index, part.receipt, announced, part.run, lives)
        assert file.complete == (whole and len(file.parts) == 2), path
        assert ".partial" not in path.name or not file.parts, f"{path} was not finished by the next recorder"
        complete += file.complete
        if len(file.parts) == 2:
            check_verify(file)
    assert complete > 0, "not one run was left in peace"
    check_command(folder)


def check_command(folder: Path) -> None:
    """The exit code says it, too."""
    files = [file for file in map(kept, sorted(folder.glob("*.h5"))) if len(file.parts) == 2]
    unended = [file for file in files if any(part.receipt is None for part in file.parts.values())]
    for file, code in (
        (next(each for each in files if each.complete), 0),
        *((each, 3) for each in unended[:1]),
    ):
        with Command("verify", file.path, "--engine", "passthrough") as command:
            assert command.process.stdout is not None
            said = command.process.stdout.read()
            assert command.end() == code, said + command.said
            assert ("the run never ended, so there is no receipt" in said) == (code == 3)


def check_part(
    path: Path, stream: str, index: Any, receipt: dict[str, Any], announced: int, run: str, lives: Lives
) -> None:
    """Rows and losses add up, and the ranges are the rows that are not there."""
    assert receipt["announced"] == announced or receipt["reason"] in ("interrupted", "stopped"), path
    gone = np.ones(receipt["announced"], bool)
    gone[index] = False
    assert sum(receipt["lost"].values()) == gone.sum(), (path, stream, receipt)
    named = np.zeros(len(gone), bool)
    for _, first, count in receipt["ranges"]:
        named[first : first + count] = True
    assert (named == gone).all(), (path, stream, receipt)
    if stream == "raw":
        assert set(receipt["lost"]) <= {"missing"}, (path, receipt)
    elif receipt["reason"] != "stopped":
        last = lives[max(life for life, of in lives if of == run), run]
        if last[-1].kind != "end":
            return  # that daemon was killed, too: what it sent last reached some and not others
        sent = came_out(last)
        assert np.isin(sent[sent >= index.min(initial=announced)], index).all(), (path, "not all that came")


def check_verify(file: Kept) -> None:
    """`cars-rt verify` proves what is complete, and names what is not."""
    findings = verify(file.path, file.path, engine="passthrough")
    untrue = [finding.text for finding in findings if not finding.true]
    if file.complete:
        assert not untrue, file.path
    unended = [stream for stream, part in file.parts.items() if part.receipt is None]
    for stream in unended:
        assert f"{stream}: the run never ended, so there is no receipt" in untrue, (file.path, untrue)
