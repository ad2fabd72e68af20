"""The device layer on pycuda. It has no CUDA graphs; everything else is as with cuda-bindings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

import pycuda.driver as cuda

from cars_rt.engines.base import EngineError
from cars_rt.engines.tensorrt.device import Array, Device, DeviceError
from cars_rt.engines.tensorrt.gpu import Gpu, pin, unpin
from cars_rt.engines.tensorrt.messages import OutOfMemoryError


class PyCuda(Device):
    """pycuda frees an object as soon as nothing refers to it, which must happen in the thread and context
    that made it. So all objects are kept here until `close`. Its `autoinit` is not used, since that makes a
    context of its own."""

    package: ClassVar[str] = "pycuda"

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._context: Any = None
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self._events: list[Any] = []
        self._pinned: list[Array] = []
        with self._errors():
            cuda.init()
            context = cuda.Device(0).retain_primary_context()
            context.push()
        self._context = context

    def allocate(self, size: int) -> int:
        with self._errors():
            memory = cuda.mem_alloc(max(size, 1))
        self._memory[int(memory)] = memory
        return int(memory)

    def pin(self, array: Array) -> None:
        # Not pycuda's own register_host_memory: with NumPy 2.5 that of pycuda 2026.1 fails on any array.
        pin(array.ctypes.data, array.nbytes)
        self._pinned.append(array)

    def stream(self) -> int:
        with self._errors():
            stream = cuda.Stream(1)  # CU_STREAM_NON_BLOCKING
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def event(self, *, blocking: bool = False) -> Any:
        flags = cuda.event_flags.DISABLE_TIMING | (cuda.event_flags.BLOCKING_SYNC if blocking else 0)
        with self._errors():
            event = cuda.Event(flags)
        self._events.append(event)
        return event

    def upload(self, to: int, array: Array, stream: int) -> None:
        with self._errors():
            cuda.memcpy_htod_async(to, array, self._streams[stream])

    def download(self, array: Array, source: int, stream: int) -> None:
        with self._errors():
            cuda.memcpy_dtoh_async(array, source, self._streams[stream])

    def record(self, event: Any, stream: int) -> None:
        with self._errors():
            event.record(self._streams[stream])

    def hold(self, stream: int, event: Any) -> None:
        with self._errors():
            self._streams[stream].wait_for_event(event)

    def wait(self, event: Any) -> None:
        with self._errors():
            event.synchronize()

    def capture(self, stream: int, enqueue: Callable[[], None]) -> None:
        """pycuda has no graphs."""

    def replay(self, graph: Any, stream: int) -> None:
        raise DeviceError("pycuda has no CUDA graphs")

    def forget(self, graph: Any) -> None:
        """pycuda has no graphs, so there is none to give back."""

    def settle(self) -> None:
        for stream in self._streams.values():  # not the context, which another engine may compute in
            with suppress(cuda.Error):
                stream.synchronize()

    def memory_in_use(self) -> int:
        with self._errors():
            free, total = cuda.mem_get_info()
        return int(total) - int(free)

    def close(self) -> None:
        if self._context is None:
            return
        self.settle()
        for array in self._pinned:
            with suppress(EngineError):
                unpin(array.ctypes.data)
        for kept in (self._pinned, self._events, self._streams, self._memory):
            kept.clear()
        with suppress(cuda.Error):
            cuda.Context.pop()
        self._context = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except cuda.MemoryError as error:
            raise OutOfMemoryError(f"the memory of the {self._gpu} does not suffice ({error})") from None
        except cuda.Error as error:
            raise DeviceError(f"the {self._gpu} failed: {error}") from None
