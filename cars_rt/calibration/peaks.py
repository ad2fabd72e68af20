"""Lines of a spectrum: where they are, how high and how wide, in pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

ROUNDS = 12  # of fitting one line
MAD = 1.4826  # times the median of absolute values is the standard deviation of normal noise
MOST_WIDE = 0.05  # of the spectrum: what is wider is no line
FEWEST_PIXELS = 16  # in which no line stands out of anything
NOISE_WINDOW = 101  # pixels in which the noise is taken as the same


@dataclass(frozen=True, eq=False)
class Peaks:
    """n lines in ascending order of place. place, error: (n,), pixels, the second a standard deviation.
    height: (n,), above what is beside it, in the unit of the spectrum. width: (n,), full at half maximum,
    pixels."""

    place: Array
    error: Array
    height: Array
    width: Array

    def __len__(self) -> int:
        return len(self.place)


def find_peaks(spectrum: Array, *, smooth: float, least_clear: float, least: float) -> Peaks:
    """The lines of a spectrum (p,) on its own pixels.

    smooth: standard deviation, pixels, of the Gaussian with which it is smoothed before maxima are looked
    for; half of a narrow line's width. least_clear: times the noise that a line must rise above what is
    beside it. least: of the highest one that it must reach.
    """
    values = np.asarray(spectrum, np.float64)
    if len(values) < FEWEST_PIXELS:
        return Peaks(*np.zeros((4, 0)))
    calm = smoothed(values, smooth)
    noise = noise_of(values) / np.sqrt(max(2 * np.sqrt(np.pi) * smooth, 1))
    inner = (calm[1:-1] > calm[:-2]) & (calm[1:-1] >= calm[2:])
    found = []
    tops = np.flatnonzero(inner) + 1
    rises = [_rise(calm, int(top)) for top in tops]
    highest = max((rise for rise, _, _ in rises), default=0.0)
    for top, (rise, left, right) in zip(tops.tolist(), rises, strict=True):
        if rise < least_clear * noise[top] or rise < least * highest:
            continue
        wide = _width(calm, top, calm[top] - rise / 2, left, right)
        if wide > MOST_WIDE * len(values):
            continue
        if (line := _fitted(values, top, max(wide, 2.0), rise, left, right)) is not None:
            found.append(line)
    rows = np.array(sorted(found), np.float64).reshape(-1, 4).T
    return Peaks(*rows)


def noise_of(values: Array) -> Array:
    """Standard deviation of the noise about each pixel, (p,), by third differences: lines hardly count."""
    differences = np.abs(np.diff(values, n=3)) / np.sqrt(20)
    window = min(NOISE_WINDOW, len(differences) | 1) if len(differences) % 2 else NOISE_WINDOW
    half = window // 2
    padded = np.pad(
        differences, (half + 1, half + 2), mode="reflect" if len(differences) > half + 3 else "edge"
    )
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)[: len(values)]
    return np.asarray(MAD * np.median(windows, axis=1) + 1e-12 * (np.abs(values).max() + 1e-300))


def smoothed(values: Array, deviation: float) -> Array:
    """Convolved with a Gaussian of this standard deviation, pixels; ends go on as they are."""
    if deviation <= 0:
        return values
    reach = int(np.ceil(4 * deviation))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    padded = np.pad(values, reach, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), "valid")


def _rise(values: Array, top: int) -> tuple[float, int, int]:
    """How far a maximum rises above the higher of the two valleys beside it, and where those are."""
    higher = np.flatnonzero(values > values[top])
    before, after = higher[higher < top], higher[higher > top]
    first = int(before[-1]) if before.size else 0
    last = int(after[0]) if after.size else len(values) - 1
    left = first + int(np.argmin(values[first : top + 1]))
    right = top + int(np.argmin(values[top : last + 1]))
    return float(values[top] - max(values[left], values[right])), left, right


def _width(values: Array, top: int, level: float, left: int, right: int) -> float:
    """Full width at a level, pixels, between two valleys."""
    below = np.flatnonzero(values[left : top + 1] < level)
    above = np.flatnonzero(values[top : right + 1] < level)
    reach_left = top - (left + int(below[-1])) if below.size else top - left
    reach_right = int(above[0]) if above.size else right - top
    return float(reach_left + reach_right)


def _fitted(
    values: Array, top: int, width: float, rise: float, left: int, right: int
) -> tuple[float, float, float, float] | None:
    """Place, its error, height and width of a Gaussian on a straight line, fitted near a maximum."""
    reach = max(2, round(0.9 * width))
    first, last = max(top - reach, left, 0), min(top + reach, right, len(values) - 1)
    at = np.arange(first, last + 1, dtype=np.float64)
    if len(at) < 5:
        first, last = max(top - 2, 0), min(top + 2, len(values) - 1)
        at = np.arange(first, last + 1, dtype=np.float64)
    if len(at) < 5:
        return None
    counts = values[first : last + 1]
    place, deviation = float(top), width / 2.355
    for _ in range(ROUNDS):
        bell = np.exp(-0.5 * ((at - place) / deviation) ** 2)
        base = (
            np.stack([bell, np.ones_like(at), at - top])
            if len(at) > 6
            else np.stack([bell, np.ones_like(at)])
        )
        level, *_ = np.linalg.lstsq(base.T, counts, rcond=None)
        height = level[0]
        if not height > 0.2 * rise:
            return None
        slope = height * bell * (at - place) / deviation**2
        wider = slope * (at - place) / deviation
        design = np.concatenate([base, [slope, wider]]) if len(at) > 6 else np.concatenate([base, [slope]])
        step, *_ = np.linalg.lstsq(design.T, counts - level @ base, rcond=None)
        place += float(np.clip(step[len(base)], -0.5 * deviation, 0.5 * deviation))
        if len(at) > 6:
            deviation *= float(np.clip(1 + step[len(base) + 1] / deviation, 0.7, 1.4))
        if not first - 1 < place < last + 1 or not 0.3 < deviation < 2 * width + 1:
            return None
    left_over = counts - level @ base
    variance = float(left_over @ left_over) / max(len(at) - len(design), 1)
    inverse = np.linalg.pinv(design @ design.T)
    error = float(np.sqrt(max(variance * inverse[len(base), len(base)], 1e-12)))
    return place, error, float(height), 2.355 * deviation
