"""Kramers-Kronig retrieval: Im{chi_R} / chi_NR out of a CARS spectrum, by mathematics alone.

ln(chi / chi_NR) = ln sqrt(I / I_ref) + i phi, and the phase phi is the Hilbert transform of the logarithm
(Liu, Lee & Cicerone, Opt. Lett. 34, 1363 (2009)). A reference that is not the sample's own non-resonant
background leaves an additive, slow error of the phase and a slow factor; both are taken away as by Camp,
Lee & Cicerone, J. Raman Spectrosc. 47, 408 (2016).

The retrieval uses only operators and ufuncs of numpy, products with constant matrices and as many rounds
as were chosen beforehand, so that the same lines compute an array and can be written down as a graph.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any  # numpy.ndarray, or what records the operators
Matrix: TypeAlias = NDArray[np.float64]

EDGE = 4  # points whose mean goes on beyond an end of the axis
FLOOR = 3e-3  # of the spectrum's mean: less than that is camera noise, and a logarithm would make it large
CEILING = 1e4  # of the spectrum's mean; only counts that no camera gives exceed it
LARGEST = 4.0  # ln of the largest |chi / chi_NR|: what no sample shows stays finite, in half precision, too
LEAST_LEVEL = 0.5  # of chi_NR, which is near 1 here: a mean so far below comes of noise
SPLINES = 16  # a smoother's matrices are so many splines wide, or a multiple


@dataclass(frozen=True)
class Settings:
    """How to retrieve. Lengths are in cm-1; a smoothing of length l passes half of a wave of period 2 pi l.

    background: without a reference, the logarithm smoothed so is the background: the logarithm of
    |1 + chi_R / chi_NR| has the mean zero around a line. phase, phase_referenced: of the phase's
    error, without and with a measured reference. asymmetry: weight of what lies above the error, as
    lines do, against what lies below. rounds: of its iteration. scale: of the scale's error.
    """

    background: float = 120.0
    phase: float = 50.0
    phase_referenced: float = 120.0
    asymmetry: float = 0.02
    rounds: int = 10
    scale: float = 600.0


class KramersKronig:
    """Retrieves raman on a uniform, ascending grid of `points` points with a step in cm-1.

    reference: (points,), the spectrum of a non-resonant sample, positive, in any unit; None takes a
    smooth estimate.
    """

    def __init__(
        self, points: int, step: float, reference: Matrix | None = None, settings: Settings | None = None
    ) -> None:
        chosen = Settings() if settings is None else settings
        self.hilbert = hilbert_matrix(points)
        self.amplitude = Amplitude(points, step, reference, chosen.background)
        length = chosen.phase if reference is None else chosen.phase_referenced
        self.correction = Correction(points, step, length, chosen, self.hilbert)

    def __call__(self, spectrum: Array) -> Array:
        """Raman (n, points) of spectra (n, points), counts above dark over their mean."""
        logarithm = self.amplitude(spectrum)
        return self.correction(logarithm, logarithm @ self.hilbert)

    @property
    def of_axis(self) -> dict[str, Matrix]:
        """What it computes with, by name, that depends on the step or the reference; all else follows from
        the number of points."""
        return {**self.amplitude.of_axis, **self.correction.of_axis}


class Amplitude:
    """ln sqrt(I / I_ref), with a mean near zero, as `KramersKronig` describes it."""

    def __init__(self, points: int, step: float, reference: Matrix | None, background: float) -> None:
        self._reference = None if reference is None else 0.5 * np.log(reference)[None]
        self._background = smoother(points, step, background) if reference is None else _mean(points)

    def __call__(self, spectrum: Array) -> Array:
        """(n, points) of spectra (n, points), counts above dark over their mean."""
        logarithm = 0.5 * np.log(np.minimum(np.maximum(spectrum, FLOOR), CEILING))
        if self._reference is not None:
            logarithm = logarithm - self._reference
        return logarithm - self._background(logarithm)

    @property
    def of_axis(self) -> dict[str, Matrix]:
        """As that of `KramersKronig`."""
        if self._reference is not None:
            return {"reference": self._reference}
        return self._background.named("background")


class Correction:
    """Takes the slow errors from phase and scale, whatever retrieved the phase."""

    def __init__(self, points: int, step: float, length: float, settings: Settings, hilbert: Matrix) -> None:
        self._asymmetry, self._rounds = settings.asymmetry, settings.rounds
        self._phase = smoother(points, step, length)
        # The logarithm and the phase of an error belong together as those of a spectrum do.
        self._conjugate = self._phase.up @ hilbert
        self._scale = smoother(points, step, settings.scale)

    def __call__(self, logarithm: Array, phase: Array) -> Array:
        """Raman (n, points) from ln sqrt(I / I_ref) and the phase, both (n, points)."""
        error = self._error(phase)
        phase = phase - error @ self._phase.up
        amplitude = np.exp(np.minimum(logarithm + error @ self._conjugate, LARGEST))
        # Re{chi_R} is as often positive as negative, so that the mean of the real part is that of chi_NR.
        level = np.maximum(self._scale(amplitude * np.cos(phase)), LEAST_LEVEL)
        return amplitude * np.sin(phase) / level

    @property
    def of_axis(self) -> dict[str, Matrix]:
        """As that of `KramersKronig`."""
        return {
            **self._phase.named("phase"),
            "phase/conjugate": self._conjugate,
            **self._scale.named("scale"),
        }

    def _error(self, phase: Array) -> Array:
        """The smooth curve below the lines, as coefficients of `self._phase.up`.

        Asymmetric least squares (Eilers & Boelens, 2005) with a fixed matrix: as no weight exceeds 1, a
        weighted residual on top of the curve of before, smoothed, is a step that never goes too far.
        """
        error = phase @ self._phase.down
        for _ in range(self._rounds):
            curve = error @ self._phase.up
            above = phase - curve
            weighted = np.minimum(self._asymmetry * above, (1 - self._asymmetry) * above)
            error = (curve + weighted) @ self._phase.down
        return error


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


def hilbert_matrix(points: int) -> Matrix:
    """The matrix H, (points, points), for which ln(amplitude) @ H is the phase, in radians.

    The sign is that of CARS on an ascending axis: where the logarithm falls, the phase is positive. The
    sum over odd distances is exact for what the grid resolves. Beyond each end, the mean of the last
    points goes on and falls to zero within half of the axis.
    """
    beyond, edge = points // 2, min(EDGE, points)
    distance = np.arange(1 - beyond - points, points + beyond)
    odd = distance % 2 == 1
    values = np.where(odd, -2 / np.pi, 0.0) / np.where(odd, distance, 1)
    kernel = np.lib.stride_tricks.sliding_window_view(values, points + 2 * beyond)[::-1]
    matrix = kernel[:, beyond : beyond + points].copy()
    falling = np.cos(np.pi / 2 * np.arange(1, beyond + 1) / (beyond + 1)) ** 2
    matrix[:, :edge] += (kernel[:, :beyond] @ falling[::-1] / edge)[:, None]
    matrix[:, points - edge :] += (kernel[:, beyond + points :] @ falling / edge)[:, None]
    return np.ascontiguousarray(matrix.T)


def _mean(points: int) -> Smoother:
    return Smoother(np.full((points, 1), 1 / points), np.ones((1, points)))
