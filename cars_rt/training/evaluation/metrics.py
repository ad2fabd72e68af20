"""How far a prediction is from the truth: pure functions of arrays."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.signal import find_peaks

Floats: TypeAlias = NDArray[np.floating[Any]]

PROMINENCE = 0.015  # of the spectrum's maximum, what a peak rises above its surroundings; and within
TOLERANCE = 4.0  # cm-1 of each other two peaks are the same: Vernuccio et al., Sci. Rep. 14, 23903 (2024)
DECADES = ("below 0.001", "0.001 to 0.01", "0.01 to 0.1", "0.1 to 1", "above 1")
LEAST_POINTS = 1000  # in a decade; neighbouring points err together
EDGES = (1e-3, 1e-2, 1e-1, 1.0)  # of the decades
_TINY = 1e-12


def determination(predicted: Floats, truth: Floats) -> Floats:
    """R2 of each spectrum, (b, p) and (b, p) to (b,): 1 - squared error / squared deviation from the mean."""
    spread = np.square(truth - truth.mean(1, keepdims=True)).sum(1)
    return np.asarray(1 - np.square(predicted - truth).sum(1) / np.maximum(spread, _TINY))


def pearson(predicted: Floats, truth: Floats) -> Floats:
    """Correlation of each spectrum, (b, p) and (b, p) to (b,); 0 where one of them is constant."""
    one, other = (values - values.mean(1, keepdims=True) for values in (predicted, truth))
    norm = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(1) / np.maximum(norm, _TINY))


def peaks(raman: Floats, shift: Floats) -> Floats:
    """Raman shifts of the peaks of one spectrum, ascending, cm-1. Both (p,), shift ascending."""
    highest = float(raman.max())
    if not highest > 0:
        return np.empty(0)
    return np.asarray(shift[find_peaks(raman, prominence=PROMINENCE * highest)[0]])


class Matches(NamedTuple):
    """Peaks in the prediction and in the truth, only in the truth, only in the prediction."""

    found: int
    missed: int
    false: int


def match(predicted: Floats, true: Floats) -> Matches:
    """Peaks of two ascending lists, cm-1, paired one to one: as many pairs as there can be."""
    found, at = 0, 0
    for position in true:
        while at < len(predicted) and predicted[at] < position - TOLERANCE:
            at += 1
        if at < len(predicted) and predicted[at] <= position + TOLERANCE:
            found, at = found + 1, at + 1
    return Matches(found, len(true) - found, len(predicted) - found)


@dataclass(frozen=True, eq=False)
class Coverage:
    """Points, and those of them whose error is within the deviation, by decade of a signal.

    points, within: (5,) int64, for `DECADES`.
    """

    points: NDArray[np.int64]
    within: NDArray[np.int64]

    @classmethod
    def of(cls, error: Floats, deviation: Floats, signal: Floats) -> Self:
        """Errors with their claimed deviations, in the decades of |signal|; all of one shape."""
        decade = np.searchsorted(EDGES, np.abs(signal).ravel(), side="right")
        within = (np.abs(error) <= deviation).ravel()
        size = len(DECADES)
        return cls(np.bincount(decade, minlength=size), np.bincount(decade[within], minlength=size))

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(self.points + other.points, self.within + other.within)

    @property
    def share(self) -> float:
        """Of all points, those within the deviation; 0.683 is what a standard deviation promises."""
        return float(self.within.sum() / max(1, self.points.sum()))

    @property
    def shares(self) -> dict[str, float]:
        """The same for every decade with points enough for a share."""
        rows = zip(DECADES, self.points, self.within, strict=True)
        return {name: round(float(in_ / all_), 4) for name, all_, in_ in rows if all_ >= LEAST_POINTS}


class Line(NamedTuple):
    """The slope of a line, and the share of y's variance that it explains."""

    slope: float
    r2: float


def line(x: Floats, y: Floats) -> Line:
    """The least-squares line through points, both (n,), n >= 2."""
    slope, intercept = np.polyfit(x, y, 1)
    r2 = determination((slope * x + intercept)[None], y[None])[0]
    return Line(float(slope), float(r2))
