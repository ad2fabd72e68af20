"""The contract between the daemon and what runs a model."""

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.graph import RAMAN, Graph
from cars_rt.errors import CarsRtError
from cars_rt.protocol import DEVIATION

Slab = NDArray[np.float32]

FLOAT32, FLOAT16, BFLOAT16 = "float32", "float16", "bfloat16"
EVEN = 256  # rows up to which a batch costs a GPU hardly more than one row


class EngineError(CarsRtError, RuntimeError):
    """An engine that cannot be used, or failed, with the reason and the remedy in one sentence."""


class Engine(ABC):
    """Runs one deployment graph in slabs that it owns.

    A slab is a few arrays, each (max_batch, pixels) float32: `inputs[i]`, `outputs[i]` for raman, and
    `others[name][i]` for each other output of the graph; `deviations[i]` is one of those, or an empty list.
    The user of the engine fills the first rows of an input slab with counts, calls `launch(i, rows)`, may
    fill another slab meanwhile, calls `wait(i)`, and reads the first rows of the output slabs. The other rows
    stay as they were. All calls come from one thread, the one that constructs the engine; the slabs may be
    filled and read from any thread, outside of launch..wait. Of a `reentrant` engine also launch and wait may
    come from any thread, and several slabs be under way at once.

    The graph's parameters are inputs, so that `adopt` can exchange them; an engine that cannot do that
    compiles `graph.fixed`, in which they are constants, and is compiled again for another axis.

    An engine takes batches of any number of rows from 1 to max_batch. One that must compile for fixed
    sizes does so for `sizes`, and computes a batch of another size as the next larger one of those.

    The constructor compiles; it raises EngineError if the graph cannot run here.
    """

    name: ClassVar[str]
    retrieves: ClassVar[bool] = True  # False: does not run the graph, so `auto` passes it over
    precision: str = FLOAT32  # of the network; everything before and after it is float32
    patience_s: ClassVar[float] = 30.0  # to compile, and for each batch; an engine that takes longer hangs
    overlaps: bool = False  # True: a batch may be launched while another one is computed, which gains time
    reentrant: ClassVar[bool] = False  # True: as said above; with one thread for each slab it does most

    def __init__(self, graph: Graph, max_batch: int, slabs: int = 3, threads: int = 0) -> None:
        """slabs: one is filled while another is computed and a third one sent."""
        self.graph = graph
        self.max_batch = max_batch
        self.sizes = batch_sizes(max_batch)
        self.inputs: list[Slab] = self._allocate(slabs)
        self.outputs: list[Slab] = self._allocate(slabs)
        #: Slabs of the graph's other outputs, by name.
        self.others = {name: self._allocate(slabs) for name in graph.outputs if name != RAMAN}
        try:
            self._compile(threads)
        except BaseException:
            self.close()
            raise

    @property
    def deviations(self) -> list[Slab]:
        """The slabs of the deviation; none if the graph does not give it."""
        return self.others.get(DEVIATION, [])

    @classmethod
    @abstractmethod
    def unavailable(cls) -> str | None:
        """Why this engine cannot run on this computer, with the remedy, or None if it can.

        Called before the constructor. Must not crash or take memory, whatever is installed.
        """

    @classmethod
    def last_resort(cls) -> bool:
        """Whether `auto` should use it only if no other works: known to be slow on this computer."""
        return False

    @classmethod
    def fragile(cls) -> bool:
        """Whether it may end or hang its process, or spoil the GPU for all others in it (an error of a kernel
        stays in the context that engines of NVIDIA's runtime share): it is tried in another process first."""
        return False

    @abstractmethod
    def _compile(self, threads: int) -> None:
        """Called once by the constructor, when the slabs are there. threads: 0 means the engine's choice."""

    @abstractmethod
    def set_dark(self, dark: Slab) -> None:
        """Take over the dark spectrum (pixels,) that the graph subtracts. Called between batches."""

    def adopt(self, graph: Graph) -> bool:
        """Compute another graph from the next batch on, where nothing but its parameters differs: another
        axis of as many pixels, or another reference. The dark stays. False: it takes compiling, and nothing
        has changed. Called between batches. Raises EngineError if the parameters cannot be copied."""
        if graph.onnx != self.graph.onnx or graph.outputs != self.graph.outputs:
            return False
        if not self._set(graph.parameters):
            return False
        self.graph = graph
        return True

    def _set(self, parameters: Mapping[str, NDArray[Any]]) -> bool:
        """Copy values for all of the graph's parameters; False where they are compiled in."""
        return False

    @abstractmethod
    def launch(self, slab: int, rows: int) -> None:
        """Begin computing the first `rows` spectra of a slab; may return before it is done."""

    @abstractmethod
    def wait(self, slab: int) -> None:
        """Return when the slab's results are in `outputs` and `others`. Raises EngineError if computing
        failed."""

    def close(self) -> None:
        """Give back what the engine holds, after a `_compile` that failed too. Called once, last. What is
        closed may be known to somebody for long: its slabs are let go here."""
        self.inputs, self.outputs, self.others = [], [], {}

    def describe(self) -> str:
        """The engine in a few words: name, device, precision."""
        return self.name

    def gpu_memory_bytes(self) -> int | None:
        """Memory of the GPU in use, by all programs, when last looked; None: no GPU. From any thread."""
        return None

    def results(self, slab: int) -> dict[str, Slab]:
        """The output arrays of a slab by the name of the graph's output, whole."""
        return {RAMAN: self.outputs[slab]} | {name: slabs[slab] for name, slabs in self.others.items()}

    def run(self, counts: NDArray[np.generic]) -> Slab:
        """Compute (n, pixels) counts in batches, one after the other: raman (n, pixels) float32."""
        return self.retrieve(counts)[RAMAN]

    def retrieve(self, counts: NDArray[np.generic]) -> dict[str, Slab]:
        """Compute as `run` does; returns each of the graph's outputs by its name, (n, pixels) float32."""
        found = {name: np.empty(counts.shape, np.float32) for name in self.graph.outputs}
        for first in range(0, len(counts), self.max_batch):
            batch = counts[first : first + self.max_batch]
            self.inputs[0][: len(batch)] = batch
            self.launch(0, len(batch))
            self.wait(0)
            for name, slab in self.results(0).items():
                found[name][first : first + len(batch)] = slab[: len(batch)]
        return found

    def _allocate(self, slabs: int) -> list[Slab]:
        """Host memory of the slabs; engines with a device override it with pinned memory."""
        return [np.zeros((self.max_batch, self.graph.pixels), np.float32) for _ in range(slabs)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def batch_sizes(max_batch: int) -> tuple[int, ...]:
    """Powers of four up to EVEN, powers of two from there, and max_batch itself.

    A GPU computes a small batch in the time of its launches, whatever its rows, and each size costs time
    before the first run; no batch larger than EVEN is padded to twice its rows.
    """
    powers = (2**power for power in range((max_batch - 1).bit_length()))
    return (*(size for size in powers if size > EVEN or size.bit_length() % 2), max_batch)


def usable_cores() -> int:
    """Cores that this process may use (fewer than the computer's in a container)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def hardware() -> str:
    """The computer in a few words."""
    return f"{processor()}, {usable_cores()} cores, {platform.system()}, Python {platform.python_version()}"
