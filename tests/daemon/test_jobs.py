"""The thread that does what it is asked for."""

import gc
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import numpy as np
import pytest
import zmq
from helpers import AXIS, PATIENCE_S, spectra_of

from cars_rt.daemon.compute import compiling
from cars_rt.daemon.compute.jobs import Jobs
from cars_rt.daemon.compute.shadow import Shadow
from cars_rt.daemon.compute.worker import NotComputedError, Worker
from cars_rt.engines import EngineError, load_model
from cars_rt.engines.onnxruntime import OnnxRuntime


def test_bell_that_nobody_hears_keeps_no_thread() -> None:
    """A loop that ended reads its bell no more, whatever the threads still had to do."""
    with zmq.Context.instance().socket(zmq.PULL) as bell:
        bell.bind("inproc://a-bell-of-a-test")
        jobs = Jobs("a test", "inproc://a-bell-of-a-test", lambda: None)
        done = [jobs.ask(lambda: None) for _ in range(5_000)]
        jobs.close()
        assert jobs.join(PATIENCE_S)
        assert all(each.done() for each in done)


class Told(OnnxRuntime):
    """Tells what it is asked for, waits for leave, and fails on the slab that it is told to."""

    overlaps, fails_at = True, -1

    def _compile(self, threads: int) -> None:
        self.asked: list[tuple[str, int]] = []
        self.waiting, self.leave = threading.Event(), threading.Event()
        super()._compile(threads)

    def launch(self, slab: int, rows: int) -> None:
        self.asked.append(("launch", slab))
        super().launch(slab, rows)

    def wait(self, slab: int) -> None:
        self.asked.append(("wait", slab))
        self.waiting.set()
        assert self.leave.wait(PATIENCE_S)
        if slab == self.fails_at:
            raise EngineError("it had enough")
        super().wait(slab)


@contextmanager
def telling(monkeypatch: pytest.MonkeyPatch, *, overlaps: bool) -> Iterator[tuple[Worker, Told]]:
    monkeypatch.setattr(
        compiling, "open_engine", lambda kind, graph, size, threads: Told(graph, size, threads=threads)
    )
    monkeypatch.setattr(Told, "overlaps", overlaps)
    with zmq.Context.instance().socket(zmq.PULL) as bell:
        address = f"inproc://a-bell-of-an-engine-{uuid4()}"
        bell.bind(address)
        worker = Worker(load_model(), ["told"], AXIS, 4, 1, address)
        worker.ready.result(PATIENCE_S)
        engine = worker.engine
        assert isinstance(engine, Told)
        for slab, counts in enumerate(engine.inputs):
            counts[:] = spectra_of(4, first=4 * slab)
        yield worker, engine
        worker.close()
        assert worker.join(PATIENCE_S)


@pytest.mark.parametrize("overlaps", [True, False])
def test_next_batch_is_launched_before_the_last_one_is_waited_for(
    overlaps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only by an engine that says so: to compute on a processor is to have launched."""
    with telling(monkeypatch, overlaps=overlaps) as (worker, engine):
        done = [worker.compute(0, 4)]
        assert engine.waiting.wait(PATIENCE_S)  # for the first one, and here come two more, and a dark
        done += [worker.compute(1, 4), worker.compute(2, 4)]
        worker.set_dark(np.zeros(len(AXIS), np.float32), "a dark")
        engine.leave.set()
        found = [each.result(PATIENCE_S) for each in done]
        assert all(np.isfinite(each.raman).all() for each in found)
        order = ["launch 0", "wait 0", "launch 1", "launch 2", "wait 1", "wait 2"]
        if not overlaps:
            order[3], order[4] = order[4], order[3]
        assert [f"{what} {slab}" for what, slab in engine.asked] == order


def test_batch_launched_behind_one_that_fails_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with telling(monkeypatch, overlaps=True) as (worker, engine):
        engine.fails_at = 1
        first = worker.compute(0, 4)
        assert engine.waiting.wait(PATIENCE_S)
        failing, behind = worker.compute(1, 4), worker.compute(2, 4)
        engine.leave.set()
        assert first.result(PATIENCE_S).seconds > 0
        with pytest.raises(EngineError, match="it had enough"):
            failing.result(PATIENCE_S)
        with pytest.raises(NotComputedError):
            behind.result(PATIENCE_S)
        assert worker.broken


def test_closed_worker_keeps_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: of what knows each other in a circle, Python gives it back rarely."""
    gc.disable()
    try:
        with telling(monkeypatch, overlaps=True) as (worker, engine):
            engine.leave.set()
            done = [worker.compute(slab, 4) for slab in (0, 1, 2)]
            assert np.isfinite(done.pop().result(PATIENCE_S).raman).all()
            assert engine._session is not None
            kept = [weakref.ref(each) for each in (engine.inputs[0], engine.outputs[0], engine._session)]
            del done
        assert not any(each() is not None for each in kept)
        kept = [weakref.ref(each) for each in (worker, engine)]
        del worker, engine
        assert not any(each() is not None for each in kept)
    finally:
        gc.enable()


def test_a_candidate_is_compared_with_results_of_the_same_dark_and_of_one_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch that was computed with the dark before, or by the model before, tells nothing of it."""
    with telling(monkeypatch, overlaps=True) as (worker, engine):
        counts, candidate = spectra_of(4).astype(np.float32), Shadow(worker, load_model(), "told", 1)
        engine.leave.set()

        def compared(raman: np.ndarray, made_by: str) -> tuple[int, float]:  # type: ignore[type-arg]
            candidate.look(counts, raman, made_by)
            if candidate._pending is not None:
                candidate._pending.exception(PATIENCE_S)
            candidate.settle()
            return candidate.disagreement.batches, candidate.disagreement.worst

        engine.inputs[1][:] = counts
        plain = worker.compute(1, 4).result(PATIENCE_S).raman.copy()
        assert compared(plain, "served told none") == (1, pytest.approx(0, abs=1e-6))
        worker.set_dark(np.full(len(AXIS), 500, np.float32), "measured")
        assert compared(plain, "served told none") == (1, pytest.approx(0, abs=1e-6))
        assert compared(2 * plain, "served told measured")[0] == 2
        candidate.look(counts, plain, "served told measured")  # under way when another takes over
        assert candidate._pending is not None
        candidate.look(counts, plain, "other told none")
        candidate._pending.exception(PATIENCE_S)
        candidate.settle()
        assert candidate.disagreement.batches == 0
        assert compared(plain, "other told measured")[0] == 1
