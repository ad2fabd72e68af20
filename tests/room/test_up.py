"""`cars-rt up` with real processes: two instruments, one of them undisturbed while the other's parts die."""

import os
import re
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chaos.files import Kept, Part, kept
from chaos.programs import addresses
from helpers import Command, summary, vouched_for, wait_until

from cars_rt.files.verify import verify
from cars_rt.printable import typed
from cars_rt.remote import Remote

LAB = """
[view]
A = false
B = {{ http = "{B[3]}", recorder = "none" }}
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
preview = "{B[4]}"
control = "{B[2]}"
http = "{B[5]}"
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

    def runs(self, label: str) -> set[str]:
        """Beginnings of the ids of runs that are, or are being, recorded."""
        return {path.name.replace(".", "-").split("-")[2] for path in self.files(label)}

    def results(self, label: str) -> int:
        """Results in all recordings, also in those that are being written."""
        return sum(vouched_for(each, "raman") for each in self.files(label))

    def more(self, label: str, count: int) -> None:
        """Wait until so many more results are recorded."""
        before = self.results(label)
        self.until(lambda: self.results(label) > before + count)


@contextmanager
def systemd(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Where programs tell systemd how they are, and the lines that they told; it reads all the time."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(folder / "n"))
        told: list[str] = []

        def read() -> None:
            while message := receiver.recv(65_536):
                told.extend(message.decode().splitlines())

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield str(folder / "n"), told
        finally:
            receiver.sendto(b"", str(folder / "n"))
            reader.join()


@pytest.mark.skipif(sys.platform == "win32", reason="signals and sockets of POSIX")
def test_whoever_is_killed_is_back_and_receipts_are_true(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    found = addresses(10)
    a, b = found[:4], found[4:]
    a[3], b[3], b[5] = (each.removeprefix("tcp://") for each in (a[3], b[3], b[5]))
    (tmp_path / "lab.toml").write_text(LAB.format(A=a, B=b), encoding="utf-8")
    with (
        systemd(tmp_path_factory.mktemp("n")) as (path, told),
        Command("up", tmp_path / "lab.toml", NOTIFY_SOCKET=path) as command,
    ):
        room = Up(tmp_path, command)
        room.until(lambda: "READY=1" in told)
        room.more("A", 100)
        room.kill("daemon-A")
        room.more("A", 300)
        room.kill("recorder-A")
        room.more("A", 300)
        room.kill("driver-A")
        room.until(lambda: len(room.runs("A")) == 2)
        room.more("A", 100)
        room.until(lambda: re.search(r"recorder-B \| .*complete", command.said))
        command.process.send_signal(signal.SIGINT)
        assert command.end() == 3, command.said
    assert "STOPPING=1" in told
    said = command.said
    assert "Traceback" not in said and "view-B | the display is at" in said and "driver-B |" in said
    for part in ("daemon-A", "recorder-A", "driver-A"):
        assert said.count(f"the {part} died (exit code -9)") == 1, said
        assert f"{part}: 1 restart, ended with exit code" in said
    assert said.count("restart 1 follows in 0.5 s") == 3
    assert re.search(r"INFO A: run \w+ interrupted: .*; lost: \d+ missing", said)
    assert re.search(
        r"INFO B: run \w+ complete: 600 spectra announced, 600 received, 600 sent; lost: none", said
    )
    assert re.search(rf"A: \d recordings? in {re.escape(str(tmp_path))}/recordings", said)
    check_disturbed(room)
    check_undisturbed(room)


def test_what_waits_at_the_driver_of_a_paused_daemon_is_there_after_the_stop(tmp_path: Path) -> None:
    raw, raman, control, http = addresses(4)
    (tmp_path / "lab.toml").write_text(
        f'''
        view = false
        [driver]
        name = "simulator"
        publish = "{raw}"
        pixels = 700
        scan = "200x200"
        rate = 200
        block = 4
        settle-s = 0
        [daemon]
        engine = "passthrough"
        publish = "{raman}"
        preview = "none"
        control = "{control}"
        http = "{http.removeprefix("tcp://")}"
        ''',
        encoding="utf-8",
    )
    with Command("up", tmp_path / "lab.toml") as command:
        room = Up(tmp_path, command)
        room.more("", 20)
        with Remote(control) as remote:
            remote.ask("pause")
        came = counts(room)
        room.until(lambda: counts(room) > came + 100)
        command.process.send_signal(signal.SIGINT)
        assert command.end() == 0, command.said
    (path,) = room.files("")
    assert f"`cars-rt view {typed(path)}` shows the last one" in command.said  # typed where `up` was
    assert f"their logs are in {tmp_path / 'logs'}" in command.said
    file = kept(path)
    assert not untrue(file, file)
    assert len(file.parts["raman"].index) == len(file.parts["raw"].index) > came + 100


def counts(room: Up) -> int:
    """Spectra that were recorded as they came from the driver."""
    return sum(vouched_for(each, "raw") for each in room.files(""))


def check_disturbed(room: Up) -> None:
    """However long whoever was killed was away: what is there and what is named as gone is everything."""
    receipts = {each["run"]: each for each in map(receipt, (room.folder / "receipts" / "A").glob("*.json"))}
    files = [kept(path) for path in room.files("A")]
    assert not any(".partial" in each.path.name for each in files)
    last = files[-1].parts["raw"].run
    (run,) = {part.run for each in files[:-1] for part in each.parts.values()}
    assert receipts.keys() == {run, last}
    unended = [each for each in files if any(part.receipt is None for part in each.parts.values())]
    assert unended and unended[0] is files[0]
    for file in files:
        for stream, part in file.parts.items():
            if part.receipt is not None:
                whole(part)
            else:  # its recorder was killed, and the next one finished the file
                said = untrue(file if "raw" in file.parts else files[0], file)
                assert f"{stream}: the run never ended, so there is no receipt" in said
    # The daemon that was begun in mid-run says what came before it, and no more.
    about = receipts[run]
    assert about["reason"] == "interrupted" and set(about["lost"]) == {"missing"}
    assert about["announced"] == about["sent"] + about["lost"]["missing"]
    ((cause, begin, gone),) = about["ranges"]
    assert (cause, begin) == ("missing", 0) and gone == about["lost"]["missing"] > 100
    # All that it sent is in a file, but for what the killed recorder had not written; that is named, too.
    results = [each.parts["raman"] for each in files[:-1] if "raman" in each.parts]
    there = np.concatenate([part.index for part in results])
    named = [np.arange(begin, begin + count) for part in results[1:] for _, begin, count in ranges(part)]
    assert np.isin(np.arange(gone, about["announced"]), np.concatenate([there, *named])).all()
    assert len(np.unique(there)) == len(there)
    assert (
        not receipts[last]["lost"]
        and receipts[last]["reason"] == "stopped"
        and not untrue(files[-1], files[-1])
    )


def ranges(part: Part) -> list[Any]:
    """Of spectra that a file says it lacks."""
    return [] if part.receipt is None else list(part.receipt["ranges"])


def check_undisturbed(room: Up) -> None:
    ((path,), (made,)) = room.files("B"), list((room.folder / "receipts" / "B").glob("*.json"))
    file, about = kept(path), receipt(made)
    assert file.complete and not untrue(file, file)
    assert about["announced"] == about["sent"] == 600 and not about["lost"]
    assert len(file.parts["raw"].index) == len(file.parts["raman"].index) == 600


def receipt(path: Path) -> dict[str, Any]:
    content: Any = summary(path)
    return dict(content)


def untrue(counts: Kept, results: Kept) -> list[str]:
    """What `cars-rt verify` does not find as it should be."""
    return [each.text for each in verify(counts.path, results.path, engine="passthrough") if not each.true]


def whole(part: Part) -> None:
    """What is there and what is named as gone is everything, once."""
    assert part.receipt is not None
    gone = np.ones(part.receipt["announced"], bool)
    gone[part.index] = False
    named = np.zeros(len(gone), bool)
    for _, begin, count in part.receipt["ranges"]:
        named[begin : begin + count] = True
    assert (named == gone).all() and sum(part.receipt["lost"].values()) == gone.sum()
