"""What a map shows: a number of each spectrum, made of one band of raman shift or two."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cars_rt.errors import CarsRtError
from cars_rt.printable import between
from cars_rt.protocol import Band
from cars_rt.protocol.limits import MAX_RAMAN_SHIFT
from cars_rt.view.grid import Floats


class QuantityError(CarsRtError, ValueError):
    """A band or a quantity that cannot be, in one sentence."""


class Kind(StrEnum):
    """How a band becomes a number."""

    MEAN = "mean"  # of raman over the band; what the daemon computes, too
    SUM = "sum"  # its area, cm-1 times raman
    PEAK = "peak"  # height of the highest point above the line between the band's ends
    RATIO = "ratio"  # the mean over the band by the mean over a second one


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number for each spectrum. Raises QuantityError for a band that is none."""

    band: Band
    kind: Kind = Kind.MEAN
    other: Band | None = None  # of a ratio

    def __post_init__(self) -> None:
        if (self.kind is Kind.RATIO) != (self.other is not None):
            raise QuantityError("a ratio has two bands, everything else one")
        for band in (self.band, self.other):
            if band is not None:
                check(band.low, band.high)

    @property
    def title(self) -> str:
        """For people."""
        if self.other is not None:
            return f"{name(self.band)} / {name(self.other)}"
        return name(self.band) if self.kind is Kind.MEAN else f"{self.kind} of {name(self.band)}"

    def pixels(self, raman_shift: NDArray[np.float64]) -> tuple[slice, slice | None]:
        """The pixels of its bands. Raises QuantityError for a band outside the axis."""
        return span(raman_shift, self.band), None if self.other is None else span(raman_shift, self.other)

    def of(self, spectra: Floats, raman_shift: NDArray[np.float64]) -> Floats:
        """The numbers (...) of a band's part (..., n) of spectra and (n,) of the axis; not a ratio."""
        match self.kind:
            case Kind.SUM:
                width = np.abs(np.gradient(raman_shift)) if len(raman_shift) > 1 else np.ones(1)
                return np.asarray(spectra @ width.astype(np.float32), np.float32)
            case Kind.PEAK:
                along = raman_shift - raman_shift[0]
                line = (along / (along[-1] or 1.0)).astype(np.float32)
                base = spectra[..., :1] + (spectra[..., -1:] - spectra[..., :1]) * line
                return np.asarray((spectra - base).max(axis=-1), np.float32)
            case _:
                return np.asarray(spectra.mean(axis=-1), np.float32)


def check(low: object, high: object) -> tuple[float, float]:
    """Two ends of a band, cm-1, in order. Raises QuantityError."""
    numbers = [
        float(each) for each in (low, high) if isinstance(each, int | float) and not isinstance(each, bool)
    ]
    if len(numbers) != 2 or not all(math.isfinite(each) and abs(each) <= MAX_RAMAN_SHIFT for each in numbers):
        raise QuantityError("a band is two numbers in cm⁻¹, such as 2800 and 3050")
    if numbers[0] == numbers[1]:
        raise QuantityError("a band must be wider than nothing: give two different numbers in cm⁻¹")
    return min(numbers), max(numbers)


def a_band(low: object, high: object, called: str = "") -> Band:
    """A band from its ends in any order. Raises QuantityError."""
    return Band(called, *check(low, high))


def name(band: Band) -> str:
    """Its name, if it has one, and where it is."""
    where = f"{between(band.low, band.high)} cm⁻¹"
    return f"{band.name} ({where})" if band.name else where


def span(raman_shift: NDArray[np.float64], band: Band) -> slice:
    """The pixels of a band, one at least. Raises QuantityError if it lies outside the axis."""
    low, high = float(raman_shift.min()), float(raman_shift.max())
    if band.high < low or band.low > high:
        raise QuantityError(f"the band {name(band)} lies outside this axis, {low:.0f} to {high:.0f} cm⁻¹")
    inside = np.flatnonzero((raman_shift >= band.low) & (raman_shift <= band.high))
    if not len(inside):
        nearest = int(np.abs(raman_shift - (band.low + band.high) / 2).argmin())
        return slice(nearest, nearest + 1)
    return slice(int(inside[0]), int(inside[-1]) + 1)


@dataclass(frozen=True, slots=True)
class Composite:
    """Three quantities as red, green and blue."""

    red: Quantity
    green: Quantity
    blue: Quantity

    @property
    def channels(self) -> tuple[Quantity, Quantity, Quantity]:
        """In order."""
        return self.red, self.green, self.blue

    @classmethod
    def of(cls, quantities: list[Quantity]) -> Self:
        """Of three. Raises QuantityError."""
        if len(quantities) != 3:
            raise QuantityError("a composite has three bands: red, green and blue")
        return cls(*quantities)

    @property
    def title(self) -> str:
        """For people."""
        names = (each.band.name or each.title for each in self.channels)
        return ", ".join(
            f"{colour} {each}" for colour, each in zip(("red", "green", "blue"), names, strict=True)
        )
