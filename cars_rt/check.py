"""`cars-rt check`: before an experiment, what each part of the way can do, against what the source demands.

The parts are measured one after the other, each alone; the line `processor` adds up what they cost together.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines import (
    AUTO,
    DEFAULT_MODEL,
    Engine,
    EngineError,
    Model,
    ModelError,
    compose,
    engine_class,
    load_model,
    open_engine,
)
from cars_rt.engines.base import usable_cores
from cars_rt.errors import CarsRtError
from cars_rt.latency import Latencies
from cars_rt.physics.axis import AxisError
from cars_rt.protocol import (
    MAX_BLOCK,
    MAX_PIXELS,
    Closed,
    End,
    Frame,
    Part,
    Reason,
    RunReader,
    Start,
    StreamName,
)
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.recording import Recording, partial_path
from cars_rt.stream import BUFFER_MB, RAW_ADDRESS, Publisher, StreamError, Subscriber, message_bytes

ENOUGH = 1.5  # head-room below which it is tight: programs share the computer, and cameras come in bursts
RATE = 1000.0  # spectra per second, where nobody says
BATCHES = (1, 16, 128)  # greedy batching: one spectrum at low rates, what has come meanwhile under load
EXAMPLES = 64  # spectra of the source kept for the engine
FASTER = 1.1  # a smaller batch that is so much faster is worth a word
STEP_S = 0.1  # how soon the end of a measurement is noticed
CHILD_S = 30.0  # how long the other process of the network's measurement may need to begin
FLUSH_S = 1.0  # as the recorder
DISK_BYTES = 2e9  # written at most, and no more than
DISK_SHARE = 0.25  # this share of what is free
PAUSE_S = 1.0  # a pause that the buffers must bridge, at least
EARLY_MS = -1.0  # a time stamp so far in the future is not rounding

Progress = Callable[[str, float], None]  # the part that is measured, and how much of it is done


class CheckError(CarsRtError, ValueError):
    """Settings that cannot be checked, with the reason in one sentence."""


@dataclass(frozen=True, kw_only=True)
class CheckSettings:
    """Settings of `cars-rt check`."""

    listen: str = RAW_ADDRESS
    """Address of the driver's raw stream. A driver that waits for a subscriber begins when check comes."""

    rate: float | None = None
    """Spectra per second that are needed; without it what the driver sends, or 1000 if there is none."""

    pixels: int = 1340
    """Pixels of a spectrum, if there is no driver."""

    block: int = 1
    """Spectra to a message, if there is no driver."""

    model: str = DEFAULT_MODEL
    """Name of a shipped model, or the path of an .onnx file."""

    engine: str = AUTO
    """What runs the model; auto takes the fastest that works here."""

    max_batch: int = 128
    """Most spectra computed at once, as in `cars-rt run`."""

    threads: int = 0
    """Threads of the engine on the CPU, as in `cars-rt run`."""

    buffer_mb: float = BUFFER_MB
    """Memory of each buffer, as in `cars-rt run` and `cars-rt drive`."""

    output: Path = Path()
    """Folder in which recordings will be written; up to 2 GB are written there and removed."""

    seconds: float = 5.0
    """Measure each part for so long."""


class Verdict(StrEnum):
    """What a line comes to, the worst last."""

    OK = "ok"
    NOT_MEASURED = "not measured"
    TIGHT = "tight"
    TOO_SLOW = "too slow"
    FAILS = "fails"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One part of the way."""

    name: str
    verdict: Verdict
    unit: str = ""
    required: float | None = None
    measured: float | None = None
    head_room: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What was found."""

    verdict: Verdict
    summary: str
    rate: float  # spectra per second, required
    pixels: int
    assumed: bool  # there was no driver to measure
    lines: list[Line]

    @property
    def ready(self) -> bool:
        """Whether the experiment can go ahead."""
        return self.verdict in (Verdict.OK, Verdict.TIGHT)


@dataclass(frozen=True, eq=False, slots=True)
class Load:
    """What the experiment demands."""

    rate: float  # spectra per second
    start: Start
    counts: NDArray[Any]  # (n, p), examples
    assumed: bool

    def start_of(self, stream: StreamName) -> Start:
        """The start of a run of such spectra."""
        dtype = self.start.dtype if stream == "raw" else "float32"
        return replace(
            self.start, stream=stream, dtype=dtype, run=uuid.uuid4().hex, sequence=0, index=0, spectra=None
        )

    @property
    def recorded_bytes(self) -> int:
        """Of one spectrum in a recording of both streams: counts, raman, and what is noted with them."""
        return (
            self.start.spectrum_bytes + 4 * self.start.pixels + 3 * 8 + 5 * 8 + (16 if self.start.scan else 0)
        )


@dataclass(slots=True)
class Costs:
    """Processor time of one spectrum, seconds on one core, by what it is spent on."""

    by_part: dict[str, float] = field(default_factory=dict)


def check(settings: CheckSettings, progress: Progress = lambda part, done: None) -> Report:
    """Measure everything; takes about five times `settings.seconds`.

    Raises CheckError, StreamError, ModelError or EngineError if a setting is impossible. What does not
    work here and now is a line of the report.
    """
    _refuse(settings)
    model = load_model(settings.model)
    if settings.engine != AUTO:
        engine_class(settings.engine)
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # before we add to it
    source, load = _source(settings, progress)
    costs = Costs()
    disk, pause_s = _disk(settings, load, costs, progress)
    lines = [
        source,
        _engine(settings, model, load, costs, progress),
        _network(settings, load, costs, progress),
        disk,
        _memory(settings, load, pause_s),
        _processor(load, costs, busy),
    ]
    return _report(load, lines)


def _refuse(settings: CheckSettings) -> None:
    if settings.rate is not None and not 0 < settings.rate < float("inf"):
        raise CheckError("--rate must be a number above 0")
    if not 0 < settings.seconds <= 600:
        raise CheckError("--seconds must be above 0, and not above 600")
    if not 2 <= settings.pixels <= MAX_PIXELS or not 1 <= settings.block <= MAX_BLOCK:
        raise CheckError(f"--pixels must be from 2 to {MAX_PIXELS}, --block from 1 to {MAX_BLOCK}")
    if settings.max_batch < 1 or settings.threads < 0 or settings.buffer_mb <= 0:
        raise CheckError("--max-batch and --buffer-mb must be above 0, --threads cannot be negative")


def _compared(name: str, required: float, measured: float, unit: str, note: str) -> Line:
    head_room = measured / required
    verdict = Verdict.OK if head_room >= ENOUGH else Verdict.TIGHT if head_room >= 1 else Verdict.TOO_SLOW
    return Line(
        name=name,
        verdict=verdict,
        unit=unit,
        required=required,
        measured=measured,
        head_room=head_room,
        note=note,
    )


def _report(load: Load, lines: list[Line]) -> Report:
    order = list(Verdict)
    verdict = max((line.verdict for line in lines if line.name != "source"), key=order.index)
    if lines[0].verdict is Verdict.FAILS:
        verdict = Verdict.FAILS
    what = f"{load.rate:,.0f} spectra/s of {load.start.pixels} pixels"
    if load.assumed:
        what += " (assumed: nothing came from a driver)"
    compared = [(line.head_room, line.name) for line in lines if line.head_room is not None]
    least, weakest = min(compared)
    if verdict in (Verdict.TOO_SLOW, Verdict.FAILS):
        bad = [f"{line.name} {line.verdict}" for line in lines if line.verdict in ("too slow", "fails")]
        summary = f"NOT READY for {what}: {', '.join(bad)}"
    else:
        word = "TIGHT" if verdict is Verdict.TIGHT else "READY"
        summary = f"{word}: {what}, head-room {least:.1f}x ({weakest})"
    return Report(verdict, summary, load.rate, load.start.pixels, load.assumed, lines)


# -- the source -------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Seen:
    """What came from the driver."""

    reader: RunReader = field(default_factory=lambda: RunReader("raw"))
    start: Start | None = None
    closed: Closed | None = None
    connected: bool = False
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


def _source(settings: CheckSettings, progress: Progress) -> tuple[Line, Load]:
    """Reads the raw stream as fast as it comes, so that a daemon beside it is not held up."""
    seen, begin = _Seen(), time.perf_counter()
    with Subscriber(settings.listen, "raw") as subscriber:
        while seen.closed is None and (now := time.perf_counter()) < (seen.first or begin) + settings.seconds:
            if parts := subscriber.receive(STEP_S):
                seen.take(parts)
            else:
                seen.connected |= subscriber.watch()
            progress("source", (now - (seen.first or begin)) / settings.seconds)
        seen.connected |= subscriber.watch()
    measured = seen.spectra / seen.seconds if seen.spectra and seen.seconds > 0 else None
    load = _load(settings, seen, measured)
    if measured is None:
        if seen.start is not None:
            note = f"{seen.start.source} is there, but fewer than two messages of spectra came"
        elif seen.connected:
            note = f"a driver is at {settings.listen}, but no run is under way"
        else:
            note = f"no driver at {settings.listen}"
        return Line(name="source", verdict=Verdict.NOT_MEASURED, note=note), load
    problems = (seen.closed.ledger if seen.closed else seen.reader.ledger).problems
    found = {kind: count for kind, count in problems.items() if kind != "joined late"}
    about = [
        f"{seen.payload / seen.seconds / 1e6:.1f} MB/s",
        f"up to {load.start.block} spectra to a message",
        f"time stamp to here p50 {seen.ages.percentile(50):.1f} ms, p99 {seen.ages.percentile(99):.1f} ms"
        if seen.youngest_ms >= EARLY_MS
        else f"its clock is {-seen.youngest_ms:.0f} ms ahead",
        ", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or "no gap",
    ]
    return Line(
        name="source",
        verdict=Verdict.FAILS if found else Verdict.OK,
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


# -- the engine -------------------------------------------------------------------------------------


def _engine(settings: CheckSettings, model: Model, load: Load, costs: Costs, progress: Progress) -> Line:
    start = load.start
    threads = settings.threads or max(usable_cores() // 2, 1)  # as the daemon
    progress("engine", 0)
    try:
        graph = compose(model, start.raman_shift)
        with open_engine(settings.engine, graph, max(settings.max_batch, start.block), threads) as engine:
            engine.set_dark(np.zeros(start.pixels, np.float32) if start.dark is None else start.dark.copy())
            sizes = sorted({min(max(size, start.block), engine.max_batch) for size in BATCHES})
            rates: dict[int, float] = {}
            times: dict[int, Latencies] = {}
            for number, size in enumerate(sizes):
                progress("engine", (number + 0.1) / len(sizes))
                rates[size], times[size], costs.by_part["engine"] = _batches(
                    engine, load.counts, size, settings.seconds / len(sizes)
                )
            about = engine.describe()
    except (EngineError, ModelError, AxisError) as error:
        return Line(name="engine", verdict=Verdict.FAILS, note=str(error))
    alone = times[sizes[0]]
    note = f"{model.card.name} on {about}; {sizes[0]} at once takes {alone.percentile(50):.1f} ms, "
    note += f"p99 {alone.percentile(99):.1f} ms; "
    note += ", ".join(f"{size} at once {rates[size]:,.0f}/s" for size in sizes)
    # What has piled up is computed in the largest batches: only their rate makes up for a pause.
    fastest = max(rates, key=rates.__getitem__)
    if rates[fastest] > FASTER * rates[sizes[-1]]:
        note += f"; --max-batch {fastest} would be faster"
    return _compared("engine", load.rate, rates[sizes[-1]], "spectra/s", note)


def _batches(
    engine: Engine, counts: NDArray[Any], size: int, seconds: float
) -> tuple[float, Latencies, float]:
    """Spectra per second, time of one batch, and processor time of one spectrum, as the daemon computes."""
    batch, times, done = np.resize(counts, (size, counts.shape[1])), Latencies(), 0
    for _ in range(2):  # the first ones set memory up
        engine.launch(0, size)
        engine.wait(0)
    begin, busy = time.perf_counter(), time.process_time()
    now = begin
    while not done or now < begin + seconds:
        engine.inputs[0][:size] = batch
        engine.launch(0, size)
        engine.wait(0)
        if not np.isfinite(engine.outputs[0][:size]).all():
            raise EngineError(f"{engine.name} gives values that are not finite for these spectra")
        before, now = now, time.perf_counter()
        times.add((now - before) * 1e3)
        done += size
    return done / (now - begin), times, (time.process_time() - busy) / done


# -- the network ------------------------------------------------------------------------------------


def _network(settings: CheckSettings, load: Load, costs: Costs, progress: Progress) -> Line:
    """From one process to another through real sockets, counts and results one after the other."""
    streams: tuple[StreamName, StreamName] = ("raw", "raman")
    rates, about = [], []
    for number, stream in enumerate(streams):
        progress("network", number / 2 + 0.05)
        start = load.start_of(stream)
        try:
            spectra, seconds = _hop(start, settings.seconds / 2, costs)
        except (OSError, ValueError, subprocess.TimeoutExpired, StreamError) as error:
            text = f"no messages from one process of this computer to another: {error}"
            return Line(name="network", verdict=Verdict.FAILS, note=text)
        rates.append(spectra / seconds)
        mb = spectra * start.spectrum_bytes / seconds / 1e6
        about.append(f"{'counts' if stream == 'raw' else 'results'} {rates[-1]:,.0f}/s, {mb:.0f} MB/s")
    note = "; ".join(about) + ", between two processes here"
    if not any(local in settings.listen for local in ("//127.", "//localhost", "//[::1]")):
        note += "; the cable to the driver is not in it"
    return _compared("network", load.rate, min(rates), "spectra/s", note)


def _hop(start: Start, seconds: float, costs: Costs) -> tuple[int, float]:
    """Spectra received from another process, and the seconds it took. Raises ValueError if that fails."""
    with _publishing(start, seconds) as child:
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        if not address:
            said = child.communicate(timeout=CHILD_S)[1].strip().splitlines()
            raise ValueError(said[-1] if said else "the other process ended")
        spectra, took, busy = _receive(address, start.stream, seconds)
        costs.by_part[f"send {start.stream}"] = float(child.communicate(timeout=CHILD_S)[0])
        costs.by_part[f"receive {start.stream}"] = busy / spectra
        return spectra, took


def _receive(address: str, stream: StreamName, seconds: float) -> tuple[int, float, float]:
    """Spectra, seconds and processor time of a run, after its first frame. Raises ValueError without one."""
    reader, spectra, first, last, busy = RunReader(stream), 0, 0.0, 0.0, 0.0
    deadline = time.perf_counter() + CHILD_S + seconds
    with Subscriber(address, stream) as subscriber:
        while time.perf_counter() < deadline:
            for event in reader.read(subscriber.receive(STEP_S) or [b"", b""]):
                if isinstance(event, Frame):
                    last = time.perf_counter()
                    if first:
                        spectra += len(event.block)
                    else:
                        first, busy = last, time.process_time()
                elif isinstance(event, Closed) and spectra:
                    return spectra, last - first, time.process_time() - busy
            subscriber.watch()
    raise ValueError("nothing came")


@contextmanager
def _publishing(start: Start, seconds: float) -> Iterator[subprocess.Popen[str]]:
    """Another process that publishes frames like these as fast as they are taken."""
    about = {"stream": start.stream, "pixels": start.pixels, "dtype": start.dtype, "block": start.block}
    program = "import sys; from cars_rt.check import publish; publish(sys.argv[1])"
    with subprocess.Popen(
        [sys.executable, "-c", program, json.dumps(about | {"seconds": seconds})],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def publish(about: str) -> None:
    """The other process: says its address, then, when it is done, the processor time of one spectrum."""
    given = json.loads(about)
    stream: StreamName = given["stream"]
    run, block = uuid.uuid4().hex, given["block"]
    start = Start(
        stream=stream, run=run, time_ns=time.time_ns(), source="check", dtype=given["dtype"], block=block,
        raman_shift=np.linspace(600.0, 3100.0, given["pixels"]),
    )  # fmt: skip
    arrays = {MAIN_ARRAY[stream]: np.ones((block, given["pixels"]), given["dtype"])}
    with Publisher("tcp://127.0.0.1:*", stream, buffer_mb=16) as publisher:
        print(publisher.address, flush=True)
        if not publisher.wait_for_subscribers(1, CHILD_S):
            return
        publisher.open(start)
        sent, end, busy = 0, time.perf_counter() + given["seconds"], time.process_time()
        while time.perf_counter() < end:
            frame = Frame(
                stream=stream,
                run=run,
                sequence=sent,
                index=sent * block,
                time_ns=time.time_ns(),
                arrays=arrays,
            )
            sent += publisher.send(frame, STEP_S)
        cost = (time.process_time() - busy) / max(sent * block, 1)
        publisher.end(
            End(
                stream=stream, run=run, time_ns=time.time_ns(), frames=sent, spectra=sent * block,
                reason=Reason.COMPLETE,
            )
        )  # fmt: skip
    print(cost, flush=True)


# -- the disk ---------------------------------------------------------------------------------------


def _disk(settings: CheckSettings, load: Load, costs: Costs, progress: Progress) -> tuple[Line, float]:
    """Counts and results into one recording. The line, and the longest time that a flush took."""
    folder = settings.output.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent  # the recorder will make it
    path = folder / f".cars-rt-check-{uuid.uuid4().hex}.h5"
    try:
        free = shutil.disk_usage(folder).free
        spectra, seconds, slowest = _write(path, load, settings.seconds, free, costs, progress)
    except OSError as error:
        return Line(name="disk", verdict=Verdict.FAILS, note=str(error)), 0.0
    finally:
        for left in (path, partial_path(path)):
            with suppress(OSError):
                left.unlink(missing_ok=True)
    size = load.recorded_bytes
    minutes = free / (size * load.rate) / 60
    note = f"{free / 1e9:.0f} GB free in {folder}: {minutes:,.0f} min; slowest flush {slowest * 1e3:.0f} ms"
    line = _compared("disk", load.rate * size / 1e6, spectra * size / seconds / 1e6, "MB/s", note)
    if (planned := (load.start.spectra or 0) * size) > free:
        note += f"; the run needs {planned / 1e9:.0f} GB"
        line = replace(line, verdict=Verdict.FAILS, note=note)
    return line, slowest


def _write(
    path: Path, load: Load, seconds: float, free: int, costs: Costs, progress: Progress
) -> tuple[int, float, float]:
    """Spectra written, the seconds until the disk had them, and the slowest flush. Raises OSError."""
    streams: tuple[StreamName, StreamName] = ("raw", "raman")
    block = load.start.block
    most = max(int(min(DISK_BYTES, free * DISK_SHARE) / load.recorded_bytes / block), 1)
    starts = [replace(load.start_of(stream), spectra=most * block) for stream in streams]
    arrays = [np.resize(load.counts.astype(start.dtype), (block, start.pixels)) for start in starts]
    recording = Recording(path)
    try:
        for start in starts:
            recording.start(start)
        slowest, number, begin, busy = 0.0, 0, time.perf_counter(), time.process_time()
        flushed = begin
        while number < most and (now := time.perf_counter()) < begin + seconds:
            for start, array in zip(starts, arrays, strict=True):
                name = MAIN_ARRAY[start.stream]
                recording.append(
                    Frame(start.stream, start.run, number, number * block, time.time_ns(), {name: array})
                )
            number += 1
            if now - flushed > min(FLUSH_S, seconds / 5):
                recording.flush()
                flushed = time.perf_counter()
                slowest = max(slowest, flushed - now)
                progress("disk", (flushed - begin) / seconds)
        now = time.perf_counter()
        recording.close()
        slowest = max(slowest, time.perf_counter() - now)
        costs.by_part["record"] = (time.process_time() - busy) / (number * block)
        with path.open("rb+") as file:  # not the system's memory: the disk
            os.fsync(file.fileno())
        return number * block, time.perf_counter() - begin, slowest
    except BaseException:
        recording.fail()
        raise


# -- what follows from them -------------------------------------------------------------------------


def _memory(settings: CheckSettings, load: Load, pause_s: float) -> Line:
    """How long a pause the buffers bridge: of results, which are larger, unless counts are."""
    streams: tuple[StreamName, StreamName] = ("raw", "raman")
    largest = max(message_bytes(load.start_of(stream)) / load.start.block for stream in streams)
    seconds = settings.buffer_mb * 1e6 / (largest * load.rate)
    required = max(pause_s, PAUSE_S)
    note = f"--buffer-mb {settings.buffer_mb:g} holds {seconds:.1f} s; the longest pause is {required:.1f} s"
    return _compared("memory", required, seconds, "s", note)


def _processor(load: Load, costs: Costs, busy: float) -> Line:
    """Driver's sending, daemon and recorder together, if all of them run on this computer.

    busy: how many programs wanted a core in the minute before.
    """
    parts = costs.by_part
    if not {"engine", "send raw", "record"} <= set(parts):
        return Line(name="processor", verdict=Verdict.NOT_MEASURED, note="a part of it could not be measured")
    both = parts | {"receive raw": 2 * parts["receive raw"]}  # the daemon and the recorder
    shares = {name: cost * load.rate for name, cost in both.items()}
    note = "all parts together, without the driver's own work: engine "
    note += (
        f"{shares['engine']:.2f}, messages {sum(shares.values()) - shares['engine'] - shares['record']:.2f}, "
    )
    note += f"recorder {shares['record']:.2f} cores"
    if busy > usable_cores():
        note += f"; other programs want {busy:.1f} cores, which spoils every number here"
    return _compared("processor", sum(shares.values()), float(usable_cores()), "cores", note)
