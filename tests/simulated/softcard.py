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
import weakref
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
    rows = (0, 0)

    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        assert smallest <= usual <= largest
        self.rows = smallest[0], largest[0]


class Cache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        return self._content or b"timings"


class Config:
    progress_monitor: Any = None

    def __init__(self) -> None:
        self.profiles: list[Profile] = []
        self.flags: set[BuilderFlag] = set()

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag)

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        pass

    def clear_flag(self, flag: BuilderFlag) -> None:
        pass

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

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
        about = {
            "allocates": BuilderFlag.REQUIRE_USER_ALLOCATION not in config.flags,
            "profiles": [each.rows for each in config.profiles],
        }
        return _magic() + json.dumps(about).encode() + b"\n" + network.onnx


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
        about, _, onnx = plan.removeprefix(_magic()).partition(b"\n")
        return Engine(onnx, **json.loads(about))


class RtxRuntime(Runtime):
    """TensorRT itself cannot be asked."""

    def get_engine_validity(self, plan: bytes) -> tuple[EngineValidity, int]:
        if _wrong("unsuited"):
            return EngineValidity.INVALID, int(EngineInvalidityDiagnostics.UNSUPPORTED_CC)
        return EngineValidity.VALID, 0


class RuntimeCache:
    """What a plan is compiled to when it is opened: for each number of rows."""

    def __init__(self) -> None:
        self.rows: set[int] = set()

    def deserialize(self, content: bytes) -> bool:
        self.rows = set(json.loads(content))
        return True

    def serialize(self) -> bytes:
        return json.dumps(sorted(self.rows)).encode()


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

    def __init__(self, content: bytes, *, allocates: bool, profiles: list[tuple[int, int]]) -> None:
        self.allocates = allocates  # memory of its own while it computes, which no graph can have
        self.profiles = profiles  # rows, from and to
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
        if not isinstance(how, RuntimeConfig):
            return Context(self)
        eager = DynamicShapesKernelSpecializationStrategy.EAGER
        assert how.cache is not None and how.dynamic_shapes_kernel_specialization_strategy is eager
        return RtxContext(self, how.cache)


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
        self._memory = self._rows = 0
        self._profile: int | None = None
        self._at: dict[str, int] = {}
        self._computed = self._spoilt = False
        myself = weakref.ref(self)  # it goes when nobody has it any more, not when garbage is collected
        self._function = FUNCTION(lambda _: myself()._compute())  # type: ignore[union-attr]

    def __del__(self) -> None:
        if DRIVER.simulatedPending(self._function, None, 0):
            os.write(2, b"the card in software: a context is let go whose work is under way\n")
            os.abort()

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self._engine.device_memory_size_v2
        self._memory = address

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return stream != 0 and profile < len(self._engine.profiles)

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._rows = shape[0]
        smallest, largest = self._engine.profiles[self._profile or 0]
        return smallest <= self._rows <= largest

    def infer_shapes(self) -> list[str]:
        return []

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._at[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream: int) -> bool:
        """Not without memory and profile; nor captured the first time, which sets up what no graph holds."""
        if not self._memory or self._profile is None or self._spoilt:
            return False
        if _captures(stream) and (not self._computed or _wrong("uncapturable")):
            self._spoilt = True
            return False
        self._computed = True
        return DRIVER.cuLaunchHostFunc(ctypes.c_void_p(stream), self._function, None) == 0

    def _compute(self) -> None:
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


class RtxContext(Context):
    """It knows whether it can be captured. Its kernels are compiled when it first computes."""

    def __init__(self, engine: Engine, cache: RuntimeCache) -> None:
        super().__init__(engine)
        self._cache = cache

    def is_stream_capturable(self, stream: int) -> bool:
        return not self._engine.allocates

    def execute_async_v3(self, stream: int) -> bool:
        self._cache.rows.add(self._rows)
        return super().execute_async_v3(stream)


def _captures(stream: int) -> bool:
    status = ctypes.c_int()
    DRIVER.cuStreamIsCapturing(ctypes.c_void_p(stream), ctypes.byref(status))
    return status.value != 0


KINDS: dict[DataType, tuple[Any, Any]] = {
    DataType.FLOAT: (np.float32, ctypes.c_float),
    DataType.INT32: (np.int32, ctypes.c_int32),
    DataType.INT64: (np.int64, ctypes.c_int64),
}
FUNCTION: Callable[..., Any] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
DRIVER = ctypes.CDLL("libcuda.so.1")
