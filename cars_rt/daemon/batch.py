"""Spectra of one run that are computed together, in one slab of an engine."""

from concurrent.futures import Future
from dataclasses import dataclass

from cars_rt.daemon.compute.worker import Computed, Worker
from cars_rt.daemon.run import Run
from cars_rt.engines.base import Slab
from cars_rt.protocol import Band


@dataclass(eq=False, slots=True)  # not frozen: one is made for each frame
class Entry:
    """What is kept of a frame whose counts lie in a slab: its message, and what else came in it, is not."""

    index: int  # of its first spectrum in the run
    spectra: int
    time_ns: int  # when the camera had delivered it
    row: int  # of its first spectrum in the slab
    received_ns: int
    lost: int  # spectra of the run lost before


class Batch:
    """What one slab holds: spectra of frames in order."""

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
