"""A table with a line for each pixel of each point, as WiRE writes maps, made one of a column for each.

Renishaw's names of its columns are #X, #Y, #Wave and #Intensity.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.columns import TableError
from cars_rt.printable import printable

AXIS = re.compile(r"#\s*wave", re.I)
COUNTS = re.compile(r"#\s*intensity", re.I)
PLACES = re.compile(r"#?\s*([xy])", re.I)
TEXTS = 80  # characters of names
REMEDY = "export each spectrum as a column beside the axis, or the map as .wdf"


@dataclass(frozen=True, eq=False)
class Points:
    """numbers: (p, 1 + n), the axis and a column for each point. scan: rows and columns, if the points fill
    them; then they are in that order, as their rows and columns came first in the file."""

    numbers: NDArray[np.float64]
    scan: tuple[int, int] | None


def by_points(numbers: NDArray[np.float64], titles: list[list[str]]) -> Points | None:
    """The points of numbers (lines, columns) with these titles; None if they are another table. Raises
    TableError if they cannot be told apart."""
    *others, axis, counts = [" ".join(title) for title in titles] if len(titles) > 2 else ["", "", ""]
    if not (AXIS.fullmatch(axis) and COUNTS.fullmatch(counts)):
        return None
    named = [PLACES.fullmatch(name) for name in others]
    if [each and each[1].lower() for each in named] != ["x", "y"]:
        said = printable(", ".join(others), TEXTS)
        raise TableError(
            f"has a line for each pixel of each spectrum, which are told apart by {said}; {REMEDY}"
        )
    begins = np.flatnonzero(np.append(True, (np.diff(numbers[:, :2], axis=0) != 0).any(axis=1)))
    pixels, rest = divmod(len(numbers), len(begins))
    if rest or (begins != pixels * np.arange(len(begins))).any():
        raise TableError(f"has a line for each pixel of each point, and not as many of each point; {REMEDY}")
    axes, spectra = (numbers[:, at].reshape(-1, pixels) for at in (2, 3))
    if (axes != axes[0]).any():
        raise TableError(f"has another axis (#Wave) for each point; {REMEDY}")
    (columns, column), (rows, row) = (_ranked(numbers[begins, at]) for at in (0, 1))
    places, scan = row * columns + column, None
    if rows > 1 and columns > 1 and np.array_equal(np.sort(places), np.arange(rows * columns)):
        spectra, scan = spectra[np.argsort(places)], (rows, columns)
    return Points(np.column_stack([axes[0], spectra.T]), scan)


def _ranked(values: NDArray[np.float64]) -> tuple[int, NDArray[np.int64]]:
    """How many different values there are, and which one each is, in the order in which they came first."""
    found, first, which = np.unique(values, return_index=True, return_inverse=True)
    return len(found), np.argsort(np.argsort(first))[which]
