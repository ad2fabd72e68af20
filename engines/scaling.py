"""From counts above dark to the network's input, in any unit, and how much of a result the light bears.

A spectrum is divided by its level, which is its mean (or, as some networks ask for, its range). Where there
is no light the mean is an accident of the noise, near zero or below it: then the level is a share of the
counts' size, and the light, from 0 to 1, says how far the mean stands out of the noise. Counts that end at 0
(a dark that is subtracted without a sign, a counter of photons) have a mean even so, carried by single
pixels: so the light is also judged by what neighbours have in common, see `cars_rt.physics.overlap`. Results
are multiplied by it, and what it takes away is given to the deviation. All of it is relative, so that a
spectrum in volts gives the same result as one in counts. `cars_rt.physics.fitness` raises the flag `empty` by
the same measures.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from cars_rt.engines.sampling import taps_axis, weighed
from cars_rt.physics.fitness import LEAST_SHARE
from cars_rt.physics.overlap import (
    DARK_OVERLAP,
    FEWEST,
    LIT_OVERLAP,
    MOST_OF_NEIGHBOUR,
    SMALLEST,
    Overlap,
    lit_range,
)

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
        "most_of_neighbour": np.array(MOST_OF_NEIGHBOUR, np.float32),
        "dark_overlap": np.array(DARK_OVERLAP, np.float32),
        "overlap_slope": np.array(1 / (LIT_OVERLAP - DARK_OVERLAP), np.float32),
    }

    def over(operator: str, of: str, name: str) -> onnx.NodeProto:
        return helper.make_node(operator, [of, *axes], [name], keepdims=1, **attributes)

    def node(operator: str, *names: str) -> onnx.NodeProto:
        return helper.make_node(operator, list(names[:-1]), [names[-1]])

    overlap = Overlap.on(axis)
    lag, sums = overlap.lag, overlap.sums

    def part(of: str, begin: int, length: int, name: str) -> onnx.NodeProto:
        ends = {f"{name}/begin": begin, f"{name}/end": begin + length, "along": 1}
        constants.update((each, np.array([value], np.int64)) for each, value in ends.items())
        return helper.make_node("Slice", [of, *ends], [name])

    parameters: dict[str, NDArray[Any]] = {
        "dark_below": np.array([dark]),
        "lit_slope": np.array([1 / (lit - dark)]),
    }
    if overlap.width > 2:
        at = np.arange(sums, dtype=np.int32)
        parameters["together/places"] = at + np.arange(overlap.width, dtype=np.int32)[:, None]
        parameters["together/weights"] = np.ones((overlap.width, sums))
        constants |= taps_axis(opset)
        together = weighed("together", PIXELS, "together", opset)
    else:  # a parameter says whether it is two, so that the graph is the same
        parameters["second_counts"] = np.array([overlap.width - 1])
        together = [
            part(PIXELS, 0, sums, "first"),
            part(PIXELS, 1, sums, "second"),
            node("Mul", "second", "second_counts", "second_counted"),
            node("Add", "first", "second_counted", "together"),
        ]
    shared = [
        *together,
        part("together", 0, sums - 2 * lag, "before"),
        part("together", lag, sums - 2 * lag, "middle"),
        part("together", 2 * lag, sums - 2 * lag, "behind"),
        node("Max", "before", "behind", "neighbour"),
        node("Mul", "neighbour", "most_of_neighbour", "most"),
        node("Min", "middle", "most", "bounded"),
        node("Abs", "bounded", "bounded_magnitude"),
        over("ReduceMean", "bounded_magnitude", "there"),
        part("bounded", 0, sums - 4 * lag, "bounded_before"),
        part("bounded", 2 * lag, sums - 4 * lag, "bounded_behind"),
        node("Min", "bounded_before", "bounded_behind", "common"),
        node("Relu", "common", "common_positive"),
        over("ReduceMean", "common_positive", "shared"),
        node("Max", "there", "smallest", "some_there"),
        node("Div", "shared", "some_there", "overlap"),
        node("Sub", "overlap", "dark_overlap", "overlap_above"),
        node("Mul", "overlap_above", "overlap_slope", "light_of_overlap"),
    ]
    light = [
        over("ReduceMean", source, "mean"),
        node("Abs", source, "magnitude"),
        over("ReduceMean", "magnitude", "mean_magnitude"),
        node("Max", "mean_magnitude", "smallest", "size"),
        node("Div", "mean", "size", "share"),
        node("Sub", "share", "dark_below", "share_above"),
        node("Mul", "share_above", "lit_slope", "light_of_mean"),
        *(shared if len(axis) >= FEWEST else []),
        node("Min", "light_of_mean", "light_of_overlap" if len(axis) >= FEWEST else "all", "light_unbounded"),
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
    floats = {
        name: value if value.dtype == np.int32 else value.astype(np.float32)
        for name, value in parameters.items()
    }
    return Scaling([*light, *scaled], constants, floats)


def scaled(
    spectra: NDArray[np.floating], axis: NDArray[np.float64], pixels: NDArray[np.floating]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the nodes of the kind "mean" compute, of (n, length) and the pixels (n, p) that these were: the
    network's input and the light (n, 1)."""
    mean = spectra.mean(axis=1, keepdims=True)
    size = np.maximum(np.abs(spectra).mean(axis=1, keepdims=True), SMALLEST)
    dark, lit = lit_range(axis)
    overlap = (Overlap.on(axis).of(pixels)[:, None] - DARK_OVERLAP) / (LIT_OVERLAP - DARK_OVERLAP)
    light = np.clip(np.minimum((mean / size - dark) / (lit - dark), overlap), 0, 1)
    return spectra / np.maximum(mean, LEAST_SHARE * size), light


def _over_points(opset: int) -> tuple[list[str], dict[str, Any], dict[str, NDArray[Any]]]:
    """How a reduction says that it goes over a spectrum's points: inputs, attributes, constants.

    All reductions but the sum have had the axes as an input since opset 18."""
    if opset >= 18:
        return ["points"], {}, {"points": np.array([1], np.int64)}
    return [], {"axes": [1]}, {}
