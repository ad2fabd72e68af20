"""The thread that owns the engine, and the slabs it computes."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import zmq

from cars_rt.engines import (
    AUTO,
    Engine,
    EngineError,
    compose,
    engine_class,
    load_model,
    open_engine,
    retrieving,
)
from cars_rt.engines.base import Slab, usable_cores
from cars_rt.protocol import Start

MAX_FAILURES = 3  # batches in a row that one kind of engine may lose before the next kind takes over


class Compute:
    """Compiles and runs engines in one thread of its own, since a GPU context belongs to one thread.

    `prepare` at the start of a run, then `submit`; when a batch is done, `socket` becomes readable
    (so that a poller can wait for it beside the streams) and `collect` takes the answer.
    Raises ModelError if there is no such model, EngineError if there is no such engine here.
    """

    def __init__(self, model: str, engine: str, max_batch: int, threads: int) -> None:
        self.model = load_model(model)
        if engine != AUTO and (reason := engine_class(engine).unavailable()):
            raise EngineError(f"{engine}: {reason}")
        self._engine_name = engine
        self._max_batch = max_batch
        self._threads = threads or max(usable_cores() // 2, 1)
        self._engine: Engine | None = None
        self._retired: list[Engine] = []  # replaced, but their slabs may still hold results
        self._failures = 0  # one after the other
        self._dark: Slab = np.zeros(0, np.float32)
        self._under_way: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(1, "compute")
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)
        self._bell: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PAIR)  # the thread's end
        self.socket.setsockopt(zmq.LINGER, 0)
        self._bell.setsockopt(zmq.LINGER, 0)
        self.socket.bind(f"inproc://compute-{id(self)}")
        self._bell.connect(f"inproc://compute-{id(self)}")

    @property
    def engine(self) -> Engine:
        """The compiled engine. RuntimeError before the first `prepare`."""
        if self._engine is None:
            raise RuntimeError("no engine before prepare()")
        return self._engine

    @property
    def idle(self) -> bool:
        """Nothing is being computed."""
        return not self._under_way

    def prepare(self, start: Start) -> Engine:
        """The engine for the run's axis, block and dark, compiled if it is not there yet.

        Waits; nothing may be under way. Raises EngineError, ModelError or AxisError: this run
        cannot be computed.
        """
        self._engine = self._pool.submit(self._prepare, start).result()
        return self._engine

    def submit(self, slab: int, rows: int) -> None:
        """Compute the first rows of a slab."""
        self._under_way.append(self._pool.submit(self._compute, slab, rows))

    def collect(self) -> EngineError | None:
        """Why the slab that was submitted first failed, or None if it did not. Waits for it."""
        self.socket.recv()
        error = self._under_way.popleft().exception()
        return EngineError(str(error)) if error else None

    def repair(self) -> Engine:
        """A fresh engine in place of one that failed: of the same kind, or after MAX_FAILURES failures in a
        row the next kind that works. Waits; nothing may be under way. The old one's slabs stay readable
        until `prepare` or `close`. Raises EngineError if no engine can be had.
        """
        self._engine = self._pool.submit(self._repair).result()
        return self._engine

    def close(self) -> None:
        """Stop the thread and give the engines back."""
        self._pool.submit(self._close_all).result()
        self._pool.shutdown()
        self.socket.close()
        self._bell.close()

    # -- in the thread ------------------------------------------------------------------------------

    def _prepare(self, start: Start) -> Engine:
        engine, max_batch = self._engine, max(self._max_batch, start.block)
        while self._retired:
            self._retired.pop().close()
        if (
            engine is None
            or not np.array_equal(engine.graph.raman_shift, start.raman_shift)
            or engine.max_batch < max_batch
        ):
            graph = compose(self.model, start.raman_shift)
            fresh = open_engine(self._engine_name, graph, max_batch, self._threads)
            if engine is not None:
                engine.close()
            engine = fresh
        self._dark = np.zeros(start.pixels, np.float32) if start.dark is None else start.dark.copy()
        engine.set_dark(self._dark)
        return engine

    def _repair(self) -> Engine:
        old = self.engine
        others = [name for name in retrieving() if name != old.name]
        reasons = []
        for name in [old.name, *others] if self._failures < MAX_FAILURES else [*others, old.name]:
            try:
                fresh = open_engine(name, old.graph, old.max_batch, self._threads)
            except EngineError as error:
                reasons.append(f"{name}: {error}")
                continue
            fresh.set_dark(self._dark)
            if name != old.name:
                self._failures = 0  # those were of another kind
            self._retired.append(old)
            return fresh
        raise EngineError("; ".join(reasons))

    def _close_all(self) -> None:
        for engine in [*self._retired, *([self._engine] if self._engine else [])]:
            engine.close()

    def _compute(self, slab: int, rows: int) -> None:
        try:
            self.engine.launch(slab, rows)
            self.engine.wait(slab)
            if not np.isfinite(self.engine.outputs[slab][:rows]).all():
                raise EngineError("the engine gave values that are not finite")
            self._failures = 0
        except BaseException:
            self._failures += 1
            raise
        finally:
            self._bell.send(b"")
