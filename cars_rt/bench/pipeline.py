"""Sender, something in the middle, receiver: processes that are started once and make run after run."""

import json
import queue
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from cars_rt.bench.peers import Order
from cars_rt.errors import CarsRtError
from cars_rt.installation import python
from cars_rt.room.program import APART, LoggedProgram, ProgramError
from cars_rt.sockets.free import free_addresses

START_S = 60.0  # processes and a first run must be there by then, on a slow computer, too
END_S = 60.0  # and a run must be over so long after its last spectrum was sent


class BenchError(CarsRtError, RuntimeError):
    """A measurement that failed or lost something, with the reason in one sentence."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One run, as it came out at the end of a pipeline. Nothing of it was lost."""

    spectra: int
    rate: float  # spectra per second, as received
    latency_ms: list[float]  # from a frame's time stamp to the receiver: median, 99th percentile, largest


class Middle(Protocol):
    """A process that takes the raw stream and publishes the result stream."""

    def check(self) -> None:
        """Raises if it died."""

    def kill(self) -> None:
        """End it at once."""


class Peer:
    """One of cars_rt.bench.peers as a process."""

    def __init__(self, role: str, *addresses: str) -> None:
        self.role = role
        self._answers: queue.Queue[str] = queue.Queue()
        self._process = subprocess.Popen(
            python("-m", "cars_rt.bench.peers", role, *addresses),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            **APART,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)

    def tell(self, order: Order) -> None:
        """Give an order."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()

    def answer(self, timeout_s: float) -> dict[str, Any] | None:
        """The next answer; None if there is none within the timeout."""
        try:
            content: dict[str, Any] = json.loads(self._answers.get(timeout=timeout_s))
        except queue.Empty:
            return None
        return content

    def check(self) -> None:
        """Raises BenchError if it died."""
        if (code := self._process.poll()) is not None:
            raise BenchError(f"the {self.role} process of the measurement died (exit code {code})")

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


#: Starts a process between two addresses: where the raw stream comes from, where results go.
Start = Callable[[str, str], Middle]


def bare_loop(raw: str, raman: str) -> Middle:
    """The loop that everything is compared with."""
    return Peer("bare", raw, raman)


def daemon(name: str, folder: Path, *flags: str) -> Start:
    """`cars-rt run` with these flags; its log is in the folder."""

    def start(raw: str, raman: str) -> Middle:
        preview, control, http = free_addresses(3)
        addresses = [
            "--listen", raw, "--publish", raman, "--preview", preview, "--spectra", "none",
            "--control", control, "--http", http.removeprefix("tcp://"), "--subscribers", "1",
        ]  # fmt: skip
        return LoggedProgram(name, ["run", *addresses, *flags, "--log-level", "warning"], folder)

    return start


class Pipeline:
    """A sender and a receiver around a middle; leave it to end all three."""

    def __init__(self, name: str, start: Start) -> None:
        self.name = name
        self._started: list[Middle] = []
        raw, raman = free_addresses(2)
        try:
            self._started.append(start(raw, raman))
            self._receiver = Peer("receive", raman)
            self._started.append(self._receiver)
            self._sender = Peer("send", raw)
            self._started.append(self._sender)
        except BaseException:
            self.close()
            raise

    def passage(
        self, *, pixels: int, block: int, seconds: float = 0.0, frames: int = 0, rate: float = 0.0
    ) -> Passage:
        """Make one run: frames of them, or for so many seconds. Raises BenchError if anything is lost."""
        run = uuid.uuid4().hex
        self._sender.tell(
            Order(run=run, pixels=pixels, block=block, seconds=seconds, frames=frames, rate=rate)
        )
        sent = self._wait(self._sender, seconds + START_S)
        received = self._wait(self._receiver, END_S)
        complete = received["run"] == run and received["spectra"] == sent["spectra"]
        if not complete or received["wrong"] or received["lost"]:
            lost = ", ".join(f"{count} {cause}" for cause, count in received["lost"].items()) or "none"
            raise BenchError(
                f"{self.name}: {sent['spectra']} spectra were sent in blocks of {block}, "
                f"{received['spectra']} came, {received['wrong']} frames of them wrong; lost by its own "
                f"account: {lost}; a measurement that loses spectra is worth nothing"
            )
        return Passage(received["spectra"], received["rate"], received["latency_ms"])

    def _wait(self, peer: Peer, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if (content := peer.answer(0.2)) is not None:
                return content
            for each in self._started:
                try:
                    each.check()
                except ProgramError as error:
                    raise BenchError(str(error)) from None
        raise BenchError(f"{self.name}: the {peer.role} process said nothing for {timeout_s:.0f} s")

    def close(self) -> None:
        """End all processes."""
        for each in reversed(self._started):
            each.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
