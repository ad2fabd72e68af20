"""What stands above the columns of a table: their names, and the unit of the axis."""

import csv
import re

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.columns import TableError, is_number, looks_like_axis
from cars_rt.files.units import CM1, is_unit, unit_in
from cars_rt.printable import printable

COMMENTS = ("#", "%", "!", "//")
FEWEST_PIXELS = 32  # of a camera; fewer numbers in a row name spectra, if as many lines or more follow
FARTHEST, MOST_NAMES = 100, 3  # lines above the numbers that are looked at, and that name columns

_ABBREVIATED = re.compile(
    r"[\[(]?\s*(?:|nm|cm.*|1/cm|.*counts?.*|a\.? ?u\.?|arb.*|px|\w{1,3})\s*[\])]?", re.I
)
_DIVIDER = re.compile(r"[\s\-=_+|.:;,#%!/*]*")  # a line under names


def cells_of(line: str, delimiter: str) -> list[str]:
    """The cells, stripped, without empty ones at the end."""
    if delimiter == " ":
        cells = [word.strip('"') for word in line.split()]
    else:
        try:
            cells = [
                cell.strip()
                for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
            ]
        except csv.Error:
            cells = [line]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def titles_of(head: list[str], rows: int, width: int, delimiter: str) -> list[list[str]]:
    """What stands above each of `width` columns of `rows` numbers: names, from above, and a unit in brackets;
    nothing if no line names them. Raises TableError where they are named by an axis.

    Names may stand above units, and both above comments on a column, or on the whole file.
    """
    names: list[list[str]] = []
    units: list[str] = []
    goes_on = False  # names may stand above what was found
    above = [line for line in reversed(head[-FARTHEST:]) if not _DIVIDER.fullmatch(line)]
    for at, line in enumerate(above):
        cells = _split_to(line, width, delimiter)
        if _is_axis(_values(cells), rows):
            raise TableError(in_first_row(cells))
        fit, begun = _may_be_names(cells), bool(names or units)
        if begun and (not fit or len(names) == MOST_NAMES or not (goes_on or is_unit(cells[0]))):
            break
        far = at > 0 and not begun  # what is not next to numbers may be about anything
        if not fit or (far and not _names_axis(cells) and (width == 2 or delimiter == " ")):
            continue
        if is_unit(cells[0]) and not units:
            units, goes_on = cells, True
        else:
            names.insert(0, cells)
            goes_on = not cells[0] or all(map(_ABBREVIATED.fullmatch, cells))
    if units and not names:
        return [[cell] for cell in units]
    titles = [[row[place] for row in names if row[place]] for place in range(width)] if names else []
    for title, unit in zip(titles, units, strict=False):
        title += [f"({unit.strip(' []()')})"] if unit else []
    return titles


def in_first_row(cells: list[str]) -> str:
    """That an axis stands in these cells, which are the first row."""
    values = _values(cells)
    return (
        f"has its axis in the first row (..., {values[-2]:g}, {values[-1]:g}); turn it round, so that the "
        "axis is the first column, or if these numbers name spectra, write a letter before each"
    )


def named_rows(lines: list[str]) -> str:
    """That the lines are spectra, each behind its name, where no line is numbers alone; nothing if not."""
    for delimiter in (",", ";", "\t"):
        rows = [cells for line in lines if (cells := cells_of(line, delimiter))]
        named = [cells for cells in rows if not is_number(cells[0]) and all(map(is_number, cells[1:]))]
        if named and 2 * sum(len(cells) > 2 for cells in named) > len(rows):
            name = printable(named[-1][0], 40)
            return (
                f"has its spectra in rows, each behind a name ({name}); turn it round, so that the axis is "
                "the first column"
            )
    return ""


def _may_be_names(cells: list[str]) -> bool:
    """Whether cells may name columns, rather than a setting and its value. Numbers name spectra, no column
    beside others."""
    numbered = [is_number(cell) for cell in cells[1:]]
    return (
        bool(cells)
        and not cells[0].endswith(("=", ":"))
        and not (any(numbered) and (len(cells) == 2 or not all(numbered)))
    )


def _names_axis(cells: list[str]) -> bool:
    """Whether two cells far above the numbers name an axis and counts, and are no setting and its value, such
    as a range of wavelengths."""
    stated, unit = unit_in(cells[0])
    plain = stated == CM1 or bool(unit) or " " not in cells[0]
    return bool(stated) and plain and not re.match(r"\W*\d", cells[1])


def is_first_row(rows: list[list[str]]) -> bool:
    """Whether the first of these rows of numbers is an axis, behind another number in the corner or not;
    where the second one rises as evenly, they are counts."""
    values = _values(rows[0])
    inner = values[1:]
    if looks_like_axis(values) or len(rows) == 1:
        return looks_like_axis(values)
    counts = looks_like_axis(_values(rows[1])[1:])
    return looks_like_axis(inner) and _is_axis(inner, len(rows) - 1) and not counts


def _is_axis(values: NDArray[np.float64], rows: int) -> bool:
    """Whether numbers above so many rows are those of pixels, and not those of spectra: 0, 1, 2, ... or 1, 2,
    3, ..., or as few as spectra are beside the pixels."""
    steps = np.diff(values)
    if len(values) < max(3, min(FEWEST_PIXELS, rows + 1)) or (values[0] in (0, 1) and (steps == 1).all()):
        return False
    return bool((steps > 0).all() or (steps < 0).all())


def _values(cells: list[str]) -> NDArray[np.float64]:
    """The numbers in cells, those at the end where words come first; none if words come later."""
    words = next((at for at, cell in enumerate(cells) if is_number(cell)), len(cells))
    numbers = cells[words:] if all(map(is_number, cells[words:])) else []
    return np.array([float(cell.replace(",", ".")) for cell in numbers])


def _split_to(line: str, width: int, delimiter: str) -> list[str]:
    """A line split so that it has as many cells as the numbers have columns, or nothing."""
    text = line.strip("\r\n").lstrip(" ")
    for mark in COMMENTS:
        text = text.removeprefix(mark)
    for pattern in (delimiter, "\t", ";", ","):
        cells = cells_of(text, pattern) if pattern != " " else []
        if not text.strip():
            return []
        if len(cells) < width and len(cells) >= width - 1 and text.rstrip(" ").endswith(pattern):
            cells.append("")
        if len(cells) == width:
            return cells
    for pattern in (r"\s{2,}|\t", *([r"\s+"] if delimiter == " " else [])):
        cells = re.split(pattern, text.strip())
        if len(cells) == width:
            return cells
    return []
