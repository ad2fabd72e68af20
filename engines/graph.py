"""The deployment graph: a model composed for one instrument's axis.

counts - dark -> onto the grid (a matrix) -> scaling -> network -> back onto the pixels (a matrix).
Everything is in the graph, so that every engine runs the same mathematics.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix_graph

from cars_rt.engines.model import Model, ModelError
from cars_rt.physics.axis import Grid, check_raman_shift, resampling_matrix

COUNTS, DARK, RAMAN = "counts", "dark", "raman"
SMALLEST_MEAN = 1e-6  # counts; an empty spectrum is divided by this and stays finite
MAX_STRETCH = 8.0  # an axis so much coarser than the grid would be mostly interpolation


@dataclass(frozen=True, eq=False)
class Graph:
    """An ONNX graph: counts (batch, pixels) and dark (pixels,) in, raman (batch, pixels) out, float32."""

    onnx: bytes
    raman_shift: NDArray[np.float64]  # (pixels,), cm-1
    model: Model

    @property
    def pixels(self) -> int:
        """Points of one spectrum, in and out."""
        return len(self.raman_shift)


def compose(model: Model, raman_shift: ArrayLike) -> Graph:
    """Compose a model for the axis (pixels,) of an instrument, cm-1.

    Raises ModelError if the axis is too short or too coarse for the model, AxisError if it is none.
    """
    axis = check_raman_shift(raman_shift)
    card = model.card
    span, coarsest = float(np.ptp(axis)), float(np.abs(np.diff(axis)).max())
    needed = (card.min_length - 1) * card.grid_step_cm1
    if span < needed:
        raise ModelError(f"the axis spans {span:.0f} cm-1; the model {card.name} needs {needed:.0f} or more")
    if coarsest > MAX_STRETCH * card.grid_step_cm1:
        raise ModelError(
            f"the axis has steps of {coarsest:.1f} cm-1; the model {card.name} works on "
            f"{card.grid_step_cm1:g} cm-1 and at most {MAX_STRETCH:g} times that"
        )
    grid = Grid.covering(axis, card.grid_step_cm1, card.stride)
    network = add_prefix_graph(onnx.load_model_from_string(model.onnx).graph, "network/")
    opset = onnx.load_model_from_string(model.onnx).opset_import
    pixels = len(axis)
    constants: dict[str, NDArray[Any]] = {
        "onto_grid": resampling_matrix(axis, grid.raman_shift),
        "onto_pixels": resampling_matrix(grid.raman_shift, axis),
        "smallest_mean": np.array(SMALLEST_MEAN, np.float32),
        "averaging": np.full((grid.length, 1), 1 / grid.length, np.float32),  # the same in every opset
    }
    before = [
        helper.make_node("Sub", [COUNTS, DARK], ["signal"]),
        helper.make_node("MatMul", ["signal", "onto_grid"], ["on_grid"]),
        helper.make_node("MatMul", ["on_grid", "averaging"], ["mean"]),
        helper.make_node("Max", ["mean", "smallest_mean"], ["level"]),
        helper.make_node("Div", ["on_grid", "level"], [network.input[0].name]),
    ]
    after = [helper.make_node("MatMul", [network.output[0].name, "onto_pixels"], [RAMAN])]
    graph = helper.make_graph(
        [*before, *network.node, *after],
        f"{card.name} for {pixels} pixels",
        [
            helper.make_tensor_value_info(COUNTS, TensorProto.FLOAT, ["batch", pixels]),
            helper.make_tensor_value_info(DARK, TensorProto.FLOAT, [pixels]),
        ],
        [helper.make_tensor_value_info(RAMAN, TensorProto.FLOAT, ["batch", pixels])],
        [
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            *network.initializer,
        ],
    )
    composed = helper.make_model(graph, opset_imports=opset, producer_name="cars-rt")
    composed.ir_version = min(composed.ir_version, 10)  # what the engines in use can read
    onnx.checker.check_model(composed)
    return Graph(composed.SerializeToString(), axis, model)
