"""`cars-rt up` with real processes: two instruments, one of them undisturbed while the other's parts die."""

import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from chaos.files import Kept, Part, kept
from chaos.programs import addresses
from helpers import Command, summary, wait_until

from cars_rt.files.verify import verify

LAB = """
view = false
[driver.A]
name = "simulator"
publish = "{A[0]}"
pixels = 700
scan = "200x200"
rate = 400
block = 4
settle-s = 0.5
[daemon.A]
engine = "passthrough"
publish = "{A[1]}"
preview = "none"
control = "{A[2]}"
http = "{A[3]}"
[driver.B]
name = "simulator"
publish = "{B[0]}"
pixels = 700
scan = "20x30"
rate = 200
settle-s = 0.5
seed = 1
[daemon.B]
engine = "passthrough"
publish = "{B[1]}"
preview = "none"
control = "{B[2]}"
http = "none"
"""


class Up:
    """The command at work in a folder."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.folder, self.command = folder, command

    def pid(self, name: str) -> int:
        """Of a part that lives, as its log says."""
        started = self._lives(name)
        assert started, f"{name} never started"
        return started[-1]

    def kill(self, name: str) -> None:
        """kill -9, and wait until it lives again."""
        lives = len(self._lives(name))
        os.kill(self.pid(name), signal.SIGKILL)
        self.until(lambda: len(self._lives(name)) > lives)

    def until(self, condition: Any) -> None:
        wait_until(lambda: condition() or self.command.process.poll() is not None)
        assert condition(), self.command.said

    def _lives(self, name: str) -> list[int]:
        path = self.folder / "logs" / f"{name}.log"
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return [int(pid) for pid in re.findall(r"-- started as process (\d+)", text)]

    def files(self, label: str) -> list[Path]:
        """Recordings of an instrument, in their order."""
        found = (self.folder / "recordings" / label).glob("*.h5")
        return sorted(found, key=lambda path: path.stem.removesuffix(".partial"))

    def rows(self, label: str, number: int) -> int:
        """Results on disk in the recording of this number, while it is written."""
        try:
            path = self.files(label)[number]
            with h5py.File(path, "r", locking=False) as file:
                return int(file["raman/written"][()]) if ".partial" in path.name else 0
        except (IndexError, OSError, KeyError, RuntimeError):
            return 0


@contextmanager
def systemd(folder: Path) -> Iterator[tuple[str, "Told"]]:
    """Where programs tell systemd how they are, and a function for what was said."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(folder / "n"))
        receiver.setblocking(False)
        yield str(folder / "n"), Told(receiver)


class Told(list[str]):
    """What systemd was told so far."""

    def __init__(self, receiver: socket.socket) -> None:
        super().__init__()
        self._receiver = receiver

    def said(self, line: str) -> bool:
        try:
            while True:
                self.extend(self._receiver.recv(65_536).decode().splitlines())
        except BlockingIOError:
            return line in self


@pytest.mark.skipif(sys.platform == "win32", reason="signals and sockets of POSIX")
def test_whoever_is_killed_is_back_and_receipts_are_true(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = [*addresses(8)]
    a, b = found[:4], found[4:]
    a[3] = a[3].removeprefix("tcp://")
    (tmp_path / "lab.toml").write_text(LAB.format(A=a, B=b), encoding="utf-8")
    with (
        systemd(tmp_path_factory.mktemp("n")) as (path, told),
        Command("up", tmp_path / "lab.toml", NOTIFY_SOCKET=path) as command,
    ):
        room = Up(tmp_path, command)
        room.until(lambda: told.said("READY=1"))
        room.until(lambda: room.rows("A", 0) > 100)
        room.kill("daemon-A")
        rows = room.rows("A", 0)
        room.until(lambda: room.rows("A", 0) > rows + 300)
        room.kill("recorder-A")
        room.until(lambda: room.rows("A", 1) > 300)
        room.kill("driver-A")
        room.until(lambda: room.rows("A", 2) > 100)
        room.until(lambda: re.search(r"recorder-B \| .*complete", command.said))
        command.process.send_signal(signal.SIGINT)
        assert command.end() == 3, command.said
        assert told.said("STOPPING=1")
    said = command.said
    assert "Traceback" not in said
    for part in ("daemon-A", "recorder-A", "driver-A"):
        assert said.count(f"the {part} died (exit code -9)") == 1, said
        assert f"{part}: 1 restarts, ended with exit code" in said
    assert said.count("restart 1 follows in 0.5 s") == 3
    assert re.search(r"INFO A: run \w+ interrupted: .*; lost: \d+ missing", said)
    assert re.search(
        r"INFO B: run \w+ complete: 600 spectra announced, 600 received, 600 sent; lost: none", said
    )
    assert f"A: 3 recordings in {Path('recordings', 'A')}" in said
    check_disturbed(room)
    check_undisturbed(room)


def check_disturbed(room: Up) -> None:
    receipts = {each["run"]: each for each in map(receipt, (room.folder / "receipts" / "A").glob("*.json"))}
    first, second, third = files = [kept(path) for path in room.files("A")]
    assert not any(".partial" in each.path.name for each in files)
    run, last = first.parts["raw"].run, third.parts["raw"].run
    assert second.parts["raw"].run == run != last and receipts.keys() == {run, last}
    # The first recorder was killed: no receipt in its file. All others name every spectrum that is gone.
    assert not first.complete and first.parts["raw"].receipt is None
    assert "raw: the run never ended, so there is no receipt" in untrue(first)
    for each in (second, third):
        for part in each.parts.values():
            whole(part)
    # The daemon that was begun in mid-run says what came before it, and no more.
    about = receipts[run]
    assert about["announced"] == about["sent"] + sum(about["lost"].values()) and set(about["lost"]) == {
        "missing"
    }
    ((cause, begin, gone),) = about["ranges"]
    assert (cause, begin) == ("missing", 0) and gone == about["lost"]["missing"] > 100
    assert about["reason"] == "interrupted" and second.parts["raman"].receipt["reason"] == "interrupted"  # type: ignore[index]
    results = first.parts["raman"].index
    assert np.isin(np.arange(gone, results[-1] + 1), results).all(), (
        "all that the second daemon sent is there"
    )
    came = first.parts["raw"].index
    before = np.setdiff1d(came[came <= results[-1]], results)
    assert set(before) <= set(range(gone)), "and what is not, it names"
    assert not receipts[last]["lost"] and receipts[last]["reason"] == "stopped" and not untrue(third)


def check_undisturbed(room: Up) -> None:
    ((path,), (made,)) = room.files("B"), list((room.folder / "receipts" / "B").glob("*.json"))
    file, about = kept(path), receipt(made)
    assert file.complete and not untrue(file)
    assert about["announced"] == about["sent"] == 600 and not about["lost"]
    assert len(file.parts["raw"].index) == len(file.parts["raman"].index) == 600


def receipt(path: Path) -> dict[str, Any]:
    content: Any = summary(path)
    return dict(content)


def untrue(file: Kept) -> list[str]:
    return [each.text for each in verify(file.path, file.path, engine="passthrough") if not each.true]


def whole(part: Part) -> None:
    """What is there and what is named as gone is everything, once."""
    assert part.receipt is not None
    gone = np.ones(part.receipt["announced"], bool)
    gone[part.index] = False
    named = np.zeros(len(gone), bool)
    for _, begin, count in part.receipt["ranges"]:
        named[begin : begin + count] = True
    assert (named == gone).all() and sum(part.receipt["lost"].values()) == gone.sum()
