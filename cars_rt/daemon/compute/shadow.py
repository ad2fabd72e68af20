"""A candidate in the shadow: computes every n-th batch beside the worker and is compared with it."""

import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cars_rt.daemon.compute.compiling import TOO_LONG
from cars_rt.daemon.compute.worker import Computed, Worker
from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric
from cars_rt.engines import Model
from cars_rt.engines.base import Slab


@dataclass(slots=True)
class Disagreement:
    """How far the candidate's results are from the served ones, each relative to its spectrum's maximum."""

    batches: int = 0
    spectra: int = 0
    mean: float = 0.0  # root mean square difference, averaged over spectra
    worst: float = 0.0  # largest difference at any point

    def add(self, served: Slab, candidate: Slab) -> None:
        """Compare results (rows, pixels)."""
        scale = np.maximum(np.abs(served).max(axis=1), 1e-6)[:, None]
        difference = np.abs(candidate - served) / scale
        rows = len(served)
        rms = float(np.sqrt((difference**2).mean(axis=1)).mean())
        self.batches += 1
        self.spectra += rows
        self.mean += (rms - self.mean) * rows / self.spectra
        self.worst = max(self.worst, float(difference.max()))


class Shadow:
    """Never delays results: it skips a batch that comes while it is busy, and keeps its errors to itself."""

    def __init__(self, worker: Worker, model: Model, engine: str, every: int) -> None:
        """every: batches from one that is compared to the next, at least 1."""
        self.worker = worker
        self.model = model
        self.engine = engine
        self.every = every
        self.disagreement = Disagreement()
        self.error: str | None = None
        self._compared_with = ""  # the model and engine that the disagreement is with
        self._seen = 0
        self._served: Slab | None = None
        self._pending: Future[Computed] | None = None
        self._begun = 0.0  # when it was asked for that

    @property
    def computing_s(self) -> float:
        """For how long it has had the batch that it computes, s."""
        return time.monotonic() - self._begun if self._pending is not None else 0.0

    def look(self, counts: NDArray[np.float32], raman: Slab, made_by: str) -> None:
        """Have every n-th batch computed here, too. Called for each batch; counts and raman: (rows, pixels);
        made_by: the model, engine and dark that made the results. Those with another dark than the candidate
        has by now are passed over."""
        self._seen += 1
        worker = self.worker
        served, dark = made_by.rsplit(" ", 1)
        if served != self._compared_with:  # begins anew, without what is under way
            self._compared_with, self._served, self.disagreement = served, None, Disagreement()
        ready = worker.ready.done() and self.error is None and not worker.ready.exception()
        if (
            self._seen % self.every
            or self._pending is not None
            or not ready
            or counts.shape[1] != len(worker.raman_shift)
            or dark != worker.dark
        ):
            return
        rows = min(len(counts), worker.max_batch)
        worker.engine.inputs[0][:rows] = counts[:rows]
        self._served = raman[:rows].copy()
        self._pending, self._begun = worker.compute(0, rows), time.monotonic()

    def settle(self) -> None:
        """Compare the batch that was computed meanwhile, if any."""
        if self.error is None and self.worker.overdue():
            self.error = TOO_LONG
        if self.error is None and self.worker.ready.done() and (error := self.worker.ready.exception()):
            self.error = str(error)
        if self._pending is None or not self._pending.done():
            return
        pending, self._pending = self._pending, None
        if (failure := pending.exception()) is not None:
            self.error = str(failure)
        elif self._served is not None:
            self.disagreement.add(self._served, pending.result().raman)

    def metrics(self) -> Iterator[Metric]:
        """What is counted here."""
        found = self.disagreement
        text = "Batches that the candidate computed, too."
        yield metric.Gauge("cars_rt_shadow_batches", text, found.batches)
        text = "How far the candidate's results are from the model's."
        yield metric.Gauge("cars_rt_shadow_disagreement", text, found.mean)

    def describe(self) -> dict[str, str | float | int]:
        """For the status."""
        found = self.disagreement
        return {
            "model": self.model.card.name,
            "sha256": self.model.sha256,
            "every": self.every,
            "ready": int(self.worker.ready.done()),
            "batches": found.batches,
            "spectra": found.spectra,
            "disagreement": found.mean,
            "worst_disagreement": found.worst,
            "error": self.error or "",
        }
