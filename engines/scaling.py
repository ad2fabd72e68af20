"""From counts above dark to the network's input, in any unit, and how much of a result the light bears.

A spectrum is divided by its level, which is its mean (or, as some networks ask for, its range). Where there
is no light the mean is an accident of the noise, near zero or below it: then the level is a share of the
counts' size, and the light, from 0 to 1, says how far the mean stands out of the noise. Counts that end at 0
(a dark that is subtracted without a sign, a counter of photons) have a mean even so, carried by single
pixels: so the light is also judged by what neighbours have in common. Results are multiplied by it, and what
it takes away is given to the deviation. All of it is relative, so that a spectrum in volts gives the same
result as one in counts. `cars_rt.physics.fitness` raises the flag `empty` by the same measures.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from cars_rt.physics.fitness import LEAST_SHARE, LIT_OVERLAP, SMALLEST, lit_range, most_of_mean

PIXELS = "signal"  # of a graph: counts above dark (batch, pixels)


@dataclass(frozen=True)
class Scaling:
    """Nodes from spectra (batch, n) to the same in the network's unit, and to `light` (batch, 1)."""

    nodes: list[onnx.NodeProto]
    constants: dict[str, NDArray[Any]]
    parameters: dict[str, NDArray[Any]]  # what depends on the axis


def scaling(kind: str, opset: int, axis: NDArray[np.float64], source: str, target: str) -> Scaling:
    """kind: as the card says, "mean" or "minmax". axis: (pixels,), cm-1. source, target: names of the
    values that are and that become scaled; the camera's pixels themselves are `PIXELS`."""
    axes, attributes, constants = _over_points(opset)
    dark, lit = lit_range(axis)
    constants |= {
        "smallest": np.array(SMALLEST, np.float32),
        "least_share": np.array(LEAST_SHARE, np.float32),
        "none": np.array(0, np.float32),
        "all": np.array(1, np.float32),
        "most_of_mean": np.array(most_of_mean(len(axis)), np.float32),
        "begin": np.array([0], np.int64),
        "second": np.array([1], np.int64),
        "last": np.array([-1], np.int64),
        "end": np.array([len(axis)], np.int64),
    }

    def over(operator: str, of: str, name: str) -> onnx.NodeProto:
        return helper.make_node(operator, [of, *axes], [name], keepdims=1, **attributes)

    def node(operator: str, *names: str) -> onnx.NodeProto:
        return helper.make_node(operator, list(names[:-1]), [names[-1]])

    light = [
        over("ReduceMean", source, "mean"),
        node("Abs", source, "magnitude"),
        over("ReduceMean", "magnitude", "mean_magnitude"),
        node("Max", "mean_magnitude", "smallest", "size"),
        node("Slice", PIXELS, "begin", "last", "second", "former"),
        node("Slice", PIXELS, "second", "end", "second", "latter"),
        node("Min", "former", "latter", "common"),
        node("Mul", "size", "most_of_mean", "most"),
        node("Min", "common", "most", "common_bounded"),
        node("Relu", "common_bounded", "common_positive"),
        over("ReduceMean", "common_positive", "mean_common"),
        node("Mul", "mean_common", "of_common", "mean_of_common"),
        node("Min", "mean", "mean_of_common", "mean_of_light"),
        node("Div", "mean_of_light", "size", "share"),
        node("Sub", "share", "dark_below", "share_above"),
        node("Mul", "share_above", "lit_slope", "light_unbounded"),
        node("Max", "light_unbounded", "none", "light_positive"),
        node("Min", "light_positive", "all", "light"),
    ]
    if kind == "minmax":
        scaled = [
            over("ReduceMin", source, "lowest"),
            over("ReduceMax", source, "highest"),
            node("Sub", "highest", "lowest", "range"),
            node("Max", "range", "smallest", "level"),
            node("Sub", source, "lowest", "raised"),
            node("Div", "raised", "level", target),
        ]
    else:
        scaled = [
            node("Mul", "size", "least_share", "least_level"),
            node("Max", "mean", "least_level", "level"),
            node("Div", source, "level", target),
        ]
    parameters = {"dark_below": dark, "lit_slope": 1 / (lit - dark), "of_common": lit / LIT_OVERLAP}
    return Scaling(
        [*light, *scaled],
        constants,
        {name: np.array([value], np.float32) for name, value in parameters.items()},
    )


def scaled(
    spectra: NDArray[np.floating], axis: NDArray[np.float64], pixels: NDArray[np.floating]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the nodes of the kind "mean" compute, of (n, length) and the pixels (n, p) that these were: the
    network's input and the light (n, 1)."""
    mean = spectra.mean(axis=1, keepdims=True)
    size = np.maximum(np.abs(spectra).mean(axis=1, keepdims=True), SMALLEST)
    dark, lit = lit_range(axis)
    common = np.minimum(pixels[:, 1:], pixels[:, :-1])
    common = np.clip(common, 0, most_of_mean(len(axis)) * size).mean(axis=1, keepdims=True)
    light = np.clip((np.minimum(mean, lit / LIT_OVERLAP * common) / size - dark) / (lit - dark), 0, 1)
    return spectra / np.maximum(mean, LEAST_SHARE * size), light


def _over_points(opset: int) -> tuple[list[str], dict[str, Any], dict[str, NDArray[Any]]]:
    """How a reduction says that it goes over a spectrum's points: inputs, attributes, constants.

    All reductions but the sum have had the axes as an input since opset 18."""
    if opset >= 18:
        return ["points"], {}, {"points": np.array([1], np.int64)}
    return [], {"axes": [1]}, {}
