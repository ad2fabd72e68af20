"""Fuzzes whole conversations with a running daemon: valid messages, in wrong orders and with wrong numbers.

python tests/scripts/fuzz_conversations.py [--messages 100000] [--seed N]

Several peers at once, each over a connection of its own: a driver that starts, repeats, skips, ends and
forgets runs; an owner and a stranger at control; subscribers of both streams that come, go and read nothing.
Every message is one that the protocol allows by itself. The daemon must live and answer, keep its memory,
give receipts that add up, and stop in time; a run in good order at the end loses nothing.
"""

import argparse
import random
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import psutil
import zmq

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests

from chaos import programs
from chaos.camera import AXIS, spectra
from chaos.judge import came_out
from chaos.wire import Tap
from helpers import a_frame, a_start, an_end, wait_until

from cars_rt.protocol import ProtocolError, Reason, encode
from cars_rt.protocol.control import REQUESTS
from cars_rt.trust import tokens

# From the end of the first fifth of the messages to the last: engines for other axes come and go.
GROWTH_MB = 64.0
EVERY = 500  # messages between two looks at the daemon
STOP_S = 5.0
RUNS = [f"run-{number}" for number in range(6)]
NUMBERS = (0, 1, 2, 3, 7, 100, 511, 2**16, 2**31, 2**32, 2**52, 2**53 - 4, 2**53 - 1, 2**53)

Parts = list[bytes]


@dataclass
class Report:
    """What was seen."""

    messages: int
    seconds: float
    runs: int
    asked: int  # requests of the owner, all of which were answered
    refused: int  # of the stranger
    problems: dict[str, int]  # by kind, as the daemon counted
    memory_mb: list[float]
    stop_s: float
    failed: list[str]  # what the daemon itself failed on

    @property
    def growth_mb(self) -> float:
        """Of the median of the last tenth against that of the third."""
        tenth = max(len(self.memory_mb) // 10, 1)
        return float(np.median(self.memory_mb[-tenth:]) - np.median(self.memory_mb[2 * tenth : 3 * tenth]))


class Driver:
    """Says what a driver may say, seldom when it should."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.run, self.sequence, self.index = RUNS[0], 0, 0

    def message(self) -> Parts:
        """The next one."""
        while True:
            with suppress(ProtocolError):  # numbers that contradict each other within one message
                return [bytes(each) for each in encode(self._message())]

    def _message(self) -> Any:
        rng = self.rng
        match rng.choices(("on", "frame", "start", "end"), (70, 15, 8, 7))[0]:
            case "on":  # as it should be
                message = self._frame(self.run, self.sequence, self.index, rng.randint(1, 4))
                self.sequence += 1
                self.index += len(message.block)
                return message
            case "frame":
                return self._frame(rng.choice(RUNS), self._number(), self._number(), rng.randint(1, 8))
            case "start":
                if rng.random() < 0.5:
                    self.run, self.sequence, self.index = rng.choice(RUNS), 0, 0
                return a_start(
                    self.run,
                    axis=AXIS if rng.random() < 0.9 else AXIS[: rng.choice((80, 160))] + rng.choice((0, 3)),
                    dtype="uint32" if rng.random() < 0.9 else "uint16",
                    block=rng.choice((1, 4, 4, 4, 300)),
                    spectra=rng.choice((None, None, 10, 1000, 2**53)),
                    sequence=0 if rng.random() < 0.7 else self._number(),
                    index=0 if rng.random() < 0.7 else self._number(),
                    full_scale=rng.choice((None, 5e-324, 65_535.0, 1e308)),
                    dark=rng.choice((None, np.full(len(AXIS), 100, np.float32))),
                )
            case _:
                true = rng.random() < 0.4
                return an_end(
                    self.sequence if true else self._number(),
                    self.index if true else self._number(),
                    self.run if rng.random() < 0.7 else rng.choice(RUNS),
                    announced=rng.choice((None, self.index, self._number())),
                    reason=rng.choice(list(Reason)),
                    lost={} if true else {"overload": self._number()},
                )

    def _number(self) -> int:
        near = self.rng.choice((self.sequence, self.index)) + self.rng.randint(-3, 5)
        return max(near, 0) if self.rng.random() < 0.6 else self.rng.choice(NUMBERS)

    def _frame(self, run: str, sequence: int, index: int, count: int) -> Any:
        return a_frame(sequence, spectra(1, 0, count), run, index=index)


def request(rng: random.Random, token: str | None) -> bytes:
    """One that exists, with arguments that do; never one that ends the daemon or takes long."""
    do = rng.choice([each for each in REQUESTS if each not in ("stop", "reload", "shadow", "promote")])
    given: dict[str, Any] = {"cars_rt": 1, "request": do}
    if token is not None:
        given["token"] = token
    match do:
        case "dark":
            given["do"] = rng.choice(("start", "stop", "clear", "else"))
        case "bands":
            low = rng.uniform(-1000, 4000)
            given["bands"] = [[f"b{n}", low, low + 10.0] for n in range(rng.choice((0, 1, 3, 32, 33)))]
        case "flight":
            given["reason"] = "x" * rng.choice((0, 1, 1024))
    return bytes(msgpack.packb(given))


def converse(messages: int, seed: int, folder: Path) -> Report:
    """Have so many messages said; what came of it. AssertionError if the daemon did not bear it."""
    rng = random.Random(seed)
    listen, publish, preview, control = programs.addresses(4)
    context = zmq.Context()
    source = context.socket(zmq.XPUB)
    for option, value in ((zmq.XPUB_NODROP, 1), (zmq.SNDHWM, 1000), (zmq.SNDTIMEO, 60_000), (zmq.LINGER, 0)):
        source.setsockopt(option, value)
    source.bind(listen)
    memory: list[float] = []
    with (
        Tap(publish, "raman") as results,
        programs.daemon(
            listen, publish, folder / "totals.json", preview=preview, control=control,
            flight=folder / "flight", log_level="error", stall_s=0.5,
        ) as daemon,
    ):  # fmt: skip
        assert source.poll(60_000), f"the daemon did not come:\n{daemon.said}"
        wait_until(lambda: tokens.find(control))
        process, driver = psutil.Process(daemon.process.pid), Driver(rng)
        owner, stranger = Asking(context, control), Asking(context, control)
        token = tokens.find(control)
        subscribers: list[zmq.Socket[bytes]] = []
        begin = time.monotonic()
        for number in range(messages):
            chance = rng.random()
            if chance < 0.97:
                source.send_multipart(driver.message())
            elif chance < 0.985:
                owner.ask(request(rng, token))
                owner.ask(_asking("resume", token))  # a driver that waits could not say it any more
            elif chance < 0.995:
                stranger.ask(request(rng, rng.choice((None, "", "x" * 43))))
            else:
                _come_and_go(rng, context, subscribers, (publish, preview))
            if number % EVERY == EVERY - 1:
                assert daemon.process.poll() is None, f"the daemon died:\n{daemon.said}"
                memory.append(process.memory_info().rss / 1e6)
        seconds = time.monotonic() - begin
        for each in subscribers:
            each.close(0)
        counts = [spectra(1, first, 4) for first in range(0, 400, 4)]
        good = [a_start("good", axis=AXIS, dtype="uint32", block=4)]
        good += [a_frame(n, each, "good", index=4 * n) for n, each in enumerate(counts)]
        for each in (*good, an_end(100, 400, "good")):
            source.send_multipart([bytes(part) for part in encode(each)])
        results.until(lambda tap: tap.of("end", "good"))
        status = owner.ask(_asking("status", token))["result"]
        stopping = time.monotonic()
        receipts = programs.totals_of(daemon, folder / "totals.json")
        stop_s = time.monotonic() - stopping
        for each in (owner, stranger):
            each.close()
    source.close(0)
    context.term()
    assert came_out([each for each in results.messages if each.run == "good"]).tolist() == list(range(400))
    for each in receipts:
        assert each["announced"] == each["sent"] + sum(each["lost"].values()), each
        here = each["lost"].get("engine", 0) + each["lost"].get("output", 0)
        assert each["received"] == each["sent"] + here, each
        assert "output" not in each["lost"], each  # whatever came in can be sent on
    assert not receipts[-1]["lost"] and receipts[-1]["run"] == "good"
    return Report(
        messages,
        seconds,
        len(receipts),
        owner.asked,
        status["refused"],
        status["problems"],
        memory,
        stop_s,
        [line for line in daemon.said.splitlines() if "left out" in line],
    )


def _asking(do: str, token: str | None) -> bytes:
    return bytes(msgpack.packb({"cars_rt": 1, "request": do, "token": token}))


class Asking:
    """Somebody at control; every request is answered."""

    def __init__(self, context: zmq.Context[Any], address: str) -> None:
        self.asked = 0
        self._socket: zmq.Socket[bytes] = context.socket(zmq.REQ)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.connect(address)

    def ask(self, body: bytes) -> Any:
        self.asked += 1
        self._socket.send(body)
        assert self._socket.poll(60_000), f"no answer to {body[:80]!r}"
        return msgpack.unpackb(self._socket.recv())

    def close(self) -> None:
        self._socket.close()


def _come_and_go(
    rng: random.Random, context: Any, there: list[zmq.Socket[bytes]], addresses: tuple[str, str]
) -> None:
    """A subscriber comes, reads a little, or goes."""
    if len(there) < 4 and rng.random() < 0.5:
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.subscribe(rng.choice((b"", b"raman.", b"preview.", b"raman.end", b"nothing")))
        socket.connect(rng.choice(addresses))
        there.append(socket)
    elif there:
        socket = rng.choice(there)
        with suppress(zmq.Again):
            for _ in range(rng.choice((0, 10, 10_000))):
                socket.recv_multipart(zmq.NOBLOCK)
        if rng.random() < 0.5:
            there.remove(socket)
            socket.close()


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=None, help="the same seed says the same")
    given = parser.parse_args()
    seed = random.randrange(2**32) if given.seed is None else given.seed
    with tempfile.TemporaryDirectory() as folder:
        report = converse(given.messages, seed, Path(folder))
    print(
        f"{report.messages} messages in {report.seconds:.0f} s, seed {seed}: {report.runs} runs, "
        f"{report.asked} requests answered, {report.refused} refused, "
        f"memory {report.memory_mb[0]:.1f} to {report.memory_mb[-1]:.1f} MB, stopped in {report.stop_s:.1f} s"
    )
    print(f"memory grew by {report.growth_mb:.1f} MB after the first fifth")
    for line in report.failed:
        print(line)
    for kind, count in sorted(report.problems.items(), key=lambda item: -item[1]):
        print(f"{count:12d}  {kind}")
    return 1 if report.failed or report.growth_mb > GROWTH_MB or report.stop_s > STOP_S else 0


if __name__ == "__main__":
    sys.exit(main())
