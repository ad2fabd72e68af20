"""How fast the path is: the daemon against a bare loop, and against its own engine.

What is compared is measured in turn, round by round, since a computer is never quiet; the ratio of each
round is what counts.
"""

import math
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from cars_rt.bench.peers import axis
from cars_rt.bench.pipeline import BenchError, Passage, Pipeline, bare_loop, daemon
from cars_rt.bench.settings import StreamBenchSettings
from cars_rt.bench.steps import Progress, Steps, load_average
from cars_rt.engines import Engine, compose, load_model, open_engine
from cars_rt.engines.base import hardware, usable_cores
from cars_rt.protocol import MAX_BLOCK, MAX_PIXELS

PASSTHROUGH = "passthrough"
BARE, ALONE = "bare loop", "engine alone"
TARGET_BARE, TARGET_ENGINE = 0.80, 0.95  # of the reference's rate
TARGET_ADDED_MS = (0.5, 2.0)  # median, 99th percentile

WARM_UP_FRAMES = 8
SINGLES = 200  # launches of one spectrum, for the engine's own part of a latency


@dataclass(frozen=True, slots=True)
class Comparison:
    """The daemon's rate and a reference's, measured in turn; spectra per second."""

    engine: str  # of the daemon
    reference: str  # "bare loop", or "engine alone"
    block: int
    target: float  # of the median ratio
    reference_rates: list[float] = field(default_factory=list)
    daemon_rates: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Daemon over reference, round by round."""
        pairs = zip(self.daemon_rates, self.reference_rates, strict=True)
        return [daemon / reference for daemon, reference in pairs]

    @property
    def ratio(self) -> float:
        """The median of the rounds."""
        return median(self.ratios)


@dataclass(frozen=True, slots=True)
class Delay:
    """Latencies from the sender's time stamp to the receiver, one spectrum to a message, ms by round."""

    name: str  # "bare loop", or the daemon's engine
    engine_ms: list[float] = field(default_factory=list)  # the engine alone, one spectrum, median
    p50_ms: list[float] = field(default_factory=list)
    p99_ms: list[float] = field(default_factory=list)
    largest_ms: list[float] = field(default_factory=list)

    @property
    def added_ms(self) -> tuple[float, float]:
        """What the path adds to the engine's own time: median and 99th percentile, medians of the rounds."""
        own = self.engine_ms
        return tuple(  # type: ignore[return-value]
            median([all_ - alone for all_, alone in zip(each, own, strict=True)])
            for each in (self.p50_ms, self.p99_ms)
        )


@dataclass(frozen=True, slots=True)
class StreamReport:
    """What `measure` found. Nothing was lost."""

    hardware: str
    load_before: float | None  # processes that others kept busy; None where the system does not tell
    settings: StreamBenchSettings
    spectra: int  # sent and received, all measurements together
    comparisons: list[Comparison]
    delays: list[Delay]


def measure(
    settings: StreamBenchSettings, progress: Progress = lambda done, total, text: None
) -> StreamReport:
    """Measure all of it; takes about rounds x seconds x (2 x blocks + 5).

    Raises BenchError if a process fails or a spectrum is lost, EngineError or ModelError if the engine
    cannot run here.
    """
    _check(settings)
    load = load_average()
    threads = settings.threads or max(usable_cores() // 2, 1)
    graph = compose(load_model(settings.model), axis(settings.pixels), deviation=False)
    steps = Steps(settings.rounds * (2 * len(settings.blocks) + 5), progress)
    progress(0, 1, "starting processes")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cars-rt-bench-")))
        engines = [
            stack.enter_context(open_engine(name, graph, settings.max_batch, threads))
            for name in (PASSTHROUGH, settings.engine)
        ]
        names = [engine.name for engine in engines]
        daemons = [
            stack.enter_context(
                Pipeline(name, daemon(name, folder, *flags(settings, threads), "--engine", name))
            )
            for name in names
        ]
        loop = stack.enter_context(Pipeline(BARE, bare_loop))
        bench = _Bench(settings, steps)
        comparisons = [bench.against_bare(daemons[0], loop, block) for block in settings.blocks]
        comparisons.append(bench.against_engine(daemons[1], engines[1]))
        delays = bench.latencies(loop, daemons, engines)
    return StreamReport(hardware(), load, settings, bench.spectra, comparisons, delays)


def flags(settings: StreamBenchSettings, threads: int) -> list[str]:
    """Of a daemon that is measured, but for its engine's name and its addresses."""
    given = ["--engine-only", "--model", settings.model]
    given += ["--max-batch", str(settings.max_batch), "--threads", str(threads)]
    return [*given, "--no-realtime"] if settings.no_realtime else given


class _Bench:
    """Measures one thing after the other, and counts spectra."""

    def __init__(self, settings: StreamBenchSettings, steps: Steps) -> None:
        self._settings, self._steps = settings, steps
        self.spectra = 0

    def _passage(self, pipeline: Pipeline, block: int, **order: Any) -> Passage:
        passage = pipeline.passage(pixels=self._settings.pixels, block=block, **order)
        self.spectra += passage.spectra
        return passage

    def _warm_up(self, pipeline: Pipeline, block: int) -> None:
        """Engines are compiled for the axis, memory is there."""
        self._passage(pipeline, block, frames=WARM_UP_FRAMES)

    def against_bare(self, daemon: Pipeline, loop: Pipeline, block: int) -> Comparison:
        found = Comparison(daemon.name, BARE, block, TARGET_BARE)
        for pipeline in (loop, daemon):
            self._warm_up(pipeline, block)
        for number in range(self._settings.rounds):
            for pipeline, rates in ((loop, found.reference_rates), (daemon, found.daemon_rates)):
                self._steps.begin(f"{pipeline.name}, blocks of {block}, round {number + 1}")
                rates.append(self._passage(pipeline, block, seconds=self._settings.seconds).rate)
        return found

    def against_engine(self, daemon: Pipeline, engine: Engine) -> Comparison:
        block = min(self._settings.blocks)
        found = Comparison(daemon.name, ALONE, block, TARGET_ENGINE)
        self._warm_up(daemon, block)
        engine_rate(engine, 0.0)
        for number in range(self._settings.rounds):
            self._steps.begin(f"{engine.name} alone, round {number + 1}")
            found.reference_rates.append(engine_rate(engine, self._settings.seconds))
            self._steps.begin(f"daemon with {engine.name}, round {number + 1}")
            found.daemon_rates.append(self._passage(daemon, block, seconds=self._settings.seconds).rate)
        return found

    def latencies(self, loop: Pipeline, daemons: list[Pipeline], engines: list[Engine]) -> list[Delay]:
        settings = self._settings
        found = []
        for pipeline, engine in ((loop, None), *zip(daemons, engines, strict=True)):
            found.append((pipeline, engine, Delay(pipeline.name)))
            self._warm_up(pipeline, 1)
        for number in range(settings.rounds):
            for pipeline, engine, delay in found:
                self._steps.begin(f"latency of {pipeline.name}, round {number + 1}")
                delay.engine_ms.append(engine_single_ms(engine) if engine else 0.0)
                came = self._passage(pipeline, 1, seconds=settings.seconds, rate=settings.rate).latency_ms
                for percentile, rounds in zip(
                    came, (delay.p50_ms, delay.p99_ms, delay.largest_ms), strict=True
                ):
                    rounds.append(percentile)
        return [delay for _, _, delay in found]


def engine_rate(engine: Engine, seconds: float) -> float:
    """Spectra per second of an engine by itself in full batches, slab after slab as in the daemon."""
    _fill(engine)
    begin, batches = time.perf_counter(), 0
    while batches == 0 or time.perf_counter() - begin < seconds:
        slab = batches % len(engine.inputs)
        engine.launch(slab, engine.max_batch)
        engine.wait(slab)
        batches += 1
    return batches * engine.max_batch / (time.perf_counter() - begin)


def engine_single_ms(engine: Engine) -> float:
    """Time of one spectrum by itself, ms, median."""
    _fill(engine)
    times = []
    for _ in range(SINGLES):
        begin = time.perf_counter()
        engine.launch(0, 1)
        engine.wait(0)
        times.append((time.perf_counter() - begin) * 1e3)
    return median(times)


def _fill(engine: Engine) -> None:
    for slab in engine.inputs:
        slab[:] = 1000 + np.arange(slab.size).reshape(slab.shape) % 20_000


def _check(settings: StreamBenchSettings) -> None:
    blocks = settings.blocks
    if not blocks or min(blocks) < 1 or max(blocks) > MAX_BLOCK:
        raise BenchError(f"--blocks must be from 1 to {MAX_BLOCK} spectra, at least one of them")
    if not 2 <= settings.pixels <= MAX_PIXELS:
        raise BenchError(f"--pixels must be from 2 to {MAX_PIXELS}")
    if settings.rounds < 1 or not (0 < settings.seconds < math.inf and 0 < settings.rate < math.inf):
        raise BenchError("--rounds, --seconds and --rate must be positive and finite")
    if settings.max_batch < 1 or settings.threads < 0:
        raise BenchError("--max-batch must be positive, --threads not negative")
