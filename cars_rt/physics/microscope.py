"""A broadband CARS microscope by physics: what its camera counts for given concentrations, and the truth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cars_rt.physics.substances import SUBSTANCES, Substance, chi_r

Floats = NDArray[np.float64]
Spectra = NDArray[np.float32]
Counts = NDArray[np.uint16]

SATURATION = 65535
_FWHM = 2 * math.sqrt(2 * math.log(2))  # of a Gaussian, in standard deviations
_FINE_STEP = 0.5  # cm-1, of the grid on which susceptibilities are computed; below the narrowest line
_POISSON_BELOW = 25.0  # electrons; above, a normal distribution is as good
_BLOCK = 32  # spectra computed at once, so that the buffers stay in the processor's cache


@dataclass(frozen=True)
class Microscope:
    """The instrument's settings. The defaults resemble a measured broadband CARS microscope.

    pixels: of the camera. exposure_ms: of one spectrum. peak_counts: at 1 ms, the brightest pixel's
    noise-free counts above dark for the brightest neat substance; as the signal is a convex function of
    the concentrations, no mixture exceeds it. electrons_per_count: camera gain; the variance of the
    shot noise is signal / electrons_per_count. read_noise: standard deviation, counts. offset: dark
    level, counts. dark_current: counts per ms. probe_width: full width at half maximum of the probe's
    power spectrum, cm-1; acts on the susceptibility. resolution: full width at half maximum of the
    spectrometer, cm-1; acts on the intensity. ripple: relative amplitude of the interference on the
    envelope. seed: of ripple, dark pattern and noise. Raises ValueError for settings without meaning.
    """

    pixels: int = 1340
    exposure_ms: float = 1.0
    peak_counts: float = 45000.0
    electrons_per_count: float = 0.4
    read_noise: float = 60.0
    offset: float = 600.0
    dark_current: float = 3.0
    probe_width: float = 10.0
    resolution: float = 5.0
    ripple: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pixels < 2:
            raise ValueError(f"the camera needs 2 or more pixels, not {self.pixels}")
        for name in ("exposure_ms", "peak_counts", "electrons_per_count", "resolution"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("read_noise", "offset", "dark_current", "probe_width", "ripple"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be 0 or above, not {getattr(self, name)}")

    @property
    def raman_shift(self) -> Floats:
        """The camera's axis, (pixels,) float64, ascending from 400 to 3240 cm-1.

        With 1340 pixels the steps grow from 1.50 to 2.68 cm-1, as those of a prism or grating do that
        disperses wavelengths (coefficients fitted to a measured axis).
        """
        t = np.linspace(-1, 1, self.pixels)
        travel = 2.1275 * t + 0.3303 * t**2 - 0.0135 * t**3 - 0.0192 * t**4
        return np.asarray(400 + 2840 * (travel - travel[0]) / (travel[-1] - travel[0]))

    def envelope(self, raman_shift: ArrayLike) -> Floats:
        """Excitation envelope S, (p,) float64 for (p,) cm-1, about 1 at 400 cm-1 and 1/200 at 3240.

        Three-colour excitation makes the slope from 400 cm-1, two-colour excitation the hump at 1800
        with its shoulder to the laser's edge near 3050 (Camp et al., Nat. Photonics 8, 627 (2014)). The
        shape was fitted to a measured, almost purely non-resonant spectrum of a cell, and so were the
        two notches near 2350 and 2450, which belong to optics and air.
        """
        w = np.asarray(raman_shift, dtype=np.float64)
        three_colour = 1.24 * np.exp(-((w / 758) ** 2.6))
        two_colour = 0.186 * _sigmoid((2124 - w) / 169) + 0.0655
        two_colour = two_colour * _sigmoid((w - 1430) / 121) * _sigmoid((3060 - w) / 80)
        notches = (1 - 0.2 * _bell(w, 2349, 14)) * (1 - 0.2 * _bell(w, 2450, 11))
        rng = np.random.default_rng([self.seed, 1])
        interference = np.zeros_like(w)
        for period in rng.uniform(40, 250, 3):
            interference += np.cos(2 * np.pi * (w / period + rng.uniform())) / 3
        return np.asarray((three_colour + two_colour) * notches * (1 + self.ripple * interference))

    def chi_nr(self, raman_shift: ArrayLike) -> Floats:
        """Water's non-resonant susceptibility, (p,) float64, real: 1 at 1800 cm-1, rising slowly.

        That of another substance is `Substance.chi_nr` times this.
        """
        return np.asarray(1 + 0.04 * (np.asarray(raman_shift, dtype=np.float64) - 1800) / 1000)


class Simulator:
    """A microscope with substances in its focus: `measure` gives counts, `raman` the truth.

    With volume fractions c_i (what is missing to 1 is non-resonant like water), the total
    susceptibility is chi = sum_i c_i n_i (chi_NR + chi_R,i), n_i the substance's non-resonant strength,
    and the signal is L * (S |P * chi|^2), with P the probe's Gaussian field of unit area (sqrt(2)
    probe_width wide), L the spectrometer's Gaussian and * a convolution. Because the signal is
    quadratic in c, the convolutions are done once, for every pair of substances, on a fine grid; a
    spectrum is then one small matrix product.
    """

    def __init__(self, microscope: Microscope | None = None, substances: Sequence[Substance] = SUBSTANCES):
        self.microscope = m = Microscope() if microscope is None else microscope
        self.substances = tuple(substances)
        self.raman_shift = m.raman_shift
        """(p,) float64, cm-1."""
        strength = np.array([s.chi_nr for s in self.substances])
        reach = 2 * (m.probe_width + m.resolution) + 1
        fine = np.arange(self.raman_shift[0] - reach, self.raman_shift[-1] + reach, _FINE_STEP)
        chi_nr, envelope = m.chi_nr(fine), m.envelope(fine)
        resonant = np.array([_through_probe(s, fine, m.probe_width) * chi_nr for s in self.substances])
        fields = np.vstack([chi_nr, strength[:, None] * (resonant + chi_nr)])

        self._first, self._second = np.triu_indices(len(fields))
        twice = np.where(self._first == self._second, 1.0, 2.0)[:, None]
        products = twice * envelope * (fields[self._first] * fields[self._second].conj()).real
        pairs = self._through_spectrometer(fine, products)
        brightest = pairs[self._first == self._second].max()
        scale = m.peak_counts * m.exposure_ms / brightest
        self._pairs = (scale * pairs).astype(np.float32)
        background = self._through_spectrometer(fine, (envelope * chi_nr**2)[None])
        self._background = (scale * background).astype(np.float32)
        raman = self._through_spectrometer(fine, resonant.imag / chi_nr)
        self._raman = (strength[:, None] * raman).astype(np.float32)
        self._strength = np.append(1.0, strength).astype(np.float32)

        seeds = np.random.SeedSequence([m.seed, 2]).spawn(3)
        pattern = np.random.default_rng(seeds[0]).normal(0, 1.5, m.pixels)
        self._level = (m.offset + (m.offset > 0) * pattern).astype(np.float32)
        self._current = np.float32(m.dark_current * m.exposure_ms)
        self._normal, self._poisson = (np.random.Generator(np.random.SFC64(s)) for s in seeds[1:])
        self._light = np.empty((_BLOCK, m.pixels), dtype=np.float32)
        self._deviation = np.empty_like(self._light)
        self._noise = np.empty_like(self._light)

    @property
    def dark(self) -> Spectra:
        """The noise-free dark spectrum, (p,) float32, counts: offset, fixed pattern and dark current."""
        return np.asarray(self._level + self._current, dtype=np.float32)

    def signal(self, concentrations: ArrayLike) -> Spectra:
        """Noise-free signal above dark, (k, p) float32, counts, for concentrations (k, substances).

        Raises ValueError for concentrations of another shape.
        """
        fractions = self._fractions(concentrations)
        mixed = fractions[:, self._first] * fractions[:, self._second]
        return np.asarray(np.maximum(mixed @ self._pairs, 0), dtype=np.float32)

    def measure(self, concentrations: ArrayLike, out: Counts | None = None) -> Counts:
        """Camera counts, (k, p) uint16, for concentrations (k, substances) with shot and read noise.

        Concentrations are volume fractions, finite and not negative. Counts stop at 65535. Writes into
        `out`, if given, (k, p) uint16. The same seed and the same calls give the same counts.
        Raises ValueError for concentrations or `out` of another shape.
        """
        fractions = self._fractions(concentrations)
        mixed = fractions[:, self._first] * fractions[:, self._second]
        counts = self._output(len(mixed), out)
        for start in range(0, len(mixed), _BLOCK):
            block = mixed[start : start + _BLOCK]
            light = self._light[: len(block)]
            np.matmul(block, self._pairs, out=light)
            np.maximum(light, 0, out=light)
            light += self._current
            self._expose(light, counts[start : start + _BLOCK])
        return counts

    def measure_dark(self, count: int = 1, out: Counts | None = None) -> Counts:
        """Camera counts with the beams blocked, (count, p) uint16. Raises ValueError as `measure` does."""
        counts = self._output(count, out)
        for start in range(0, count, _BLOCK):
            light = self._light[: min(_BLOCK, count - start)]
            light[:] = self._current
            self._expose(light, counts[start : start + _BLOCK])
        return counts

    def raman(self, concentrations: ArrayLike) -> Spectra:
        """The truth, (k, p) float32, dimensionless: L * (Im(P * chi_R) / chi_NR), on the camera's axis.

        chi_R and chi_NR are those of the mixture, P and L as for the class. It is what Kramers-Kronig
        retrieval with a perfect reference gives, but for the axis having ends, and for L acting on the
        squared modulus (1 to 4 % of the strongest line with the default widths).
        Raises ValueError for concentrations of another shape.
        """
        fractions = self._fractions(concentrations)
        return np.asarray((fractions[:, 1:] @ self._raman) / (fractions @ self._strength)[:, None])

    def raman_noise(self, concentrations: ArrayLike) -> Spectra:
        """Standard deviation of the noise of `raman`, (k, p) float32, when retrieved pixel by pixel.

        For a signal I with noise s over the non-resonant background B = S chi_NR^2 (both counts above
        dark), Kramers-Kronig retrieval is raman = sqrt(I/B) sin(phi), phi the Hilbert transform of
        ln sqrt(I/B). To first order s changes ln sqrt(I/B) by s / 2I, and phi by as much, independently
        (a Hilbert transform keeps the variance of white noise and turns its phase by 90 degrees), so
        that the deviation of raman is sqrt(I/B) s / 2I = s / (2 sqrt(I B)). This takes B and dark as
        noise-free, I as at least s, below which first order means little, and s / I as slowly varying:
        within some 100 cm-1 of a dip that falls into the read noise the true deviation is larger
        (neat toluene at 2980 cm-1: three times). Retrieval that smooths over pixels has less.
        Raises ValueError for concentrations of another shape.
        """
        fractions = self._fractions(concentrations)
        signal = self.signal(concentrations)
        electrons = np.float32(self.microscope.electrons_per_count)
        deviation = np.sqrt((signal + self._current) / electrons + np.float32(self.microscope.read_noise**2))
        background = self._background * (fractions @ self._strength)[:, None] ** 2
        return np.asarray(deviation / (2 * np.sqrt(np.maximum(signal, deviation) * background)))

    def _fractions(self, concentrations: ArrayLike) -> Spectra:
        """Concentrations with what is missing to 1 as first column, (k, 1 + substances) float32."""
        given = np.asarray(concentrations, dtype=np.float32)
        if given.ndim != 2 or given.shape[1] != len(self.substances):
            raise ValueError(f"concentrations must be (k, {len(self.substances)}), not {given.shape}")
        fractions = np.empty((len(given), 1 + len(self.substances)), dtype=np.float32)
        fractions[:, 1:] = given
        np.maximum(1 - given.sum(axis=1), 0, out=fractions[:, 0])
        return fractions

    def _output(self, count: int, out: Counts | None) -> Counts:
        shape = (count, self.microscope.pixels)
        if out is None:
            return np.empty(shape, dtype=np.uint16)
        if out.shape != shape or out.dtype != np.uint16:
            raise ValueError(f"out must be {shape} uint16, not {out.shape} {out.dtype}")
        return out

    def _expose(self, light: Spectra, counts: Counts) -> None:
        """Turn expected counts above offset, light (k, p), into noisy counts; overwrites light."""
        electrons = np.float32(self.microscope.electrons_per_count)
        read_noise = np.float32(self.microscope.read_noise)
        deviation, noise = self._deviation[: len(light)], self._noise[: len(light)]
        np.divide(light, electrons, out=deviation)
        deviation += read_noise**2
        np.sqrt(deviation, out=deviation)
        low = np.flatnonzero(light < _POISSON_BELOW / electrons)
        if low.size:
            light.flat[low] = self._poisson.poisson(light.flat[low] * electrons) / electrons
            deviation.flat[low] = read_noise
        self._normal.standard_normal(dtype=np.float32, out=noise)
        noise *= deviation
        light += noise
        light += self._level
        np.rint(light, out=light)
        np.clip(light, 0, SATURATION, out=light)
        counts[:] = light

    def _through_spectrometer(self, fine: Floats, spectra: Floats) -> Floats:
        """Average spectra (n, fine) over the spectrometer's Gaussian around every pixel, (n, p)."""
        sigma = self.microscope.resolution / _FWHM
        nearest = np.rint((self.raman_shift - fine[0]) / _FINE_STEP).astype(np.intp)
        reach = int(4 * sigma / _FINE_STEP) + 1
        total, weights = np.zeros((len(spectra), len(nearest))), np.zeros(len(nearest))
        for offset in range(-reach, reach + 1):
            index = np.clip(nearest + offset, 0, len(fine) - 1)
            weight = _bell(fine[index], self.raman_shift, sigma)
            total += weight * spectra[:, index]
            weights += weight
        return total / weights


def _through_probe(substance: Substance, fine: Floats, probe_width: float) -> NDArray[np.complex128]:
    """chi_R of a substance, (fine,), seen with a probe of that width (of its power, hence the root)."""
    sigma = math.sqrt(2) * probe_width / _FWHM
    reach = int(4 * sigma / _FINE_STEP)
    offsets = _FINE_STEP * np.arange(-reach, reach + 1, dtype=np.float64)
    kernel = _bell(offsets, 0.0, sigma) if reach else np.ones(1)
    wide = fine[0] + _FINE_STEP * np.arange(-reach, len(fine) + reach)
    return np.convolve(chi_r(substance, wide), kernel / kernel.sum(), mode="valid")


def _bell(x: Floats, centre: Floats | float, sigma: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((x - centre) / sigma) ** 2))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(x / 2))
