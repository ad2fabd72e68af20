"""The peaks of a spectrum that stand out of its noise, for labels."""

import numpy as np
from numpy.typing import NDArray

from cars_rt.view.grid import Floats

LEAST_NOISE = 6.0  # height of a peak above its surroundings, in units of the noise of one pixel
LEAST_SHARE = 0.04  # and as a share of the highest one


def peaks(values: Floats, most: int = 8) -> NDArray[np.intp]:
    """Indices (n,) of at most so many peaks of (p,) values, by position; n is 0 where nothing stands out."""
    if len(values) < 3 or not np.isfinite(values).all():
        return np.zeros(0, np.intp)
    smooth = np.convolve(np.pad(values, 1, "edge"), np.ones(3) / 3, "valid")  # with zeros ends are peaks
    inner = smooth[1:-1]
    tops = np.flatnonzero((inner > smooth[:-2]) & (inner >= smooth[2:])) + 1
    if not len(tops):
        return tops
    noise = float(np.median(np.abs(np.diff(values)))) / 0.95
    rise = np.array([_prominence(smooth, int(top)) for top in tops])
    good = rise > max(LEAST_NOISE * noise, LEAST_SHARE * float(rise.max()))
    best = tops[good][np.argsort(rise[good])[::-1][:most]]
    return np.sort(best)


def _prominence(values: NDArray[np.float64], top: int) -> float:
    """Height above the higher one of the two lowest points between here and higher ground."""
    height, lowest = values[top], []
    for side in (values[:top][::-1], values[top + 1 :]):
        higher = np.flatnonzero(side > height)
        part = side[: higher[0]] if len(higher) else side
        lowest.append(float(part.min()) if len(part) else float(height))
    return float(height - max(lowest))
