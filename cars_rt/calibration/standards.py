"""Substances by which raman shifts are calibrated, and the lines that are standards."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.errors import CalibrationError
from cars_rt.physics.substances import (
    ACETAMINOPHEN,
    BENZONITRILE,
    CYCLOHEXANE,
    POLYSTYRENE,
    TOLUENE,
    Substance,
)

#: Of toluene ASTM E1840 has these, in its mixture with acetonitrile; of the others all that are listed.
TOLUENE_LINES = (521.7, 786.5, 1003.6, 1030.6, 1211.4, 1605.1, 3057.1)
MERGED = 1.1  # of the resolution: two lines that are closer are seen as one
SHOULDER = 2.5  # a line so many times as large as its neighbour stays where it is when they merge


@dataclass(frozen=True, eq=False)
class Lines:
    """n raman lines in ascending order. position: cm-1. area: height times width, which is what is left of
    the height at low resolution. certain: whether it is a standard's. All (n,)."""

    position: NDArray[np.float64]
    area: NDArray[np.float64]
    certain: NDArray[np.bool_]


@dataclass(frozen=True)
class Standard:
    """A substance, and the lines of it that ASTM E1840 gives, cm-1."""

    substance: Substance
    certain: Sequence[float]

    @property
    def name(self) -> str:
        return self.substance.name

    @cached_property
    def lines(self) -> Lines:
        position = np.array(self.substance.position, np.float64)
        area = np.array(self.substance.width) * np.array(self.substance.strength)
        return Lines(position, area, np.isin(position, self.certain))

    def seen_at(self, resolution: float) -> Lines:
        """The lines as they appear at a resolution (full width at half maximum, cm-1): of two that merge, the
        larger one, or, where they are about alike, one between them, which is no standard."""
        rows: list[tuple[float, float, bool]] = []
        lines = self.lines
        for position, area, certain in zip(lines.position, lines.area, lines.certain, strict=True):
            if rows and position - rows[-1][0] < MERGED * resolution:
                before, other, sure = rows[-1]
                if area > SHOULDER * other:
                    rows[-1] = (position, area + other, bool(certain))
                elif other > SHOULDER * area:
                    rows[-1] = (before, area + other, sure)
                else:
                    middle = (before * other + position * area) / (area + other)
                    rows[-1] = (middle, area + other, False)
            else:
                rows.append((float(position), float(area), bool(certain)))
        columns = list(zip(*rows, strict=True))
        return Lines(np.array(columns[0]), np.array(columns[1]), np.array(columns[2], np.bool_))


STANDARDS: Mapping[str, Standard] = {
    "toluene": Standard(TOLUENE, TOLUENE_LINES),
    **{
        each.name: Standard(each, each.position)
        for each in (CYCLOHEXANE, POLYSTYRENE, BENZONITRILE, ACETAMINOPHEN)
    },
}


def standards(name: str | None = None) -> list[Standard]:
    """The standard of this name, or all. Raises CalibrationError if there is none of this name."""
    if name is None:
        return list(STANDARDS.values())
    if name.lower() not in STANDARDS:
        raise CalibrationError(f"no standard is called {name!r}; there are {', '.join(STANDARDS)}")
    return [STANDARDS[name.lower()]]
