"""PyTorch: half precision and CUDA graphs on an NVIDIA GPU; on the CPU a last resort, in float32."""

import ctypes
import platform
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.base import EVEN, FLOAT16, FLOAT32, Engine, EngineError, Slab, usable_cores
from cars_rt.engines.graph import COUNTS, DARK
from cars_rt.engines.half import halve
from cars_rt.installation import install_extra

if TYPE_CHECKING:
    import torch

WARM_UPS = 3  # before a capture: libraries choose their kernels and take their memory


class Torch(Engine):
    """Runs the graph call by call on the CPU, as one captured CUDA graph for each of `sizes` on a GPU.

    On a GPU the slabs are pinned; copies in, the graph and copies out follow each other on one stream.
    """

    name: ClassVar[str] = "torch"
    patience_s: ClassVar[float] = 120.0

    @classmethod
    def unavailable(cls) -> str | None:
        """Needs the package; loads nothing."""
        return None if find_spec("torch") else f"needs the package torch: {install_extra('torch')}"

    @classmethod
    def last_resort(cls) -> bool:
        """Without an NVIDIA driver it runs on the CPU, more slowly than the others."""
        return not _nvidia_driver()

    def _allocate(self, slabs: int) -> list[Slab]:
        import torch

        self._torch = torch
        self._gpu = self.overlaps = torch.cuda.is_available()
        shape = (self.max_batch, self.graph.pixels)
        return [torch.zeros(shape, pin_memory=self._gpu).numpy() for _ in range(slabs)]

    def _compile(self, threads: int) -> None:
        from cars_rt.engines.operators import UnsupportedError
        from cars_rt.engines.program import Program

        torch = self._torch
        self._device = torch.device("cuda" if self._gpu else "cpu")
        content = self.graph.onnx
        if self._gpu:
            content, halved = halve(content)
            self.precision = FLOAT16 if halved else FLOAT32
        else:
            torch.set_num_threads(threads or usable_cores())
        try:
            with torch.inference_mode():
                self._program: Any = Program(content, self._device)
                self._given = {DARK: torch.zeros(self.graph.pixels, device=self._device)}
                for name, value in self.graph.parameters.items():
                    self._given[name] = torch.from_numpy(value.copy()).to(self._device)
                self._computing = _Graphs(self) if self._gpu else None
                if not self._gpu:
                    self._program(self._inputs(torch.zeros(1, self.graph.pixels)))
        except UnsupportedError as error:
            raise EngineError(f"torch cannot run {error}; use another engine") from None
        except Exception as error:
            raise EngineError(self._said(error)) from None

    def set_dark(self, dark: Slab) -> None:
        self._give({DARK: np.asarray(dark, np.float32)})

    def _set(self, parameters: Mapping[str, NDArray[Any]]) -> bool:
        self._give(parameters)
        return True

    def _give(self, values: Mapping[str, NDArray[Any]]) -> None:
        """Into the tensors that captured graphs read."""
        try:
            with self._torch.inference_mode():
                for name, value in values.items():
                    self._given[name].copy_(self._torch.from_numpy(value.copy()))
        except Exception as error:
            raise EngineError(self._said(error)) from None

    def launch(self, slab: int, rows: int) -> None:
        """Returns at once on a GPU; on the CPU it computes here."""
        try:
            with self._torch.inference_mode():
                if self._computing is not None:
                    self._computing.launch(slab, rows)
                    return
                counts = self._torch.from_numpy(self.inputs[slab][:rows])
                found = self._program(self._inputs(counts))
                for name, array in self.results(slab).items():
                    array[:rows] = found[name].numpy()
        except Exception as error:
            raise EngineError(self._said(error)) from None

    def wait(self, slab: int) -> None:
        try:
            if self._computing is not None:
                self._computing.wait(slab)
        except Exception as error:
            raise EngineError(self._said(error)) from None

    def close(self) -> None:
        self._computing = None
        self._program = None
        if getattr(self, "_gpu", False):
            self._torch.cuda.empty_cache()

    def describe(self) -> str:
        device = self._torch.cuda.get_device_name() if self._gpu else "CPU"
        return f"torch {self._torch.__version__.split('+')[0]}, {device}, {self.precision}"

    def _inputs(self, counts: "torch.Tensor") -> dict[str, "torch.Tensor"]:
        return {COUNTS: counts, **self._given}

    def _said(self, error: Exception) -> str:
        if isinstance(error, self._torch.cuda.OutOfMemoryError):
            return (
                f"the GPU has too little memory for batches of {self.max_batch}; give a smaller --max-batch"
            )
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"torch failed on {self.graph.model.card.name}: {first}"


class _Graphs:
    """A CUDA graph for each batch size, from and to tensors on the GPU that they share; and for each slab one
    with the copies from and to it, for batches of just that size: for one spectrum alone, launches count."""

    def __init__(self, engine: Torch) -> None:
        torch = engine._torch
        self._engine, self._torch = engine, torch
        self._stream = torch.cuda.Stream()
        # Who waits for the second kind sleeps, and leaves the processor to others: for large batches.
        self._events = [(torch.cuda.Event(), torch.cuda.Event(blocking=True)) for _ in engine.inputs]
        self._ends = [spinning for spinning, _ in self._events]
        self._host = [
            {name: torch.from_numpy(array) for name, array in arrays.items()}
            for arrays in (
                {COUNTS: counts, **engine.results(slab)} for slab, counts in enumerate(engine.inputs)
            )
        ]
        self._counts = torch.zeros(engine.max_batch, engine.graph.pixels, device=engine._device)
        self._results: dict[str, Any] = {}
        self._pool: Any = None
        self._alone: dict[int, tuple[Any, dict[str, Any]]] = {}  # by size
        self._copying: dict[tuple[int, int], Any] = {}  # by slab and size
        # Float32 in all its digits, which phases need. cuDNN's own choice of kernels: trying them all takes
        # seconds for each axis and gains nothing that can be measured.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
            for size in reversed(engine.sizes):  # the largest takes the memory that the others share
                self._warm_up(size)
                self._alone[size] = self._capture(partial(self._compute, size)), self._results
                for slab in range(len(engine.inputs)):
                    self._copying[slab, size] = self._capture(partial(self._copy_and_compute, slab, size))

    def launch(self, slab: int, rows: int) -> None:
        with self._torch.cuda.stream(self._stream):
            if (slab, rows) in self._copying:
                self._copying[slab, rows].replay()
            else:
                graph, self._results = self._alone[next(n for n in self._engine.sizes if n >= rows)]
                self._upload(slab, rows)
                graph.replay()
                self._download(slab, rows)
            self._ends[slab] = self._events[slab][rows >= EVEN]
            self._ends[slab].record()

    def wait(self, slab: int) -> None:
        self._ends[slab].synchronize()

    def _upload(self, slab: int, rows: int) -> None:
        self._counts[:rows].copy_(self._host[slab][COUNTS][:rows], non_blocking=True)

    def _compute(self, size: int) -> None:
        self._results = self._engine._program(self._engine._inputs(self._counts[:size]))

    def _download(self, slab: int, rows: int) -> None:
        for name, result in self._results.items():
            self._host[slab][name][:rows].copy_(result[:rows], non_blocking=True)

    def _copy_and_compute(self, slab: int, size: int) -> None:
        self._upload(slab, size)
        self._compute(size)
        self._download(slab, size)

    def _warm_up(self, size: int) -> None:
        self._stream.wait_stream(self._torch.cuda.current_stream())
        with self._torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                self._compute(size)
        self._stream.synchronize()

    def _capture(self, work: Callable[[], None]) -> Any:
        """Not by torch.cuda.graph, which empties all caches each time and lets no other thread use the GPU
        meanwhile."""
        graph = self._torch.cuda.CUDAGraph()
        with self._torch.cuda.stream(self._stream):
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                graph.capture_end()
        self._pool = self._pool or graph.pool()
        return graph


def _nvidia_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return False
    return True
