"""Changes of what computes: on request, for an engine that failed, and to the one asked for from the start.

A new worker is compiled and checked while the present one goes on computing. It takes over between two
batches. One change is under way at a time, and beside it a repair: what is asked for may be the remedy.
"""

import logging
import time
from collections import Counter
from dataclasses import dataclass

from cars_rt.daemon.compute.compiling import TOO_LONG
from cars_rt.daemon.compute.counters import Counters
from cars_rt.daemon.compute.retired import Retired
from cars_rt.daemon.compute.serving import Serving
from cars_rt.daemon.compute.shadow import Shadow
from cars_rt.daemon.compute.wanted import Wanted
from cars_rt.daemon.compute.worker import ANSWER_S, Worker
from cars_rt.engines import EngineError, Model, retrieving
from cars_rt.sockets.control import Answer

log = logging.getLogger("cars_rt.daemon")

MAX_FAILURES = 3  # batches in a row that one kind of engine may lose before the next kind takes over
REPAIR_S = 120.0  # how long a replacement may compile: spectra wait for it
RETRY_S = 30.0  # between two attempts to have any engine work again
ALL_FAILED = f"every kind of engine that works here lost {MAX_FAILURES} batches in a row"


@dataclass
class Change:
    """A worker that is being compiled, and what for."""

    worker: Worker
    model: Model
    engine: str
    answer: Answer | None = None  # of a request
    repairs: bool = False
    awaited: bool = False  # what was asked for from the start; another engine stands in for it
    before: Worker | None = None  # compiled for an earlier axis, which the worker may have follow

    def tell(self, description: str) -> None:
        """Answer the request, if there was one, that the engine of this description computes now."""
        if self.answer is not None:
            card = self.model.card
            told = {"model": card.name, "version": card.version, "sha256": self.model.sha256}
            self.answer(None, told | {"engine": description})


class Changes:
    """Begins a change, and ends it: it is accepted, refused, or dismissed for something more urgent."""

    def __init__(self, serving: Serving, wanted: Wanted, retired: Retired, counters: Counters) -> None:
        self._serving, self._wanted = serving, wanted
        self._retired, self._counters = retired, counters
        self._change: Change | None = None
        self._repair: Change | None = None
        self._failures: Counter[str] = Counter()  # in a row, by kind of engine
        self._before: tuple[Model, str] | None = None  # and engine; until the present one computed a batch
        self._retry_at = 0.0

    @property
    def asked(self) -> bool:
        """Whether a change is under way that nothing else that is asked for may displace."""
        return self._change is not None and not self._change.awaited

    @property
    def repairing(self) -> Worker | None:
        """The worker that is compiled for one that failed; spectra wait for it."""
        return None if self._repair is None else self._repair.worker

    @property
    def awaited(self) -> Worker | None:
        """The worker that was asked for from the start, while another one stands in for it."""
        change = self._change
        return change.worker if change is not None and change.awaited else None

    # -- begin --------------------------------------------------------------------------------------

    def reload(self, model: Model, engine: str, answer: Answer, *, in_run: bool) -> None:
        """Have this model on this engine take over. The answer comes then. in_run: see `settle`.

        Raises EngineError if another change is under way, or if it could not take over in the run.
        """
        if self.asked:
            raise EngineError("another change was begun meanwhile; ask again when it is done")
        if (error := self._unlike_run(model, in_run=in_run)) is not None:
            raise error
        self.drop_awaited()
        self._change = Change(self._serving.compile_alike(model, engine), model, engine, answer)

    def promote(self, shadow: Shadow, answer: Answer, *, in_run: bool) -> None:
        """Have the shadow take over. Raises EngineError if it does not work, another change is under way, or
        it could not take over in the run (in_run: see `settle`)."""
        if self.asked:
            raise EngineError("another change is under way; ask again when it is done")
        if shadow.error is not None:
            raise EngineError(f"the shadow does not work: {shadow.error}")
        if (seconds := shadow.computing_s) > ANSWER_S:
            raise EngineError(f"the shadow has been computing one batch for {seconds:.0f} s; ask again later")
        if (error := self._unlike_run(shadow.model, in_run=in_run)) is not None:
            raise error
        self.drop_awaited()
        self._change = Change(shadow.worker, shadow.model, shadow.engine, answer)

    def _unlike_run(self, model: Model, *, in_run: bool) -> EngineError | None:
        target, now = model.card.target, self._serving.model.card.target
        if not in_run or target == now:
            return None
        return EngineError(
            f"the model's results are another quantity ({target}) than those of the open run ({now}); "
            "ask again when that is over"
        )

    def wait_for(self, worker: Worker) -> None:
        """Have the worker that was asked for from the start take over as soon as it is compiled. A change on
        request goes before: then it is compiled again."""
        if self._change is None:
            self._wanted.owed = False
            self._change = Change(worker, self._serving.model, self._wanted.engine, awaited=True)
        else:
            self._retired.take(worker)
            self._wanted.owed = True

    def drop_awaited(self) -> None:
        """Something else has to be compiled first."""
        if self._change is not None and self._change.awaited:
            self._wanted.owed = True
            self._drop(self._change)

    def drop_repair(self) -> None:
        """What failed does not compute any more."""
        if self._repair is not None:
            self._drop(self._repair)

    def replace_failed(self, broken: Worker) -> None:
        """A worker lost a batch: begin to compile another one, of the same kind of engine. After
        MAX_FAILURES failures in a row it is of the next kind that works. Nothing if another one computes
        already: then the batch was one of the last before that took over."""
        if broken is not self._serving.worker or self.repairing is not None:
            return
        self.drop_awaited()
        if broken.computed:
            self._failures.clear()
            self._before = None
        self._failures[broken.engine.name] += 1
        self._begin_repair(broken)

    def _begin_repair(self, broken: Worker) -> None:
        name, model = broken.engine.name, self._serving.model
        kinds = [name, *(kind for kind in retrieving() if kind != name)]
        kinds = [kind for kind in kinds if self._failures[kind] < MAX_FAILURES]
        if not kinds:
            self._give_up_model(ALL_FAILED)
            return
        fresh = self._serving.compile(broken.model, kinds, broken.raman_shift, broken.max_batch)
        self._repair = Change(fresh, model, self._wanted.engine, repairs=True)

    def _give_up_model(self, reason: str) -> None:
        """No engine computes it. Back to the one before, if this one took its place and never computed."""
        name, before = self._serving.model.card.name, self._before
        if before is not None:
            log.error("no engine computes %s (%s); back to %s", name, reason, before[0].card.name)
            self._before = None
            self._repair = Change(self._serving.compile_alike(*before), *before, repairs=True)
            return
        log.error("no engine computes %s, spectra are lost: %s", name, reason)
        self._serving.down = (
            f"no engine works any more, spectra are lost; tried again every {RETRY_S:g} s, or another model "
            "with `cars-rt ctl reload`"
        )
        self._retry_at = time.monotonic() + RETRY_S

    # -- end ----------------------------------------------------------------------------------------

    def settle(self, *, opening: bool, in_run: bool) -> Worker | None:
        """Finish a change whose worker is compiled. Returns the worker that takes over now, or None.

        opening: an engine is being opened for a run; nothing takes over meanwhile. in_run: no model whose
        results are another quantity takes over.
        """
        worker = self._serving.worker
        if worker is not None and worker.broken and not (opening or self._serving.down):
            self.replace_failed(worker)  # also one that broke before it took over, of which no batch tells
        if self._repair is None:
            self._begin_due(opening=opening)
        # What was asked for first: nothing waits for the repair of an engine in whose place that computes.
        return self._settle(self._change, opening, in_run) or self._settle(self._repair, opening, in_run)

    def _settle(self, change: Change | None, opening: bool, in_run: bool) -> Worker | None:
        if change is None:
            return None
        if change.worker.overdue(REPAIR_S if change.repairs else None):
            self._drop(change)
            self._refuse(change, f"it was not compiled within {REPAIR_S:g} s" if change.repairs else TOO_LONG)
            return None
        if opening or not change.worker.ready.done():
            return None
        return self._finish(change, in_run=in_run)

    def dismiss(self, reason: str) -> None:
        """Give up what is under way, if anything is."""
        self.drop_repair()
        if (change := self._change) is not None:
            self._drop(change)
            self._refuse(change, reason)

    def _drop(self, change: Change) -> None:
        self._over(change)
        self._let_go(change)

    def _over(self, change: Change) -> None:
        if change.repairs:
            self._repair = None
        else:
            self._change = None

    def _begin_due(self, *, opening: bool) -> None:
        """Begin what nobody has to ask for: the engine that is owed, or another attempt after all failed."""
        worker = self._serving.worker
        if self._wanted.owed and self._change is None and not opening and self._serving.works:
            self.wait_for(self._serving.compile_alike(self._serving.model, self._wanted.engine))
        elif self._serving.down and worker is not None and time.monotonic() > self._retry_at:
            self._failures.clear()
            self._begin_repair(worker)

    def _finish(self, change: Change, *, in_run: bool) -> Worker | None:
        error = change.worker.ready.exception()
        if error is None and change.worker.broken:
            error = EngineError("its engine failed before it took over")
        if error is None:  # a run may have begun meanwhile
            error = self._unlike_run(change.model, in_run=in_run)
        if error is not None:
            self._drop(change)
            self._refuse(change, str(error))
            return None
        if (follower := change.worker.successor) is not change.worker:
            self._retired.take(change.worker)  # it has nothing of its own
            change.worker, change.before = follower, None
        elif change.before is not None:
            self._retired.take(change.before)
            change.before = None
        worker = change.worker
        if not self._serving.suits(worker, change.model):
            # Another run has begun meanwhile, and the new worker does not fit its axis: it follows, or
            # another one is compiled.
            change.before = worker
            change.worker = self._serving.compile_alike(change.model, change.engine, instead=worker)
            return None
        self._over(change)
        self._accept(change)
        return worker

    def _accept(self, change: Change) -> None:
        old, model = self._serving.worker, self._serving.model
        self._serving.take_over(change.worker)
        self._serving.model = change.model
        self.drop_repair()  # of an engine that computes no more
        description = change.worker.engine.describe()
        other = change.model.sha256 != model.sha256
        if change.repairs:
            self._counters.replacements += 1
            if other:
                self._begin_anew(change)
            elif old is not None and old.engine.name != change.worker.engine.name:
                self._wanted.instead = f"{old.engine.name} failed"
            log.warning("the engine failed; it is replaced by %s", description)
            return
        if change.awaited:
            self._wanted.computes()
            log.info("%s is compiled and takes over", description)
            return
        if other:
            alike = change.model.card.target == model.card.target
            self._before = (model, self._wanted.engine) if alike else None
        self._begin_anew(change)
        self._counters.reloads += 1
        log.info("model %s on %s takes over", change.model.card.name, description)
        change.tell(description)

    def _begin_anew(self, change: Change) -> None:
        self._wanted.change(change.engine)
        self._failures.clear()

    def _refuse(self, change: Change, reason: str) -> None:
        worker = self._serving.worker
        if change.repairs:
            spent = worker is not None and self._failures[worker.engine.name] >= MAX_FAILURES
            # A batch given to a hung engine never comes back.
            if worker is None or worker.hung or spent:
                self._give_up_model(ALL_FAILED if spent else reason)
                return
            log.error("no engine can take over, trying what there is again: %s", reason)
            worker.broken = worker.computed = False
            return
        if change.awaited and worker is not None:
            self._wanted.failed(reason, worker)
            return
        self._counters.reloads_failed += 1
        log.warning("model %s does not take over: %s", change.model.card.name, reason)
        if change.answer is not None:
            change.answer(f"{change.model.card.name} does not take over: {reason}", {})

    def _let_go(self, change: Change) -> None:
        for worker in (change.worker, change.before):
            if worker is not None:
                self._retired.take(worker)
