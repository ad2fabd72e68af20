"""One engine and its two threads.

The first thread owns the engine, since a GPU context belongs to one thread. The second one judges the
results of a batch while the engine computes the next.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cars_rt.daemon.compute.compiling import COMPILE_S, Compiling
from cars_rt.daemon.compute.jobs import Jobs
from cars_rt.daemon.compute.judging import Judging
from cars_rt.engines import Engine, EngineError, Graph, Model, ModelError, adopted, compose, give_up
from cars_rt.engines.base import Slab
from cars_rt.physics.axis import AxisError
from cars_rt.physics.fitness import Flags
from cars_rt.protocol import FLAGS
from cars_rt.protocol.messages import MAIN_ARRAY

log = logging.getLogger("cars_rt.daemon")

ANSWER_S = 5.0  # longer at one batch, an engine may hang: no stop waits for it, no candidate takes over
FOLLOW_S = 10.0  # that an engine may take to copy what another axis needs, and for a probe batch

RAMAN = MAIN_ARRAY["raman"]

Result = TypeVar("Result")


class NotComputedError(Exception):
    """The engine failed on an earlier batch and has not touched this one."""


class Worker:
    """Compiles a model for an axis, on the first kind of engine that works, then computes batches.

    Everything that touches the engine is done in its thread, in order; each method returns at once.
    """

    def __init__(
        self,
        model: Model,
        kinds: Sequence[str],
        raman_shift: NDArray[np.float64],
        max_batch: int,
        threads: int,
        bell: str,
        *,
        deviation: bool = False,
        instead: "Worker | None" = None,
    ) -> None:
        """bell: address of a ZeroMQ PULL socket in this process. deviation: also compute the
        standard deviation, if the model states it. instead: a worker that is asked for nothing meanwhile.
        If its engine can compute this axis as it is, nothing is compiled, and that worker is `successor`."""
        self.model = model
        self.raman_shift = raman_shift
        self.max_batch = max_batch
        self.free: deque[int] = deque()  # slabs that nobody uses; none before it is ready
        self.dark = "none"  # id of the dark that is subtracted from the next batches
        self.computed = False  # a batch, so far
        self.broken = False  # failed once: it computes nothing more
        self.hung = False  # the engine does not answer at all
        self._dark_fault: BaseException | None = None  # why it has another dark than it was given
        self.compiling = Compiling(kinds, max_batch, threads)
        self._follower: Worker | None = None
        self._engine: Engine | None = None
        self._judge: Judging | None = None  # once it is compiled
        self._judging = Jobs(f"flags {model.card.name}", bell, lambda: None)
        self._computing = Jobs(f"engine {model.card.name}", bell, self._end)
        self.ready: Future[None] = self._ask(partial(self._compile, deviation, instead))

    @property
    def engine(self) -> Engine:
        """The compiled engine. RuntimeError before `ready` is done."""
        if self._engine is None:
            raise RuntimeError("the engine is not compiled yet")
        return self._engine

    @property
    def successor(self) -> "Worker":
        """Who computes once this one is ready."""
        return self._follower or self

    @property
    def works(self) -> bool:
        """Whether it is compiled."""
        return self.ready.done() and self.ready.exception() is None

    def overdue(self, limit_s: float | None = None) -> bool:
        """Whether it has been compiling for longer than this (without it: COMPILE_S), and is given up."""
        return not self.ready.done() and self.compiling.seconds > (COMPILE_S if limit_s is None else limit_s)

    @property
    def idle(self) -> bool:
        """Whether all slabs came back, if it ever had some."""
        if self._follower is not None:
            return True
        return self._engine is not None and len(self.free) == len(self._engine.inputs)

    @property
    def made_by(self) -> str:
        """What made the results, as they say it: the model's hash, the engine, the dark."""
        return f"{self.model.sha256[:16]} {self.engine.name} {self.dark}"

    def fits(self, model: Model, raman_shift: NDArray[np.float64], max_batch: int) -> bool:
        """Whether it can compute a run of this axis with this model."""
        return (
            self._engine is not None
            and self.model.sha256 == model.sha256
            and self.max_batch >= max_batch
            and np.array_equal(self.raman_shift, raman_shift)
        )

    def follows(self, model: Model, graph: Graph) -> bool:
        """Compute this graph of a model from now on, if that takes no compiling; else nothing changes. Waits
        for the engine, for a limited time: to be asked from a thread that may."""
        try:
            return self._computing.ask(partial(self._follow, model, graph)).result(FOLLOW_S)
        except TimeoutError:
            self.broken = self.hung = True
            return False

    def set_dark(self, dark: Slab, name: str) -> None:
        """Subtract this dark (pixels,) from batches submitted from now on."""
        self.dark = name
        self._ask(lambda: self._set_dark(dark))

    def compute(
        self,
        slab: int,
        rows: int,
        weights: NDArray[np.float32] | None = None,
        full_scale: float | None = None,
    ) -> "Future[Computed]":
        """Compute the first rows of a slab. The future holds EngineError if the engine failed on this batch,
        NotComputedError if it failed on an earlier one.

        weights (pixels, bands): compute the band intensities, too. full_scale: counts at which the
        camera saturates, if known.
        """
        launch = partial(self._guarded, partial(self._launch, slab, rows, weights, full_scale))
        if self.engine.overlaps and self.engine.retrieves:
            return self._computing.ask_begun(launch, self._judging)
        # Where nothing is retrieved there is nothing to judge.
        return self._computing.ask_first(lambda: launch()(), self._judging if self.engine.retrieves else None)

    def give_up(self) -> None:
        """Compile no longer, as far as that can be stopped: the process in which engines are tried."""
        if not self.ready.done():
            give_up(self._computing.thread)

    def close(self) -> None:
        """Let the threads end once they have done what they were asked for; does not wait for them."""
        self._computing.close()

    def join(self, timeout_s: float) -> bool:
        """Wait for the threads; False if the engine hangs."""
        return self._computing.join(timeout_s) and self._judging.join(timeout_s)

    # -- in the engine's thread ---------------------------------------------------------------------

    def _ask(self, function: Callable[[], Result]) -> "Future[Result]":
        return self._computing.ask(partial(self._guarded, function))

    def _guarded(self, function: Callable[[], Result]) -> Result:
        """Call the function. Errors that the loop knows are raised as they are, all others as EngineError."""
        try:
            return function()
        except (EngineError, ModelError, AxisError, NotComputedError):
            raise
        except BaseException as error:  # an engine may raise anything, also SystemExit or a panic of Rust
            raise EngineError(f"{type(error).__name__}: {error}") from error

    def _end(self) -> None:
        if self._engine is not None:
            try:
                self._engine.close()
            except BaseException as error:
                log.warning("closing %s: %s", self._engine.name, error)
        self._judging.close()

    def _compile(self, deviation: bool, instead: "Worker | None") -> None:
        graph = compose(self.model, self.raman_shift, deviation=deviation)
        if instead is not None and instead.follows(self.model, graph):
            self._follower = instead
            return
        self._engine = self.compiling.open(graph)
        self._judge = Judging(self.model, self.raman_shift)
        self.free.extend(range(len(self._engine.inputs)))

    def _follow(self, model: Model, graph: Graph) -> bool:
        """False also where the engine fails on it: another one is compiled then."""
        try:
            if self.broken or not adopted(self.engine, graph):
                return False
        except BaseException as error:
            log.warning("%s: %s", self.engine.name, error)
            self.broken = True
            return False
        self.model, self.raman_shift = model, graph.raman_shift
        assert self._judge is not None
        self._judge = Judging(model, graph.raman_shift, self._judge.dark)
        return True

    def _set_dark(self, dark: Slab) -> None:
        try:
            self.engine.set_dark(dark)
        except BaseException as error:
            self._dark_fault = error
            raise
        self._dark_fault = None
        assert self._judge is not None
        self._judge.dark = dark.copy()

    def _launch(
        self, slab: int, rows: int, weights: NDArray[np.float32] | None, full_scale: float | None
    ) -> "Callable[[], Callable[[], Computed]]":
        """Begin to compute, and return what waits for it and returns what is left to do for the other
        thread."""
        if self.broken:
            raise NotComputedError
        begin = time.perf_counter()
        with self._breaking():
            if self._dark_fault is not None:  # its results would be said to have it subtracted
                raise EngineError(f"it cannot subtract the dark: {self._dark_fault}") from self._dark_fault
            self.engine.launch(slab, rows)
        judge, counts = self._judge, self.engine.inputs[slab][:rows]
        assert judge is not None
        dark = judge.dark  # the one of now

        def judged(arrays: dict[str, Slab], seconds: float) -> Computed:
            raman = arrays[RAMAN]
            bands = None if weights is None else raman @ weights
            if self.engine.retrieves:
                flags = judge.flags(counts, raman, dark, full_scale)
            else:  # it says nothing of the spectra
                flags = np.zeros(rows, np.uint8)
            return Computed({**arrays, FLAGS: flags}, bands, seconds)

        def wait() -> "Callable[[], Computed]":
            if self.broken:  # by another batch meanwhile
                raise NotComputedError
            with self._breaking():
                self.engine.wait(slab)
                outputs = self.engine.results(slab)
                arrays = judge.checked(outputs, rows, self.max_batch, self.engine.name)
            self.computed = True
            return partial(self._guarded, partial(judged, arrays, time.perf_counter() - begin))

        return partial(self._guarded, wait)

    @contextmanager
    def _breaking(self) -> Iterator[None]:
        """What fails in here costs the batch and the engine."""
        try:
            yield
        except BaseException:
            self.broken = True
            raise


@dataclass(frozen=True, eq=False, slots=True)
class Computed:
    """What came of a batch."""

    #: By name: the network's outputs (rows, pixels), which are views of the slab, and flags (rows,). Frames
    #: of results hold those that the run announces.
    arrays: Mapping[str, NDArray[Any]]
    bands: NDArray[np.float32] | None  # (rows, bands)
    seconds: float  # that the engine took

    @property
    def raman(self) -> Slab:
        """(rows, pixels), a view of the slab."""
        return self.arrays[RAMAN]

    @property
    def flags(self) -> Flags:
        """(rows,)."""
        return self.arrays[FLAGS]
