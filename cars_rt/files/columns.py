"""What the columns of a table are, by their names and by what no axis and no spectrum can be."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cars_rt.errors import CarsRtError
from cars_rt.files.units import CM1, NM, OTHER, SHIFT, WAVELENGTH, is_other, nm_per, unit_in
from cars_rt.printable import printable

PIXELS = "pixels"  # an axis of numbers of pixels, by its name

_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|nan|inf)", re.ASCII | re.IGNORECASE)
_NUMBERING = re.compile(
    r"|unnamed.*|index|pixels?|px|points?|no\.?|nr\.?|#|row|frame|roi|strip|column|line", re.I
)
_PIXELS = re.compile(
    r"(?:(?:ccd|detector|camera|x)?[\s_-]*[\[(]?(?:pixels?|px)|points?|no\.?|nr\.?|#|row|frame|roi|strip|column|"
    r"channel|line)(?:[\s_-]*(?:no\.?|nr\.?|numbers?|index|#))?\s*(?:[\[(].*|[\])])?", re.I
)  # fmt: skip
_DARK = re.compile(
    r"(?:dark|dunkel)[\s_-]?(?:counts?|spectrum|spektrum|signal|current|frame|noise)?\s*(?:[\[(].*)?", re.I
)
_MAYBE_DARK = re.compile(r"dark|dunkel|^\s*(?:bias|offset)(?![a-z])", re.I)
_CORRECTED = re.compile(r"corr|korr|subtr|minus|without|removed|-", re.I)
_PLAIN = r"[\s_#-]*(?:data|counts?|spectrum|signal|intensity)?[\s_#]*\d*\s*(?:[\[(].*|[\])])?"
_RAW = re.compile(rf"(?:.*[\s_(\[-])?(?:raw|roh|original|uncorrected|unprocessed){_PLAIN}", re.I)
_PROCESSED = re.compile(
    rf"(?:.*[\s_(\[-])?processed{_PLAIN}|(?!.*cosmic).*(?<!un)(?:corrected|subtracted|korrigiert).*", re.I
)
_REFERENCE = re.compile(
    r"(?<![a-z])(?:ref|references?|referenz|background|untergrund|hintergrund|bkgd?|bgd?|blank|white|nrb|"
    r"non[\s_-]*res(?:onant|onance)?)(?![a-z])",
    re.I,
)
#: Of a logarithm or a root. A log may be a file, too, and ln a line.
_SCALED = (
    r"(?<![a-z])(?:log(?:2|10|e)?(?![a-z0-9])(?![\s_-]*(?:files?|books?|no|nr|numbers?|entr(?:y|ies)|names?)(?![a-z]))|"
    r"(?:ln|lg)[\s_]*(?:[\[(]|(?:of[\s_]+)?(?:i|int\w*|counts?|cts|signal)(?![a-z]))|logarithm\w*|"
    r"(?:sqrt|a(?:rc?)?sinh)(?![a-z])|square[\s_-]*root|db(?:m|[uµμ]?v|fs|c)(?![a-z]))|√|(?:\^|\*\*)\s*\(?(?:0?[.,]5|1/\d)|"
    r"[\[(/,]\s*db\s*(?:[\])]|$)"
)
_NO_COUNTS = re.compile(
    r"(?<![a-z])(?:baseline|fit|fitted|residuals?|err|errors?|uncertaint\w*|std|sigma|variance|deviation|"
    r"flags?|snr|chi\d?|transmi\w*|absor\w*|reflect\w*)(?![a-z])|[±χ]|"
    rf"{_SCALED}|^\s*%\s*t\s*$|^raman(?:_\d+)?(?:\s*[\[(]\s*a.*)?$|"
    r"^(?:exposure|integration|time|temperature|power|gain)(?:[ _]?time)?\s*(?:[\[(].*)?$", re.I
)  # fmt: skip
_NO_SPECTRUM = re.compile(
    r"(?:(?:%\s*)?r?sd[\s_#]*\d*|(?:std?|standard)[\s._-]*dev\w*\.?|s\.?e\.?m|cv|noise|derivative|phase|ratio|quotient|"
    r"weights?|mask|valid|saturated|quality)\s*(?:[\[(].*)?", re.I
)  # fmt: skip
_OF_OTHERS = re.compile(
    r"(?:mean|average|avg|median|sum|total|min(?:imum)?|max(?:imum)?|mittelwert|summe)\.?"
    r"(?:[\s_]*(?:of|spectrum|[\[(]).*)?|.*(?:smoothed|normali[sz]ed|gegl.ttet|normiert).*", re.I
)  # fmt: skip
_OCEAN = re.compile(r">{3,}\s*begin .*spectral data", re.I)
FEWEST = "needs two columns of numbers or more: raman shift, counts; for counts alone give --axis FILE"
FEWEST_OF_AXIS = 8  # numbers that are judged by their steps
LEAST_FULL_SCALE = 255  # of a camera
MOSTLY = 0.9  # of the steps of an axis in which some numbers are wrong; those of a spectrum go up and down
MOST_STEPS = 4.0  # the largest step of an axis over its smallest; those of gratings differ by less than two
_X_AXIS = re.compile(  # XUNITS=1/CM, XAxis mode: Pixels, x axis (nm)
    r"(?:x[\s_-]*(?:axis|units?)\b(?:\s*(?:mode|units?|label|title|type))?|axisunit\[1\])"
    r"(?:\s*[:=\t(\[]+\s*|\s+in\s+)([^,;\t)\]]*)", re.I
)  # fmt: skip


class TableError(CarsRtError, ValueError):
    """Text that is no table of spectra, or may mean two things, in one sentence."""


@dataclass(frozen=True, eq=False)
class Table:
    """What a text says. axis: (p,) float64 in `unit`, which is empty if not stated. counts: (n, p) float64.
    dark: (p,), if a column is called so. about: what was taken for what, for people. scan: rows and columns,
    if the lines say of each spectrum where it was measured."""

    axis: NDArray[np.float64]
    counts: NDArray[np.float64]
    unit: str
    dark: NDArray[np.float64] | None
    about: str
    scan: tuple[int, int] | None = None


def is_number(cell: str) -> bool:
    """Whether a cell is one number, with a point or a comma as its decimal sign."""
    return _NUMBER.fullmatch(cell.replace(",", ".", 1)) is not None


def sorted_out(
    numbers: NDArray[np.float64],
    places: list[int],
    titles: list[list[str]],
    head: list[str],
    needs_axis: bool = True,
) -> Table:
    """The table of numbers (p, columns). places: of each column in the file. titles: what stands above each,
    if anything does. head: all lines above the numbers. needs_axis: a column has to be one; else all may be
    spectra, and the axis numbers their pixels. Raises TableError."""
    columns = numbers.T
    if len(columns) < 1 + needs_axis:
        raise TableError(FEWEST)
    named = any(titles)
    titles = titles or [[] for _ in columns]
    names = [" ".join(title) for title in titles]
    shifts = [at for at, name in enumerate(names) if SHIFT.search(name)]
    lengths = [at for at, name in enumerate(names) if at not in shifts and WAVELENGTH.search(name)]
    numbering = [at for at, title in enumerate(titles) if named and _NUMBERING.fullmatch("".join(title[:1]))]
    unnumbered = [at for at in range(len(columns)) if not (at in numbering and _counts_up(columns[at]))]
    axis = next(iter([*shifts, *lengths]), unnumbered[0] if len(columns) > 2 and unnumbered else 0)
    none = not (needs_axis or shifts or lengths or not turns(columns[axis]))
    unit, nm = PIXELS, 1.0
    if none:
        axis, scale = -1, np.arange(len(numbers), dtype=np.float64)
    else:
        scale = columns[axis]
        unit, nm = _unit(names[axis], f"column {places[axis] + 1}, {names[axis]}", head, named)

    def said(which: list[int]) -> str:
        return ", ".join(f"{places[at] + 1}" + (f" ({names[at]})" if names[at] else "") for at in which)

    dark: list[int] = []
    spectra: list[int] = []
    left: list[int] = []
    references: list[int] = []
    for at in range(len(columns)):
        title = f"column {said([at])}"
        if at == axis:
            continue
        if (at in lengths and axis in shifts) or (
            at in numbering
            and (_counts_up(columns[at]) or np.ptp(columns[at]) == 0 or (at < axis and not names[at]))
        ):
            left.append(at)
        elif at in numbering and (shifts or lengths):
            raise TableError(f"{title} is no spectrum; export each spectrum as a column beside the axis")
        elif at in shifts or at in lengths or np.array_equal(columns[at], scale):
            raise TableError(f"{title} is a second axis; leave one axis and the spectra that belong to it")
        elif _counts_up(columns[at]) and len(columns[at]) > 2:
            raise TableError(
                f"{title} is no spectrum, it counts {columns[at][0]:g}, {columns[at][1]:g}, ...; remove it"
            )
        elif len(columns) > 2 and looks_like_axis(columns[at]) and looks_like_axis(scale):
            other = "while --axis gives another" if none else f"and so does column {places[axis] + 1}"
            raise TableError(
                f"{title} goes from {columns[at][0]:g} to {columns[at][-1]:g} in steps as even as an axis, "
                f"{other}; leave one axis and the spectra that belong to it"
            )
        elif _one_of(_DARK, titles[at]):
            dark.append(at)
        elif _MAYBE_DARK.search(names[at]) and not _CORRECTED.search(names[at]):
            raise TableError(f"{title} may be a dark or not; call it dark if it is")
        elif _NO_COUNTS.search(names[at]) or _one_of(_NO_SPECTRUM, titles[at]):
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
    made = [names[at] for at in spectra if _one_of(_OF_OTHERS, titles[at])]
    if 0 < len(made) < len(spectra):
        raise TableError(
            f"has a column called {made[0]!r} beside the spectra, made of them by its name; leave it out"
        )
    corrected = [at for at in spectra if _is_corrected(names[at])]
    before = [*dark, *(at for at in spectra if _RAW.fullmatch(names[at]))]
    if corrected and before:
        raise TableError(
            f"has column {said(corrected)}, from which the dark is subtracted already by its name, beside "
            f"column {said(sorted(before))}; leave out the former, or all of the latter"
        )
    if not spectra or len(dark) > 1:
        raise TableError(
            f"has {len(spectra)} columns of counts and {len(dark)} called dark; one or more are needed, and "
            "one at most"
        )

    about = "no column" if none else f"column {said([axis])}"
    about += (f", dark: column {said(dark)}" if dark else "") + (
        f", not used: column {said(left)}" if left else ""
    )
    return Table(scale * nm, columns[spectra].copy(), unit, columns[dark[0]].copy() if dark else None, about)


def turns(values: NDArray[np.float64]) -> bool:
    """Whether numbers (p,) go up and down as those of a spectrum do; an axis does not, also where it is
    rounded or some of its numbers are wrong."""
    steps = np.diff(values)
    return len(steps) > 1 and bool(max((steps >= 0).mean(), (steps <= 0).mean()) < MOSTLY)


def why_no_axis(values: NDArray[np.float64], about: str) -> str:
    """Why numbers (p,) are no axis, and what to do; empty if they may be one. about: what they are."""
    if not turns(values):
        return ""
    shown = ", ".join(f"{value:g}" for value in values[:4])
    return (
        f"goes up and down in what is taken for its axis ({about}: {shown}, ...); if no column is one, give "
        "--axis FILE with the raman shift of each pixel, in cm-1"
    )


def looks_like_axis(values: NDArray[np.float64]) -> bool:
    """Whether numbers (p,) rise or fall without exception, in even steps, as no spectrum does."""
    steps = np.diff(values)
    if len(values) < FEWEST_OF_AXIS or not ((steps > 0).all() or (steps < 0).all()):
        return False
    return bool(np.abs(steps).max() < MOST_STEPS * np.abs(steps).min())


def numbers_lines(title: list[str], column: NDArray[np.float64]) -> bool:
    """Whether a column (p,) numbers lines, by what stands above it and by its numbers."""
    named = bool(title) and _NUMBERING.fullmatch(title[0]) is not None
    return named and (_counts_up(column) or np.ptp(column) == 0)


def _one_of(kind: re.Pattern[str], title: list[str]) -> bool:
    """Whether what stands above a column is of a kind: one line of it, or all of them."""
    return any(kind.fullmatch(each.strip()) for each in (*title, " ".join(title)))


def _is_corrected(name: str) -> bool:
    return bool(_PROCESSED.fullmatch(name) or (_MAYBE_DARK.search(name) and _CORRECTED.search(name)))


def _is_setting(column: NDArray[np.float64]) -> bool:
    """Whether it says the same on each of many lines, and neither darkness nor what a camera has at its full
    scale, which is a power of 2 less 1."""
    value = column[0]
    full = value >= LEAST_FULL_SCALE and np.log2(value + 1).is_integer()
    return len(column) >= FEWEST_OF_AXIS and value != 0 and not full and bool((column == value).all())


def _counts_up(column: NDArray[np.float64]) -> bool:
    return bool(column[0] in (0, 1) and (np.diff(column) == 1).all())


def _unit(name: str, title: str, head: list[str], named: bool) -> tuple[str, float]:
    """The unit of the axis, and how many nm it is: by the name of its column, or by a line above that is
    about it, or by the line above numbers whose columns have no names."""
    unit, written = (PIXELS, "") if _PIXELS.fullmatch(name) else unit_in(name)
    wrong = f"has its axis in {written!r} ({title})"
    if not unit:
        for line in head:
            if (found := _X_AXIS.search(line)) and (stated := found[1].strip()):
                unit, written = (PIXELS, "") if _PIXELS.fullmatch(stated) else unit_in(stated)
                if unit == OTHER and not (is_other(written) or is_other(stated)):
                    unit = ""  # brackets in a line of the head may hold anything
                wrong = f"says {line.strip()[:60]!r}, in {written!r}"
            if unit:
                break
    if unit == OTHER:
        raise TableError(
            f"{wrong}, which is neither cm-1 nor a wavelength; write raman shifts in cm-1, or wavelengths in "
            "nm"
        )
    unit = unit or ("" if named else _unit_near(head))
    return unit, (nm_per(written) or 1.0) if unit == NM else 1.0


def _unit_near(head: list[str]) -> str:
    """The unit of the axis, by what stands right above numbers whose columns have no names."""
    near = head[-1] if head else ""
    shift, length = SHIFT.search(near), WAVELENGTH.search(near)
    if re.search(r"\d", SHIFT.sub("", near)):
        return ""  # it is a setting and its value
    if _OCEAN.search(near):
        return NM  # the programs that write this line write wavelengths unless they say so
    if shift and (not length or shift.start() < length.start()):
        return CM1
    return NM if length else ""


def refuse_no_counts(name: str) -> None:
    """Raises TableError if what is called so was computed from counts, or is none for another reason."""
    if _NO_COUNTS.search(name):
        raise TableError(
            f"holds {printable(name, 200)!r}, which is no counts, by its name; the counts are needed"
        )
