"""Kramers-Kronig retrieval: Im{chi_R} / chi_NR out of a CARS spectrum, by mathematics alone.

ln(chi / chi_NR) = ln sqrt(I / I_ref) + i phi, and the phase phi is the Hilbert transform of the logarithm
(Liu, Lee & Cicerone, Opt. Lett. 34, 1363 (2009)). A reference that is not the sample's own non-resonant
background leaves an additive, slow error of the phase and a slow factor; both are taken away as by Camp,
Lee & Cicerone, J. Raman Spectrosc. 47, 408 (2016).

The retrieval uses only operators and ufuncs of numpy, products with constant matrices and as many rounds
as were chosen beforehand, so that the same lines compute an array and can be written down as a graph.
"""

from dataclasses import dataclass

import numpy as np

from cars_rt.physics.noise import Noise
from cars_rt.physics.smoothing import Array, Matrix, averaging, smoother

EDGE = 4  # points whose mean goes on beyond an end of the axis
FLOOR = 3e-3  # of the spectrum's mean: less than that is camera noise, and a logarithm would make it large
CEILING = 1e4  # of the spectrum's mean; only counts that no camera gives exceed it
LARGEST = 4.0  # ln of the largest |chi / chi_NR|: what no sample shows stays finite, in half precision, too
LEAST_DEVIATION = 1e-3  # radians, of a phase, if there were no noise: the retrieval itself is no better
LEAST_LEVEL = 0.5  # of chi_NR, which is near 1 here: a mean so far below comes of noise


@dataclass(frozen=True)
class Settings:
    """How to retrieve. Lengths are in cm-1; a smoothing of length l passes half of a wave of period 2 pi l.

    background: without a reference, the logarithm smoothed so is the background: the logarithm of
    |1 + chi_R / chi_NR| has the mean zero around a line. noise: over which that of the spectrum is alike.
    phase, phase_referenced: of the phase's error, without and with a measured reference. below, above: what
    lies so many deviations of the noise above the phase's error may be noise, or is a line. rounds: of its
    iteration. scale: of the scale's error.
    """

    background: float = 120.0
    noise: float = 100.0
    phase: float = 50.0
    phase_referenced: float = 120.0
    below: float = 1.5
    above: float = 3.5
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
        self.noise = Noise(points, step, chosen.noise)
        self.amplitude = Amplitude(points, step, reference, chosen.background)
        length = chosen.phase if reference is None else chosen.phase_referenced
        self.correction = Correction(points, step, length, chosen, self.hilbert)

    def __call__(self, spectrum: Array) -> Array:
        """Raman (n, points) of spectra (n, points), counts above dark over their mean."""
        logarithm, deviation = self.amplitude(spectrum, self.noise(spectrum))
        return self.correction(logarithm, self.phase(logarithm), deviation)

    def phase(self, logarithm: Array) -> Array:
        """Of chi / chi_NR, radians, (n, points), from ln sqrt(I / I_ref) (n, points)."""
        return logarithm @ self.hilbert

    @property
    def of_axis(self) -> dict[str, Matrix]:
        """What it computes with, by name, that depends on the step or the reference; all else follows from
        the number of points."""
        return {**self.noise.of_axis, **self.amplitude.of_axis, **self.correction.of_axis}


class Amplitude:
    """ln sqrt(I / I_ref), with a mean near zero, as `KramersKronig` describes it."""

    def __init__(self, points: int, step: float, reference: Matrix | None, background: float) -> None:
        self._reference = None if reference is None else 0.5 * np.log(reference)[None]
        self._background = smoother(points, step, background) if reference is None else averaging(points)

    def __call__(self, spectrum: Array, noise: tuple[Array, Array]) -> tuple[Array, Array]:
        """(n, points) and the deviation of its noise, (n, points), of spectra (n, points), counts above dark
        over their mean. noise: as `Noise` gives it.

        The mean of the logarithm is that of the light less half of the noise's relative variance; dim ends
        would look like a slope of the envelope, and their phase like lines.
        """
        deviation, level = noise[0], np.maximum(noise[1], FLOOR)
        deviation = deviation / level
        unbiased = spectrum + 0.5 * deviation * deviation * level
        logarithm = 0.5 * np.log(np.minimum(np.maximum(unbiased, FLOOR), CEILING))
        if self._reference is not None:
            logarithm = logarithm - self._reference
        return logarithm - self._background(logarithm), 0.5 * deviation

    @property
    def of_axis(self) -> dict[str, Matrix]:
        """As that of `KramersKronig`."""
        if self._reference is not None:
            return {"reference": self._reference}
        return self._background.named("background")


class Correction:
    """Takes the slow errors from phase and scale, whatever retrieved the phase."""

    def __init__(self, points: int, step: float, length: float, settings: Settings, hilbert: Matrix) -> None:
        self._below, self._above, self._rounds = settings.below, settings.above, settings.rounds
        self._phase = smoother(points, step, length)
        # The logarithm and the phase of an error belong together as those of a spectrum do.
        self._conjugate = self._phase.up @ hilbert
        self._scale = smoother(points, step, settings.scale)

    def __call__(self, logarithm: Array, phase: Array, deviation: Array) -> Array:
        """Raman (n, points) from ln sqrt(I / I_ref) and the phase, both (n, points), and the deviation
        of the noise in either."""
        error = self._error(phase, deviation)
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

    def _error(self, phase: Array, deviation: Array) -> Array:
        """The smooth curve below the lines, as coefficients of `self._phase.up`.

        What may be noise counts in full, on either side, and lines do not (as in asymmetrically reweighted
        least squares, Baek et al., Analyst 140, 250 (2015)): a curve below the noise would make a line of it.
        The matrix is fixed: as no weight exceeds 1, a weighted residual on top of the curve of before,
        smoothed, is a step that never goes too far.
        """
        certain = np.maximum(deviation, LEAST_DEVIATION)
        last, fall = self._above * certain, 1 / ((self._above - self._below) * certain)
        error = phase @ self._phase.down
        for _ in range(self._rounds):
            curve = error @ self._phase.up
            above = phase - curve
            weight = np.minimum(np.maximum((last - above) * fall, 0), 1)
            error = (curve + weight * above) @ self._phase.down
        return error


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
