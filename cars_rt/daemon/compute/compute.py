"""Which engine computes: the current one, its replacement when it fails, and one that is to take over.

A new engine is compiled and checked while the old one goes on computing. It takes over between two batches.
"""

import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import zmq
from numpy.typing import NDArray

import cars_rt
from cars_rt.daemon.compute.change import Change
from cars_rt.daemon.compute.counters import Counters
from cars_rt.daemon.compute.library import Library, load_with
from cars_rt.daemon.compute.opening import Opening
from cars_rt.daemon.compute.retired import Retired, close_now
from cars_rt.daemon.compute.shadow import Shadow
from cars_rt.daemon.compute.wanted import Wanted, known
from cars_rt.daemon.compute.worker import TOO_LONG, Worker
from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric
from cars_rt.engines import EngineError, Model, retrieving
from cars_rt.engines.base import Slab, usable_cores
from cars_rt.printable import printable
from cars_rt.protocol import Start
from cars_rt.sockets.control import Answer

log = logging.getLogger("cars_rt.daemon")

MAX_FAILURES = 3  # batches in a row that one kind of engine may lose before the next kind takes over
REPAIR_S = 120.0  # how long a replacement may compile: spectra wait for it
RETRY_S = 30.0  # between two attempts to have any engine work again


class Compute:
    """Keeps the worker that computes, and the changes under way.

    `socket` becomes readable when a batch or a compilation is done. The loop calls `prepare` at the start
    of a run, `failed` when a batch failed, and `settle` whenever the socket was readable.
    Raises ModelError if there is no such model, EngineError if there is no such engine here.
    """

    def __init__(
        self,
        model: str,
        engine: str,
        max_batch: int,
        threads: int,
        reference: Path | None = None,
        *,
        deviation: bool = False,
        stand_in: bool = True,
    ) -> None:
        """reference: file of a reference spectrum, for the models that take one. deviation: also compute the
        standard deviation, for the models that state it. stand_in: another engine computes while this one is
        compiled for long, or where it cannot be.
        """
        load = partial(load_with, reference=reference)
        self.model = load(model)
        self._wanted = Wanted(engine, stand_in=stand_in)
        self._stands_in = stand_in
        self.counters = Counters()
        self.worker: Worker | None = None
        self.shadow: Shadow | None = None
        self._max_batch = max_batch
        self._opening: Opening | None = None  # compiled for a run, which waits for it
        self._change: Change | None = None
        self._retired = Retired()
        self._dark: tuple[Slab, str] | None = None
        self._source: str | None = None  # instrument of the run
        #: Why no engine works, until the next attempt; None while one does.
        self.down: str | None = None
        self._retry_at = 0.0
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        bell = f"inproc://compute-{id(self)}"
        self.socket.bind(bell)
        self._library = Library(load, bell)
        threads = threads or max(usable_cores() // 2, 1)
        self._new_worker = partial(Worker, threads=threads, bell=bell, deviation=deviation)

    @property
    def room(self) -> tuple[int, int]:
        """Spectra in a slab, and slabs, of which there are none before the first engine."""
        worker = self.worker
        return (self._max_batch, 0) if worker is None else (worker.max_batch, len(worker.engine.inputs))

    def metrics(self) -> Iterator[Metric]:
        """What computes, and what happened to it."""
        model, engine = self.model, self.worker.engine if self.worker else None
        about = {"version": cars_rt.__version__, "model": model.card.name, "model_sha256": model.sha256}
        about["engine"] = engine.describe() if engine else ""
        yield metric.Info("cars_rt", "What computes.", about)
        yield from self.counters.metrics()
        text, used = "Memory of the GPU in use.", engine.gpu_memory_bytes() if engine else None
        yield metric.Gauge("cars_rt_gpu_memory_bytes", text, used, status="gpu_memory_bytes")
        if self.shadow is not None:
            yield from self.shadow.metrics()

    # -- for a run ----------------------------------------------------------------------------------

    def prepare(self, start: Start | None) -> None:
        """Begin to compile for a run, unless that is done already. `opened` says when it has ended.

        start: None before any run, to warm up.
        """
        self._source = None if start is None else start.source
        model = self.model.of_source(self._source)
        axis = model.nominal_axis if start is None else start.raman_shift  # None: to warm up
        max_batch = max(self._max_batch, 1 if start is None else start.block)
        if self.worker is not None and not self.worker.broken and self.worker.fits(model, axis, max_batch):
            self._follow(axis)
            return
        another = partial(self._new_worker, model, raman_shift=axis, max_batch=max_batch)
        standing = self._standing_in
        if standing is None:
            reusable = self._reusable(max_batch)
            wanted = self._new_worker(model, [self.engine], axis, max_batch, instead=reusable)
            self._opening = Opening(wanted, self.engine, another if self._stands_in else None)
        else:  # what is awaited follows when it is there
            name, reusable = standing.engine.name, standing if standing.max_batch >= max_batch else None
            wanted = self._new_worker(model, [name], axis, max_batch, instead=reusable)
            self._opening = Opening(wanted, name, another, stands_in=True)
        self._follow(axis)

    @property
    def opened(self) -> bool:
        """Whether what `prepare` began has ended, well or not."""
        return self._opening is None or self._opening.over

    @property
    def compiling(self) -> str:
        """The compilation that spectra wait for, in words; empty if they wait for none."""
        if self._opening is not None:
            worker, text = self._opening.wanted, "compiling"
        elif self._change is not None and self._change.repairs:
            worker, text = self._change.worker, "the engine failed; compiling another for"
        else:
            return ""
        return f"{text} {printable(worker.model.card.name)} ({worker.so_far})"

    @property
    def engine(self) -> str:
        """The engine that was asked for, by its name."""
        return self._wanted.engine

    @property
    def instead(self) -> str:
        """Why another engine computes than the one that was asked for, in words; empty if none does."""
        change = self._change
        if change is not None and change.awaited:
            return self._wanted.progress(change.worker)
        return self._wanted.instead

    def give_up(self) -> None:
        """Wait no longer for an engine that is being compiled: the daemon stops."""
        if self._opening is not None:
            for worker in (self._opening.wanted, self._opening.other):
                if worker is not None:
                    self._retired.take(worker)
            self._opening = None

    def adopt_opened(self) -> None:
        """Let the worker that `prepare` compiled take over. No batch may be under way.

        Raises EngineError, ModelError or AxisError if the run cannot be computed; then the old worker stays.
        """
        opening, self._opening = self._opening, None
        if opening is None:
            return
        wanted, other = opening.wanted, opening.other
        if not opening.stands_in:
            self._drop_awaited()  # for the axis before
        if other is not None and other.works and not wanted.works:
            if opening.stands_in:
                self._retired.take(wanted)
                self._take_over(other)
            else:
                self._stand_in(other, wanted)
            return
        if other is not None:
            self._retired.take(other)
        if wanted.overdue():
            self._retired.take(wanted)
            raise EngineError(TOO_LONG)
        if not wanted.works:
            wanted.close()
            wanted.ready.result()  # raises
        if wanted.successor is not wanted:
            self._retired.take(wanted)
        self._take_over(wanted.successor)
        if not opening.stands_in:
            self._wanted.computes()

    def _stand_in(self, other: Worker, wanted: Worker) -> None:
        """Have another worker compute than the one that was wanted, which failed or takes long."""
        self._take_over(other)
        if wanted.ready.done():
            wanted.close()
            self._wanted.failed(str(wanted.ready.exception()), other)
            return
        self._wanted.compiles(other)
        if self._change is None:
            self._await(wanted)
        else:  # a reload; if that fails, it is compiled again
            self._retired.take(wanted)
            self._wanted.owed = True

    def _await(self, worker: Worker) -> None:
        self._wanted.owed = False
        self._change = Change(worker, self.model, self.engine, awaited=True)

    def _drop_awaited(self) -> None:
        """Something else has to be compiled first."""
        change = self._change
        if change is not None and change.awaited:
            self._change, self._wanted.owed = None, True
            self._let_go(change)

    def set_dark(self, dark: Slab, name: str) -> None:
        """Subtract this dark from all batches that are submitted from now on."""
        self._dark = (dark, name)
        for worker in (self.worker, self.shadow.worker if self.shadow else None):
            if worker is not None and len(worker.raman_shift) == len(dark):
                worker.set_dark(dark, name)

    def failed(self) -> None:
        """The worker lost a batch: begin to compile another one, of the same kind of engine. After
        MAX_FAILURES failures in a row it is of the next kind that works."""
        self.counters.failures += 1
        if self.worker is None or (self._change is not None and self._change.repairs):
            return
        name = self.worker.engine.name
        others = [kind for kind in retrieving() if kind != name]
        kinds = [name, *others] if self.worker.failures < MAX_FAILURES else [*others, name]
        self._drop_awaited()
        if self._change is not None:
            self._dismiss("the engine failed meanwhile; ask again")
        self._repair(self.worker, kinds)

    def _repair(self, broken: Worker, kinds: list[str]) -> None:
        fresh = self._new_worker(broken.model, kinds, broken.raman_shift, broken.max_batch)
        fresh.failures = broken.failures
        self._change = Change(fresh, broken.model, self.engine, repairs=True)

    # -- on request ---------------------------------------------------------------------------------

    def reload(self, model: str | None, engine: str | None, answer: Answer) -> None:
        """Have another model, engine or both take over as soon as they are compiled and checked.

        The answer comes then. Raises EngineError if there is no such engine or another change is under way.
        """
        kind = self.engine if engine is None else known(engine)
        if self._asked:
            raise EngineError("another change is under way; ask again when it is done")

        def compile_it(wanted: Model) -> None:
            if self._asked:
                raise EngineError("another change was begun meanwhile; ask again when it is done")
            self._drop_awaited()
            self._change = Change(self._beside(wanted, kind), wanted, kind, answer)

        self._give(model, compile_it, answer)

    def start_shadow(self, model: str | None, engine: str | None, every: int, answer: Answer) -> None:
        """Have a candidate compute every n-th batch, too, as soon as its model is read.

        Raises EngineError if there is no such engine, or while another candidate is being compiled, even one
        that was given up: two at once would take too much memory and too many cores.
        """
        kind = self.engine if engine is None else known(engine)
        candidates = [*self._retired, *([self.shadow.worker] if self.shadow else [])]
        if not all(each.ready.done() for each in candidates):
            raise EngineError("another candidate is still being compiled; ask again when it is done")

        def cast_it(wanted: Model) -> None:
            self.stop_shadow()
            self.shadow = Shadow(self._beside(wanted, kind), wanted, kind, every)
            if self._dark is not None and len(self._dark[0]) == len(self.shadow.worker.raman_shift):
                self.shadow.worker.set_dark(*self._dark)
            answer(None, {"shadow": self.shadow.describe()})

        self._give(model, cast_it, answer)

    def stop_shadow(self) -> None:
        """No candidate any more."""
        if self.shadow is not None:
            self._retired.take(self.shadow.worker)
            self.shadow = None

    def promote(self, answer: Answer) -> None:
        """Have the shadow take over. Raises EngineError if there is none that works."""
        shadow = self.shadow
        if shadow is None:
            raise EngineError("there is no shadow; begin one with `shadow`")
        if self._asked:
            raise EngineError("another change is under way; ask again when it is done")
        if shadow.error is not None:
            raise EngineError(f"the shadow does not work: {shadow.error}")
        self.shadow = None
        self._drop_awaited()
        self._change = Change(shadow.worker, shadow.model, shadow.engine, answer)

    # -- when the socket was readable ---------------------------------------------------------------

    def ring(self) -> None:
        """Take one message from the socket, which must have one. It stays readable while there are more."""
        self.socket.recv(zmq.NOBLOCK)

    def settle(self) -> Worker | None:
        """Finish changes whose worker is compiled. Returns the worker that takes over now, or None."""
        self._retired.close_idle()
        if self.shadow is not None:
            self.shadow.settle()
        self._library.settle()
        if self._opening is not None:
            self._opening.look()
        worker, change = self.worker, self._change
        if change is None and self._wanted.owed and self._opening is None and worker and not worker.broken:
            self._await(self._beside(self.model, self.engine))
            return None
        if change is None and self.down and worker is not None and time.monotonic() > self._retry_at:
            self._repair(worker, [worker.engine.name, *(k for k in retrieving() if k != worker.engine.name)])
            return None
        if change is not None and change.worker.overdue(REPAIR_S if change.repairs else None):
            self._dismiss(f"it was not compiled within {REPAIR_S:g} s" if change.repairs else TOO_LONG)
            return None
        if change is None or not change.worker.ready.done() or self._opening is not None:
            return None
        self._change = None
        error = change.worker.ready.exception()
        if error is not None:
            self._let_go(change)
            self._refuse(change, str(error))
            return None
        if (follower := change.worker.successor) is not change.worker:
            self._retired.take(change.worker)  # it has nothing of its own
            change.worker, change.before = follower, None
        elif change.before is not None:
            self._retired.take(change.before)
            change.before = None
        worker = change.worker
        if self.worker is not None and not worker.fits(
            change.model.of_source(self._source), self.worker.raman_shift, self.worker.max_batch
        ):
            # Another run has begun meanwhile, and the new worker does not fit its axis: it follows, or
            # another one is compiled.
            change.before = worker
            change.worker = self._beside(change.model, change.engine, instead=worker)
            self._change = change
            return None
        self._accept(change)
        return worker

    def close(self) -> None:
        """Stop all threads and give the engines back."""
        self.stop_shadow()
        self._library.close()
        self._drop_awaited()
        if self._change is not None:
            self._dismiss("the daemon stops")
        self.give_up()
        close_now([each for each in (*self._retired, self.worker) if each is not None])
        self.socket.close(0)

    # -- helpers ------------------------------------------------------------------------------------

    def _reusable(self, max_batch: int) -> Worker | None:
        """The worker, if its engine may go on with another run: it works, and is what was asked for."""
        worker = self.worker
        if worker is None or worker.broken or worker.max_batch < max_batch or not self._wanted.met(worker):
            return None
        return worker

    @property
    def _standing_in(self) -> Worker | None:
        """The worker that computes while what was asked for is being compiled, if it goes on with another run
        until then."""
        worker, change = self.worker, self._change
        if (
            worker is None
            or worker.broken
            or change is None
            or not change.awaited
            or change.worker.ready.done()
        ):
            return None
        return worker

    @property
    def _asked(self) -> bool:
        """Whether a change is under way that nothing else may displace."""
        return self._change is not None and not self._change.awaited

    def _follow(self, axis: NDArray[np.float64]) -> None:
        """A shadow is compared on the axis of the run. Compile it again if this run has another axis."""
        shadow = self.shadow
        if shadow is not None and not np.array_equal(shadow.worker.raman_shift, axis):
            self._retired.take(shadow.worker)
            size = shadow.worker.max_batch
            worker = self._new_worker(shadow.model, [shadow.engine], axis, size)
            self.shadow = Shadow(worker, shadow.model, shadow.engine, shadow.every)

    def _give(self, name: str | None, then: Callable[[Model], None], answer: Answer) -> None:
        """Call `then` with the present model (None), or with another one once it is read. Raises
        EngineError."""
        if name is None:
            then(self.model)
        else:
            self._library.ask(name, then, answer)

    def _beside(self, model: Model, engine: str, instead: Worker | None = None) -> Worker:
        """A worker for the present axis and instrument, or what makes `instead` follow them."""
        now, model = self.worker, model.of_source(self._source)
        axis, size = (
            (model.nominal_axis, self._max_batch) if now is None else (now.raman_shift, now.max_batch)
        )
        if instead is not None and instead.max_batch < size:
            instead = None
        return self._new_worker(model, [engine], axis, size, instead=instead)

    def _let_go(self, change: Change) -> None:
        for worker in (change.worker, change.before):
            if worker is not None:
                self._retired.take(worker)

    def _take_over(self, worker: Worker) -> None:
        old, self.worker = self.worker, worker
        self.down = None
        if old is not None and old is not worker:
            self._retired.take(old)
        if self._dark is not None and len(self._dark[0]) == len(worker.raman_shift):
            worker.set_dark(*self._dark)

    def _accept(self, change: Change) -> None:
        old = self.worker
        self._take_over(change.worker)
        self.model = change.model
        description = change.worker.engine.describe()
        if change.repairs:
            self.counters.replacements += 1
            if old is not None and old.engine.name != change.worker.engine.name:
                self._wanted.instead = f"{old.engine.name} failed"
                change.worker.failures = 0  # the failures counted so far were another kind's
            log.warning("the engine failed; it is replaced by %s", description)
            return
        if change.awaited:
            self._wanted.computes()
            log.info("%s is compiled and takes over", description)
            return
        self._wanted.change(change.engine)
        self.counters.reloads += 1
        log.info("model %s on %s takes over", change.model.card.name, description)
        change.tell(description)

    def _refuse(self, change: Change, reason: str) -> None:
        if change.repairs:
            log.error("no engine can take over, trying what there is again: %s", reason)
            if self.worker is not None and not self.worker.hung:
                self.worker.broken = False
            else:  # a batch given to a hung engine never comes back
                self.down = f"no engine works any more, spectra are lost; tried again every {RETRY_S:g} s"
                self._retry_at = time.monotonic() + RETRY_S
            return
        if change.awaited and self.worker is not None:
            self._wanted.failed(reason, self.worker)
            return
        self.counters.reloads_failed += 1
        log.warning("model %s does not take over: %s", change.model.card.name, reason)
        if change.answer is not None:
            change.answer(f"{change.model.card.name} does not take over: {reason}", {})

    def _dismiss(self, reason: str) -> None:
        change, self._change = self._change, None
        if change is not None:
            self._let_go(change)
            self._refuse(change, reason)
