"""chain.cu on the processor: what a GPU has is in host.hpp."""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cars_rt.engines.chained import table as chained
from cars_rt.engines.chained.chain import Chain
from cars_rt.engines.chained.table import slopes, tabulate

HERE = Path(__file__).parent

Run = Callable[[Chain, NDArray[np.float32]], NDArray[np.float32]]


@pytest.fixture(scope="session")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Computes a chain's result, (spectra, channels, points), from features likewise."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("no g++ to compile the kernel for the processor")
    folder = tmp_path_factory.mktemp("kernel")
    parts = (HERE / "host.hpp", files("cars_rt.engines.chained").joinpath("chain.cu"), HERE / "host.cpp")
    (folder / "host.cpp").write_text("\n".join(part.read_text() for part in parts))
    options = ["-std=c++17", "-O2", "-fPIC", "-shared", "-Wno-unknown-pragmas"]
    made = ["-o", str(folder / "kernel.so"), str(folder / "host.cpp")]
    subprocess.run([compiler, *options, *made], check=True, timeout=120)
    library = ctypes.CDLL(str(folder / "kernel.so"))

    def run(chain: Chain, features: NDArray[np.float32]) -> NDArray[np.float32]:
        spectra, channels, points = features.shape
        table = tabulate(chain, points)
        weights, biases = chained.packed(chain)
        result = np.full((spectra, chain.convolutions[-1].channels, table.points), np.nan, np.float32)
        given = np.ascontiguousarray(features)
        library.run(
            *(spectra, table.shared_bytes, _at(given), _at(result), channels, points, result[0].size),
            *(table.row, table.size, _at(table.layers), len(table.layers), _at(weights), _at(biases)),
            ctypes.c_uint(slopes(chain)),
        )
        return result

    return run


def _at(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
