"""The packages that matter, and how to install those that are missing."""

from importlib.metadata import PackageNotFoundError, version

from cars_rt.doctor.report import Package

CORE = "pip install --upgrade cars-rt"
#: Names, the first of which is installed if none is there; what for; how.
PACKAGES = (
    (("numpy",), "core", CORE),
    (("onnx",), "core", CORE),
    (("onnxruntime", "onnxruntime-gpu"), "core: the reference engine", CORE),
    (("pyzmq",), "core: streams", CORE),
    (("h5py",), "core: recordings", CORE),
    (("openvino",), "engines openvino", 'pip install "cars-rt[openvino]"'),
    (("torch",), "engine torch, training", 'pip install "cars-rt[torch]"'),
    (("tensorrt-rtx",), "engine tensorrt on RTX cards", 'pip install "cars-rt[rtx]"'),
    (
        ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
        "engine tensorrt on other cards",
        'pip install "cars-rt[tensorrt]"',
    ),
    (("cuda-bindings", "pycuda"), "engine tensorrt: memory", "pip install cuda-bindings"),
    (("matplotlib",), "pictures", 'pip install "cars-rt[demo]"'),
)


def read_packages() -> list[Package]:
    """Versions as installed; nothing is imported."""
    return [_package(names, purpose, install) for names, purpose, install in PACKAGES]


def _package(names: tuple[str, ...], purpose: str, install: str) -> Package:
    for name in names:
        try:
            return Package(name=name, purpose=purpose, version=version(name), install=install)
        except PackageNotFoundError:
            continue
    return Package(name=names[0], purpose=purpose, version=None, install=install)
