"""TensorRT and TensorRT-RTX for a card in software: plans hold the graph, and ONNX Runtime computes it in the
card's memory.

The environment says what goes wrong:

SIMULATED_TRT: nullptr (its library finds no driver that suits it), crash (it ends the process), unsuited (no
plan suits this GPU), uncapturable (its work cannot become a CUDA graph)
SIMULATED_MICROCODE: what plans must be of, beyond all that a version says
SIMULATED_BUILD_UNTIL: a file for which a build waits when it is half done: it takes as long as is wanted
"""

import ctypes
import json
import os
import time
from collections.abc import Callable
from enum import Enum, IntEnum, IntFlag
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

STEPS = 10


def _wrong(what: str) -> bool:
    return os.environ.get("SIMULATED_TRT") == what


def _magic() -> bytes:
    return f"a plan for the card in software, {os.environ.get('SIMULATED_MICROCODE')}\n".encode()


class ILogger:
    INTERNAL_ERROR, ERROR = "internal error", "error"

    def __init__(self) -> None:
        pass

    def log(self, severity: str, message: str) -> None:
        raise NotImplementedError


class IProgressMonitor:
    def __init__(self) -> None:
        pass


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class MemoryPoolType(IntEnum):
    WORKSPACE = 0


class BuilderFlag(IntEnum):
    TF32, REQUIRE_USER_ALLOCATION = 0, 1


class DataType(Enum):
    FLOAT, INT32, INT64 = "tensor(float)", "tensor(int32)", "tensor(int64)"


class TensorIOMode(Enum):
    INPUT, OUTPUT = "input", "output"


class ExecutionContextAllocationStrategy(Enum):
    USER_MANAGED = "user"


class DynamicShapesKernelSpecializationStrategy(Enum):
    EAGER = "all of them when a plan is opened"


class EngineValidity(Enum):
    VALID, INVALID = 0, 1


class EngineInvalidityDiagnostics(IntFlag):
    UNSUPPORTED_CC, OLD_CUDA_DRIVER = 1, 2


def _begin(logger: ILogger) -> None:
    if _wrong("crash"):
        os._exit(139)
    if _wrong("nullptr"):
        logger.log(ILogger.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")


class Network:
    onnx, num_outputs = b"", 1


class OnnxParser:
    num_errors = 0

    def __init__(self, network: Network, logger: ILogger) -> None:
        self._network = network

    def parse(self, content: bytes) -> bool:
        self._network.onnx = content
        return True


class Profile:
    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        assert smallest <= usual <= largest


class Cache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content or b"timings"


class Config:
    progress_monitor: Any = None

    def __init__(self) -> None:
        self._profiles = 0
        self.flags: set[BuilderFlag] = set()

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        pass

    def clear_flag(self, flag: BuilderFlag) -> None:
        pass

    def add_optimization_profile(self, profile: Profile) -> int:
        self._profiles += 1
        return self._profiles - 1

    def create_timing_cache(self, content: bytes) -> Cache:
        return Cache(content)

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> None:
        pass


class Builder:
    def __init__(self, logger: ILogger) -> None:
        _begin(logger)

    def create_network(self, flags: int) -> Network:
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building Engine", None, STEPS)
        until = os.environ.get("SIMULATED_BUILD_UNTIL")
        for step in range(STEPS):
            while step == STEPS // 2 and until and not Path(until).exists():
                time.sleep(0.02)
            if not monitor.step_complete("Building Engine", step):
                return None
        monitor.phase_finish("Building Engine")
        allocates = BuilderFlag.REQUIRE_USER_ALLOCATION not in config.flags
        return _magic() + (b"1" if allocates else b"0") + network.onnx


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        _begin(logger)
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> "Engine | None":
        if _wrong("unsuited") or not plan.startswith(_magic()):
            self._logger.log(
                ILogger.ERROR, "The engine plan file is generated on an incompatible device or version"
            )
            return None
        rest = plan.removeprefix(_magic())
        return Engine(rest[1:], allocates=rest[:1] == b"1")


class RtxRuntime(Runtime):
    """TensorRT itself cannot be asked."""

    def get_engine_validity(self, plan: bytes) -> tuple[EngineValidity, int]:
        if _wrong("unsuited"):
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.UNSUPPORTED_CC)
        return EngineValidity.VALID, 0


class RuntimeCache:
    """What a plan is compiled to when it is opened."""

    content = b""

    def deserialize(self, content: bytes) -> bool:
        self.content = content
        return True

    def serialize(self) -> bytes:
        return b"kernels"


class RuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy: Any = None
    cache: RuntimeCache | None = None

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> None:
        self.cache = cache


class Engine:
    device_memory_size_v2 = 4096
    only_where_allocated = False  # as TensorRT-RTX: work that allocates is not captured

    def __init__(self, content: bytes, *, allocates: bool) -> None:
        self.allocates = allocates  # memory of its own while it computes, which no graph can have
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.inputs = {each.name: each for each in self.session.get_inputs()}
        self.outputs = {each.name: each for each in self.session.get_outputs()}
        self.num_io_tensors = len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        shape = (self.inputs | self.outputs)[name].shape
        return tuple(size if isinstance(size, int) else -1 for size in shape)

    def get_tensor_dtype(self, name: str) -> DataType:
        return DataType((self.inputs | self.outputs)[name].type)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def create_runtime_config(self) -> RuntimeConfig:
        return RuntimeConfig()

    def create_engine_inspector(self) -> "Inspector":
        return Inspector(list(self.outputs))

    def create_execution_context(self, how: ExecutionContextAllocationStrategy | RuntimeConfig) -> "Context":
        if isinstance(how, RuntimeConfig):
            eager = DynamicShapesKernelSpecializationStrategy.EAGER
            assert how.cache is not None and how.dynamic_shapes_kernel_specialization_strategy is eager
            self.only_where_allocated = True
        return Context(self)


class LayerInformationFormat(Enum):
    JSON = "json"


class Inspector:
    def __init__(self, names: list[str]) -> None:
        self._names = names

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        return json.dumps({"Layers": self._names})


class Context:
    """Its work is one function on a stream, so that it can be captured."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rows = 0
        self._at: dict[str, int] = {}
        self._function = FUNCTION(self._compute)

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self._engine.device_memory_size_v2

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        return stream != 0

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._rows = shape[0]
        return True

    def infer_shapes(self) -> list[str]:
        return []

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._at[name] = address
        return address % 256 == 0

    def is_stream_capturable(self, stream: int) -> bool:
        engine = self._engine
        return not _wrong("uncapturable") and not (engine.only_where_allocated and engine.allocates)

    def execute_async_v3(self, stream: int) -> bool:
        return DRIVER.cuLaunchHostFunc(ctypes.c_void_p(stream), self._function, None) == 0

    def _compute(self, _: Any) -> None:
        inputs = {name: self._there(name) for name in self._engine.inputs}
        try:
            found = self._engine.session.run(list(self._engine.outputs), inputs)
        except Exception:  # such as places outside of a spectrum
            DRIVER.simulatedFault()
            return
        for name, values in zip(self._engine.outputs, found, strict=True):
            self._there(name)[:] = values

    def _there(self, name: str) -> Any:
        shape = [self._rows if size < 0 else size for size in self._engine.get_tensor_shape(name)]
        kind, numbers = KINDS[self._engine.get_tensor_dtype(name)]
        memory = (numbers * int(np.prod(shape))).from_address(self._at[name])
        return np.frombuffer(memory, kind).reshape(shape)


KINDS: dict[DataType, tuple[Any, Any]] = {
    DataType.FLOAT: (np.float32, ctypes.c_float),
    DataType.INT32: (np.int32, ctypes.c_int32),
    DataType.INT64: (np.int64, ctypes.c_int64),
}
FUNCTION: Callable[..., Any] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
DRIVER = ctypes.CDLL("libcuda.so.1")
