"""What a network sees of a camera's pixels: the pixels themselves, or points of a uniform grid.

Most networks take pixels as they are, in the order of ascending raman shift, with the length of each. A
network that does not, and an axis that is too fine, too coarse, changes its pitch abruptly or has a gap, goes
by a grid and splines.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from cars_rt.engines.model import Card, ModelError
from cars_rt.physics.axis import BRIDGED, WIDE, FloatArray, Grid, resampling_matrix
from cars_rt.printable import counted

LARGEST_MATRIX = 2**27  # entries of a resampling matrix while it is made: 1 GB, or 11,000 pixels
MAX_STRETCH = 8.0  # an axis so much coarser than a network's grid would be mostly interpolation
COARSEST = 8.0  # cm-1, pixels of those networks that can take them as they are
GAPS = 3
ROUNDED = 8  # pixels over whose mean length an axis that is rounded looks like one that is not
NEAR, ABRUPT = 24, 1.25  # so many pixels further on, a mean that is another one by this factor is a jump
EVEN_TAPS = 4  # the number of a spline's taps is a multiple of this, so that similar axes have as many
SUM_OVER_AN_INPUT = 13  # the opset since which a sum's axes are one


@dataclass(frozen=True, eq=False)
class Points:
    """The points that a network sees: raman_shift (n,) float64, ascending, cm-1, n of any size.

    on_pixels: whether they are the camera's own.
    """

    raman_shift: FloatArray
    on_pixels: bool

    @property
    def pitch(self) -> FloatArray:
        """The length of each, (n,), cm-1."""
        pitch = np.gradient(self.raman_shift)
        return np.asarray(pitch, np.float64)


def points_for(card: Card, axis: FloatArray, most_points: float = np.inf) -> Points:
    """What a model sees of a camera's axis (p,), on a coarser grid where that is more than `most_points`, if
    that is enough. Raises ModelError if the axis does not suit the model."""
    steps = np.abs(np.diff(axis))
    span, usual = float(np.ptp(axis)), float(np.median(steps))
    if card.fixed_length:
        grid = Grid(float(axis.min()), span / (card.fixed_length - 1), card.fixed_length)
        most, works_on = (
            MAX_STRETCH * grid.step,
            f"{card.fixed_length} points over all of it, steps of {grid.step:.3g} cm-1,",
        )
        _refuse_coarse(card, float(steps.max()), most, f"{works_on} and at most {MAX_STRETCH:g} times that")
        return Points(_checked(grid, axis).raman_shift, False)
    if span < (needed := (card.min_length - 1) * card.grid_step_cm1):
        raise ModelError(
            f"the axis spans {span:.3g} cm-1; the model {card.name} needs {needed:.0f} or more (of one in "
            "nm the raman shifts are 1e7 / wavelength_nm - 1e7 / pump_nm)"
        )
    if not card.takes_pixels:
        most, works_on = MAX_STRETCH * card.grid_step_cm1, f"{card.grid_step_cm1:g} cm-1"
        _refuse_coarse(card, float(steps.max()), most, f"{works_on} and at most {MAX_STRETCH:g} times that")
        return Points(_checked(Grid.covering(axis, card.grid_step_cm1, card.stride), axis).raman_shift, False)
    least, most = card.pitch_cm1
    suits = card.min_length <= len(axis) <= most_points and not _jumps(steps)
    if suits and least <= steps.min() and steps.max() <= most:
        return Points(axis if axis[0] < axis[-1] else axis[::-1], True)
    gaps = steps > max(WIDE * usual, most)
    if gaps.sum() > GAPS or (gaps.any() and steps.max() > BRIDGED):
        raise ModelError(
            f"the axis has {counted(int(gaps.sum()), 'gap')} of up to {steps.max():.0f} cm-1; the model "
            f"{card.name} bridges {GAPS} of up to {BRIDGED:g}"
        )
    coarsest = float(steps[~gaps].max())
    _refuse_coarse(card, coarsest, COARSEST, f"pixels of at most {COARSEST:g} cm-1")
    step = card.grid_step_cm1 / 2 if usual < least else min(usual, most)
    if _jumps(steps[~gaps]):  # what is usual may be the coarser part
        step = min(step, card.grid_step_cm1)
    # Tens of thousands of pixels, or points: as coarse as is sound.
    if len(axis) * span / step > 0.9 * LARGEST_MATRIX or span / step > most_points - 1:
        step = card.grid_step_cm1
    step = min(step, span / (card.min_length - 1))
    return Points(_checked(Grid.covering(axis, step, card.stride), axis).raman_shift, False)


def _jumps(steps: FloatArray) -> bool:
    """Whether the length of pixels changes abruptly, as where two windows are stitched: the phase at a pixel
    depends on its neighbours by the number of pixels between them, which then is no measure of distance."""
    lengths = np.convolve(steps, np.full(ROUNDED, 1 / ROUNDED), "valid")
    ratios = lengths[NEAR:] / lengths[:-NEAR]
    return bool((np.maximum(ratios, 1 / ratios) > ABRUPT).any())


def _refuse_coarse(card: Card, coarsest: float, most: float, works_on: str) -> None:
    if coarsest > most:
        raise ModelError(
            f"the axis has steps of {coarsest:.1f} cm-1; the model {card.name} works on {works_on}"
        )


def _checked(grid: Grid, axis: FloatArray) -> Grid:
    if len(axis) * grid.length > LARGEST_MATRIX:
        raise ModelError(
            f"{len(axis)} pixels over {np.ptp(axis):.0f} cm-1 are too many; bin the camera's pixels"
        )
    return grid


class Ordered:
    """The pixels in ascending order, edges repeated on both sides up to a multiple of a stride, as nodes of
    a graph. `parameters` are what the nodes read, by name."""

    def __init__(self, axis: FloatArray, stride: int) -> None:
        """axis: (p,), cm-1, ascending or descending."""
        pixels, left = len(axis), -len(axis) % stride // 2
        order = np.arange(pixels) if axis[0] < axis[-1] else np.arange(pixels)[::-1]
        self.places = np.clip(np.arange(pixels + -pixels % stride) - left, 0, pixels - 1)
        """Of what the network takes, among the pixels in ascending order, (n,)."""
        self.parameters: dict[str, NDArray[Any]] = {
            "onto_points": order[self.places].astype(np.int32),
            "onto_pixels": (left + np.argsort(order)).astype(np.int32),
        }
        self.constants: dict[str, NDArray[Any]] = {}

    def onto(self, source: str, target: str) -> list[onnx.NodeProto]:
        """From pixels (batch, p) to what the network takes (batch, n)."""
        return [helper.make_node("Gather", [source, "onto_points"], [target], axis=1)]

    def back(self, source: str, target: str, *, positive: bool) -> list[onnx.NodeProto]:
        """From what it gives (batch, n) to pixels (batch, p)."""
        return [helper.make_node("Gather", [source, "onto_pixels"], [target], axis=1)]


class Resampled:
    """Splines onto points and back, as nodes of a graph. `parameters` are what the nodes read, by name.

    A matrix has a handful of entries in a column, its taps, so a product with it is written as one gather of
    all that the taps weigh, and a sum. Splines swing below 0 beside what is high, so what cannot be negative
    comes back by straight lines.
    """

    def __init__(self, axis: FloatArray, points: FloatArray, opset: int, *, positive: bool) -> None:
        """axis: (p,), points: (n,) ascending, both cm-1. positive: whether `back` is asked for such."""
        self._opset = opset
        self.parameters: dict[str, NDArray[Any]] = {
            **_taps("onto_points", resampling_matrix(axis, points)),
            **_taps("onto_pixels", resampling_matrix(points, axis)),
            **(_lines("onto_pixels_by_lines", points, axis) if positive else {}),
        }

    @property
    def constants(self) -> dict[str, NDArray[Any]]:
        """What else the nodes read, by name."""
        return taps_axis(self._opset)

    def onto(self, source: str, target: str) -> list[onnx.NodeProto]:
        """From pixels (batch, p) to points (batch, n)."""
        return weighed("onto_points", source, target, self._opset)

    def back(self, source: str, target: str, *, positive: bool) -> list[onnx.NodeProto]:
        """From points (batch, n) to pixels (batch, p). positive: what is nowhere negative stays so."""
        return weighed("onto_pixels_by_lines" if positive else "onto_pixels", source, target, self._opset)


def taps_axis(opset: int) -> dict[str, NDArray[Any]]:
    """The constants that `weighed` reads."""
    return {"taps": np.array([1], np.int64)} if opset >= SUM_OVER_AN_INPUT else {}


def weighed(name: str, source: str, target: str, opset: int) -> list[onnx.NodeProto]:
    """Nodes from (batch, p) to (batch, q): sums of what is at the parameter name/places (taps, q), weighed by
    name/weights."""
    at, parts, row = f"{target}/at", f"{target}/parts", f"{target}/row"
    axes: list[str] = [*taps_axis(opset)]
    attributes: dict[str, Any] = {} if axes else {"axes": [1]}
    return [
        helper.make_node("Gather", [source, f"{name}/places"], [at], axis=1),
        helper.make_node("Mul", [at, f"{name}/weights"], [parts]),
        helper.make_node("ReduceSum", [parts, *axes], [row], keepdims=1, **attributes),
        helper.make_node("Squeeze", [row, *axes], [target], **attributes),
    ]


def _taps(name: str, matrix: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
    """Places (taps, q) and weights of a matrix (p, q). There are as many taps as suit all axes that are like
    this one: those that no entry is for have the weight 0."""
    rows, columns = np.nonzero(matrix)
    order = np.argsort(columns, kind="stable")
    rows, columns = rows[order], columns[order]
    counts = np.bincount(columns, minlength=matrix.shape[1])
    firsts = np.cumsum(counts) - counts
    taps = int(counts.max())
    taps += -taps % EVEN_TAPS
    places = np.tile(rows[firsts], (taps, 1))
    weights = np.zeros(places.shape, np.float32)
    tap = np.arange(len(rows)) - firsts[columns]
    places[tap, columns], weights[tap, columns] = rows, matrix[rows, columns]
    return {f"{name}/places": places.astype(np.int32), f"{name}/weights": weights}


def _lines(name: str, points: FloatArray, axis: FloatArray) -> dict[str, NDArray[Any]]:
    """The same of straight lines between the two points (n,) beside each pixel (p,)."""
    place = np.interp(axis, points, np.arange(len(points)))
    left = np.minimum(place.astype(np.int32), len(points) - 2)
    share = np.asarray(place - left, np.float32)
    return {f"{name}/places": np.stack([left, left + 1]), f"{name}/weights": np.stack([1 - share, share])}
