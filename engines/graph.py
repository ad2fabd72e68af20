"""The deployment graph: a model composed for one instrument's axis.

counts - dark (-> over a reference) -> scaling -> network -> 0 where there is no light. All of it is on the
camera's pixels, or with splines onto a grid before it and back after it (`cars_rt.engines.sampling`).
Everything is in the graph, so that every engine runs the same mathematics. What depends on the axis or on a
reference are inputs beside the counts: the parameters. So what an engine compiles is for all axes of as many
pixels, and another axis costs a copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.compose import add_prefix_graph

from cars_rt.engines.model import CLASSICAL, Card, Model, ModelError
from cars_rt.engines.sampling import Ordered, Resampled, points_for
from cars_rt.engines.scaling import PIXELS, scaling
from cars_rt.engines.soundness import PITCH, length_given, said
from cars_rt.errors import CarsRtError
from cars_rt.physics.axis import judged_raman_shift
from cars_rt.physics.kramers_kronig import LARGEST
from cars_rt.physics.quantity import RATIO
from cars_rt.protocol import DEVIATION

COUNTS, DARK, RAMAN = "counts", "dark", "raman"
NETWORK = "network/"  # before the names of everything that comes from the model
FIRST_CM1, WIDEST_CM1 = 500.0, 8400.0  # of axes that are made: where they begin, how far they go at most
LARGEST_RATIO = float(np.exp(LARGEST))  # a spectrum without light is known to be below this, no more

#: What light does to each output that a network may have. Without light raman is 0, and its deviation says
#: that it could be anything.
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
    """An ONNX graph, float32: counts (batch, pixels), dark (pixels,) and each of `parameters` in, each of
    `outputs` (batch, pixels) out, by name."""

    onnx: bytes
    raman_shift: NDArray[np.float64]  # (pixels,), cm-1
    model: Model
    outputs: tuple[str, ...] = (RAMAN,)  # also DEVIATION, if the model knows its error; in raman's unit
    #: What depends on the axis or a reference, float32 or int32, in shapes that the graph fixes.
    parameters: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """Points of one spectrum, in and out."""
        return len(self.raman_shift)

    @property
    def fixed(self) -> bytes:
        """The same graph with its parameters as constants: counts and dark are its only inputs. For an engine
        that compiles for one axis."""
        proto = onnx.load_model_from_string(self.onnx)
        inputs = [value for value in proto.graph.input if value.name not in self.parameters]
        del proto.graph.input[:]
        proto.graph.input.extend(inputs)
        proto.graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self.parameters.items()
        )
        return bytes(proto.SerializeToString())


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


def axis_for(model: Model, pixels: int) -> NDArray[np.float64]:
    """An axis (pixels,), cm-1, that stands for all that a model can see as they are: their graphs differ in
    parameters alone. Raises ModelError where more of an axis decides the graph."""
    card = model.card
    if not card.takes_pixels or card.name in CLASSICAL:
        raise ModelError(f"the graph of {card.name} depends on more of an axis than its number of pixels")
    if pixels < card.min_length:
        raise ModelError(f"{pixels} pixels are too few for {card.name}, which sees {card.min_length} or more")
    usual = np.sqrt(np.prod(card.pitch_cm1))
    pitch = max(usual, card.min_length * card.grid_step_cm1 / (pixels - 1))  # few pixels are long ones
    pitch = min(pitch, WIDEST_CM1 / (pixels - 1))  # and many are short ones
    if pitch < card.pitch_cm1[0]:
        raise ModelError(
            f"{pixels} pixels are shorter than {card.pitch_cm1[0]:g} cm-1, the shortest that {card.name} "
            "sees as they are, and its graph then depends on the axis"
        )
    return np.asarray(FIRST_CM1 + pitch * np.arange(pixels), np.float64)


def _composed(model: Model, axis: NDArray[np.float64], deviation: bool) -> Graph:
    card, pixels = model.card, len(axis)
    points = points_for(card, axis, model.most_points)
    content, of_network = model.for_points(points.raman_shift)
    proto = onnx.load_model_from_string(content)
    for entry in proto.opset_import:
        entry.domain = "" if entry.domain == "ai.onnx" else entry.domain  # two names of one
    opset = next((entry.version for entry in proto.opset_import if not entry.domain), 1)
    outputs = _outputs(card, [value.name for value in proto.graph.output], deviation)
    moved = (
        Ordered(axis, card.stride)
        if points.on_pixels
        else Resampled(axis, points.raman_shift, opset, positive=DEVIATION in outputs)
    )
    length = len(moved.places) if isinstance(moved, Ordered) else len(points.raman_shift)
    network = add_prefix_graph(proto.graph, NETWORK)
    given = {name: length_given(proto, name, length) for name in outputs}
    for name, points_given in given.items():
        if points_given not in (None, length):
            raise ModelError(
                f"the model {card.name} gives {points_given} points of {name!r} for {length}; by its card as "
                f"many come out as go in, in multiples of its stride, {card.stride}"
            )
    untold = [name for name, points_given in given.items() if points_given is None]

    constants_of_old = {entry.name for entry in network.initializer}  # inputs up to IR version 3
    parameters = {NETWORK + name: value for name, value in of_network.items()}
    inputs = {value.name for value in network.input} - constants_of_old - parameters.keys()
    takes_pitch = len(inputs) == 2
    (spectrum,) = inputs - {NETWORK + PITCH} if takes_pitch else inputs
    if isinstance(moved, Ordered):
        scaled = scaling(card.scaling, opset, axis, PIXELS, "scaled")
        before = [*scaled.nodes, *moved.onto("scaled", spectrum)]
    else:
        scaled = scaling(card.scaling, opset, axis, "on_points", spectrum)
        before = [*moved.onto(PIXELS, "on_points"), *scaled.nodes]
    unknown = LARGEST_RATIO if card.target == RATIO else 1.0
    constants: dict[str, NDArray[Any]] = {
        **moved.constants,
        **scaled.constants,
        "unknown": np.array(unknown, np.float32),
        **({"as_given": np.array([0, length], np.int64)} if untold else {}),
    }
    flat = model.flattening(axis)
    parameters |= {"flat": np.ones(pixels, np.float32) if flat is None else flat}
    parameters |= moved.parameters | scaled.parameters
    if takes_pitch:
        pitch = points.pitch[moved.places] if isinstance(moved, Ordered) else points.pitch
        parameters[NETWORK + PITCH] = pitch[None].astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Sub", [COUNTS, DARK], ["uneven"]),
            helper.make_node("Mul", ["uneven", "flat"], [PIXELS]),
            *before,
            *network.node,
            # A gather would take the first of too many points without a word; this fails on them.
            *(
                helper.make_node(
                    "Reshape",
                    [NETWORK + name, "as_given"],
                    [f"{name}/points"],
                    f"{name} needs as many points as go in",
                )
                for name in untold
            ),
            # Deviations of neighbours are alike and their errors go together, so they are interpolated, too.
            *(
                node
                for name in outputs
                for node in moved.back(
                    f"{name}/points" if name in untold else NETWORK + name,
                    f"{name}/pixels",
                    positive=name == DEVIATION,
                )
            ),
            *(node for name in outputs for node in BY_LIGHT[name]),
        ],
        f"{card.name} for {pixels} pixels",
        [
            helper.make_tensor_value_info(COUNTS, TensorProto.FLOAT, ["batch", pixels]),
            helper.make_tensor_value_info(DARK, TensorProto.FLOAT, [pixels]),
            *(
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                for name, value in parameters.items()
            ),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", pixels]) for name in outputs],
        [
            *(numpy_helper.from_array(value, name) for name, value in constants.items()),
            *network.initializer,
        ],
        value_info=[
            helper.make_tensor_value_info(f"{name}/points", TensorProto.FLOAT, ["batch", length])
            for name in untold
        ],
    )
    composed = helper.make_model(graph, opset_imports=proto.opset_import, producer_name="cars-rt")
    composed.ir_version = min(composed.ir_version, 10)  # what the engines in use can read
    onnx.checker.check_model(composed)
    return Graph(composed.SerializeToString(), axis, model, outputs, parameters)


def _outputs(card: Card, names: list[str], deviation: bool) -> tuple[str, ...]:
    if RAMAN not in names:
        raise ModelError(
            f"the model {card.name} has no output called {RAMAN!r}; it has {', '.join(names) or 'none'}"
        )
    return tuple(name for name in BY_LIGHT if name in names and (deviation or name != DEVIATION))
