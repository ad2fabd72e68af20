"""The daemon's engine, as its loop and its commands see it.

What computes now is in `serving`, the changes of it that are under way in `changes`. Here it is opened for a
run.
"""

import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import zmq
from numpy.typing import NDArray

import cars_rt
from cars_rt.daemon.compute.changes import Changes
from cars_rt.daemon.compute.compiling import TOO_LONG
from cars_rt.daemon.compute.counters import Counters
from cars_rt.daemon.compute.library import Library, load_with
from cars_rt.daemon.compute.opening import Opening
from cars_rt.daemon.compute.retired import Retired, close_now
from cars_rt.daemon.compute.serving import Serving
from cars_rt.daemon.compute.shadow import Shadow
from cars_rt.daemon.compute.wanted import Wanted, known
from cars_rt.daemon.compute.worker import Worker
from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric
from cars_rt.engines import EngineError, Model
from cars_rt.engines.base import Slab, usable_cores
from cars_rt.printable import printable
from cars_rt.protocol import Start
from cars_rt.sockets.control import Answer

log = logging.getLogger("cars_rt.daemon")


class Compute:
    """Opens an engine for each run, and passes on what is asked for while it computes.

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
        first = load(model)
        self._wanted = Wanted(engine, stand_in=stand_in)
        self._stands_in = stand_in
        self.counters = Counters()
        self.shadow: Shadow | None = None
        self._opening: Opening | None = None  # compiled for a run, which waits for it
        self._retired = Retired()
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
        bell = f"inproc://compute-{id(self)}"
        self.socket.bind(bell)
        self._library = Library(load, bell)
        threads = threads or max(usable_cores() // 2, 1)
        new_worker = partial(Worker, threads=threads, bell=bell, deviation=deviation)
        self._serving = Serving(first, max_batch, new_worker, self._retired)
        self._in_run = False  # when it settled last
        self._changes = Changes(self._serving, self._wanted, self._retired, self.counters)

    # -- what computes ------------------------------------------------------------------------------

    @property
    def worker(self) -> Worker | None:
        """Who computes; None before the first engine is there."""
        return self._serving.worker

    @property
    def model(self) -> Model:
        """The model that was asked for."""
        return self._serving.model

    @property
    def engine(self) -> str:
        """The engine that was asked for, by its name."""
        return self._wanted.engine

    @property
    def instead(self) -> str:
        """Why another engine computes than the one that was asked for, in words; empty if none does."""
        awaited = self._changes.awaited
        return self._wanted.instead if awaited is None else self._wanted.progress(awaited)

    @property
    def down(self) -> str | None:
        """Why no engine works, until the next attempt; None while one does."""
        return self._serving.down

    @property
    def room(self) -> tuple[int, int]:
        """Spectra in a slab, and slabs, of which there are none before the first engine."""
        worker = self.worker
        if worker is None:
            return self._serving.max_batch, 0
        return worker.max_batch, len(worker.engine.inputs)

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

    def set_dark(self, dark: Slab, name: str) -> None:
        """Subtract this dark from all batches that are submitted from now on."""
        self._serving.set_dark(dark, name)
        if self.shadow is not None:
            self._serving.give_dark(self.shadow.worker)

    # -- opened for a run ---------------------------------------------------------------------------

    def prepare(self, start: Start | None) -> None:
        """Begin to compile for a run, unless that is done already. `opened` says when it has ended.

        start: None before any run, to warm up.
        """
        serving = self._serving
        serving.source = None if start is None else start.source
        model = serving.model.of_source(serving.source)
        axis = model.nominal_axis if start is None else start.raman_shift  # None: to warm up
        max_batch = max(serving.max_batch, 1 if start is None else start.block)
        worker = serving.worker
        self._have_shadow_follow(axis, max_batch)
        if worker is None or worker.broken or not worker.fits(model, axis, max_batch):
            self._opening = self._open(model, axis, max_batch)

    def _open(self, model: Model, axis: NDArray[np.float64], max_batch: int) -> Opening:
        serving, awaited = self._serving, self._changes.awaited
        another = partial(serving.compile, model, raman_shift=axis, max_batch=max_batch)
        working = serving.worker if serving.works else None
        reusable = working if working is not None and working.max_batch >= max_batch else None
        if working is not None and awaited is not None and not awaited.ready.done():
            # It stands in for what is awaited, and goes on with this run; that follows when it is there.
            name, stands_in = working.engine.name, True
        else:
            name, stands_in = self.engine, False
            if reusable is not None and not self._wanted.met(reusable):
                reusable = None
        wanted = serving.compile(model, [name], axis, max_batch, instead=reusable)
        return Opening(wanted, name, another if self._stands_in else None, stands_in=stands_in)

    @property
    def opened(self) -> bool:
        """Whether what `prepare` began has ended, well or not."""
        return self._opening is None or self._opening.over

    @property
    def compiling(self) -> str:
        """The compilation that spectra wait for, in words; empty if they wait for none."""
        if self._opening is not None:
            worker, text = self._opening.wanted, "compiling"
        elif (repairing := self._changes.repairing) is not None:
            worker, text = repairing, "the engine failed; compiling another for"
        else:
            return ""
        return f"{text} {printable(worker.model.card.name)} ({worker.compiling.so_far})"

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
        if wanted.works or (other is not None and other.works):
            self._changes.drop_repair()
        if not opening.stands_in:
            self._changes.drop_awaited()  # for the axis before
        if other is not None and other.works and not wanted.works:
            self._serving.take_over(other)
            if opening.stands_in:
                self._retired.take(wanted)
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
        self._serving.take_over(wanted.successor)
        if not opening.stands_in:
            self._wanted.computes()

    def _stand_in(self, other: Worker, wanted: Worker) -> None:
        """Another worker computes than the one that was wanted, which failed or takes long."""
        if wanted.ready.done() and (reason := wanted.ready.exception()) is not None:
            wanted.close()
            self._wanted.failed(str(reason), other)
        else:
            self._wanted.compiles(other)
            self._changes.wait_for(wanted)

    # -- on request ---------------------------------------------------------------------------------

    def reload(self, model: str | None, engine: str | None, answer: Answer) -> None:
        """Have another model, engine or both take over as soon as they are compiled and checked.

        The answer comes then. Raises EngineError if there is no such engine or another change is under way.
        """
        kind = self.engine if engine is None else known(engine)
        if self._changes.asked:
            raise EngineError("another change is under way; ask again when it is done")

        def reload_it(wanted: Model) -> None:
            self._changes.reload(wanted, kind, answer, in_run=self._in_run)

        self._give(model, reload_it, answer)

    def start_shadow(self, model: str | None, engine: str | None, every: int, answer: Answer) -> None:
        """Have a candidate compute every n-th batch, too, as soon as its model is read.

        Raises EngineError if there is no such engine, or while another candidate is being compiled, even one
        that was given up: two at once would take too much memory and too many cores.
        """
        kind = self.engine if engine is None else known(engine)
        self._refuse_second_candidate()

        def cast_it(wanted: Model) -> None:
            self._refuse_second_candidate()  # one may have been begun while this model was read
            if (target := wanted.card.target) != (now := self.model.card.target):
                raise EngineError(
                    f"the results of {wanted.card.name} are another quantity ({target}) than those of "
                    f"{self.model.card.name} ({now}), and cannot be compared; "
                    "try it with `reload` between two runs"
                )
            self.stop_shadow()
            self.shadow = Shadow(self._serving.compile_alike(wanted, kind), wanted, kind, every)
            self._serving.give_dark(self.shadow.worker)
            answer(None, {"shadow": self.shadow.describe()})

        self._give(model, cast_it, answer)

    def _refuse_second_candidate(self) -> None:
        candidates = [*self._retired, *([self.shadow.worker] if self.shadow else [])]
        if not all(each.ready.done() for each in candidates):
            raise EngineError("another candidate is still being compiled; ask again when it is done")

    def stop_shadow(self) -> None:
        """No candidate any more."""
        if self.shadow is not None:
            self._retired.take(self.shadow.worker)
            self.shadow = None

    def promote(self, answer: Answer, *, in_run: bool) -> None:
        """Have the shadow take over (in_run: see `settle`). Raises EngineError if there is none that works
        and could take over; it stays then."""
        if self.shadow is None:
            raise EngineError("there is no shadow; begin one with `shadow`")
        self._changes.promote(self.shadow, answer, in_run=in_run)
        self.shadow = None

    def _give(self, name: str | None, then: Callable[[Model], None], answer: Answer) -> None:
        """Call `then` with the present model (None), or with another one once it is read. Raises
        EngineError."""
        if name is None:
            then(self.model)
        else:
            self._library.ask(name, then, answer)

    def _have_shadow_follow(self, axis: NDArray[np.float64], max_batch: int) -> None:
        """A shadow is compared on the axis of the run, for its instrument. Compile it again if either is
        another one. Where that cannot be begun, the shadow says so, and the run goes on."""
        shadow = self.shadow
        if shadow is None:
            return
        old = shadow.worker
        try:
            model = shadow.model.of_source(self._serving.source)
            if old.model.sha256 == model.sha256 and np.array_equal(old.raman_shift, axis):
                return
            worker = self._serving.compile(model, [shadow.engine], axis, max_batch)
        except Exception as error:
            shadow.error = f"it could not follow a run: {error}; begin it anew with `shadow`"
            log.exception("the shadow could not follow a run")
            return
        self._retired.take(old)
        self.shadow = Shadow(worker, shadow.model, shadow.engine, shadow.every)

    # -- when the socket was readable, or a batch failed --------------------------------------------

    def ring(self) -> None:
        """Take one message from the socket, which must have one. It stays readable while there are more."""
        self.socket.recv(zmq.NOBLOCK)

    def settle(self, *, in_run: bool) -> Worker | None:
        """Finish changes whose worker is compiled. Returns the worker that takes over now, or None. in_run:
        results of a run are being published, whose `start` said what they are."""
        self._in_run = in_run
        self._retired.close_idle()
        if self.shadow is not None:
            self.shadow.settle()
        self._library.settle()
        if self._opening is not None:
            self._opening.look()
        return self._changes.settle(opening=self._opening is not None, in_run=in_run)

    def failed(self, worker: Worker) -> None:
        """A worker lost a batch: have another one take its place."""
        self.counters.failures += 1
        self._changes.replace_failed(worker)

    def close(self) -> None:
        """Stop all threads and give the engines back."""
        self.stop_shadow()
        self._library.close()
        self._changes.drop_awaited()
        self._changes.dismiss("the daemon stops")
        self.give_up()
        close_now([each for each in (*self._retired, self.worker) if each is not None])
        self.socket.close(0)
