"""Spectra in text, as instruments and spreadsheets export them: read in one way, or refused with a reason.

A file has one delimiter and one decimal sign. Where tabs, semicolons or spaces delimit, a comma is the
decimal sign or an error. Nothing is guessed that would give other numbers: what may mean two things is
refused. The module `csv` splits quoted cells; its Sniffer is not used, since it takes a decimal comma for a
delimiter, and neither is pandas, which is large and takes whatever columns there are.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.columns import (
    FEWEST,
    FEWEST_OF_AXIS,
    Table,
    TableError,
    is_number,
    numbers_lines,
    sorted_out,
    turns,
)
from cars_rt.files.headings import COMMENTS, cells_of, in_first_row, is_first_row, named_rows, titles_of
from cars_rt.files.points import by_points
from cars_rt.files.units import NM
from cars_rt.physics.axis import end_apart

MARKS = {  # the longer ones first
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
    b"\xef\xbb\xbf": "utf-8-sig",
}
FILES = {  # what begins so is no text, and what to do then
    b"\x1f\x8b": "is compressed (gzip); unpack it",
    b"PK\x03\x04": "is an archive or a spreadsheet (zip); unpack it, or save the sheet as .csv",
    b"\x89HDF": "is an HDF5 file; let its name end in .h5",
    b"\x93NUMPY": "is an array of NumPy; let its name end in .npy",
}

_LIKE_NUMBERS = re.compile(r"(?=[^\d]*\d)(?:[\d.,;+\-eE\"'\s]|nan|inf)+", re.ASCII | re.IGNORECASE)
_WITH_COMMA = re.compile(r"[+-]?\d+(?:,\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_SEPARATED = re.compile(r"[+-]?\d[\d.,' ]*(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+", re.ASCII)
_MINUS = re.compile(r"[−‐‑‒–](?=[\d.,])")
_FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[+-]\d{1,3}\b)")  # 1.5D+03
_ODD_NUMBER = re.compile(r"\W?[+-]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][+-]?\d+)?\W?", re.ASCII)
_JCAMP = re.compile(r"\(X\+\+\(Y\.\.Y\)\)|\(XY\.\.XY\)", re.I)
_FACTOR = re.compile(r"\s*(?:[\d.]+[eE][+-]?\d+\s*\*\s*|##XFACTOR\s*=(?!\s*1(?:\.0*)?\s*$).*)", re.I)
_BROKEN = re.compile(  # a name on several lines
    r'(?m)(?:^|(?<=[,;\t]))"[^"\r\n]*(?:(?:\r\n|\n|\r)[^"\r\n]*){1,3}"(?=[,;\t\r\n])'
)
_LAST_OF_THOUSANDS = re.compile(r"\d{3}(?:[.,]\d+)?", re.ASCII)
MANY = 40  # different numbers of two digits: behind a comma some would begin with a zero
MISSING = (-999, -9999, -99999, -999999, -(2**15), -(2**31))  # what programs write where nothing was measured


@dataclass(frozen=True)
class _Row:
    number: int  # of the line, from 1
    cells: list[str]


def parse(content: bytes, needs_axis: bool = True) -> Table:
    """The table in a file's content. needs_axis: as of `sorted_out`. Raises TableError."""
    lines = re.split(r"\r\n|\n|\r", _BROKEN.sub(_on_one_line, plain(decoded(content))))
    bare = [_uncommented(line) for line in lines]
    delimiter = _delimiter(bare)
    split = [cells_of(line, delimiter) for line in bare]
    fewest = 2 if needs_axis or any(map(_is_row, split)) else 1
    first = next((at for at, cells in enumerate(split) if _is_row(cells, fewest)), None)
    if first is None:
        raise TableError(named_rows(bare) or _no_numbers(split))
    head = [line for line in lines[:first] if line.strip(" \t,;")]
    _refuse_head(head, split[first])
    rows = _rows(lines, split, first, fewest)
    if is_first_row([row.cells for row in rows]):
        raise TableError(in_first_row(rows[0].cells))
    if delimiter == " ":
        _no_separating_spaces(rows)
    numbers, places = _numbers(rows)
    _none_missing(numbers, rows, places)
    if _numbers_columns(numbers):
        raise TableError(
            f"numbers its columns in line {rows[0].number}, as spectra are not; leave that line out"
        )
    _no_row_above(lines, split, first, numbers[:, 0])
    width = max(len(row.cells) for row in rows)
    titles = titles_of(head, len(rows), width, delimiter)
    numbering = {
        place for at, place in enumerate(places) if titles and numbers_lines(titles[place], numbers[:, at])
    }
    titles = [titles[place] for place in places] if titles else []
    points = by_points(numbers, titles)
    if points is None and delimiter == ",":
        alone = not titles and not needs_axis and turns(numbers[:, 0])
        _no_decimal_commas(rows, head, bool(titles), numbering, alone)
    if points is None:
        table = sorted_out(numbers, places, titles, head, needs_axis)
        _no_row_apart(table, rows, bool(titles))
        return table
    *_, axis, counts = range(len(places))
    which = [axis, *[counts] * (points.numbers.shape[1] - 1)]
    table = sorted_out(points.numbers, [places[at] for at in which], [titles[at] for at in which], head)
    return replace(table, scan=points.scan)


def decoded(content: bytes) -> str:
    """Text in UTF-8, UTF-16 or UTF-32, with a mark or without, or else Latin-1. Raises TableError."""
    if refused := next((said for begins, said in FILES.items() if content.startswith(begins)), ""):
        raise TableError(refused)
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "")
    if not encoding:
        even, odd = content[0:1000:2].count(0), content[1:1000:2].count(0)
        encoding = "utf-16-le" if odd > 4 * even + 4 else "utf-16-be" if even > 4 * odd + 4 else "utf-8"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8":
            raise TableError(f"begins as text in {encoding.upper()} does, and is none") from None
        text = content.decode("latin-1")
    if "\0" in text:
        raise TableError("is no text, since it holds zero bytes; write the table anew as UTF-8")
    return text


# -- from lines to numbers ------------------------------------------------------------------------------


def plain(text: str) -> str:
    """The text with the signs of numbers as programs read them: spaces, a minus, an exponent's e."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("\ufeff", "").replace("’", "'")
        text = _MINUS.sub("-", text)
    return _FORTRAN.sub("e", text)


def _no_numbers(split: list[list[str]]) -> str:
    """Why no line is a row of a table, by one from the middle."""
    filled = [at for at, cells in enumerate(split) if cells]
    if not filled:
        return FEWEST
    at = filled[len(filled) // 2]
    odd = next((cell for cell in split[at] if not is_number(cell)), "")
    why = f"{odd[:40]!r} is no number" if odd else f"one number alone, {split[at][0]!r}"
    return f"{FEWEST} (line {at + 1}: {why})"


def _uncommented(line: str) -> str:
    """The line without a comment, which is all of it or follows a space."""
    return "" if line.lstrip().startswith(COMMENTS) else re.split(r"\s#", line)[0]


def _delimiter(lines: Sequence[str]) -> str:
    like = [line for line in lines if _LIKE_NUMBERS.fullmatch(line)]
    for delimiter in (";", "\t"):
        if 2 * sum(delimiter in line.strip() for line in like) > len(like):
            return delimiter
    with_comma = [line for line in like if "," in line]
    if 2 * len(with_comma) <= len(like):
        return " "
    words = [line.split() for line in with_comma]
    by_space = all(len(each) > 1 and all(_WITH_COMMA.fullmatch(word) for word in each) for each in words)
    return " " if by_space else ","


def _is_row(cells: list[str], fewest: int = 2) -> bool:
    """Whether a line holds numbers, so many or more, and nothing else."""
    filled = [cell for cell in cells if cell]
    return (
        len(filled) >= fewest
        and bool(cells[0])
        and all(is_number(cell) or _SEPARATED.fullmatch(cell) for cell in filled)
    )


def _rows(lines: list[str], split: list[list[str]], first: int, fewest: int) -> list[_Row]:
    """From the first line of numbers on. What stands above and below them begins with a word."""
    rows: list[_Row] = []
    width, ended = len(split[first]), False
    for at, cells in enumerate(split):
        if not cells:
            continue
        row = at >= first and _is_row(cells, fewest)
        if row and not ended:
            if len(cells) != width:
                raise TableError(
                    f"line {at + 1} has {len(cells)} columns, the first {width}; write a number into each "
                    "cell, or leave such lines or columns out"
                )
            rows.append(_Row(at + 1, cells))
        elif row or _like_row(cells, width, at > first):
            raise TableError(f"line {at + 1} does not hold numbers as the others do: {lines[at][:40]!r}")
        else:
            ended = at > first
    return rows


def _on_one_line(quoted: re.Match[str]) -> str:
    return re.sub(r"[\r\n]+", " ", quoted[0])


def _refuse_head(head: list[str], cells: list[str]) -> None:
    """Refuse numbers that are to be read otherwise than as columns, as a line above them says. cells: of the
    first line of numbers."""
    pairs = len(cells) > 2 or not all(map(is_number, cells))
    if (form := next((found[0] for line in head if (found := _JCAMP.search(line))), "")) and (
        "++" in form or pairs
    ):
        said = "counts behind each place of its axis" if "++" in form else "places of its axis on each line"
        raise TableError(f"has several {said} (JCAMP-DX); export it as two columns")
    if factor := next((line for line in head if _FACTOR.fullmatch(line)), ""):
        raise TableError(
            f"says that its numbers are to be multiplied ({factor.strip()!r}); write the products"
        )


def _no_separating_spaces(rows: list[_Row]) -> None:
    """Refuse what ends in three digits, of which the first may be 0, behind spaces: thousands."""
    for place in range(1, len(rows[0].cells)):
        column = [row.cells[place] for row in rows]
        if all(map(_LAST_OF_THOUSANDS.fullmatch, column)) and any(cell[0] == "0" for cell in column):
            cell = " ".join(rows[0].cells[place - 1 : place + 1])
            raise TableError(f"has numbers with thousands separators ({cell!r}); write them without spaces")


def _none_missing(numbers: NDArray[np.float64], rows: list[_Row], places: list[int]) -> None:
    """Refuse a number that stands for a missing one, and is far below all others of its column."""
    for at, column in enumerate(numbers.T):
        low = column.min()
        if low in MISSING and np.all(column[column != low] > low / 2):
            line = rows[int(column.argmin())].number
            raise TableError(
                f"has no number in column {places[at] + 1} of line {line}: {low:g} stands for a missing one; "
                "leave such lines or spectra out"
            )


def _numbers_columns(numbers: NDArray[np.float64]) -> bool:
    """Whether the first row of a table has the numbers of its columns where the others have counts."""
    counts = numbers[:2, 1:]
    if len(counts) < 2 or counts.shape[1] < 2:
        return False
    counts_up = (np.diff(counts) == 1).all(axis=1)
    return bool(counts[0, 0] in (0, 1) and counts_up[0] and not counts_up[1])


def _no_row_above(lines: list[str], split: list[list[str]], first: int, axis: NDArray[np.float64]) -> None:
    """Refuse a line above the numbers that begins as the next place of the axis would, and goes on with
    something else: such as OVER, or n/a."""
    cells = split[first - 1] if first else []
    if len(axis) < 3 or len(cells) != len(split[first]) or not is_number(cells[0]):
        return
    step, before = axis[1] - axis[0], float(cells[0].replace(",", ".")) - axis[0]
    if step and 0.5 < -before / step < 1.5:
        raise TableError(f"line {first} does not hold numbers as the others do: {lines[first - 1][:40]!r}")


def _no_row_apart(table: Table, rows: list[_Row], named: bool) -> None:
    """Refuse a row at an end of the axis that lies apart from those beside it: it is a setting, a sum, or
    names of columns that are numbers. Below names a point may lie apart."""
    axis = table.axis
    if (at := end_apart(axis, float(table.unit == NM), numbering=named)) is not None:
        end, beside = axis[[0, 1] if at == 0 else [-1, -2]]
        far = abs((end - beside) / np.median(np.diff(axis)))
        raise TableError(
            f"line {rows[at].number} is no pixel, since it lies {far:.0f} steps of the axis from the others "
            f"({end:g} beside {beside:g}); leave it out, or where its numbers name columns, write a letter "
            "before each"
        )


def _like_row(cells: list[str], width: int, below: bool) -> bool:
    """Whether a line looks like numbers that cannot be read, rather than like words about them."""
    if not (re.match(r"[+\-.\d]", cells[0]) or _ODD_NUMBER.fullmatch(cells[0])):
        return False
    whole = len(cells) == width and all(any(map(str.isdigit, cell)) for cell in cells if cell)
    return whole or (below and is_number(cells[0]))


def _numbers(rows: list[_Row]) -> tuple[NDArray[np.float64], list[int]]:
    """Numbers (p, columns), and the place of each column; empty columns are left out."""
    width = len(rows[0].cells)
    places = [place for place in range(width) if any(row.cells[place] for row in rows)]
    commas: list[str] = []
    points, separated = False, ""
    for row in rows:
        for place in places:
            cell = row.cells[place]
            if not cell:
                raise TableError(
                    f"line {row.number} has no number in column {place + 1}; write one, or leave such lines "
                    "or columns out"
                )
            if "," in cell:
                commas.append(cell)
            points = points or "." in cell
            separated = separated if is_number(cell) else separated or cell
    if separated or (commas and points):
        raise TableError(
            f"has numbers with thousands separators, or with commas and points ({separated or commas[0]!r}); "
            "write them with a point and nothing else"
        )
    if commas and all(map(_THOUSANDS.fullmatch, commas)):
        raise TableError(
            f"has numbers such as {commas[0]!r}, which may be {commas[0].replace(',', '')} or "
            f"{commas[0].replace(',', '.')}; write them with a point or with nothing"
        )
    for place in places:  # 985 and 1.785 in one column: rather thousands
        column = [row.cells[place] for row in rows]
        odd = [cell for cell in column if "." in cell]
        if 0 < len(odd) < len(column) and all(
            map(_THOUSANDS.fullmatch, (cell.replace(".", ",") for cell in odd))
        ):
            raise TableError(
                f"has whole numbers and {odd[0]!r} in column {place + 1}, whose point may separate "
                "thousands; write all with as many digits behind the point"
            )
    cells = ((row.cells[place] for place in places) for row in rows)
    return np.array([[float(cell.replace(",", ".")) for cell in row] for row in cells]), places


def _no_decimal_commas(
    rows: list[_Row], head: list[str], named: bool, numbering: set[int], alone: bool
) -> None:
    """Refuse whole numbers between commas, three or more on a line, of which some may be what stands behind a
    decimal comma: with a leading zero, such that the number before is more even with them, or with two digits
    at most on every line, if not each has a name of its own; if they are not named, also with as many digits
    each, or with too few names. numbering: places of columns that number lines. alone: there is no axis, and
    two on a line are refused, too."""
    cells = [row.cells for row in rows]
    width = len(cells[0])
    if width < 3 - alone or any(sign in cell for row in cells for cell in row for sign in ".,"):
        return
    columns = [[row[place] for row in cells] for place in range(width)]
    behind = [columns[place] for place in range(1, width) if place not in numbering]
    said = any(map(_more_even, columns, columns[1:]))
    zero = any(re.fullmatch(r"[+-]?0\d+", cell) for column in behind for cell in column)
    short = any(
        len(set(column)) < MANY and all(re.fullmatch(r"\d\d?", cell) for cell in column) for column in behind
    )
    short = short and not (named and _each_named(head[-1]))
    alike = not named and any(len(set(map(len, column))) == 1 for column in behind)
    names = len(cells_of(head[-1].lstrip("#%!/ "), ",")) if head and not named else 0
    if (alone and width == 2) or said or zero or short or alike or 1 < names < width:
        remedy = "" if said or zero or short else "name each column in the line above, "
        raise TableError(
            f"has {width} columns between commas, of which some may be the digits behind a decimal comma "
            f"(line {rows[0].number}); {remedy}write numbers with a point, or put semicolons "
            "between columns"
        )


def _each_named(line: str) -> bool:
    """Whether each name between commas is one of its own. One may be the rest of the name before, as in
    "Intensity, a.u.": then it has a blank before it, which not all have, or is a unit alone."""
    names = line.split(",")[1:]
    blank = [name != name.lstrip() for name in names]
    return (all(blank) or not any(blank)) and not any(
        re.fullmatch(r"a\.?u\.?|arb\.?|cps|nm|cm-?1|1/cm", name.strip(" ()[]\"'").lower()) for name in names
    )


def _more_even(whole: list[str], behind: list[str]) -> bool:
    """Whether the steps of whole numbers are more even with the others behind a comma, as an axis is."""
    if len(whole) < FEWEST_OF_AXIS or not all(map(str.isdecimal, behind)):
        return False
    before = np.array(whole, float)
    joined = before + np.copysign(np.array(behind, float), before) / 10.0 ** np.array([*map(len, behind)])
    bends, bends_of_whole = (np.abs(np.diff(each, 2)).mean() for each in (joined, before))
    return bool(bends < bends_of_whole / 2)
