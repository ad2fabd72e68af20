"""The thin layer between the engine and the GPU: allocate, copy, synchronise. Two packages can do it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.base import EngineError
from cars_rt.engines.tensorrt.gpu import Gpu
from cars_rt.installation import package_version, pip_install

Array = NDArray[np.float32]

PAGE = 4096  # bytes; pinning works on whole pages
CUDA_BINDINGS = (12, 9, 1)  # the first that lets other threads run while it waits for the GPU


class DeviceError(EngineError):
    """The GPU failed, or is lost; the engine cannot go on."""


class Device(ABC):
    """One GPU, in the one thread that constructs it, through its primary context (which PyTorch and
    TensorRT share).

    What it hands out are plain numbers: addresses on the GPU, and the handles of streams, as TensorRT
    wants them. Work on one stream is done in order; streams wait for each other by events. It gives
    everything back in `close`. All of it raises OutOfMemoryError if the GPU's memory does not suffice, and
    DeviceError for everything else that the driver reports, also of work that was begun earlier.
    """

    package: ClassVar[str]  # that it needs

    @abstractmethod
    def __init__(self, gpu: Gpu) -> None:
        """Take the GPU that `find_gpu` found. Where that raised, make none: some packages crash."""

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Memory on the GPU of so many bytes: its address, a multiple of 256."""

    @abstractmethod
    def pin(self, array: Array) -> None:
        """Keep an array of `page_aligned` where it is in memory, so that the GPU reads and writes it
        directly. It stays an ordinary array, also after `close`."""

    @abstractmethod
    def stream(self) -> int:
        """A stream that does not wait for others."""

    @abstractmethod
    def event(self, *, blocking: bool = False) -> Any:
        """A new event. blocking: a thread that waits for it sleeps, in place of asking again and again."""

    @abstractmethod
    def upload(self, to: int, array: Array, stream: int) -> None:
        """Begin copying a contiguous, pinned array to an address on the GPU."""

    @abstractmethod
    def download(self, array: Array, source: int, stream: int) -> None:
        """Begin copying from an address on the GPU into a contiguous, pinned array."""

    @abstractmethod
    def record(self, event: Any, stream: int) -> None:
        """Have the event come when all work that is on the stream now is done."""

    @abstractmethod
    def hold(self, stream: int, event: Any) -> None:
        """Have work that is put on the stream from now on wait for the event. One that was never recorded
        holds nothing up."""

    @abstractmethod
    def wait(self, event: Any) -> None:
        """Return when the event has come."""

    @abstractmethod
    def capture(self, stream: int, enqueue: Callable[[], None]) -> Any | None:
        """A CUDA graph of the work that `enqueue` puts on the stream; none of it is done now. None if this
        package has no graphs or the work cannot be captured."""

    @abstractmethod
    def replay(self, graph: Any, stream: int) -> None:
        """Begin the work of a captured graph."""

    @abstractmethod
    def forget(self, graph: Any) -> None:
        """Give a captured graph back, before what it was captured from. Never raises."""

    @abstractmethod
    def settle(self) -> None:
        """Wait for everything that is under way. Never raises: what failed is told by `wait`."""

    @abstractmethod
    def memory_in_use(self) -> int:
        """Bytes of the GPU's memory that are in use, by all programs."""

    @abstractmethod
    def close(self) -> None:
        """Wait for what is under way and give everything back. Never raises: the GPU may be gone."""


#: By the module that must be there: the adapter's module, its class, and what pip calls the package. The
#: first that is installed is taken.
ADAPTERS = {
    "cuda.bindings.driver": ("cars_rt.engines.tensorrt.device_cuda", "CudaBindings", "cuda-bindings"),
    "pycuda.driver": ("cars_rt.engines.tensorrt.device_pycuda", "PyCuda", "pycuda"),
}


def device_class() -> type[Device]:
    """The adapter for what is installed. Raises EngineError if that is neither; needs no driver."""
    for module, (adapter, cls, package) in ADAPTERS.items():
        if _there(module.rpartition(".")[0]):
            _check_version(package)
            found: type[Device] = getattr(import_module(adapter), cls)
            return found
    names = " nor ".join(package for _, _, package in ADAPTERS.values())
    raise EngineError(f"neither {names} is installed: {pip_install('cuda-bindings')}")


def page_aligned(rows: int, columns: int) -> Array:
    """Zeros (rows, columns) float32 that begin at a page of memory."""
    size = rows * columns * 4
    memory = np.zeros(size + PAGE, np.uint8)
    first = -memory.ctypes.data % PAGE
    return memory[first : first + size].view(np.float32).reshape(rows, columns)


def _check_version(package: str) -> None:
    if package != "cuda-bindings":
        return
    if (found := package_version(package)) is None:
        return
    if tuple(int(part) for part in found.split(".")[:3] if part.isdigit()) < CUDA_BINDINGS:
        wanted = ".".join(map(str, CUDA_BINDINGS))
        raise EngineError(
            f"{package} {found} lets nothing else run while it waits for the GPU; "
            f"{wanted} or newer does: {pip_install(f'{package}>={wanted}')}"
        )


def _there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of the package around it
        return False
