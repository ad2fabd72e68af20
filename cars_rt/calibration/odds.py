"""How likely it is that the lines of a spectrum are those of a list, for many guesses of the axis at once."""

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from cars_rt.calibration.peaks import Peaks

Array = NDArray[np.float64]

SEEN = 14  # the highest lines of the spectrum, which have to be explained
STRAY = 0.1  # share of lines that belong to nothing
MISSED = 2.0  # taken away for a strong line of the list that is not there
STRONG = 0.15  # of the strongest one: a line that must be there
PIECE = 4_096  # guesses at once


def places(peaks: Peaks, pixels: int) -> Array:
    """(n,): where lines are, from -1 at the first pixel to 1 at the last."""
    return 2 * peaks.place / (pixels - 1) - 1


def seen(peaks: Peaks) -> NDArray[np.intp]:
    """Which lines have to be explained, in order of place."""
    return np.sort(np.argsort(-peaks.height, kind="stable")[:SEEN])


def explained(peaks: Peaks, peak: NDArray[np.intp]) -> float:
    """The share of `peak` in the lines that have to be explained, each weighed by the root of its height."""
    height, which = np.sqrt(peaks.height), seen(peaks)
    return float(height[np.intersect1d(peak, which)].sum() / height[which].sum())


def scores(
    curves: Array,
    base: Polynomial,
    peaks: Peaks,
    pixels: int,
    lines: Array,
    strength: Array,
    sigma: Array | float,
    near: float = 0.0,
) -> Array:
    """(h,): log of the odds that the lines are those of the list rather than anywhere.

    curves: (h, d), ascending coefficients of the place, added to `base`, in the unit of the list. lines,
    strength: (m,), the second about their heights. sigma: by how much a line may lie beside its place, for
    each guess (h,) or for all. near: within so much a line of the list is there, if more than 3 sigma.
    """
    sigma = np.broadcast_to(np.asarray(sigma, np.float64), len(curves))
    if not len(curves):
        return np.empty(0)
    if len(curves) > PIECE:
        pieces = [slice(first, first + PIECE) for first in range(0, len(curves), PIECE)]
        about = base, peaks, pixels, lines, strength
        return np.concatenate([scores(curves[rows], *about, sigma[rows], near) for rows in pieces])
    which, degree = seen(peaks), curves.shape[1]
    u = places(peaks, pixels)[which]
    ends = np.array([-1.0, 1.0])
    low, up = np.sort(base(ends) + curves @ np.vander(ends, degree, increasing=True).T, axis=1).T
    value = base(u) + curves @ np.vander(u, degree, increasing=True).T
    inside = (lines > low[:, None]) & (lines < up[:, None])
    weight = np.where(inside, np.sqrt(strength), 0)
    weight /= np.maximum(weight.sum(1, keepdims=True), 1e-300)
    distance = value[:, :, None] - lines
    wide = sigma[:, None, None]
    bell = np.exp(-0.5 * (distance / wide) ** 2) / (np.sqrt(2 * np.pi) * wide)
    odds = np.einsum("hnm,hm->hn", bell, weight) * (up - low)[:, None]
    importance = np.sqrt(peaks.height[which] / peaks.height.max())
    total = np.log(STRAY + (1 - STRAY) * odds) @ importance
    missed = (
        inside
        & (strength > STRONG * strength.max())
        & (np.abs(distance).min(1) > np.maximum(3 * sigma, near)[:, None])
    )
    return np.asarray(total - MISSED * missed.sum(1), np.float64)


def pairs(
    value: Array, height: Array, lines: Array, strength: Array, reach: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Which line of the spectrum is which of the list: each other's nearest within `reach`, larger ones
    preferred. value, height: (n,). lines, strength: (m,). Returns indices (k,) into both."""
    if not len(value) or not len(lines):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    distance = np.abs(value[:, None] - lines)
    theirs = distance / reach - 0.3 * np.log(strength / strength.max())
    ours = distance / reach - 0.3 * np.log(height / height.max())[:, None]
    best = np.where(distance < reach, theirs, np.inf).argmin(1)
    back = np.where(distance < reach, ours, np.inf).argmin(0)
    here = np.arange(len(value))
    mutual = (back[best] == here) & (distance[here, best] < reach)
    return here[mutual], best[mutual]
