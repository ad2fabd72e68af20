"""A product with TensorRT's interface for any NVIDIA card: its engine launches two kernels of its own.

    raman = 2 s + s with the pixels reversed, where s = counts - dark

Everything around an engine is real: streams, slabs, graphs, scratch memory. The kernels are slow on
purpose, and s lies in the scratch memory that all contexts share, so that what overlaps and must not gives
wrong numbers.
"""

import ctypes
import json
from typing import Any

import numpy as np
from cuda.bindings import driver as cuda
from cuda.bindings import nvrtc
from numpy.typing import NDArray

__version__ = "10.9.0"

SLOW = 30_000  # clock cycles that each number takes at least
THREADS = 256
SOURCE = b"""
__device__ void spend(long long cycles) { long long begin = clock64(); while (clock64() - begin < cycles); }

extern "C" __global__ void subtract(const float *counts, const float *dark, float *scratch,
                                    int rows, int pixels, long long slow)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * pixels) return;
    spend(slow);
    scratch[i] = counts[i] - dark[i % pixels];
}

extern "C" __global__ void fold(const float *scratch, float *raman, int rows, int pixels, long long slow)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= rows * pixels) return;
    spend(slow);
    int row = i / pixels, pixel = i % pixels;
    raman[i] = 2 * scratch[i] + scratch[row * pixels + pixels - 1 - pixel];
}
"""


def expected(counts: NDArray[np.float32], dark: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the kernels compute, by NumPy."""
    signal = counts - dark
    return np.asarray(2 * signal + signal[:, ::-1], np.float32)


def plan(pixels: int, largest: int, *, capturable: bool = True, scratch: int = 0) -> bytes:
    """A plan for batches up to `largest`. capturable: False synchronises within its work, which no capture
    allows. scratch: bytes that it asks for, if not those that it needs."""
    about = {"pixels": pixels, "capturable": capturable, "scratch": scratch or pixels * largest * 4}
    return json.dumps(about).encode()


class ILogger:
    INTERNAL_ERROR, ERROR = "internal error", "error"


class DataType:
    FLOAT = "float"


class ExecutionContextAllocationStrategy:
    USER_MANAGED = "user"


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, content: bytes) -> "Engine | None":
        try:
            return Engine(json.loads(content))
        except ValueError:
            self.logger.log(ILogger.ERROR, "no plan")  # type: ignore[attr-defined]
            return None


class Engine:
    num_io_tensors = 3

    def __init__(self, about: dict[str, Any]) -> None:
        self.pixels, self.capturable = about["pixels"], about["capturable"]
        self.device_memory_size_v2 = about["scratch"]
        self.subtract, self.fold = _kernels()

    def get_tensor_name(self, index: int) -> str:
        return ("counts", "dark", "raman")[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.pixels,) if name == "dark" else (-1, self.pixels)

    def get_tensor_dtype(self, name: str) -> str:
        return DataType.FLOAT

    def create_execution_context(self, strategy: str) -> "Context":
        assert strategy == ExecutionContextAllocationStrategy.USER_MANAGED
        return Context(self)


class Context:
    """Refuses to compute before everything is set in TensorRT's order."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._scratch = self._rows = 0
        self._at: dict[str, int] = {}

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self._engine.device_memory_size_v2
        self._scratch = address

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        return self._scratch != 0 and stream != 0

    def set_input_shape(self, name: str, shape: tuple[int, int]) -> bool:
        self._rows = shape[0]
        return name == "counts" and shape[1] == self._engine.pixels

    def infer_shapes(self) -> list[str]:
        return []

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._at[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream: int) -> bool:
        if not self._rows or len(self._at) < 3:
            return False
        engine, rows, pixels = self._engine, self._rows, self._engine.pixels
        if not engine.capturable and cuda.cuStreamSynchronize(stream)[0] != cuda.CUresult.CUDA_SUCCESS:
            return False
        return _launch(
            engine.subtract, stream, rows, pixels, self._at["counts"], self._at["dark"], self._scratch
        ) and _launch(engine.fold, stream, rows, pixels, self._scratch, self._at["raman"])


def _launch(kernel: Any, stream: int, rows: int, pixels: int, *addresses: int) -> bool:
    values = (*addresses, rows, pixels, SLOW)
    kinds = (*(ctypes.c_void_p for _ in addresses), ctypes.c_int, ctypes.c_int, ctypes.c_longlong)
    blocks = (rows * pixels + THREADS - 1) // THREADS
    (code,) = cuda.cuLaunchKernel(kernel, blocks, 1, 1, THREADS, 1, 1, 0, stream, (values, kinds), 0)
    return bool(code == cuda.CUresult.CUDA_SUCCESS)


def _kernels() -> tuple[Any, Any]:
    """Compiled for the card of the current context."""
    major, minor = (
        _ok(cuda.cuDeviceGetAttribute(attribute, _ok(cuda.cuCtxGetDevice())))
        for attribute in (
            cuda.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            cuda.CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR,
        )
    )
    program = _ok(nvrtc.nvrtcCreateProgram(SOURCE, b"standin.cu", 0, [], []))
    _ok(nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture=compute_{major}{minor}".encode()]))
    ptx = b" " * _ok(nvrtc.nvrtcGetPTXSize(program))
    _ok(nvrtc.nvrtcGetPTX(program, ptx))
    module = _ok(cuda.cuModuleLoadData(ptx))
    return _ok(cuda.cuModuleGetFunction(module, b"subtract")), _ok(cuda.cuModuleGetFunction(module, b"fold"))


def _ok(answer: tuple[Any, ...]) -> Any:
    code, *values = answer
    assert int(code) == 0, code
    return values[0] if values else None
