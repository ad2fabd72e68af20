"""The device layer on cuda-bindings, a part of NVIDIA's cuda-python: wheels everywhere, and CUDA graphs."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from cuda.bindings import driver as cuda

from cars_rt.engines.tensorrt.device import Array, Device, DeviceError
from cars_rt.engines.tensorrt.gpu import Gpu
from cars_rt.engines.tensorrt.messages import OutOfMemoryError


class CudaBindings(Device):
    """Calls the driver's functions; each answers with a code and its values."""

    package: ClassVar[str] = "cuda-bindings"

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._made: list[tuple[Callable[..., Any], Any]] = []  # what gives back what, oldest first
        self._call(cuda.cuInit, 0)
        self._device = self._call(cuda.cuDeviceGet, 0)
        context = self._call(cuda.cuDevicePrimaryCtxRetain, self._device)
        self._made.append((cuda.cuDevicePrimaryCtxRelease, self._device))
        self._call(cuda.cuCtxPushCurrent, context)

    def allocate(self, size: int) -> int:
        return int(self._keep(cuda.cuMemFree, self._call(cuda.cuMemAlloc, max(size, 1))))

    def pin(self, array: Array) -> None:
        self._call(cuda.cuMemHostRegister, array.ctypes.data, array.nbytes, 0)
        self._keep(cuda.cuMemHostUnregister, array.ctypes.data)

    def stream(self) -> int:
        flags = cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._keep(cuda.cuStreamDestroy, self._call(cuda.cuStreamCreate, flags)))

    def event(self, *, blocking: bool = False) -> Any:
        flags = int(cuda.CUevent_flags.CU_EVENT_DISABLE_TIMING)
        if blocking:
            flags |= int(cuda.CUevent_flags.CU_EVENT_BLOCKING_SYNC)
        return self._keep(cuda.cuEventDestroy, self._call(cuda.cuEventCreate, flags))

    def upload(self, to: int, array: Array, stream: int) -> None:
        self._call(cuda.cuMemcpyHtoDAsync, to, array.ctypes.data, array.nbytes, stream)

    def download(self, array: Array, source: int, stream: int) -> None:
        self._call(cuda.cuMemcpyDtoHAsync, array.ctypes.data, source, array.nbytes, stream)

    def record(self, event: Any, stream: int) -> None:
        self._call(cuda.cuEventRecord, event, stream)

    def hold(self, stream: int, event: Any) -> None:
        self._call(cuda.cuStreamWaitEvent, stream, event, 0)

    def wait(self, event: Any) -> None:
        self._call(cuda.cuEventSynchronize, event)

    def capture(self, stream: int, enqueue: Callable[[], None]) -> Any | None:
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call(cuda.cuStreamBeginCapture, stream, mode)
        failed = False
        try:
            enqueue()
        except Exception:  # TensorRT cannot have some layers captured, such as recurrent ones
            failed = True
        code, graph = cuda.cuStreamEndCapture(stream)
        if code != cuda.CUresult.CUDA_SUCCESS:
            return None
        try:
            return None if failed else self._keep(cuda.cuGraphExecDestroy, self._instance(graph))
        finally:
            cuda.cuGraphDestroy(graph)

    def replay(self, graph: Any, stream: int) -> None:
        self._call(cuda.cuGraphLaunch, graph, stream)

    def forget(self, graph: Any) -> None:
        kept = (cuda.cuGraphExecDestroy, graph)
        if kept in self._made:
            self._made.remove(kept)
            cuda.cuGraphExecDestroy(graph)

    def settle(self) -> None:
        # Not the context: that would spoil what another engine captures meanwhile.
        for give_back, stream in self._made:
            if give_back is cuda.cuStreamDestroy:
                with suppress(Exception):  # when the GPU is lost every call fails, and `wait` has said so
                    cuda.cuStreamSynchronize(stream)

    def memory_in_use(self) -> int:
        free, total = self._call(cuda.cuMemGetInfo)
        return int(total) - int(free)

    def close(self) -> None:
        self.settle()
        while self._made:
            give_back, made = self._made.pop()
            if give_back is cuda.cuDevicePrimaryCtxRelease:
                cuda.cuCtxPopCurrent()
            give_back(made)

    def _instance(self, graph: Any) -> Any:
        return self._call(cuda.cuGraphInstantiate, graph, 0)

    def _keep(self, give_back: Callable[..., Any], made: Any) -> Any:
        self._made.append((give_back, made))
        return made

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        code, *values = function(*arguments)
        if code == cuda.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
            raise OutOfMemoryError(f"the memory of the {self._gpu} does not suffice ({function.__name__})")
        if code != cuda.CUresult.CUDA_SUCCESS:
            raise DeviceError(f"the {self._gpu} failed: {function.__name__} says {code.name}")
        return values[0] if len(values) == 1 else values
