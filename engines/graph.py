"""The deployment graph: a model composed for one instrument's axis.

counts - dark -> onto the grid -> scaling -> network -> back onto the pixels -> by the light that there is.
Everything is in the graph, so that every engine runs the same mathematics.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix_graph

from cars_rt.engines.model import RATIO, Card, Model, ModelError
from cars_rt.engines.resampling import Resampling
from cars_rt.engines.scaling import scaling
from cars_rt.engines.soundness import length_given, said
from cars_rt.errors import CarsRtError
from cars_rt.physics.axis import Grid, judged_raman_shift, resampling_matrix
from cars_rt.physics.kramers_kronig import LARGEST

COUNTS, DARK, RAMAN, DEVIATION = "counts", "dark", "raman", "deviation"
NETWORK = "network/"  # before the names of everything that comes from the model
LARGEST_RATIO = float(np.exp(LARGEST))  # of a spectrum without light nothing is known but that it is below
LARGEST_MATRIX = 2**27  # entries of a resampling matrix while it is made: 1 GB, or 11,000 pixels
MAX_STRETCH = 8.0  # an axis so much coarser than the grid would be mostly interpolation

#: Where there is no light the result is 0, and its deviation says that it could be anything.
BY_LIGHT = {
    RAMAN: [helper.make_node("Mul", [f"{RAMAN}/pixels", "light"], [RAMAN])],
    DEVIATION: [
        helper.make_node("Sub", ["all", "light"], ["darkness"]),
        helper.make_node("Mul", ["darkness", "unknown"], ["ignorance"]),
        helper.make_node("Add", [f"{DEVIATION}/pixels", "ignorance"], [DEVIATION]),
    ],
}


@dataclass(frozen=True, eq=False)
class Graph:
    """An ONNX graph, float32: counts (batch, pixels) and dark (pixels,) in, each of `outputs` (batch, pixels)
    out, by name."""

    onnx: bytes
    raman_shift: NDArray[np.float64]  # (pixels,), cm-1
    model: Model
    outputs: tuple[str, ...] = (RAMAN,)  # also DEVIATION, if the model knows its error; in raman's unit

    @property
    def pixels(self) -> int:
        """Points of one spectrum, in and out."""
        return len(self.raman_shift)


def compose(model: Model, raman_shift: ArrayLike, *, deviation: bool = True) -> Graph:
    """Compose a model for the axis (pixels,) of an instrument, cm-1.

    deviation: also as an output, if the model has it; what nobody reads costs time and, on a GPU, a copy.
    Raises ModelError if the axis is too short or too coarse for the model or if the model is none that can be
    composed, AxisError if the axis is none.
    """
    axis = judged_raman_shift(raman_shift)
    try:
        return _composed(model, axis, deviation)
    except CarsRtError:
        raise
    except Exception as error:  # of ONNX, which has many kinds for what a file may hold
        raise ModelError(f"the model {model.card.name} cannot be composed: {said(error)}") from None


def _composed(model: Model, axis: NDArray[np.float64], deviation: bool) -> Graph:
    card, pixels = model.card, len(axis)
    grid = grid_for(card, axis)
    proto = onnx.load_model_from_string(model.for_grid(grid))
    opset = next((entry.version for entry in proto.opset_import if not entry.domain), 1)
    network = add_prefix_graph(proto.graph, NETWORK)
    outputs = _outputs(card, [value.name for value in proto.graph.output], deviation)
    for name in outputs:
        if (given := length_given(proto, name, grid.length)) not in (None, grid.length):
            raise ModelError(
                f"the model {card.name} gives {given} points of {name!r} for {grid.length}; by its card as "
                f"many come out as go in, in multiples of its stride, {card.stride}"
            )

    onto_grid = Resampling("onto_grid", resampling_matrix(axis, grid.raman_shift))
    onto_pixels = Resampling("onto_pixels", resampling_matrix(grid.raman_shift, axis))
    constants_of_old = {entry.name for entry in network.initializer}  # among the inputs up to IR version 3
    spectrum = next(value.name for value in network.input if value.name not in constants_of_old)
    scaled = scaling(card.scaling, opset, axis, spectrum)
    unknown = LARGEST_RATIO if card.target == RATIO else 1.0
    constants: dict[str, NDArray[Any]] = {
        **onto_grid.constants,
        **scaled.constants,
        **onto_pixels.constants,
        "unknown": np.array(unknown, np.float32),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Sub", [COUNTS, DARK], ["signal"]),
            *onto_grid.nodes("signal", "on_grid"),
            *scaled.nodes,
            *network.node,
            # Deviations of neighbours are alike and their errors go together: interpolated like raman.
            *(node for name in outputs for node in onto_pixels.nodes(NETWORK + name, f"{name}/pixels")),
            *(node for name in outputs for node in BY_LIGHT[name]),
        ],
        f"{card.name} for {pixels} pixels",
        [
            helper.make_tensor_value_info(COUNTS, TensorProto.FLOAT, ["batch", pixels]),
            helper.make_tensor_value_info(DARK, TensorProto.FLOAT, [pixels]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", pixels]) for name in outputs],
        [
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            *network.initializer,
        ],
    )
    composed = helper.make_model(graph, opset_imports=proto.opset_import, producer_name="cars-rt")
    composed.ir_version = min(composed.ir_version, 10)  # what the engines in use can read
    onnx.checker.check_model(composed)
    return Graph(composed.SerializeToString(), axis, model, outputs)


def grid_for(card: Card, axis: NDArray[np.float64]) -> Grid:
    """The grid that the network sees. Raises ModelError if the axis does not suit the model."""
    span, coarsest = float(np.ptp(axis)), float(np.abs(np.diff(axis)).max())
    if card.fixed_length:
        grid = Grid(float(axis.min()), span / (card.fixed_length - 1), card.fixed_length)
        works_on = f"{card.fixed_length} points over all of it, steps of {grid.step:.3g} cm-1,"
    else:
        needed = (card.min_length - 1) * card.grid_step_cm1
        if span < needed:
            raise ModelError(
                f"the axis spans {span:.0f} cm-1; the model {card.name} needs {needed:.0f} or more"
            )
        grid = Grid.covering(axis, card.grid_step_cm1, card.stride)
        works_on = f"{card.grid_step_cm1:g} cm-1"
    if coarsest > MAX_STRETCH * grid.step:
        raise ModelError(
            f"the axis has steps of {coarsest:.1f} cm-1; the model {card.name} works on {works_on} "
            f"and at most {MAX_STRETCH:g} times that"
        )
    if len(axis) * grid.length > LARGEST_MATRIX:
        raise ModelError(f"{len(axis)} pixels over {span:.0f} cm-1 are too many; bin the camera's pixels")
    return grid


def _outputs(card: Card, names: list[str], deviation: bool) -> tuple[str, ...]:
    if RAMAN not in names:
        raise ModelError(
            f"the model {card.name} has no output called {RAMAN!r}; it has {', '.join(names) or 'none'}"
        )
    return (RAMAN, DEVIATION) if deviation and DEVIATION in names else (RAMAN,)
