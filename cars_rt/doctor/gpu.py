"""The NVIDIA GPU."""

from cars_rt.doctor.report import GpuState
from cars_rt.engines import EngineError
from cars_rt.engines.tensorrt.gpu import dotted, driver_cuda, find_gpu


def read_gpu() -> GpuState:
    """Asks the driver; needs no package."""
    try:
        gpu = find_gpu()
        return GpuState(name=gpu.name, capability=dotted(gpu.capability), driver_cuda=driver_cuda())
    except EngineError as error:
        return GpuState(reason=str(error))
