"""The NVIDIA GPU."""

from cars_rt.doctor.report import GpuState
from cars_rt.engines import EngineError
from cars_rt.engines.tensorrt.gpu import dotted, find_gpu


def read_gpu() -> GpuState:
    """Asks the driver; needs no package."""
    try:
        gpu = find_gpu()
        cuda = "" if gpu.cuda is None else dotted(gpu.cuda)
        return GpuState(name=gpu.name, capability=dotted(gpu.capability), driver_cuda=cuda)
    except EngineError as error:
        return GpuState(reason=str(error))
