"""Every name that we use of TensorRT and of the adapters exists in the wheels that can be installed."""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from cars_rt.engines.tensorrt import device

PACKAGE = Path(device.__file__).parent


#: What `session`, `layers` and `messages` use: in every runtime.
RUNTIME = """
    ILogger.ERROR ILogger.INTERNAL_ERROR ILogger.log
    Runtime.deserialize_cuda_engine
    ICudaEngine.num_io_tensors ICudaEngine.get_tensor_name ICudaEngine.get_tensor_shape
    ICudaEngine.get_tensor_dtype
    ICudaEngine.device_memory_size_v2 ICudaEngine.create_execution_context
    ExecutionContextAllocationStrategy.USER_MANAGED DataType.FLOAT DataType.HALF
    IExecutionContext.set_device_memory IExecutionContext.set_optimization_profile_async
    IExecutionContext.set_input_shape IExecutionContext.infer_shapes IExecutionContext.set_tensor_address
    IExecutionContext.execute_async_v3
"""
#: What `builder` and `layers` use besides.
BUILDER = """
    Builder.create_network Builder.create_builder_config Builder.create_optimization_profile
    Builder.build_serialized_network
    NetworkDefinitionCreationFlag.STRONGLY_TYPED BuilderFlag.TF32
    OnnxParser.parse OnnxParser.num_errors OnnxParser.get_error
    ParserError.node_operator ParserError.node_name ParserError.code ParserError.desc
    IBuilderConfig.set_memory_pool_limit IBuilderConfig.profiling_verbosity IBuilderConfig.clear_flag
    IBuilderConfig.add_optimization_profile IBuilderConfig.progress_monitor
    MemoryPoolType.WORKSPACE ProfilingVerbosity.DETAILED IOptimizationProfile.set_shape
    IProgressMonitor.phase_start IProgressMonitor.step_complete IProgressMonitor.phase_finish
    INetworkDefinition.num_outputs INetworkDefinition.num_layers
    INetworkDefinition.get_layer
    ILayer.name ILayer.type ILayer.num_outputs ILayer.get_output ITensor.shape ITensor.dtype
    LayerType.CONSTANT
    ICudaEngine.create_engine_inspector EngineInspector.get_engine_information LayerInformationFormat.JSON
    IHostMemory.nbytes
"""
#: What is asked of TensorRT-RTX alone, and of TensorRT alone.
ONLY_RTX = """
    IBuilderConfig.num_compute_capabilities IBuilderConfig.set_compute_capability ComputeCapability.SM75
    ICudaEngine.create_runtime_config IRuntimeConfig.set_execution_context_allocation_strategy
    IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy
    DynamicShapesKernelSpecializationStrategy.EAGER
    IRuntimeConfig.create_runtime_cache IRuntimeConfig.set_runtime_cache
    IRuntimeCache.deserialize IRuntimeCache.serialize
    BuilderFlag.REQUIRE_USER_ALLOCATION IExecutionContext.is_stream_capturable
    Runtime.get_engine_validity EngineValidity.INVALID EngineInvalidityDiagnostics.OLD_CUDA_DRIVER
    EngineInvalidityDiagnostics.__members__
"""
ONLY_TENSORRT = "IBuilderConfig.create_timing_cache IBuilderConfig.set_timing_cache ITimingCache.serialize"
TABLE = {
    "tensorrt": RUNTIME + BUILDER + ONLY_TENSORRT,
    "tensorrt_rtx": RUNTIME + BUILDER + ONLY_RTX + ONLY_TENSORRT,  # there, too, if only in name
    "tensorrt_lean": RUNTIME,
}


def missing(module: Any, names: str) -> list[str]:
    found = []
    for name in names.split():
        place = module
        for part in name.split("."):
            place = getattr(place, part, None)
        if place is None:
            found.append(name)
    return found


@pytest.mark.parametrize("module", TABLE)
def test_every_name_that_we_use_exists(module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    assert not missing(import_module(module), TABLE[module])


def test_table_has_every_name_that_is_used() -> None:
    """Names of the module itself; methods cannot be told from others by their spelling."""
    used = set()
    for path in PACKAGE.glob("*.py"):
        used |= set(re.findall(r"\btrt\.([A-Z]\w+(?:\.[A-Z]\w+)?)", path.read_text(encoding="utf-8")))
    listed = {name for names in TABLE.values() for name in names.split()}
    listed |= {name.partition(".")[0] for name in listed}
    assert len(used) > 15
    assert used <= listed


@pytest.mark.parametrize(
    ("module", "adapter"), [(module, entry[0]) for module, entry in device.ADAPTERS.items()]
)
def test_adapter_uses_names_that_exist(module: str, adapter: str) -> None:
    try:
        bindings = import_module(module)
    except ImportError as error:
        pytest.skip(str(error))
    source = (PACKAGE / f"{adapter.rpartition('.')[2]}.py").read_text(encoding="utf-8")
    names = " ".join(sorted(set(re.findall(r"\bcuda\.([\w.]+\w)", source)) - {"bindings"}))
    assert len(names.split()) > 10
    assert not missing(bindings, names)
