"""What the tests of TensorRT share: GPUs, small graphs and their recipes, a listener of the builder."""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cars_rt.engines import EngineError
from cars_rt.engines.base import FLOAT32
from cars_rt.engines.tensorrt.gpu import Gpu, find_gpu
from cars_rt.engines.tensorrt.product import ANY_RTX, RTX
from cars_rt.engines.tensorrt.recipe import Key, Recipe, profiles
from cars_rt.physics.microscope import Microscope

CAMERA = Microscope().raman_shift

TURING, ADA, HOPPER = Gpu("RTX 2080", (7, 5)), Gpu("RTX 4090", (8, 9)), Gpu("H100", (9, 0))
RTX_THERE = pytest.mark.skipif(not RTX.installed, reason=f"TensorRT-RTX is not installed: {RTX.install}")


def driver() -> str | None:
    """Why there is no GPU, or None."""
    try:
        find_gpu()
    except EngineError as error:
        return str(error)
    return None


NO_GPU = pytest.mark.skipif(driver() is None, reason="there is a GPU here")


def small(*nodes: onnx.NodeProto, **constants: NDArray[Any]) -> bytes:
    """A graph with the deployment graph's inputs and output, 4 pixels."""
    graph = helper.make_graph(
        [helper.make_node("Sub", ["counts", "dark"], ["signal"], "subtract"), *nodes],
        "small",
        [
            helper.make_tensor_value_info("counts", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("dark", TensorProto.FLOAT, [4]),
        ],
        [helper.make_tensor_value_info("raman", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


IDENTITY = np.eye(4, dtype=np.float32)
DOUBLE = small(helper.make_node("Add", ["signal", "signal"], ["raman"], "double"))
PRODUCT = small(helper.make_node("MatMul", ["signal", "weights"], ["raman"], "product"), weights=IDENTITY)


def small_recipe(serialized: bytes = DOUBLE, **fields: Any) -> Recipe:
    key = Key("small", "0", "tensorrt_rtx", "1", ANY_RTX, FLOAT32, profiles(8), 64)
    return Recipe(serialized, 4, RTX, replace(key, **fields))


class Phases:
    """Keeps what it is told; fails at a phase if it is to."""

    def __init__(self, fails_at: str = "") -> None:
        self.open: list[str] = []
        self.all: dict[str, int] = {}
        self.fails_at = fails_at

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        assert parent is None or parent in self.open
        self.open.append(phase)
        self.all[phase] = 0

    def step(self, phase: str, done: int) -> None:
        self.all[phase] = done
        if phase == self.fails_at:
            raise KeyboardInterrupt

    def finish(self, phase: str) -> None:
        self.open.remove(phase)
