"""PyTorch: half precision and CUDA graphs on an NVIDIA GPU; on the CPU a last resort, in float32."""

import ctypes
import logging
import platform
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.agreement import TOLERANCE, difference, probe
from cars_rt.engines.base import EVEN, FLOAT16, FLOAT32, Engine, EngineError, Slab, usable_cores
from cars_rt.engines.graph import COUNTS, DARK, RAMAN
from cars_rt.engines.half import halve
from cars_rt.installation import install_extra

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_FLAGS = threading.Lock()  # cuDNN's flags are those of the process
_TAKING = threading.Lock()
_taken: set[int] = set()  # streams that engines of this process have

FEW = 256  # of a wide network; so many are faster in one kernel, 1024 are not (measured on an H200)
STREAMS = 32  # that PyTorch has of one priority
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

    @classmethod
    def fragile(cls) -> bool:
        """On a GPU."""
        return not cls.last_resort()

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
        self._lanes: list[_Lane] = []
        self._streams: list[Any] = []
        self._chained: Any = None
        self._most_chained = 0
        content = self.graph.onnx
        if self._gpu:
            content, halved = halve(content)
            self.precision = FLOAT16 if halved else FLOAT32
        else:
            torch.set_num_threads(threads or usable_cores())
        try:
            with torch.inference_mode():
                self._given = {DARK: torch.zeros(self.graph.pixels, device=self._device)}
                for name, value in self.graph.parameters.items():
                    self._given[name] = torch.from_numpy(value.copy()).to(self._device)
                self._program: Any = Program(content, self._device)
                if self._gpu:
                    self._chain(content)
                    self._streams = [_own_stream(torch) for _ in self.inputs]
                    self._lanes = [_Lane(self, slab, stream) for slab, stream in enumerate(self._streams)]
                else:
                    self._compute(torch.zeros(1, self.graph.pixels))
        except UnsupportedError as error:
            raise EngineError(f"torch cannot run {error}; use another engine") from None
        except Exception as error:
            self.close()
            raise EngineError(self._said(error)) from None

    def _chain(self, content: bytes) -> None:
        """The graph with its run of convolutions as one kernel, where that can be and gives the same."""
        from cars_rt.engines.chained.chain import UnchainedError
        from cars_rt.engines.chained.kernel import Kernel
        from cars_rt.engines.program import Program

        inputs = {COUNTS: self._torch.from_numpy(probe(self.graph)).to(self._device), **self._given}
        try:
            kernel = Kernel(content, self._device)
            program = Program(content, self._device, kernel.replacement)
            found, expected = (each(inputs)[RAMAN].cpu().numpy() for each in (program, self._program))
            if not difference(found, expected) < TOLERANCE:
                raise UnchainedError("this GPU computes it otherwise")
        except Exception as error:  # also of a graph of another kind than ours, or of NVIDIA's libraries
            log.info("%s: one convolution after the other: %s", self.graph.model.card.name, error)
            return
        self._chained, self._most_chained = program, self.max_batch if kernel.roomy else FEW

    def _compute(self, counts: "torch.Tensor") -> dict[str, "torch.Tensor"]:
        program = self._program
        if self._chained is not None and len(counts) <= self._most_chained:
            program = self._chained
        found: dict[str, torch.Tensor] = program({COUNTS: counts, **self._given})
        return found

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
                if self._lanes:
                    self._lanes[slab].launch(rows)
                    return
                counts = self._torch.from_numpy(self.inputs[slab][:rows])
                found = self._compute(counts)
                for name, array in self.results(slab).items():
                    array[:rows] = found[name].numpy()
        except Exception as error:
            raise EngineError(self._said(error)) from None

    def wait(self, slab: int) -> None:
        try:
            if self._lanes:
                self._lanes[slab].wait()
        except Exception as error:
            raise EngineError(self._said(error)) from None

    def close(self) -> None:
        streams, self._lanes, self._streams = getattr(self, "_streams", []), [], []
        with _TAKING:
            _taken.difference_update(stream.cuda_stream for stream in streams)
        self._program = self._chained = None
        self._given = {}
        super().close()
        if getattr(self, "_gpu", False):
            with suppress(Exception):  # while another thread captures; the memory is given back the next time
                self._torch.cuda.empty_cache()

    def describe(self) -> str:
        device = self._torch.cuda.get_device_name() if self._gpu else "CPU"
        chained = ", convolutions in one kernel" if self._chained is not None else ""
        return f"torch {self._torch.__version__.split('+')[0]}, {device}, {self.precision}{chained}"

    def _said(self, error: Exception) -> str:
        if isinstance(error, self._torch.cuda.OutOfMemoryError):
            return (
                f"the GPU has too little memory for batches of {self.max_batch}; `cars-rt run --max-batch` "
                "makes them smaller"
            )
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"torch failed on {self.graph.model.card.name}: {first}"


class _Lane:
    """What one slab's spectra go through on the GPU, on a stream of their own: copies of one batch and the
    computing of another go on at once. A CUDA graph for each batch size holds the copies from and to the
    slab, too, since for one spectrum alone launches count; another one is for batches that are smaller."""

    def __init__(self, engine: Torch, slab: int, stream: Any) -> None:
        torch = engine._torch
        self._engine, self._torch = engine, torch
        self._stream = stream
        # Who waits for the second kind sleeps, and leaves the processor to others: for large batches.
        self._events = torch.cuda.Event(), torch.cuda.Event(blocking=True)
        self._end = self._events[0]
        self._host = {
            name: torch.from_numpy(array)
            for name, array in {COUNTS: engine.inputs[slab], **engine.results(slab)}.items()
        }
        self._counts = torch.zeros(engine.max_batch, engine.graph.pixels, device=engine._device)
        self._stream.wait_stream(torch.cuda.current_stream())  # which makes those, and the parameters
        self._results: dict[str, Any] = {}
        self._pool: Any = None
        self._computing: dict[int, tuple[Any, dict[str, Any]]] = {}  # by size
        self._copying: dict[int, Any] = {}  # likewise
        # Float32 in all its digits, which phases need. cuDNN's own choice of kernels: trying them all takes
        # seconds for each axis and gains nothing that can be measured.
        with _FLAGS, torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
            for size in reversed(engine.sizes):  # the largest takes the memory that the others share
                if slab == 0:
                    self._warm_up(size)
                self._computing[size] = self._capture(partial(self._compute, size)), self._results
                self._copying[size] = self._capture(partial(self._copy_and_compute, size))

    def launch(self, rows: int) -> None:
        with self._torch.cuda.stream(self._stream):
            if rows in self._copying:
                self._copying[rows].replay()
            else:
                graph, self._results = self._computing[next(n for n in self._engine.sizes if n >= rows)]
                self._upload(rows)
                graph.replay()
                self._download(rows)
            self._end = self._events[rows >= EVEN]
            self._end.record()

    def wait(self) -> None:
        self._end.synchronize()

    def _upload(self, rows: int) -> None:
        self._counts[:rows].copy_(self._host[COUNTS][:rows], non_blocking=True)

    def _compute(self, size: int) -> None:
        self._results = self._engine._compute(self._counts[:size])

    def _download(self, rows: int) -> None:
        for name, result in self._results.items():
            self._host[name][:rows].copy_(result[:rows], non_blocking=True)

    def _copy_and_compute(self, size: int) -> None:
        self._upload(size)
        self._compute(size)
        self._download(size)

    def _warm_up(self, size: int) -> None:
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


def _own_stream(torch: Any) -> Any:
    """A stream that no other engine of this process has. PyTorch hands out 32 in turn: what is launched on a
    stream while another engine captures there becomes part of that one's graph."""
    with _TAKING:
        for _ in range(STREAMS):
            stream = torch.cuda.Stream()
            if stream.cuda_stream not in _taken:
                break
        _taken.add(stream.cuda_stream)
    return stream


def _nvidia_driver() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1")
    except OSError:
        return False
    return True
