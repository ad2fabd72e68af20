"""The contract between the daemon and what runs a model."""

import os
import platform
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.graph import Graph
from cars_rt.errors import CarsRtError

Slab = NDArray[np.float32]


class EngineError(CarsRtError, RuntimeError):
    """An engine that cannot be used, or failed, with the reason and the remedy in one sentence."""


class Engine(ABC):
    """Runs one deployment graph in slabs that it owns.

    A slab is a pair of arrays, `inputs[i]` and `outputs[i]`, both (max_batch, pixels) float32. Who
    uses the engine fills the first rows of an input slab with counts, calls `launch(i, rows)`, may
    fill another slab meanwhile, calls `wait(i)`, and reads the first rows of the output slab. All
    calls come from one thread, the one that constructs the engine; the slabs may be filled and read
    from any thread, outside of launch..wait.

    The constructor compiles; it raises EngineError if the graph cannot run here.
    """

    name: ClassVar[str]
    retrieves: ClassVar[bool] = True  # False: does not run the graph, so `auto` passes it over

    def __init__(self, graph: Graph, max_batch: int, slabs: int = 3, threads: int = 0) -> None:
        """slabs: one is filled while another is computed and a third one sent."""
        self.graph = graph
        self.max_batch = max_batch
        self.inputs: list[Slab] = self._allocate(slabs)
        self.outputs: list[Slab] = self._allocate(slabs)
        self._compile(threads)

    @classmethod
    @abstractmethod
    def unavailable(cls) -> str | None:
        """Why this engine cannot run on this computer, with the remedy, or None if it can.

        Called before the constructor. Must not crash or take memory, whatever is installed.
        """

    @abstractmethod
    def _compile(self, threads: int) -> None:
        """Called once by the constructor, when the slabs are there. threads: 0 means the engine's choice."""

    @abstractmethod
    def set_dark(self, dark: Slab) -> None:
        """Take over the dark spectrum (pixels,) that the graph subtracts. Called between batches."""

    @abstractmethod
    def launch(self, slab: int, rows: int) -> None:
        """Begin computing the first `rows` spectra of a slab; may return before it is done."""

    @abstractmethod
    def wait(self, slab: int) -> None:
        """Return when the slab's result is in `outputs`. Raises EngineError if computing failed."""

    def close(self) -> None:
        """Give back what the engine holds. Called once, last."""

    def describe(self) -> str:
        """The engine in a few words: name, device, precision."""
        return self.name

    def run(self, counts: NDArray[np.generic]) -> Slab:
        """Compute (n, pixels) counts in batches, one after the other; (n, pixels) float32."""
        result = np.empty(counts.shape, np.float32)
        for first in range(0, len(counts), self.max_batch):
            batch = counts[first : first + self.max_batch]
            self.inputs[0][: len(batch)] = batch
            self.launch(0, len(batch))
            self.wait(0)
            result[first : first + len(batch)] = self.outputs[0][: len(batch)]
        return result

    def _allocate(self, slabs: int) -> list[Slab]:
        """Host memory of the slabs; engines with a device override it with pinned memory."""
        return [np.zeros((self.max_batch, self.graph.pixels), np.float32) for _ in range(slabs)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def usable_cores() -> int:
    """Cores that this process may use (fewer than the computer's in a container)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def hardware() -> str:
    """The computer in a few words."""
    processor = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return f"{processor}, {usable_cores()} cores, {platform.system()}, Python {platform.python_version()}"
