"""Finds out which NVIDIA GPU is there, and which product compiles for it."""

from importlib.metadata import PackageNotFoundError, version

from cars_rt.doctor.report import GpuState, ProductState
from cars_rt.engines import EngineError
from cars_rt.engines.tensorrt.gpu import dotted, find_gpu
from cars_rt.engines.tensorrt.product import PRODUCTS


def read_gpu() -> GpuState:
    """Asks the driver; needs no package."""
    try:
        gpu = find_gpu()
        cuda = "" if gpu.cuda is None else dotted(gpu.cuda)
        return GpuState(name=gpu.name, capability=dotted(gpu.capability), driver=gpu.driver, driver_cuda=cuda)
    except EngineError as error:
        return GpuState(reason=str(error))


def read_products() -> list[ProductState]:
    """The products of TensorRT that are installed; none is imported."""
    return [
        ProductState(title=each.title, version=_version(each.package), cuda=each.cuda)
        for each in PRODUCTS
        if each.installed
    ]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # installed by other means than pip
        return ""
