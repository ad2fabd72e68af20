"""Spectra of one run that are computed together, in one slab of an engine."""

from concurrent.futures import Future
from typing import TypeAlias

from cars_rt.daemon.compute.worker import Computed, Worker
from cars_rt.daemon.run import Run
from cars_rt.engines.base import Slab
from cars_rt.protocol import Band, Frame

Entry: TypeAlias = tuple[Frame, int, int, int]  # frame, first row, received (ns), spectra lost before


class Batch:
    """What one slab holds: frames in order."""

    __slots__ = (
        "bands", "computed", "counts", "done", "frames", "holders", "made_by",
        "rows", "run", "slab", "submitted", "weights", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker) -> None:
        """Takes a free slab."""
        self.worker = worker
        self.slab = worker.free.popleft()
        self.counts: Slab = worker.engine.inputs[self.slab]
        self.run: Run | None = None  # until the first frame comes
        self.rows = 0
        self.frames: list[Entry] = []
        self.made_by = ""
        self.weights: Slab | None = None  # (pixels, bands): these intensities are computed, too
        self.bands: tuple[Band, ...] = ()
        self.computed: Future[Computed] | None = None
        self.submitted = self.done = 0.0
        self.holders = 0  # outputs that still need the slab

    def result(self) -> Computed:
        """Its results. The computation must have succeeded."""
        assert self.computed is not None
        return self.computed.result()

    def release(self) -> None:
        """Give the slab back."""
        self.worker.free.append(self.slab)
