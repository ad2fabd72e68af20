"""What comes from the driver, and the load that it makes."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Kind, Problem
from cars_rt.check.load import Load
from cars_rt.check.report import Line, Verdict
from cars_rt.check.settings import CheckSettings, Progress
from cars_rt.latency import Latencies
from cars_rt.protocol import Closed, Frame, Part, RunReader, Start
from cars_rt.sockets import Subscriber
from cars_rt.sockets.addresses import remedy

RATE = 1000.0  # spectra per second, where nobody says
EXAMPLES = 64  # spectra of the source kept for the engine
STEP_S = 0.1  # how soon the end of a measurement is noticed
SHORT = 0.9  # of the rate that is needed: what comes is less than that by more than chance
EARLY_MS = -1.0  # a time stamp so far in the future is not rounding


@dataclass(slots=True)
class _Seen:
    """What came from the driver."""

    reader: RunReader = field(default_factory=lambda: RunReader("raw"))
    start: Start | None = None
    closed: Closed | None = None
    connected: bool = False
    elsewhere: str | None = None  # which other stream is there instead
    counts: list[NDArray[Any]] = field(default_factory=list)
    kept: int = 0
    spectra: int = 0  # after the first frame
    payload: int = 0  # bytes of them
    first: float = 0.0  # when the first frame came, and the last one
    last: float = 0.0
    ages: Latencies = field(default_factory=Latencies)
    youngest_ms: float = float("inf")

    def take(self, parts: list[Part]) -> None:
        now, now_ns = time.perf_counter(), time.time_ns()
        for event in self.reader.read(parts):
            match event:
                case Start() if self.start is None:
                    self.start = event
                case Closed():
                    self.closed = event
                case Problem(kind=Kind.STREAM, text=text):
                    self.elsewhere = f"{text}; {remedy(self.reader.stream)}"
                case Frame():
                    if self.first:
                        self.spectra += len(event.block)
                        self.payload += event.block.nbytes
                    self.first, self.last = self.first or now, now
                    age_ms = (now_ns - event.time_ns) / 1e6
                    self.ages.add(age_ms)
                    self.youngest_ms = min(self.youngest_ms, age_ms)
                    if self.kept < EXAMPLES:
                        self.counts.append(event.block.copy())
                        self.kept += len(event.block)

    @property
    def seconds(self) -> float:
        return self.last - self.first


def measure_source(settings: CheckSettings, progress: Progress) -> tuple[Line, Load]:
    """Reads the raw stream as fast as it comes, so that a daemon beside it is not held up."""
    seen, begin = _Seen(), time.perf_counter()
    trouble: str | None = None  # why nothing can come of who is there
    with Subscriber(settings.listen, "raw", security=settings.access.client()) as subscriber:
        subscriber.run = lambda: seen.reader.run
        while seen.closed is None and (now := time.perf_counter()) < (seen.first or begin) + settings.seconds:
            if seen.start is None and (trouble := subscriber.trouble or seen.elsewhere):
                break
            if parts := subscriber.receive(STEP_S):
                seen.take(parts)
            else:
                seen.connected |= subscriber.watch()
            progress("source", (now - (seen.first or begin)) / settings.seconds)
        seen.connected |= subscriber.watch()
    measured = seen.spectra / seen.seconds if seen.spectra and seen.seconds > 0 else None
    load = _load(settings, seen, measured)
    if trouble:
        return Line(name="source", verdict=Verdict.FAILS, note=trouble), load
    if measured is None:
        if seen.start is not None:
            note = f"{seen.start.source} is there, but fewer than two messages of spectra came"
        elif seen.connected:
            note = f"a driver is at {settings.listen}, but no run is under way"
        else:
            note = f"no driver at {settings.listen}"
        return Line(name="source", verdict=Verdict.NOT_MEASURED, note=note), load
    problems = (seen.closed.ledger if seen.closed else seen.reader.ledger).problems
    found = {kind: count for kind, count in problems.items() if kind != Kind.JOINED_LATE}
    about = [
        f"{seen.payload / seen.seconds / 1e6:.1f} MB/s",
        f"up to {load.start.block} spectra to a message",
        f"time stamp to here p50 {seen.ages.percentile(50):.1f} ms, p99 {seen.ages.percentile(99):.1f} ms"
        if seen.youngest_ms >= EARLY_MS
        else f"its clock is {-seen.youngest_ms:.0f} ms ahead",
        ", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or "no gap",
    ]
    short = settings.rate is not None and measured < SHORT * settings.rate
    if short:
        about.append("the driver gives less than --rate")
    return Line(
        name="source",
        verdict=Verdict.FAILS if found else Verdict.TOO_SLOW if short else Verdict.OK,
        unit="spectra/s",
        required=settings.rate,
        measured=measured,
        note="; ".join(about),
    ), load


def _load(settings: CheckSettings, seen: _Seen, measured: float | None) -> Load:
    rate = settings.rate or measured or RATE
    if seen.start is not None:
        counts = np.concatenate(seen.counts) if seen.counts else _example(seen.start.raman_shift)
        return Load(rate, seen.start, counts, assumed=measured is None)
    axis = np.linspace(600.0, 3100.0, settings.pixels)
    start = Start(
        stream="raw", run="check", time_ns=time.time_ns(), source="check", raman_shift=axis, dtype="uint16",
        block=settings.block,
    )  # fmt: skip
    return Load(rate, start, _example(axis), assumed=True)


def _example(axis: NDArray[np.float64]) -> NDArray[np.uint16]:
    """Counts (1, p) of one line on a falling background."""
    along = (axis - axis.min()) / np.ptp(axis)
    counts = 20_000 * np.exp(-2 * along) * np.abs(1 + 0.01 / (0.5 - along - 0.005j)) ** 2
    return np.asarray(counts[None], np.uint16)
