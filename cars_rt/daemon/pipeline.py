"""The way of spectra through the daemon: filled into a slab, computed unless the engine hangs, sent.

Nothing waits here. While a batch is computed, another slab fills with whatever arrives; that is the next
batch. When all slabs are taken there is no room, the loop stops reading, and spectra wait in the bounded
queue before it.
"""

import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future

from cars_rt.daemon.batch import Batch, Entry
from cars_rt.daemon.compute.compute import Compute
from cars_rt.daemon.compute.worker import NotComputedError, Worker
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.outputs.base import Outputs
from cars_rt.daemon.run import Run
from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric
from cars_rt.daemon.seen.snapshot import Queue
from cars_rt.engines import EngineError
from cars_rt.latency import Latencies
from cars_rt.physics.fitness import NAMES, named
from cars_rt.protocol import Frame

HUNG_S = 60.0  # an engine that computes one batch for so long will not come back


class Pipeline:
    """Moves batches along when told to. The loop that owns it fills it and learns what was lost."""

    def __init__(self, compute: Compute, outputs: Outputs, mishaps: Mishaps) -> None:
        self._compute, self._outputs, self._mishaps = compute, outputs, mishaps
        self.last: Frame | None = None  # the one that was taken last
        self._filling: Batch | None = None
        self._computing: deque[Batch] = deque()
        self._held: deque[Batch] = deque()  # computed; outputs still need them
        self._untouched: deque[Batch] = deque()  # their engine failed on an earlier batch
        self._answered = 0.0  # when the last batch came back from an engine
        self.latencies = {"wait": Latencies(), "compute": Latencies()}
        self.flagged: Counter[str] = Counter()  # spectra computed that have a flag, by its name, all runs

    # -- how full it is -----------------------------------------------------------------------------

    @property
    def empty(self) -> bool:
        """Nothing is on its way."""
        return not (
            self._computing or self._held or self._untouched or (self._filling and self._filling.rows)
        )

    @property
    def computing(self) -> bool:
        """Whether the engine has something to do."""
        return bool(self._computing)

    @property
    def computing_s(self) -> float:
        """For how long the engine has been at the batch that it computes, s. Those behind it wait."""
        if not self._computing:
            return 0.0
        return time.perf_counter() - max(self._computing[0].submitted, self._answered)

    @property
    def waiting(self) -> bool:
        """Whether results wait for room in the output."""
        return bool(self._held)

    @property
    def queues(self) -> dict[str, Queue]:
        """Spectra that are filled in, computed, and wait to be sent."""
        slab, slabs = self._compute.room
        filled = self._filling.rows if self._filling else 0
        computed = sum(batch.rows for batch in (*self._untouched, *self._computing))
        held = sum(batch.rows for batch in self._held)
        return {
            "filling": Queue(filled, slab),
            "computing": Queue(computed, slab * slabs),
            "results": Queue(held, slab * slabs),
        }

    def metrics(self) -> Iterator[Metric]:
        """What is counted here."""
        text, flagged = "Spectra that have a flag, by its name.", dict.fromkeys(NAMES.values(), 0)
        yield metric.Counter("cars_rt_spectra_flagged", text, flagged | self.flagged, "flag")

    def has_room(self, block: int) -> bool:
        """Whether another frame of up to `block` spectra can be taken."""
        batch = self._filling
        return batch is not None and batch.rows + block <= len(batch.counts)

    # -- a run --------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A run begins: fill slabs of the present engine."""
        self.end()
        self._fill_next()

    def end(self) -> None:
        """A run is over: give the slab back that was to be filled next."""
        batch, self._filling = self._filling, None
        if batch is not None:
            batch.release()

    def move(self) -> None:
        """Another worker has taken over: what was filled in already moves along; results stay behind."""
        if self._filling is None:
            self._fill_next()
        else:
            self._filling = self._moved(self._filling)

    # -- along the way ------------------------------------------------------------------------------

    def take(self, run: Run, frame: Frame, received_ns: int) -> None:
        """Convert a frame's counts into the slab; there must be room."""
        batch, block = self._filling, frame.block
        assert batch is not None
        batch.run = run
        rows = batch.rows
        after = rows + len(block)
        batch.counts[rows:after] = block
        batch.frames.append(Entry(frame.index, len(block), frame.time_ns, rows, received_ns, run.lost_before))
        batch.rows = after
        self.last = frame

    def submit(self, block: int, full: bool = False) -> None:
        """Have the slab computed if the engine has nothing to do, or if a frame of `block` has no room."""
        worker = self._compute.worker
        if worker is None or worker.broken:
            return
        while self._untouched:
            again = self._moved(self._untouched[0])
            if again.worker is not worker:  # it has no room yet
                return
            self._untouched.popleft()
            self._give(again, worker)
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
        assert batch.run is not None
        self._outputs.prepare(batch)
        batch.made_by = worker.made_by
        batch.submitted = time.perf_counter()
        batch.computed = worker.compute(batch.slab, batch.rows, batch.weights, batch.run.start.saturates_at)
        self.latencies["wait"].add((time.time_ns() - batch.frames[0].received_ns) / 1e6)
        self._computing.append(batch)

    def collect(self) -> list[tuple[Batch, str]]:
        """Take batches that are computed. Returns those that the engine failed on, with the reason."""
        failed = []
        while self._computing:
            batch = self._computing[0]
            assert batch.computed is not None
            if not batch.computed.done():
                if batch.worker.hung:
                    error: BaseException = NotComputedError()
                elif self.computing_s >= HUNG_S:
                    batch.worker.hung = batch.worker.broken = True
                    error = EngineError(f"the engine did not answer within {HUNG_S:g} s")
                else:
                    break
                batch.computed = Future()
                batch.computed.set_exception(error)
            self._computing.popleft()
            self._answered = time.perf_counter()
            if (reason := batch.computed.exception()) is not None:
                if isinstance(reason, NotComputedError):
                    self._untouched.append(batch)
                    continue
                failed.append((batch, str(reason)))
                self._release(batch)
                continue
            assert batch.run is not None
            computed = batch.computed.result()
            batch.done = self._answered
            self.latencies["compute"].add(computed.seconds * 1e3)
            if computed.flags.any():
                found = named(computed.flags)
                self.flagged.update(found)
                batch.run.flagged.update(found)
            self._outputs.take(batch)
            if self._compute.shadow is not None:
                with self._mishaps.contained("the shadow"):
                    counts = batch.counts[: batch.rows]
                    self._compute.shadow.look(counts, computed.raman, batch.made_by)
            self._held.append(batch)
        return failed

    def abandon(self) -> list[Batch]:
        """Give up the batches that nobody will compute. Returns them; some may be empty."""
        gone = [*self._untouched, *self._computing, *([self._filling] if self._filling else [])]
        self._untouched.clear()
        self._computing.clear()
        self._filling = None
        for batch in gone:
            if batch.worker.hung:  # so that it can be closed if it ever comes back; any other may be at them
                batch.release()
        return gone

    def send(self) -> None:
        """Have outputs send what they have room for, and take back what they are done with."""
        self._outputs.work()
        while self._held and not self._held[0].holders:
            self._release(self._held.popleft())

    # -- slabs --------------------------------------------------------------------------------------

    def _fill_next(self) -> None:
        worker = self._compute.worker
        if worker is not None and worker.free:
            self._filling = Batch(worker)

    def _moved(self, old: Batch) -> Batch:
        """The batch, in a slab of the present worker if it has a free one."""
        worker = self._compute.worker
        if worker is None or worker is old.worker or not worker.free:
            return old
        new = Batch(worker)
        new.counts[: old.rows] = old.counts[: old.rows]
        new.rows, new.frames, new.run = old.rows, old.frames, old.run
        old.release()
        return new

    def _release(self, batch: Batch) -> None:
        batch.release()
        if self._filling is None:
            self._fill_next()
