"""Spectra of lamps and of substances as an instrument would give them, whose axis is known."""

import math

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.lamps import lamp
from cars_rt.calibration.peaks import smoothed
from cars_rt.physics.substances import Substance, chi_r

Array = NDArray[np.float64]


def lamp_spectrum(
    name: str, first_nm: float, last_nm: float, pixels: int = 1340, *, seed: int = 1, bend: float = 0.02
) -> tuple[Array, Array]:
    """Wavelengths in vacuum (p,), nm, and noisy counts (p,) of a lamp: lines of 2.6 pixels whose brightness
    is not that of any table, three that belong to nothing, and a background."""
    rng = np.random.default_rng(seed)
    u = np.linspace(-1, 1, pixels)
    wavelength = (first_nm + last_nm + (last_nm - first_nm) * (u + bend * (u**2 - 1))) / 2
    way = 1 if last_nm > first_nm else -1
    lines, at = lamp(name), np.arange(pixels, dtype=np.float64)
    places = np.interp(lines.vacuum_nm, wavelength[::way], at[::way], -99, -99)
    counts = 200 + 100 * np.exp(-(u**2))
    deviation, edges = 2.6 / 2.355, np.arange(pixels + 1) - 0.5
    erf = np.vectorize(math.erf, otypes=[float])
    for place, bright in zip(places, lines.brightness, strict=True):
        if place >= 0:
            height = 30_000 * {3: 0.7, 2: 0.2, 1: 0.03}[int(bright)] * math.exp(rng.normal(0, 0.5))
            near = slice(max(int(place) - 12, 0), min(int(place) + 14, pixels + 1))
            steps = np.diff(erf((edges[near] - place) / deviation / math.sqrt(2)))
            counts[near.start : near.stop - 1] += height * deviation * math.sqrt(math.pi / 2) * steps
    for place in rng.uniform(0, pixels, 3):
        counts += 1_500 * np.exp(-0.5 * ((at - place) / deviation) ** 2)
    return wavelength, rng.normal(np.minimum(counts, 65_535), np.sqrt(counts + 25))


def cars_spectrum(
    substance: Substance, first: float = 400, last: float = 3_300, pixels: int = 640, *, seed: int = 1
) -> tuple[Array, Array]:
    """Raman shift (p,), cm-1, and noisy counts (p,) of a CARS spectrum on equal steps of wavelength, at a
    resolution of 10 cm-1 and under an uneven envelope."""
    rng, probe = np.random.default_rng(seed), 1e7 / 800
    shift = 1e7 / np.linspace(1e7 / (first + probe), 1e7 / (last + probe), pixels) - probe
    fine = np.arange(first - 60, last + 60, 0.5)
    chi = chi_r(substance, fine)
    seen = smoothed(chi.real, 10 / 2.355 / 0.5) + 1j * smoothed(chi.imag, 10 / 2.355 / 0.5)
    envelope = np.exp(-(fine - first) / 2_500) * (1 + 0.1 * np.sin(fine / 300 + rng.uniform(0, 6)))
    counts = np.interp(shift, fine, envelope * np.abs(1 + seen) ** 2)
    counts *= 40_000 / counts.max()
    return shift, rng.normal(counts, np.sqrt((counts + 25) / 5))
