"""What computes now: the worker, its model, and the dark that it subtracts."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cars_rt.daemon.compute.retired import Retired
from cars_rt.daemon.compute.worker import Worker
from cars_rt.engines import Model
from cars_rt.engines.base import Slab


class Serving:
    """There is no worker before the first one has taken over."""

    def __init__(
        self, model: Model, max_batch: int, new_worker: Callable[..., Worker], retired: Retired
    ) -> None:
        """model: as it was asked for; a worker computes its variant for the run's instrument. max_batch: of a
        worker that is compiled before any run. new_worker: takes the arguments of `compile`."""
        self.model = model
        self.max_batch = max_batch
        self.worker: Worker | None = None
        self.source: str | None = None  # instrument of the run
        #: Why no engine works, until the next attempt; None while one does.
        self.down: str | None = None
        self._new_worker, self._retired = new_worker, retired
        self._dark: tuple[Slab, str] | None = None

    @property
    def works(self) -> bool:
        """Whether there is a worker that has not failed."""
        return self.worker is not None and not self.worker.broken

    def take_over(self, worker: Worker) -> None:
        """Have this one compute from now on. The one before is closed as soon as its slabs came back."""
        old, self.worker = self.worker, worker
        self.down = None
        if old is not None and old is not worker:
            self._retired.take(old)
        self.give_dark(worker)

    def set_dark(self, dark: Slab, name: str) -> None:
        """Subtract this dark from all batches that are submitted from now on."""
        self._dark = (dark, name)
        if self.worker is not None:
            self.give_dark(self.worker)

    def give_dark(self, worker: Worker) -> None:
        """Have a worker subtract the dark, too, if there is one of as many pixels."""
        if self._dark is not None and len(self._dark[0]) == len(worker.raman_shift):
            worker.set_dark(*self._dark)

    def compile(
        self,
        model: Model,
        kinds: Sequence[str],
        raman_shift: NDArray[np.float64],
        max_batch: int,
        *,
        instead: Worker | None = None,
    ) -> Worker:
        """Begin to compile a worker that does not compute yet."""
        return self._new_worker(model, kinds, raman_shift, max_batch, instead=instead)

    def compile_alike(self, model: Model, engine: str, instead: Worker | None = None) -> Worker:
        """A worker for the present axis and instrument, or what makes `instead` follow them."""
        now, model = self.worker, model.of_source(self.source)
        axis, size = (model.nominal_axis, self.max_batch) if now is None else (now.raman_shift, now.max_batch)
        if instead is not None and instead.max_batch < size:
            instead = None
        return self.compile(model, [engine], axis, size, instead=instead)

    def suits(self, worker: Worker, model: Model) -> bool:
        """Whether a worker could compute this model in the place of the present one."""
        now = self.worker
        return now is None or worker.fits(model.of_source(self.source), now.raman_shift, now.max_batch)
