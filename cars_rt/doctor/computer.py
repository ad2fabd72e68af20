"""Finds out what this computer has: processor, GPU, packages, free addresses, what engines keep on disk."""

import os
import platform
from contextlib import suppress

from cars_rt import __version__
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.doctor.report import CacheState, GpuState, Machine, Package, PortState, ProductState
from cars_rt.engines import EngineError
from cars_rt.engines.base import processor, usable_cores
from cars_rt.engines.remembered import records
from cars_rt.engines.tensorrt.gpu import dotted, find_gpu
from cars_rt.engines.tensorrt.plans import SUFFIX, default_folder
from cars_rt.engines.tensorrt.product import PRODUCTS, RTX, TENSORRT
from cars_rt.installation import install_extra, package_version, pip_install
from cars_rt.sockets import RECORDER_ADDRESS
from cars_rt.sockets.free import reason_against
from cars_rt.urgency import allowed

#: Names, the first of which is installed if none is there; what for; the extra that has it, if one does.
PACKAGES = (
    (("numpy",), "core", None),
    (("onnx",), "core", None),
    (("onnxruntime", "onnxruntime-gpu"), "core: the reference engine", None),
    (("pyzmq",), "core: streams", None),
    (("h5py",), "core: recordings", None),
    (("openvino",), "engines openvino", "openvino"),
    (("torch",), "engine torch, training", "torch"),
    (RTX.packages, "engine tensorrt on RTX cards", "rtx"),
    (TENSORRT.packages, "engine tensorrt on other cards", "tensorrt"),
    (("cuda-bindings", "pycuda"), "engine tensorrt: memory", None),
    (("matplotlib",), "pictures", "demo"),
)

#: The flags that name another one.
USES = (
    ("driver", DaemonSettings.listen, "drive --publish"),
    ("results", DaemonSettings.publish, "run --publish"),
    ("preview", DaemonSettings.preview, "run --preview"),
    ("spectra", DaemonSettings.spectra, "run --spectra"),
    ("control", DaemonSettings.control, "run --control"),
    ("HTTP", DaemonSettings.http, "run --http"),
    ("recorder", RECORDER_ADDRESS, "record --control"),
)


def read_machine() -> Machine:
    """System, Python, processor."""
    return Machine(
        cars_rt=__version__,
        system=platform.platform(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        processor=processor(),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        realtime=allowed(),
    )


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
        ProductState(title=each.title, version=each.version, cuda=each.cuda)
        for each in PRODUCTS
        if each.installed
    ]


def read_packages() -> list[Package]:
    """Versions as installed; nothing is imported."""
    return [_package(names, purpose, extra) for names, purpose, extra in PACKAGES]


def _package(names: tuple[str, ...], purpose: str, extra: str | None) -> Package:
    install = install_extra(extra) if extra else pip_install(names[0])
    name = next((name for name in names if package_version(name) is not None), names[0])
    return Package(name=name, purpose=purpose, version=package_version(name), install=install)


def read_cache() -> CacheState:
    """What is in the user's folder; it is not made. One that cannot be read is empty."""
    folder, plans, size = default_folder(), 0, 0
    with suppress(OSError):  # not there, or not ours; TensorRT itself says so where it matters
        for path in folder.iterdir():
            plans += path.suffix == SUFFIX
            size += path.stat().st_size
    return CacheState(folder=str(folder), plans=plans, bytes=size, choices=len(records()))


def read_ports(uses: tuple[tuple[str, str, str], ...] = USES) -> list[PortState]:
    """Tries to bind each for a moment."""
    return [
        PortState(used_for=used_for, address=address, flag=flag, reason=reason_against(address))
        for used_for, address, flag in uses
    ]
