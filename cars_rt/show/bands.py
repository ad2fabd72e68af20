"""Bands of raman shift whose mean makes a map. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.physics.band import ends
from cars_rt.printable import between
from cars_rt.show.errors import ShowError

Floats = NDArray[np.floating[Any]]
WIDTH_CM1 = 20.0  # of a band that is given by its centre
MOST = 9  # maps in one picture


@dataclass(frozen=True, slots=True)
class Band:
    """From low to high, cm-1."""

    low: float
    high: float
    name: str = ""

    @property
    def label(self) -> str:
        """For people."""
        said = f"{between(self.low, self.high)} cm⁻¹"
        return f"{self.name}, {said}" if self.name else said

    def pixels(self, raman_shift: Floats) -> slice:
        """Which points of the axis (p,) are in it. Raises ShowError if none is."""
        inside = np.flatnonzero((raman_shift >= self.low) & (raman_shift <= self.high))
        if not len(inside):
            raise ShowError(
                f"no point of the axis, {raman_shift.min():.0f} to {raman_shift.max():.0f} cm-1, is in the "
                f"band {self.low:g} to {self.high:g} cm-1"
            )
        return slice(int(inside[0]), int(inside[-1]) + 1)  # the axis is monotonic


def parse_bands(given: Sequence[str], width: float = WIDTH_CM1) -> list[Band]:
    """CENTRE, LOW:HIGH or LOW-HIGH, NAME= before it or not, several with commas. Raises ShowError."""
    if not (math.isfinite(width) and width > 0):
        raise ShowError(f"a band cannot be {width:g} cm-1 wide")
    bands = [_parse(each.strip(), width) for text in given for each in text.split(",") if each.strip()]
    if len(bands) > MOST:
        raise ShowError(f"{len(bands)} bands are too many for one picture: give at most {MOST}")
    return bands


def _parse(text: str, width: float) -> Band:
    name, _, numbers = text.rpartition("=")
    try:
        low, high = _around(numbers, width) or ends(numbers)
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ShowError(
            f"{text!r} is no band: give it as CENTRE or LOW:HIGH in cm-1, such as 2850 or 2840:2860"
        )
    return Band(low, high, name.strip())


def _around(text: str, width: float) -> tuple[float, float] | None:
    """The band around a centre; None where the text is no number."""
    try:
        return float(text) - width / 2, float(text) + width / 2
    except ValueError:
        return None


def strongest(raman_shift: Floats, mean: Floats, width: float = WIDTH_CM1) -> Band:
    """The band around the largest value of a spectrum (p,)."""
    there = np.isfinite(mean)
    at = float(raman_shift[there][np.argmax(mean[there])]) if there.any() else float(raman_shift.mean())
    centre = round(at)
    return Band(centre - width / 2, centre + width / 2, "strongest")
