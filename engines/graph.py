"""The deployment graph: a model composed for one instrument's axis.

counts - dark -> onto the grid -> scaling -> network -> back onto the pixels. Everything is in the graph,
so that every engine runs the same mathematics. A resampling matrix has at most a handful of entries in a
column, so it is written as that many gathers: six times faster than the product for one spectrum, twice
for 64 (ONNX Runtime, one core).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix_graph

from cars_rt.engines.model import DEFAULT_MODEL, Model, ModelError
from cars_rt.physics.axis import Grid, check_raman_shift, resampling_matrix

COUNTS, DARK, RAMAN = "counts", "dark", "raman"
SMALLEST_MEAN = 1e-6  # counts; an empty spectrum is divided by this and stays finite
LARGEST_MATRIX = 2**27  # entries of a resampling matrix while it is made: 1 GB, or 11,000 pixels
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

    Raises ModelError if the axis is too short or too coarse for the model or if the model is not for
    counts, AxisError if it is no axis.
    """
    axis = check_raman_shift(raman_shift)
    card = model.card
    if card.scaling != "mean" or card.fixed_length:
        raise ModelError(
            f"the model {card.name} is for the comparison with a paper, not for a camera's counts; use one "
            f"whose card says scaling 'mean', such as {DEFAULT_MODEL}"
        )
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
    if len(axis) * grid.length > LARGEST_MATRIX:
        raise ModelError(f"{len(axis)} pixels over {span:.0f} cm-1 are too many; bin the camera's pixels")
    network = add_prefix_graph(onnx.load_model_from_string(model.onnx).graph, "network/")
    opset = onnx.load_model_from_string(model.onnx).opset_import
    pixels = len(axis)
    onto_grid = _Resampling("signal", "on_grid", resampling_matrix(axis, grid.raman_shift))
    onto_pixels = _Resampling(network.output[0].name, RAMAN, resampling_matrix(grid.raman_shift, axis))
    constants: dict[str, NDArray[Any]] = {
        **onto_grid.constants,
        **onto_pixels.constants,
        "smallest_mean": np.array(SMALLEST_MEAN, np.float32),
        "averaging": np.full((grid.length, 1), 1 / grid.length, np.float32),  # the same in every opset
    }
    before = [
        helper.make_node("Sub", [COUNTS, DARK], ["signal"]),
        *onto_grid.nodes,
        helper.make_node("MatMul", ["on_grid", "averaging"], ["mean"]),
        helper.make_node("Max", ["mean", "smallest_mean"], ["level"]),
        helper.make_node("Div", ["on_grid", "level"], [network.input[0].name]),
    ]
    graph = helper.make_graph(
        [*before, *network.node, *onto_pixels.nodes],
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


class _Resampling:
    """spectra (batch, p) @ matrix (p, q) as nodes: for each of the matrix's taps, gather, weigh, add."""

    def __init__(self, source: str, target: str, matrix: NDArray[np.float32]) -> None:
        taps = int((matrix != 0).sum(axis=0).max())
        places = np.argsort(matrix == 0, axis=0, kind="stable")[:taps]  # non-zero entries first
        weights = np.take_along_axis(matrix, places, axis=0)
        self.constants: dict[str, NDArray[Any]] = {}
        self.nodes: list[onnx.NodeProto] = []
        parts = []
        for tap in range(taps):
            place, weight, gathered, part = (
                f"{target}/{word}{tap}" for word in ("place", "weight", "at", "part")
            )
            self.constants |= {place: places[tap].astype(np.int64), weight: weights[tap]}
            self.nodes.append(helper.make_node("Gather", [source, place], [gathered], axis=1))
            self.nodes.append(helper.make_node("Mul", [gathered, weight], [part]))
            parts.append(part)
        self.nodes.append(helper.make_node("Sum", parts, [target]))
