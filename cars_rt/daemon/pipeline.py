"""The way of spectra through the daemon: filled into a slab, computed, sent. Nothing waits here.

While a batch is computed, another slab fills with whatever arrives; that is the next batch. When all
slabs are taken there is no room, the loop stops reading, and spectra wait in the bounded queue before it.
"""

import time
from collections import Counter, deque
from concurrent.futures import Future
from typing import Any

from numpy.typing import NDArray

from cars_rt.accounting import MAX_RANGES
from cars_rt.clock import SourceClock
from cars_rt.daemon.compute.change import Compute
from cars_rt.daemon.compute.worker import Computed, NotComputedError, Worker
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.outputs.preview import Preview
from cars_rt.engines import EngineError
from cars_rt.engines.base import Slab
from cars_rt.latency import Latencies
from cars_rt.physics.fitness import named
from cars_rt.protocol import DEVIATION, FLAGS, Band, Frame
from cars_rt.protocol.limits import MAX_COUNT
from cars_rt.sockets import Publisher

HUNG_S = 60.0  # an engine that computes one batch for so long will not come back

Entry = tuple[Frame, int, int, int]  # a frame, its first row, when it came in (ns), spectra lost before it


class Batch:
    """What one slab holds: frames in order."""

    __slots__ = (
        "bands", "computed", "counts", "done", "frames", "made_by",
        "rows", "sent", "slab", "submitted", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker) -> None:
        """Takes a free slab."""
        self.worker = worker
        self.slab = worker.free.popleft()
        self.counts: Slab = worker.engine.inputs[self.slab]
        self.rows = 0
        self.frames: list[Entry] = []
        self.made_by = ""
        self.bands: tuple[Band, ...] = ()
        self.computed: Future[Computed] | None = None
        self.submitted = self.done = 0.0
        self.sent = 0  # frames that have left


class Pipeline:
    """Moves batches along when told to. The loop that owns it fills it and learns what was lost."""

    def __init__(
        self, compute: Compute, publisher: Publisher, preview: Preview | None, mishaps: Mishaps
    ) -> None:
        self._compute, self._publisher, self._preview = compute, publisher, preview
        self._mishaps = mishaps
        self.last: Frame | None = None  # that was taken
        self.unsent: list[tuple[Frame, str]] = []  # that could not be made a message, and why; to be taken
        self._filling: Batch | None = None
        self._computing: deque[Batch] = deque()
        self._results: deque[Batch] = deque()
        self._again: deque[Batch] = deque()  # that an engine did not come to, since it failed before
        self.latencies = {stage: Latencies() for stage in ("wait", "compute", "output", "total")}
        self.makers: list[tuple[int, str]] = []  # of the run: from which index on results were made by what
        self.flagged: Counter[str] = Counter()  # spectra computed that have a flag, by its name, all runs
        self.run_flagged: Counter[str] = Counter()
        self._full_scale: float | None = None  # of the run's camera
        self._with_deviation = False
        self.clock = SourceClock()  # of the run

    # -- how full it is -----------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Nothing is on its way."""
        return not (self._computing or self._results or self._again or (self._filling and self._filling.rows))

    @property
    def computing(self) -> bool:
        """Whether the engine has something to do."""
        return bool(self._computing)

    @property
    def computing_s(self) -> float:
        """For how long the engine has had the batch that it computes, s."""
        return time.perf_counter() - self._computing[0].submitted if self._computing else 0.0

    @property
    def waiting(self) -> bool:
        """Whether results wait for room in the output."""
        return bool(self._results)

    @property
    def depths(self) -> tuple[int, int, int]:
        """Spectra being filled in, computed, and waiting to be sent."""
        return (
            self._filling.rows if self._filling else 0,
            sum(batch.rows for batch in (*self._again, *self._computing)),
            sum(batch.rows for batch in self._results),
        )

    def has_room(self, block: int) -> bool:
        """Whether another frame of up to `block` spectra can be taken."""
        batch = self._filling
        return batch is not None and batch.rows + block <= len(batch.counts)

    # -- a run --------------------------------------------------------------------------------------

    def begin(self, full_scale: float | None = None, with_deviation: bool = False) -> None:
        """A run begins: fill the slabs of the engine of now.

        full_scale: counts at which the camera saturates. with_deviation: send it where the model states it.
        """
        self.end()
        self.makers = []
        self.run_flagged = Counter()
        self._full_scale, self._with_deviation = full_scale, with_deviation
        self._fill_next()

    def end(self) -> None:
        """A run is over: give the slab back that was to be filled next."""
        batch, self._filling = self._filling, None
        if batch is not None:
            batch.worker.free.append(batch.slab)

    def move(self) -> None:
        """Another worker has taken over: what was filled in already moves along; results stay behind."""
        if self._filling is None:
            self._fill_next()
        else:
            self._filling = self._moved(self._filling)

    # -- along the way ------------------------------------------------------------------------------

    def take(self, frame: Frame, received_ns: int, lost: int) -> None:
        """Convert a frame's counts into the slab; there must be room."""
        batch, block = self._filling, frame.block
        assert batch is not None
        rows = batch.rows
        after = rows + len(block)
        batch.counts[rows:after] = block
        batch.frames.append((frame, rows, received_ns, lost))
        batch.rows = after
        self.last = frame

    def submit(self, block: int, full: bool = False) -> None:
        """Have the slab computed if the engine has nothing to do, or if a frame of `block` has no room."""
        worker = self._compute.worker
        if worker is None or worker.broken:
            return
        while self._again:
            if not worker.free:
                return
            self._give(self._moved(self._again.popleft()), worker)
        batch = self._filling
        if (
            batch is None
            or not batch.rows
            or batch.worker is not worker
            or (self._computing and not full and batch.rows + block <= len(batch.counts))
        ):
            return
        self._give(batch, worker)
        self._filling = None
        self._fill_next()

    def _give(self, batch: Batch, worker: Worker) -> None:
        weights = None
        if self._preview is not None:
            weights, batch.bands = self._preview.weights, self._preview.bands
        batch.made_by = worker.made_by
        batch.submitted = time.perf_counter()
        batch.computed = worker.compute(batch.slab, batch.rows, weights, self._full_scale)
        self.latencies["wait"].add((time.time_ns() - batch.frames[0][2]) / 1e6)
        self._computing.append(batch)

    def collect(self) -> list[tuple[Batch, str]]:
        """Take what is computed; batches that the engine failed on, with the reason."""
        failed = []
        while self._computing:
            batch = self._computing[0]
            assert batch.computed is not None
            now = time.perf_counter()
            if not batch.computed.done():
                if batch.worker.hung:
                    error: BaseException = NotComputedError()
                elif now - batch.submitted >= HUNG_S:
                    batch.worker.hung = batch.worker.broken = True
                    error = EngineError(f"the engine did not answer within {HUNG_S:g} s")
                else:
                    break
                batch.computed = Future()
                batch.computed.set_exception(error)
            self._computing.popleft()
            if (reason := batch.computed.exception()) is not None:
                if isinstance(reason, NotComputedError):
                    self._again.append(batch)
                    continue
                failed.append((batch, str(reason)))
                self._release(batch)
                continue
            computed = batch.computed.result()
            batch.done = now
            self.latencies["compute"].add(computed.seconds * 1e3)
            if computed.flags.any():
                found = named(computed.flags)
                self.flagged.update(found)
                self.run_flagged.update(found)
            counts = batch.counts[: batch.rows]
            if self._preview is not None:
                with self._mishaps.contained("the preview"):
                    self._preview.add(batch.frames, batch.bands, computed, counts, batch.made_by)
            if self._compute.shadow is not None:
                with self._mishaps.contained("the shadow"):
                    self._compute.shadow.look(counts, computed.raman)
            self._results.append(batch)
        return failed

    def abandon(self) -> list[Batch]:
        """Give up what nobody will compute; the batches, some with nothing in them."""
        gone = [*self._again, *self._computing, *([self._filling] if self._filling else [])]
        self._again.clear()
        self._computing.clear()
        self._filling = None
        return gone

    def send(self, lost: int) -> bool:
        """Publish what is computed; False if the output has no room for the rest yet.

        lost: spectra of the run lost after they were received.
        """
        publisher, total, makers = self._publisher, self.latencies["total"], self.makers
        clock = self.clock
        while self._results:
            batch = self._results[0]
            assert batch.computed is not None
            computed = batch.computed.result()
            whole: dict[str, NDArray[Any]] = {"raman": computed.raman, FLAGS: computed.flags}
            if self._with_deviation and computed.deviation is not None:
                whole[DEVIATION] = computed.deviation
            made_by, frames = batch.made_by, batch.frames
            while batch.sent < len(frames):
                frame, row, received, before = frames[batch.sent]
                now, time_ns = time.time_ns(), frame.time_ns
                rows = slice(row, row + len(frame.block))
                result = Frame(
                    "raman", frame.run, publisher.sequence, frame.index, time_ns,
                    {name: array[rows] for name, array in whole.items()},
                    received, now, min(before + lost, MAX_COUNT), made_by,
                )  # fmt: skip
                try:
                    if not publisher.send(result):
                        return False
                except Exception as error:
                    self.unsent.append((frame, self._mishaps.note("a result", error)))
                    batch.sent += 1
                    continue
                batch.sent += 1
                if (not makers or makers[-1][1] != made_by) and len(makers) < MAX_RANGES:
                    makers.append((frame.index, made_by))
                age = now - time_ns
                if age < 0:  # the source's clock is ahead, or one of the two was set
                    clock.early_ns = max(clock.early_ns, -age)
                elif not clock.lag_ns:
                    total.add(age / 1e6)
            self.latencies["output"].add((time.perf_counter() - batch.done) * 1e3)
            self._results.popleft()
            self._release(batch)
        return True

    # -- slabs --------------------------------------------------------------------------------------

    def _fill_next(self) -> None:
        worker = self._compute.worker
        if worker is not None and worker.free:
            self._filling = Batch(worker)

    def _moved(self, old: Batch) -> Batch:
        """The batch in a slab of the worker of now."""
        worker = self._compute.worker
        if worker is None or not worker.free:
            return old
        new = Batch(worker)
        new.counts[: old.rows] = old.counts[: old.rows]
        new.rows, new.frames = old.rows, old.frames
        old.worker.free.append(old.slab)
        return new

    def _release(self, batch: Batch) -> None:
        batch.worker.free.append(batch.slab)
        if self._filling is None:
            self._fill_next()
