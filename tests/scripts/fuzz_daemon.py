"""Fuzzes the running daemon over a real socket: it stays alive, its memory flat, and counts every message.

python tests/scripts/fuzz_daemon.py [--messages 100000] [--seed N]

What each message is worth is judged in lockstep by a RunReader of the same version: the daemon's receipts
must name as many problems of each kind, run by run. A run is opened again whenever a mutation closed it,
so that every message falls into one.
"""

import argparse
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zmq

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests

from chaos import programs
from chaos.camera import AXIS, spectra
from chaos.judge import came_out, disagreements
from chaos.wire import Tap
from helpers import a_frame, a_start, an_end

from cars_rt.accounting import Problem
from cars_rt.protocol import Closed, RunReader, encode
from scripts.fuzz_protocol import corpus, mutate

GROWTH_MB = 8.0  # after the first tenth of the messages; 100,000 that leaked 100 bytes each would take 10
EVERY = 500  # messages between two looks at the memory

Parts = list[bytes]


@dataclass
class Report:
    """What was seen."""

    messages: int
    seconds: float
    problems: Counter[str]  # by kind, all runs together
    runs: int
    memory_mb: list[float]  # of the daemon, after every EVERY messages
    differences: list[str]  # where the daemon's count is not the judge's

    @property
    def growth_mb(self) -> float:
        """Of the median of the last tenth against that of the second."""
        tenth = max(len(self.memory_mb) // 10, 1)
        return float(np.median(self.memory_mb[-tenth:]) - np.median(self.memory_mb[tenth : 2 * tenth]))


class Oracle:
    """What the daemon must have counted of what was sent to it."""

    def __init__(self) -> None:
        self.reader = RunReader("raw")
        self.receipts: list[tuple[str, int, int, dict[str, int], dict[str, int]]] = []
        self.problems: Counter[str] = Counter()

    def read(self, parts: Parts) -> None:
        for event in self.reader.read(parts):
            if isinstance(event, Problem):
                self.problems[event.kind] += 1
            elif isinstance(event, Closed):
                self.note(event)

    def note(self, closed: Closed) -> None:
        end, ledger = closed.end, closed.ledger
        announced = end.spectra if end.announced is None else end.announced
        self.receipts.append((end.run, announced, ledger.spectra, dict(ledger.problems), dict(ledger.lost)))

    @property
    def open(self) -> bool:
        return self.reader.run is not None


def fuzz(messages: int, seed: int, folder: Path) -> Report:
    """Send mutated messages, then a run in good order; what came of it. AssertionError if the daemon died."""
    rng, oracle = random.Random(seed), Oracle()
    opened = _run("fuzz", 40)
    known = corpus() + opened[1:]
    listen, publish = programs.addresses(2)
    totals = folder / "totals.json"
    context = zmq.Context()
    source = context.socket(zmq.XPUB)
    source.setsockopt(zmq.XPUB_NODROP, 1)
    source.setsockopt(zmq.SNDHWM, 1000)
    source.setsockopt(zmq.SNDTIMEO, 30_000)
    source.setsockopt(zmq.LINGER, 0)
    source.bind(listen)
    memory: list[float] = []

    def send(parts: Parts) -> None:
        source.send_multipart(parts)
        oracle.read(parts)

    try:
        with (
            Tap(publish, "raman") as results,
            programs.daemon(listen, publish, totals, log_level="error") as daemon,
        ):
            assert source.poll(30_000), f"the daemon did not come:\n{daemon.said}"
            process, begin, sent = psutil.Process(daemon.process.pid), time.monotonic(), 0
            while sent < messages:
                if not oracle.open:
                    for good in opened[:4]:
                        send(good)
                parts = mutate(rng, known)
                if not parts or not parts[0].startswith(b"raw."):
                    continue  # the daemon's subscription does not match: ZeroMQ keeps it at the sender
                send(parts)
                sent += 1
                if sent % EVERY == 0:
                    assert daemon.process.poll() is None, f"the daemon died:\n{daemon.said}"
                    memory.append(process.memory_info().rss / 1e6)
            seconds = time.monotonic() - begin
            for parts in _run("good", 400):
                send(parts)
            results.until(lambda tap: tap.of("end", "good"))
            receipts = programs.totals_of(daemon, totals)
    finally:
        source.close()
        context.term()
    assert came_out([each for each in results.messages if each.run == "good"]).tolist() == list(range(400))
    assert not disagreements(receipts[-1], np.zeros(400, "U16"), {})
    for each in receipts:
        assert each["announced"] == each["sent"] + sum(each["lost"].values()), each
        assert each["received"] == each["sent"] + each["lost"].get("engine", 0), each
    said = [
        (each["run"], each["announced"], each["received"], _before(each["problems"]), _before(each["lost"]))
        for each in receipts
    ]
    differences = [
        f"{number}: daemon {one}, judge {two}"
        for number, (one, two) in enumerate(zip(said, oracle.receipts, strict=False))
        if one != two
    ]
    if len(said) != len(oracle.receipts):
        differences.append(f"{len(said)} receipts, the judge has {len(oracle.receipts)}")
    return Report(sent, seconds, oracle.problems, len(said), memory, differences)


def _before(counted: dict[str, int]) -> dict[str, int]:
    """Losses or problems before the engine, which the judge knows; it does not look at clocks."""
    return {name: count for name, count in counted.items() if name not in ("engine", "clock")}


def _plain(message: Any) -> Parts:
    return [bytes(part) for part in encode(message)]


def _run(name: str, count: int) -> list[Parts]:
    """A run in good order that the engine can compute."""
    frames = [
        a_frame(number, spectra(1, 4 * number, 4), name, index=4 * number) for number in range(count // 4)
    ]
    start = a_start(name, axis=AXIS, dtype="uint32", block=4, spectra=count)
    end = an_end(len(frames), count, name, announced=count)
    return [_plain(each) for each in (start, *frames, end)]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None, help="the same seed sends the same messages")
    given = parser.parse_args()
    warnings.simplefilter("error")
    seed = random.randrange(2**32) if given.seed is None else given.seed
    with tempfile.TemporaryDirectory() as folder:
        report = fuzz(given.messages, seed, Path(folder))
    print(
        f"{report.messages} messages in {report.seconds:.0f} s, seed {seed}: {report.runs} runs, "
        f"{report.problems.total()} problems, "
        f"memory {report.memory_mb[0]:.1f} to {report.memory_mb[-1]:.1f} MB"
    )
    for kind, count in report.problems.most_common():
        print(f"{count:12d}  {kind}")
    for difference in report.differences:
        print("DIFFERENT", difference)
    return 1 if report.differences or report.growth_mb > GROWTH_MB else 0


if __name__ == "__main__":
    sys.exit(main())
