"""The daemon: receives counts, has them computed, publishes raman. One loop owns all sockets.

A frame's way: subscriber -> RunReader -> input slab -> Compute -> output slab -> publisher.
While a batch is computed, another slab fills with whatever arrives; that is the next batch. When
all slabs are taken the loop stops reading, and spectra wait in the bounded queue of the socket.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import zmq

from cars_rt.accounting import MAX_RANGES, Cause, Ledger, Problem, Range
from cars_rt.daemon.compute import Compute
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.engines import EngineError, ModelError
from cars_rt.engines.base import Slab
from cars_rt.latency import Latencies
from cars_rt.physics.axis import AxisError
from cars_rt.protocol import Closed, Frame, Reason, RunReader, Start
from cars_rt.stream import Publisher, Subscriber

log = logging.getLogger("cars_rt.daemon")

TICK_S = 0.1  # how soon a stop is noticed when nothing arrives
RETRY_S = 0.001  # how soon a send is tried again when a subscriber has no room
READ_AT_ONCE = 256  # messages taken before looking at the other sockets
QUIET_S = 0.1  # a stop takes in what was already sent: until nothing came for so long,
DRAIN_S = 2.0  # but not for longer than this
STOP_S = 10.0  # how long a stop waits for subscribers that take nothing


@dataclass(slots=True)
class Batch:
    """What one slab holds: frames in order, each with its first row, the time it came in and the
    spectra that were lost before it."""

    slab: int
    counts: Slab
    raman: Slab
    rows: int = 0
    frames: list[tuple[Frame, int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RunTotals:
    """What became of one run, in spectra: announced = sent + lost; received is what came in order."""

    run: str
    reason: str
    announced: int
    received: int
    sent: int
    lost: dict[str, int]
    ranges: list[Range]  # of spectra lost: cause, index of the first, how many
    problems: dict[str, int]  # what was wrong with messages, by kind


class Daemon:
    """One input stream, one output stream, one model.

    Raises StreamError, KeysError, ModelError or EngineError if it cannot start.
    """

    def __init__(self, settings: DaemonSettings) -> None:
        self.settings = settings
        self.runs: list[RunTotals] = []
        self.spectra_in = 0
        self.spectra_out = 0
        self.latencies = Latencies()
        self.reader = RunReader("raw")
        self.run_open: Start | None = None  # as published; None: no run, or one that cannot be computed
        self.ledger = Ledger()  # what became of the run's spectra after they were received
        self._stopping = False
        self._broken = False  # the engine failed, and is replaced as soon as nothing is under way
        self._give_up = float("inf")  # when subscribers have had long enough after a stop
        self._free: deque[int] = deque()
        self._filling: Batch | None = None
        self._computing: deque[Batch] = deque()
        self._results: deque[tuple[Batch, int]] = deque()  # computed; frames from this one on are unsent
        server, client = settings.access.server(settings.publish), settings.access.client()
        self.compute = Compute(settings.model, settings.engine, settings.max_batch, settings.threads)
        try:
            self.subscriber = Subscriber(settings.listen, "raw", connect=False, security=client)
        except Exception:
            self.compute.close()
            raise
        try:
            self.publisher = Publisher(
                settings.publish,
                "raman",
                buffer_mb=settings.buffer_mb,
                leave_out_slow=settings.overload == "drop",
                security=server,
            )
        except Exception:
            self.compute.close()
            self.subscriber.close()
            raise

    def describe_losses(self) -> str:
        """Losses of the current run by cause, before and after the engine."""
        both = Ledger(
            lost=self.reader.ledger.lost + self.ledger.lost,
            problems=self.reader.ledger.problems + self.ledger.problems,
        )
        return both.describe()

    def stop(self) -> None:
        """Ask the loop to finish what was received and return. Callable from a signal handler."""
        self._stopping = True

    def serve(self, on_tick: Callable[[], None] = lambda: None) -> list[RunTotals]:
        """Work until `stop`; the totals of all runs. Calls on_tick about every TICK_S."""
        linger = STOP_S
        try:
            tick, wanted = 0.0, self.settings.subscribers
            while not self._stopping and not self.publisher.wait_for_subscribers(wanted, TICK_S):
                on_tick()
            # Not earlier: a driver that waits for us begins when it sees us.
            self.subscriber.connect()
            while not self._stopping:
                self._turn()
                if (now := time.monotonic()) >= tick:
                    tick = now + TICK_S
                    refused = self.subscriber.refused
                    self.subscriber.watch()
                    if self.subscriber.refused > refused:
                        self.reader.ledger.problems["connection cut"] += 1
                    self._close_vanished()
                    self.publisher.serve()
                    self._note_left_out()
                    on_tick()
            self._finish()
            return self.runs
        except KeyboardInterrupt:
            linger = 0.0
            raise
        finally:
            self.compute.close()
            self.subscriber.close()
            if not self.publisher.close(linger):
                log.warning("subscribers did not take the last results; they are lost")

    # -- the loop -----------------------------------------------------------------------------------

    def _turn(self, timeout_s: float = TICK_S) -> bool:
        """Wait for something to do, and do it. True if a message came."""
        sockets = [self.compute.socket, *([self.subscriber.socket] if self._has_room else [])]
        ready = _poll(sockets, RETRY_S if self._results else timeout_s)
        if self.compute.socket in ready:
            self._collect()
            self._submit()  # first of all: the engine shall not wait while results are sent
        self._send()
        came = self.subscriber.socket in ready
        if came:
            self._read()
        self._submit()
        return came

    @property
    def _has_room(self) -> bool:
        """Whether another message can be taken."""
        batch, run = self._filling, self.run_open
        return run is None or (batch is not None and batch.rows + run.block <= len(batch.counts))

    def _read(self) -> None:
        for _ in range(READ_AT_ONCE):
            if not self._has_room or (parts := self.subscriber.receive()) is None:
                return
            self._take(parts, time.time_ns())

    def _take(self, parts: list[bytes], received: int) -> None:
        for event in self.reader.read(parts):
            match event:
                case Frame():
                    self._fill(event, received)
                case Problem():
                    self._report(event, self.reader.ledger)
                case Start():
                    self._open(event)
                case Closed():
                    self._close(event)

    def _fill(self, frame: Frame, received: int) -> None:
        """Convert a frame's counts into the slab."""
        spectra = len(frame.block)
        self.spectra_in += spectra
        batch = self._filling
        if self.run_open is None or batch is None:
            self._lose(Cause.ENGINE, [frame], f"frames of run {frame.run}, which cannot be computed")
            return
        batch.counts[batch.rows : batch.rows + spectra] = frame.block
        batch.frames.append((frame, batch.rows, received, self.reader.ledger.total_lost))
        batch.rows += spectra
        if batch.rows + self.run_open.block > len(batch.counts):
            self._submit(full=True)

    def _submit(self, full: bool = False) -> None:
        """Have the slab computed if it is full, or if the engine has nothing else to do."""
        batch = self._filling
        if batch and batch.rows and not self._broken and (full or self.compute.idle):
            self.compute.submit(batch.slab, batch.rows)
            self._computing.append(batch)
            self._filling = self._batch(self._free.popleft()) if self._free else None

    def _batch(self, slab: int) -> Batch:
        engine = self.compute.engine
        return Batch(slab, engine.inputs[slab], engine.outputs[slab])

    def _collect(self) -> None:
        """Take a computed batch from the engine; have the engine replaced if it failed."""
        error = self.compute.collect()
        batch = self._computing.popleft()
        if error is None:
            self._results.append((batch, 0))
        else:
            self._broken = True
            self._lose(Cause.ENGINE, [entry[0] for entry in batch.frames], str(error))
            self._release(batch)
        if self._broken and not self._computing:
            self._repair()

    def _repair(self) -> None:
        """Replace the engine. What was filled in already moves along; results wait in the old slabs."""
        self._broken = False
        try:
            engine = self.compute.repair()
        except EngineError as error:
            log.error("no engine can take over, going on with the one that failed: %s", error)
            return
        log.warning("the engine failed; it is replaced by %s", engine.describe())
        if (old := self._filling) is not None:
            self._filling = self._batch(old.slab)
            self._filling.counts[: old.rows] = old.counts[: old.rows]
            self._filling.rows, self._filling.frames = old.rows, old.frames

    def _send(self) -> bool:
        """Publish what is computed; False if a subscriber has no room for the rest yet."""
        while self._results:
            batch, first = self._results[0]
            for number in range(first, len(batch.frames)):
                frame, row, received, lost = batch.frames[number]
                now = time.time_ns()
                result = Frame(
                    stream="raman",
                    run=frame.run,
                    sequence=self.ledger.frames,
                    index=frame.index,
                    time_ns=frame.time_ns,
                    arrays={"raman": batch.raman[row : row + len(frame.block)]},
                    time_in_ns=received,
                    time_out_ns=now,
                    lost=lost + self.ledger.total_lost,
                )
                if not self.publisher.send(result):
                    self._results[0] = (batch, number)
                    return False
                self.ledger.passed(len(frame.block))
                self.spectra_out += len(frame.block)
                self.latencies.add((now - frame.time_ns) / 1e6)
            self._results.popleft()
            self._release(batch)
        return True

    def _close_vanished(self) -> None:
        """Close the run of a driver that died: nobody else would."""
        vanished = self.reader.run is not None and self.subscriber.vanished
        if vanished and self._has_room and not self.subscriber.socket.poll(0):
            log.warning("the driver at %s vanished in mid-run", self.settings.listen)
            if closed := self.reader.interrupt(time.time_ns()):
                self._close(closed)

    def _note_left_out(self) -> None:
        """Say that a slow subscriber misses results; it counts them itself."""
        if (count := self.publisher.left_out) and not self.ledger.problems["slow subscriber"]:
            log.warning("a subscriber is too slow: results are dropped for it, and it will find the gaps")
        if count:
            self.ledger.problems["slow subscriber"] += count
            self.publisher.left_out = 0

    def _release(self, batch: Batch) -> None:
        if self._filling is None:
            self._filling = self._batch(batch.slab)
        else:
            self._free.append(batch.slab)

    def _drain(self) -> None:
        """Compute and publish everything that was received, however long subscribers take.

        Once a stop is asked for, they have STOP_S more; what they did not take then is lost here.
        """
        self._submit(full=True)
        while self._computing:
            self._collect()
            self._submit(full=True)
        while not self._send():
            now = time.monotonic()
            if self._stopping:
                self._give_up = min(self._give_up, now + STOP_S)
            if now > self._give_up:
                unsent = [entry[0] for batch, first in self._results for entry in batch.frames[first:]]
                text = f"a subscriber had no room for them within {STOP_S:g} s of the stop"
                self._lose(Cause.OVERLOAD, unsent, text)
                while self._results:
                    self._release(self._results.popleft()[0])
                return
            time.sleep(RETRY_S)
        self._give_up = float("inf")

    # -- runs ---------------------------------------------------------------------------------------

    def _open(self, start: Start) -> None:
        """A run begins: compile for its axis, then tell the subscribers."""
        self.ledger = Ledger()
        self.latencies = Latencies()
        try:
            engine = self.compute.prepare(start)
        except (EngineError, ModelError, AxisError) as error:
            log.error("run %s from %r cannot be computed: %s", start.run, start.source, error)
            return
        self._free = deque(range(1, len(engine.inputs)))
        self._filling = self._batch(0)
        model = self.compute.model.provenance | {"engine": engine.describe()}
        self.run_open = replace(
            start, stream="raman", dtype="float32", dark=None, sequence=0, index=0, model=model
        )
        log.info(
            "run %s from %r: %d pixels, %s to %s cm-1, on %s",
            start.run, start.source, start.pixels,
            f"{start.raman_shift[0]:.0f}", f"{start.raman_shift[-1]:.0f}", engine.describe(),
        )  # fmt: skip
        if not self.publisher.open(self.run_open):
            log.warning("a subscriber has no room for the start of run %s", start.run)

    def _close(self, closed: Closed) -> None:
        """A run is over: publish everything it still owes, then the totals."""
        self._drain()
        end, before = closed.end, closed.ledger
        lost = before.lost + self.ledger.lost
        announced = end.spectra if end.announced is None else end.announced
        totals = RunTotals(
            end.run, end.reason.value, announced, before.spectra, self.ledger.spectra, dict(lost),
            sorted(before.ranges + self.ledger.ranges, key=lambda lost: lost.first)[:MAX_RANGES],
            dict(before.problems + self.ledger.problems),
        )  # fmt: skip
        self.runs.append(totals)
        level = logging.WARNING if lost else logging.INFO
        log.log(
            level, "run %s %s: %d spectra announced, %d received, %d sent; lost: %s",
            end.run, end.reason, announced, before.spectra, self.ledger.spectra,
            Ledger(lost=lost, problems=before.problems + self.ledger.problems).describe(),
        )  # fmt: skip
        if self.run_open is None:
            return
        result = replace(
            end, stream="raman", time_ns=time.time_ns(), frames=self.ledger.frames,
            spectra=self.ledger.spectra, announced=announced, lost=dict(lost),
            ranges=tuple(totals.ranges),
        )  # fmt: skip
        while not self.publisher.end(result):
            if self._stopping:
                log.warning("a subscriber had no room for the end of run %s", end.run)
                break
        self.run_open = self._filling = None

    def _finish(self) -> None:
        """Take in what was already sent, publish it, and close the run."""
        received: deque[tuple[list[bytes], int]] = deque()
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline and (parts := self.subscriber.receive(QUIET_S)) is not None:
            received.append((parts, time.time_ns()))
        while received:
            if self._has_room:
                self._take(*received.popleft())
            else:
                self._drain()
        self._drain()
        if closed := self.reader.interrupt(time.time_ns(), Reason.STOPPED):
            self._close(closed)

    def _lose(self, cause: Cause, frames: Iterable[Frame], text: str) -> None:
        """Account for frames that were received and will not be sent."""
        for frame in frames:
            problem = Problem(cause, len(frame.block), text, cause.value, frame.index)
            self.ledger.found(problem)
            self._report(problem, self.ledger)

    def _report(self, problem: Problem, ledger: Ledger) -> None:
        """One line for the first problem of a kind in a run; the others are only counted."""
        first = ledger.problems[problem.kind] <= 1
        log.log(logging.WARNING if first else logging.DEBUG, "%s: %s", problem.cause.value, problem.text)


def _poll(sockets: list[zmq.Socket[bytes]], timeout_s: float) -> list[zmq.Socket[bytes]]:
    ready, _, _ = zmq.select(sockets, [], [], timeout_s)
    return ready
