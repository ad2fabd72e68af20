"""What the NVIDIA driver says of the GPU, asked without any package.

TensorRT's runtime ends the process where there is no driver, so this comes first, always.
"""

import ctypes
import sys
from dataclasses import dataclass

from cars_rt.engines.base import EngineError

DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
MANAGEMENT = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"  # comes with the driver
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76  # CUdevice_attribute
NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True)
class Gpu:
    """The GPU that CUDA calls number 0; CUDA_VISIBLE_DEVICES chooses which one that is."""

    name: str
    capability: tuple[int, int]  # compute capability, (8, 9) for 8.9
    cuda: tuple[int, int] | None = None  # newest version of CUDA that the driver runs
    driver: str = ""  # as NVIDIA numbers it, 580.65.06; empty where it does not say

    def __str__(self) -> str:
        return f"{self.name} (compute capability {dotted(self.capability)})"


def dotted(version: tuple[int, int]) -> str:
    """(8, 9) as people write it, 8.9."""
    return f"{version[0]}.{version[1]}"


def find_gpu() -> Gpu:
    """The GPU that would be used. Raises EngineError without a driver or a GPU; never crashes."""
    driver = _driver()
    _call(driver, "cuInit", 0)
    count, device = ctypes.c_int(), ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if count.value < 1:
        raise _no_gpu()
    _call(driver, "cuDeviceGet", ctypes.byref(device), 0)
    name = ctypes.create_string_buffer(256)
    _call(driver, "cuDeviceGetName", name, len(name), device)
    numbers = []
    for attribute in (CAPABILITY_MAJOR, CAPABILITY_MINOR):
        number = ctypes.c_int()
        _call(driver, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
        numbers.append(number.value)
    version = ctypes.c_int()
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))
    cuda = version.value // 1000, version.value % 1000 // 10
    return Gpu(name.value.decode(errors="replace"), (numbers[0], numbers[1]), cuda, _driver_version())


def pin(address: int, size: int) -> None:
    """Lock so many bytes of host memory into their place, in this thread's context. Raises EngineError."""
    _call(
        _driver(), "cuMemHostRegister_v2", ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_uint(0)
    )


def unpin(address: int) -> None:
    """Undo `pin`. Raises EngineError."""
    _call(_driver(), "cuMemHostUnregister", ctypes.c_void_p(address))


def _driver() -> ctypes.CDLL:
    try:
        return ctypes.CDLL(DRIVER)
    except OSError:
        raise EngineError(
            f"there is no NVIDIA driver here ({DRIVER} is not found); install NVIDIA's driver for the GPU"
        ) from None


def _driver_version() -> str:
    said = ctypes.create_string_buffer(96)
    try:
        management = ctypes.CDLL(MANAGEMENT)
        if management.nvmlInit_v2():
            return ""
        try:
            failed = management.nvmlSystemGetDriverVersion(said, len(said))
        finally:
            management.nvmlShutdown()
    except (OSError, AttributeError):
        return ""
    return "" if failed else said.value.decode(errors="replace")


def _call(driver: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(driver, function)(*arguments)
    if code == NO_DEVICE:
        raise _no_gpu()
    if code:
        raise EngineError(
            f"the NVIDIA driver does not work ({function} gives error {code}); nvidia-smi says more"
        )


def _no_gpu() -> EngineError:
    return EngineError("the NVIDIA driver sees no GPU; nvidia-smi and CUDA_VISIBLE_DEVICES say why")
