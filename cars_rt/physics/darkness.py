"""Whether spectra that are taken for dark have light in them, by their shape along the pixels. Pure."""

from math import comb

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 32  # pixels whose median counts as one value: hot pixels and cosmic rays do not
FEWEST_PIXELS = 2 * BLOCK
LINES = 3  # in as many blocks
LOOKED_AT = 8  # spectra are enough to know the noise by
LEAST_LIGHT = 20.0  # of the brightest block above the darkest, in the noise of one pixel of one spectrum
FEW_FULL = 0.02  # of the pixels
BESIDE_HOT = 0.2  # of a hot pixel's counts, which spill over
SELDOM = 5e-3  # of detectors have so many hot pixels between warm ones
LEAST_SHARE = 0.1  # of the mean, the same; measured CARS spectra have 400 to 600 times the noise
_NOISE_OF_THIRD = 1 / (0.6745 * np.sqrt(20))  # median |third difference| to deviation


def relief(spectrum: ArrayLike) -> float:
    """How far the brightest part of a spectrum (p,) is above its darkest, in its unit; 0 for few pixels."""
    values = np.asarray(spectrum, np.float64)
    if len(values) < FEWEST_PIXELS:
        return 0.0
    blocks = len(values) // BLOCK
    medians = np.median(values[: blocks * BLOCK].reshape(blocks, BLOCK), axis=1)
    return float(medians.max() - medians.min())


def lines(spectrum: ArrayLike) -> float:
    """How far the third highest of the lines of a spectrum (p,) stands above what is around it, as those of a
    lamp do, in its unit; 0 for few pixels. They are wider than hot pixels, and cosmic rays are fewer."""
    values = np.asarray(spectrum, np.float64)
    blocks = len(values) // BLOCK
    if blocks < LINES:
        return 0.0
    least = np.min([values[:-2], values[1:-1], values[2:]], axis=0, initial=np.inf)
    parts = np.pad(least, 1, mode="edge")[: blocks * BLOCK].reshape(blocks, BLOCK)
    return float(np.sort(parts.max(axis=1) - np.median(parts, axis=1))[-LINES])


def noise_of(spectra: NDArray[np.generic]) -> float:
    """Noise of one pixel of one spectrum (k, p), where it is least along the pixels, at least that of
    rounding. Third differences of neighbours leave little else; 0 for few pixels."""
    values = np.atleast_2d(np.asarray(spectra, np.float64))
    third = np.abs(np.diff(values, 3, axis=1))
    blocks = third.shape[1] // BLOCK
    if not blocks:
        return 0.0
    parts = third[:, : blocks * BLOCK].reshape(len(values), blocks, BLOCK)
    least = np.quantile(np.median(parts, axis=2), 0.25) * _NOISE_OF_THIRD
    return float(max(least, 0.29 if values.size and np.array_equal(values, np.round(values)) else 0.0))


def three_beside(full: NDArray[np.bool_]) -> bool:
    """Whether three pixels side by side (..., p) are at the camera's full scale: fewer may be hot pixels or
    cosmic rays."""
    return bool((full[..., :-2] & full[..., 1:-1] & full[..., 2:]).any())


def may_be_hot(full: NDArray[np.bool_], dark: ArrayLike | None = None) -> bool:
    """Whether pixels at the camera's full scale (p,) may all be hot ones, as of a long exposure: few, and no
    three side by side. dark: their counts, where nothing else has light. A line has light on both of its
    sides; so have hot pixels between warm ones, as often as there are warm ones by chance."""
    if three_beside(full) or int(full.sum()) > max(FEW_FULL * len(full), 2):
        return False
    if dark is None or not full.any():
        return True
    counts = np.asarray(dark, np.float64)
    above = counts - np.median(counts)
    lit = above >= BESIDE_HOT * above[full].min()
    edges = np.diff(np.pad(full, 1).astype(np.int8))
    first, after = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    beyond = np.pad(lit, 1)
    groups, between = len(first), int((beyond[first] & beyond[after + 1]).sum())
    apart = np.convolve(full, [1, 1, 1], "same") == 0
    chance = (lit[apart].sum() / max(apart.sum(), 1)) ** 2
    fewer = sum(comb(groups, n) * chance**n * (1 - chance) ** (groups - n) for n in range(between))
    return bool(1 - fewer >= SELDOM)


def bridged(counts: NDArray[np.float64], hot: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of a spectrum that is smooth, as a reference (p,): neighbours stand for hot pixels, at which nothing is
    left above their dark."""
    pixels = np.arange(len(counts))
    return np.interp(pixels, pixels[~hot], counts[~hot]) if hot.any() else counts


def light_in(dark: ArrayLike, noise: float) -> str | None:
    """Say that a dark (p,) rises further along its pixels than any does: offsets, hot pixels and a glow stay
    near the noise, which is that of one pixel of one spectrum. None if it does not."""
    rise = max(relief(dark), lines(dark))
    if not noise or rise <= max(
        LEAST_LIGHT * noise, LEAST_SHARE * abs(float(np.mean(np.asarray(dark, np.float64))))
    ):
        return None
    return (
        f"has light in it: it rises by {rise:.4g} counts along its pixels, {rise / noise:.3g} times their "
        "noise, and all of that is subtracted from every spectrum; block the beams and measure it again"
    )
