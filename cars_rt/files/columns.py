"""What the columns of a table are, by their names and by what no axis and no spectrum can be."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cars_rt.errors import CarsRtError
from cars_rt.files.units import length_in, neither_in
from cars_rt.printable import printable

CM1, NM = "cm-1", "nm"

_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf)", re.ASCII | re.IGNORECASE)
_SHIFT = re.compile(
    r"shift|cm\s*\^?\(?\s*[-−⁻–]\s*[1¹]|1\s*/\s*cm|wave\s*number|wellenzahl|verschiebung", re.I
)
_WAVELENGTH = re.compile(
    r"wave\s*length|wellenl|longueur|longitud|lunghezza|onda|golfl|v.gl.ngd|lambda|λ|(?<![a-z])nm(?![a-z])",
    re.I,
)
_NUMBERING = re.compile(
    r"|unnamed.*|index|pixels?|px|points?|no\.?|nr\.?|#|row|frame|roi|strip|column|line", re.I
)
_DARK = re.compile(
    r"(?:dark|dunkel)[\s_-]?(?:counts?|spectrum|spektrum|signal|current|frame|noise)?\s*(?:[\[(].*)?", re.I
)
_MAYBE_DARK = re.compile(r"dark|dunkel", re.I)
_CORRECTED = re.compile(r"corr|korr|subtr|minus|without|removed|-", re.I)
_REFERENCE = re.compile(
    r"(?<![a-z])(?:ref|references?|referenz|background|untergrund|white|nrb)(?![a-z])", re.I
)
_NO_COUNTS = re.compile(
    r"(?<![a-z])(?:baseline|fit|fitted|residuals?|err|errors?|uncertaint\w*|std|sigma|variance|deviation|"
    r"flags?|snr|chi\d?|transmi\w*|absor\w*|reflect\w*)(?![a-z])|[±χ]|log(?:10)?\s*[\[(]|[\[(]\s*db\s*[\])]|^\s*%\s*t\s*$|^raman(?:_\d+)?$|"
    r"^(?:exposure|integration|time|temperature|power|gain)(?:[ _]?time)?\s*(?:[\[(].*)?$", re.I
)  # fmt: skip


def refuse_no_counts(name: str) -> None:
    """Raises TableError if what is called so was computed from counts, or is none for another reason."""
    if _NO_COUNTS.search(name):
        raise TableError(
            f"holds {printable(name, 200)!r}, which is no counts, by its name; the counts are needed"
        )


_OF_OTHERS = re.compile(
    r"(?:mean|average|avg|median|sum|total|mittelwert|summe)\.?(?:[\s_]*(?:of|spectrum|[\[(]).*)?", re.I
)
_OCEAN = re.compile(r">{3,}\s*begin .*spectral data", re.I)
FEWEST_OF_AXIS = 8  # numbers that are judged by their steps
LEAST_FULL_SCALE = 255  # of a camera
MOST_STEPS = 4.0  # the largest step of an axis over its smallest; those of gratings differ by less than two
_X_AXIS = re.compile(r"(?:x[\s_-]*(?:axis|units?)\b|axisunit\[1\]).*", re.I)


class TableError(CarsRtError, ValueError):
    """Text that is no table of spectra, or may mean two things, in one sentence."""


@dataclass(frozen=True, eq=False)
class Table:
    """What a text says. axis: (p,) float64 in `unit`, which is empty if not stated. counts: (n, p) float64.
    dark: (p,), if a column is called so. about: what was taken for what, for people."""

    axis: NDArray[np.float64]
    counts: NDArray[np.float64]
    unit: str
    dark: NDArray[np.float64] | None
    about: str


def is_number(cell: str) -> bool:
    """Whether a cell is one number, with a point or a comma as its decimal sign."""
    return _NUMBER.fullmatch(cell.replace(",", ".", 1)) is not None


def sorted_out(
    numbers: NDArray[np.float64], places: list[int], names: list[str], named: bool, head: list[str]
) -> Table:
    columns = numbers.T
    if len(columns) < 2:
        raise TableError("needs two columns of numbers or more: raman shift, counts")
    shifts = [at for at, name in enumerate(names) if _SHIFT.search(name)]
    lengths = [at for at, name in enumerate(names) if at not in shifts and _WAVELENGTH.search(name)]
    numbering = [at for at, name in enumerate(names) if named and _NUMBERING.fullmatch(name.strip())]
    unnumbered = [at for at in range(len(columns)) if not (at in numbering and _counts_up(columns[at]))]
    axis = next(iter([*shifts, *lengths]), unnumbered[0] if len(columns) > 2 and unnumbered else 0)
    unit = (
        CM1 if axis in shifts else NM if axis in lengths else "" if named and any(names) else _unit_said(head)
    )
    nm = length_in(names[axis]) if unit == NM else 1.0
    if other := neither_in(names[axis]):
        raise TableError(
            f"has its axis in {other!r} (column {places[axis] + 1}, {names[axis]}), which is neither cm-1 "
            "nor a wavelength; write raman shifts in cm-1, or wavelengths in nm"
        )
    dark: list[int] = []
    spectra: list[int] = []
    left: list[int] = []
    references: list[int] = []
    for at in range(len(columns)):
        title = f"column {places[at] + 1}" + (f" ({names[at]})" if names[at] else "")
        if at == axis:
            continue
        if (at in lengths and axis in shifts) or (
            at in numbering
            and (_counts_up(columns[at]) or np.ptp(columns[at]) == 0 or (at < axis and not names[at]))
        ):
            left.append(at)
        elif at in numbering and (shifts or lengths):
            raise TableError(f"{title} is no spectrum; export each spectrum as a column beside the axis")
        elif at in shifts or at in lengths or np.array_equal(columns[at], columns[axis]):
            raise TableError(f"{title} is a second axis; leave one axis and the spectra that belong to it")
        elif _counts_up(columns[at]) and len(columns[at]) > 2:
            raise TableError(
                f"{title} is no spectrum, it counts {columns[at][0]:g}, {columns[at][1]:g}, ...; remove it"
            )
        elif len(columns) > 2 and looks_like_axis(columns[at]) and looks_like_axis(columns[axis]):
            raise TableError(
                f"{title} goes from {columns[at][0]:g} to {columns[at][-1]:g} in steps as even as an axis, "
                f"and so does column {places[axis] + 1}; leave one axis and the spectra that belong to it"
            )
        elif _DARK.fullmatch(names[at].strip()):
            dark.append(at)
        elif _MAYBE_DARK.search(names[at]) and not _CORRECTED.search(names[at]):
            raise TableError(f"{title} may be a dark or not; call it dark if it is")
        elif _NO_COUNTS.search(names[at]):
            raise TableError(f"{title} does not hold counts, by its name; leave the axis and the spectra")
        elif _REFERENCE.search(names[at]):
            references.append(at)
        elif len(columns) > 2 and _is_setting(columns[at]):
            raise TableError(f"{title} is {columns[at][0]:g} on every line, and no spectrum; leave it out")
        else:
            spectra.append(at)
    if references and (spectra or len(references) > 1):
        raise TableError(
            f"has a column called {names[references[0]]!r} beside the spectra; write it into a file of its "
            "own, for --reference, or leave it out"
        )
    spectra = spectra or references
    made = [names[at] for at in spectra if _OF_OTHERS.fullmatch(names[at].strip())]
    if 0 < len(made) < len(spectra):
        raise TableError(
            f"has a column called {made[0]!r} beside the spectra, made of them by its name; leave it out"
        )
    if not spectra or len(dark) > 1:
        raise TableError(
            f"has {len(spectra)} columns of counts and {len(dark)} called dark; one or more are needed, and "
            "one at most"
        )

    def said(which: list[int]) -> str:
        return ", ".join(f"{places[at] + 1}" + (f" ({names[at]})" if names[at] else "") for at in which)

    about = f"column {said([axis])}" + (f", dark: column {said(dark)}" if dark else "")
    about += f", not used: column {said(left)}" if left else ""
    return Table(
        columns[axis] * nm, columns[spectra].copy(), unit, columns[dark[0]].copy() if dark else None, about
    )


def looks_like_axis(values: NDArray[np.float64]) -> bool:
    """Whether numbers (p,) rise or fall without exception, in even steps, as no spectrum does."""
    steps = np.diff(values)
    if len(values) < FEWEST_OF_AXIS or not ((steps > 0).all() or (steps < 0).all()):
        return False
    return bool(np.abs(steps).max() < MOST_STEPS * np.abs(steps).min())


def _is_setting(column: NDArray[np.float64]) -> bool:
    """Whether it says the same on each of many lines, and neither darkness nor what a camera has at its full
    scale, which is a power of 2 less 1."""
    value = column[0]
    full = value >= LEAST_FULL_SCALE and np.log2(value + 1).is_integer()
    return len(column) >= FEWEST_OF_AXIS and value != 0 and not full and bool((column == value).all())


def _counts_up(column: NDArray[np.float64]) -> bool:
    return bool(column[0] in (0, 1) and (np.diff(column) == 1).all())


def _unit_said(head: list[str]) -> str:
    """The unit of the axis, from what stands above numbers whose columns have no names."""
    if stated := next((found[0] for line in head if (found := _X_AXIS.search(line))), ""):
        if other := neither_in(stated):
            raise TableError(
                f"says {stated.strip()!r}, and {other!r} is neither cm-1 nor a wavelength; write raman "
                "shifts in cm-1, or wavelengths in nm"
            )
        return CM1 if _SHIFT.search(stated) else NM if _WAVELENGTH.search(stated) else ""
    near = head[-1] if head else ""
    if re.search(r"\d", _SHIFT.sub("", near)):
        return ""  # it is a setting and its value
    if _OCEAN.search(near):
        return NM  # the programs that write this line write wavelengths unless they say so
    shift, length = _SHIFT.search(near), _WAVELENGTH.search(near)
    if shift and (not length or shift.start() < length.start()):
        return CM1
    return NM if length else ""
