"""Linear smoothing of spectra, as products with two thin matrices, which a graph has, too."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any  # numpy.ndarray, or what records the operators
Matrix: TypeAlias = NDArray[np.float64]

SPLINES = 16  # a smoother's matrices are so many splines wide, or a multiple


@dataclass(frozen=True, eq=False)
class Smoother:
    """A linear smoothing as two thin matrices: down (points, m) to coefficients, up (m, points) back."""

    down: Matrix
    up: Matrix

    def __call__(self, rows: Array) -> Array:
        """The smooth part of (n, points)."""
        return rows @ self.down @ self.up

    def named(self, name: str) -> dict[str, Matrix]:
        """Its matrices by names that begin so."""
        return {f"{name}/down": self.down, f"{name}/up": self.up}


def smoother(points: int, step: float, length: float) -> Smoother:
    """Penalised cubic splines (Eilers & Marx, Stat. Sci. 11, 89 (1996)) with two knots to a length.

    Straight lines stay exact, up to the ends. step, length: cm-1. The matrices are as wide as suits all axes
    that are alike: what is beyond the last spline is zero.
    """
    intervals = max(1, round(2 * (points - 1) * step / length))
    knot = (points - 1) * step / intervals
    place = np.linspace(0, intervals, points)
    distance = np.abs(place[:, None] - np.arange(-1, intervals + 2))
    square = distance * distance  # powers would take ten times as long
    beyond = np.clip(2 - distance, 0, None)
    splines = np.where(distance < 1, 2 / 3 - square + square * distance / 2, beyond * beyond * beyond / 6)
    bend = np.diff(np.eye(intervals + 3), n=2, axis=0)
    normal = splines.T @ splines * step / knot + (length / knot) ** 4 * bend.T @ bend
    down = np.linalg.solve(normal, splines.T * step / knot).T
    empty = ((0, 0), (0, -(intervals + 3) % SPLINES))
    return Smoother(np.pad(down, empty), np.ascontiguousarray(np.pad(splines, empty).T))


def averaging(points: int) -> Smoother:
    """The mean at every point."""
    return Smoother(np.full((points, 1), 1 / points), np.ones((1, points)))
