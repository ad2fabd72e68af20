"""A card in software with a product that computes on it, for programs that are started with `environment`.

Both are below all that is ours: the engine, its plans and the device layer with cuda-bindings run as they
are. In the process of the tests themselves they are never loaded, since nothing would unload them.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

HERE = Path(__file__).parent
COMPILER = shutil.which("cc") or shutil.which("gcc")
CUDA = 13  # that the products are built for, as their packages say
PRODUCTS = {
    "tensorrt": ("10.9.0", ""),
    "tensorrt_rtx": ("1.7.1", "from softcard import RtxRuntime as Runtime"),
}

there = pytest.mark.skipif(
    not sys.platform.startswith("linux") or COMPILER is None or find_spec("cuda") is None,
    reason="the card in software needs Linux, a C compiler and cuda-bindings",
)


def build(folder: Path) -> Path:
    """Compile the driver into a folder, and make the products look installed there."""
    assert COMPILER is not None
    for library in ("libcuda.so.1", "libnvidia-ml.so.1"):
        command = [COMPILER, "-shared", "-fPIC", "-w", f"-Wl,-soname,{library}", "-o", folder / library]
        subprocess.run([*command, HERE / "cuda.c", "-ldl"], check=True, timeout=60)
    for module, (version, more) in PRODUCTS.items():
        site = folder / module
        about = site / f"{module}_cu{CUDA}-{version}.dist-info"
        for place in (site / module, about):
            place.mkdir(parents=True)
        shutil.copy(HERE / "softcard.py", site)
        (site / module / "__init__.py").write_text(
            f"from softcard import *\n{more}\n__version__ = {version!r}\n"
        )
        name = f"{module}-cu{CUDA}".replace("_", "-")
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    return folder


def environment(built: Path, state: Path, product: str = "tensorrt", **more: str) -> dict[str, str]:
    """For a program that shall see the card. state: the folder for what it keeps."""

    def first(place: Path, name: str) -> str:
        return os.pathsep.join([str(place), *filter(None, [os.environ.get(name)])])

    return {
        "LD_LIBRARY_PATH": first(built, "LD_LIBRARY_PATH"),
        "PYTHONPATH": first(built / product, "PYTHONPATH"),
        "CARS_RT_CACHE": str(state / "cache"),
        "XDG_DATA_HOME": str(state / "data"),
    } | more
