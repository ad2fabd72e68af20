"""Counts of a lamp that ran over the end of the camera's counter and began again at 0; pure."""

import numpy as np
from numpy.typing import NDArray

STEEPEST = 0.6  # of the full scale, from pixel to pixel: lines that fit below it have half of it
LOW = 0.25  # of it, which what lies beside a line is not above
SHARP = 3  # pixels of a line that is steeper by itself


def wrapped_at(counts: NDArray[np.float64], full_scale: float) -> int | None:
    """The pixel before the highest jump that only counts beyond the full scale make; None if there is none.

    A line of up to three pixels above what is low, with one top, is as steep by itself. Lines that ran over
    may look so, too, and then an axis that fits them is off by a pixel at most."""
    jumps = np.abs(np.diff(counts))
    steep = np.flatnonzero(jumps > STEEPEST * full_scale)
    wrapped = [int(at) for at in steep if not _of_line(counts, int(at), LOW * full_scale)]
    return max(wrapped, key=lambda at: float(jumps[at]), default=None)


def _of_line(counts: NDArray[np.float64], at: int, low: float) -> bool:
    """Whether the pixels `at` and `at` + 1 are the flank of a sharp line."""
    first = last = at + int(counts[at + 1] > counts[at])
    while first > 0 and counts[first - 1] > low:
        first -= 1
    while last + 1 < len(counts) and counts[last + 1] > low:
        last += 1
    line = counts[first : last + 1]
    top = int(line.argmax())
    one_top = (np.diff(line[: top + 1]) >= 0).all() and (np.diff(line[top:]) <= 0).all()
    return bool(len(line) <= SHARP and one_top)
