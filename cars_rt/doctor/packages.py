"""The packages that matter, and how to install those that are missing."""

from importlib.metadata import PackageNotFoundError, version

from cars_rt.doctor.report import Package
from cars_rt.installation import install_extra, pip_install

#: Names, the first of which is installed if none is there; what for; the extra that has it, if one does.
PACKAGES = (
    (("numpy",), "core", None),
    (("onnx",), "core", None),
    (("onnxruntime", "onnxruntime-gpu"), "core: the reference engine", None),
    (("pyzmq",), "core: streams", None),
    (("h5py",), "core: recordings", None),
    (("openvino",), "engines openvino", "openvino"),
    (("torch",), "engine torch, training", "torch"),
    (("tensorrt-rtx",), "engine tensorrt on RTX cards", "rtx"),
    (("tensorrt", "tensorrt-cu13", "tensorrt-cu12"), "engine tensorrt on other cards", "tensorrt"),
    (("cuda-bindings", "pycuda"), "engine tensorrt: memory", None),
    (("matplotlib",), "pictures", "demo"),
)


def read_packages() -> list[Package]:
    """Versions as installed; nothing is imported."""
    return [_package(names, purpose, extra) for names, purpose, extra in PACKAGES]


def _package(names: tuple[str, ...], purpose: str, extra: str | None) -> Package:
    install = install_extra(extra) if extra else pip_install(names[0])
    for name in names:
        try:
            return Package(name=name, purpose=purpose, version=version(name), install=install)
        except PackageNotFoundError:
            continue
    return Package(name=names[0], purpose=purpose, version=None, install=install)
