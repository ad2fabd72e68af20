"""One engine and the thread that owns it, since a GPU context belongs to one thread."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import numpy as np
import zmq
from numpy.typing import NDArray

from cars_rt.engines import Engine, EngineError, Model, ModelError, compose, open_engine
from cars_rt.engines.base import Slab
from cars_rt.engines.model import RATIO
from cars_rt.physics.axis import AxisError
from cars_rt.physics.fitness import Fitness, Flags

log = logging.getLogger("cars_rt.daemon")

Result = TypeVar("Result")


class NotComputedError(Exception):
    """A batch that the engine has not touched, since it failed on the one before."""


Job = tuple[Callable[[], Any], "Future[Any]"]


class Worker:
    """Compiles a model for an axis on the first of some kinds of engine that works, then computes batches.

    Everything that touches the engine is done in its thread, in order; each method returns at once with
    a future, and when that is done, a message on the bell wakes whoever polls there.
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
    ) -> None:
        """bell: address of a ZeroMQ PULL socket in this process. deviation: compute it, too, if the model
        states it."""
        self.model = model
        self.raman_shift = raman_shift
        self.max_batch = max_batch
        self.free: deque[int] = deque()  # slabs that nobody uses, once it is ready
        self.dark = "none"  # id of the dark that batches submitted from now on are computed with
        self.failures = 0  # batches lost one after the other
        self.broken = False  # failed once: it computes nothing more
        self.hung = False  # so that it does not even answer
        self._kinds = list(kinds)
        self._threads = threads
        self._deviation = deviation
        self._engine: Engine | None = None
        self._fitness: Fitness | None = None
        self._dark_counts: Slab | None = None  # as the thread has given it to the engine
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._bell: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
        self._bell.setsockopt(zmq.LINGER, 0)
        self._bell.connect(bell)
        self.ready: Future[None] = self._ask(self._compile)
        # A daemon thread: an engine that hangs for good must not keep the process.
        self._thread = Thread(target=self._serve, name=f"engine {model.card.name}", daemon=True)
        self._thread.start()

    @property
    def engine(self) -> Engine:
        """The compiled engine. RuntimeError before `ready` is done."""
        if self._engine is None:
            raise RuntimeError("the engine is not compiled yet")
        return self._engine

    @property
    def idle(self) -> bool:
        """Whether all slabs came back."""
        return self._engine is not None and len(self.free) == len(self._engine.inputs)

    @property
    def made_by(self) -> str:
        """What results say of their making: the model's hash, the engine, the dark."""
        return f"{self.model.sha256[:16]} {self.engine.name} {self.dark}"

    def fits(self, model: Model, raman_shift: NDArray[np.float64], max_batch: int) -> bool:
        """Whether it can compute a run of this axis with this model."""
        return (
            self._engine is not None
            and self.model.sha256 == model.sha256
            and self.max_batch >= max_batch
            and np.array_equal(self.raman_shift, raman_shift)
        )

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
        """Compute the first rows of a slab. The future holds EngineError if the engine failed on it,
        NotComputedError if it did on an earlier one.

        weights (pixels, bands): also the band intensities of each spectrum. full_scale: counts at which the
        camera saturates, if known.
        """
        return self._ask(lambda: self._compute(slab, rows, weights, full_scale))

    def close(self) -> None:
        """Let the thread end once it has done what it was asked for; does not wait for it."""
        self._jobs.put(None)

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread; False if it hangs."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- in the thread ------------------------------------------------------------------------------

    def _ask(self, function: Callable[[], Result]) -> "Future[Result]":
        future: Future[Result] = Future()
        self._jobs.put((function, future))
        return future

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, future = job
            try:
                future.set_result(function())
            except (EngineError, ModelError, AxisError, NotComputedError) as error:
                future.set_exception(error)
            except Exception as error:  # an engine may raise anything
                future.set_exception(EngineError(f"{type(error).__name__}: {error}"))
            self._bell.send(b"")
        if self._engine is not None:
            try:
                self._engine.close()
            except Exception as error:
                log.warning("closing %s: %s", self._engine.name, error)
        self._bell.close()

    def _compile(self) -> None:
        graph = compose(self.model, self.raman_shift, deviation=self._deviation)
        reasons = []
        for kind in self._kinds:
            try:
                self._engine = open_engine(kind, graph, self.max_batch, self._threads)
                break
            except EngineError as error:
                reasons.append(str(error))
        if self._engine is None:
            raise EngineError("; ".join(reasons))
        self._fitness = Fitness(self.raman_shift)
        self.free.extend(range(len(self._engine.inputs)))

    def _set_dark(self, dark: Slab) -> None:
        self.engine.set_dark(dark)
        self._dark_counts = dark.copy()

    def _compute(
        self, slab: int, rows: int, weights: NDArray[np.float32] | None, full_scale: float | None
    ) -> "Computed":
        if self.broken:
            raise NotComputedError
        engine = self.engine
        begin = time.perf_counter()
        try:
            engine.launch(slab, rows)
            engine.wait(slab)
            raman = self._checked(engine.outputs[slab])[:rows]
            deviation = self._checked(engine.deviations[slab])[:rows] if engine.deviations else None
            if not np.isfinite(raman).all() or not (deviation is None or np.isfinite(deviation).all()):
                raise EngineError(f"{engine.name} gave values that are not finite")
        except BaseException:
            self.failures += 1
            self.broken = True
            raise
        self.failures = 0
        seconds = time.perf_counter() - begin
        flags = self._flags(engine.inputs[slab][:rows], raman, full_scale)
        bands = None if weights is None else raman @ weights
        return Computed(raman, deviation, flags, bands, seconds)

    def _flags(self, counts: Slab, raman: Slab, full_scale: float | None) -> Flags:
        """None are raised where nothing is retrieved: `passthrough` measures all that is around an engine."""
        assert self._fitness is not None
        if not self.engine.retrieves:
            return np.zeros(len(counts), np.uint8)
        ratio = raman if self.model.card.target == RATIO else None
        return self._fitness.flags(counts, ratio, self._dark_counts, full_scale)

    def _checked(self, output: Slab) -> Slab:
        expected = (self.max_batch, len(self.raman_shift))
        if output.shape != expected or output.dtype != np.float32:
            raise EngineError(
                f"{self.engine.name} gave {output.dtype} {output.shape}, not float32 {expected}"
            )
        return output


@dataclass(frozen=True, eq=False, slots=True)
class Computed:
    """What came of a batch."""

    raman: Slab  # (rows, pixels), a view of the slab
    deviation: Slab | None  # as raman, where the model states it
    flags: Flags  # (rows,)
    bands: NDArray[np.float32] | None  # (rows, bands)
    seconds: float  # that the engine took
