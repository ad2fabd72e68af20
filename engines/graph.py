"""The deployment graph: a model composed for one instrument's axis.

counts - dark (-> over a reference) -> scaling -> network -> 0 where there is no light. All of it is on the
camera's pixels, or with splines onto a grid before it and back after it (`cars_rt.engines.sampling`).
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
from cars_rt.engines.sampling import Ordered, Resampled, points_for
from cars_rt.engines.scaling import scaling
from cars_rt.engines.soundness import PITCH, length_given, said
from cars_rt.errors import CarsRtError
from cars_rt.physics.axis import judged_raman_shift
from cars_rt.physics.kramers_kronig import LARGEST

COUNTS, DARK, RAMAN, DEVIATION = "counts", "dark", "raman", "deviation"
NETWORK = "network/"  # before the names of everything that comes from the model
LARGEST_RATIO = float(np.exp(LARGEST))  # a spectrum without light is known to be below this, no more

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

    deviation: make it an output, if the model has it. An output that nobody reads costs time and, on a GPU,
    a copy.
    Raises ModelError if the axis is too short or too coarse for the model, or if the model cannot be
    composed, AxisError if the axis is none.
    """
    axis = judged_raman_shift(raman_shift)
    try:
        return _composed(model, axis, deviation)
    except CarsRtError:
        raise
    except Exception as error:  # ONNX raises many kinds of errors for what a file may hold
        raise ModelError(f"the model {model.card.name} cannot be composed: {said(error)}") from None


def _composed(model: Model, axis: NDArray[np.float64], deviation: bool) -> Graph:
    card, pixels = model.card, len(axis)
    points = points_for(card, axis)
    moved = Ordered(axis, card.stride) if points.on_pixels else Resampled(axis, points.raman_shift)
    length = len(moved.places) if isinstance(moved, Ordered) else len(points.raman_shift)
    proto = onnx.load_model_from_string(model.for_points(points.raman_shift))
    opset = next((entry.version for entry in proto.opset_import if not entry.domain), 1)
    network = add_prefix_graph(proto.graph, NETWORK)
    outputs = _outputs(card, [value.name for value in proto.graph.output], deviation)
    for name in outputs:
        if (given := length_given(proto, name, length)) not in (None, length):
            raise ModelError(
                f"the model {card.name} gives {given} points of {name!r} for {length}; by its card as "
                f"many come out as go in, in multiples of its stride, {card.stride}"
            )

    constants_of_old = {entry.name for entry in network.initializer}  # inputs up to IR version 3
    inputs = [value.name for value in network.input if value.name not in constants_of_old]
    spectrum = next(name for name in inputs if name != NETWORK + PITCH)
    if isinstance(moved, Ordered):
        scaled = scaling(card.scaling, opset, axis, "signal", "scaled")
        before = [*scaled.nodes, *moved.onto("scaled", spectrum)]
    else:
        scaled = scaling(card.scaling, opset, axis, "on_points", spectrum)
        before = [*moved.onto("signal", "on_points"), *scaled.nodes]
    unknown = LARGEST_RATIO if card.target == RATIO else 1.0
    constants: dict[str, NDArray[Any]] = {
        **moved.constants,
        **scaled.constants,
        "unknown": np.array(unknown, np.float32),
    }
    if NETWORK + PITCH in inputs:
        pitch = points.pitch[moved.places] if isinstance(moved, Ordered) else points.pitch
        constants[NETWORK + PITCH] = pitch[None].astype(np.float32)
    flat = model.flattening(axis)
    above_dark = [helper.make_node("Sub", [COUNTS, DARK], ["signal" if flat is None else "uneven"])]
    if flat is not None:
        constants["flat"] = flat
        above_dark.append(helper.make_node("Mul", ["uneven", "flat"], ["signal"]))
    graph = helper.make_graph(
        [
            *above_dark,
            *before,
            *network.node,
            # Deviations of neighbours are alike and their errors go together, so they are interpolated, too.
            *(node for name in outputs for node in moved.back(NETWORK + name, f"{name}/pixels")),
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


def _outputs(card: Card, names: list[str], deviation: bool) -> tuple[str, ...]:
    if RAMAN not in names:
        raise ModelError(
            f"the model {card.name} has no output called {RAMAN!r}; it has {', '.join(names) or 'none'}"
        )
    return (RAMAN, DEVIATION) if deviation and DEVIATION in names else (RAMAN,)
