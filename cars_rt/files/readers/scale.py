"""An axis and its unit, as a file states them, made a raman shift in cm-1 that grows."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cars_rt.files.columns import TableError, is_number
from cars_rt.files.hdf5 import are_numbers
from cars_rt.files.spectra import SpectraError, WavelengthError
from cars_rt.files.tables import decoded, plain
from cars_rt.files.units import CM1, NM, is_shift, nm_per, unit_in
from cars_rt.physics.axis import end_apart, from_wavelength, is_numbering, may_be_wavelengths
from cars_rt.storage import read_bytes

MOST_AXIS_BYTES = 2**22
WITH_COMMA = re.compile(r"[-+]?\d+(,\d+)?(e[-+]?\d+)?", re.IGNORECASE)
DECIMAL = re.compile(r"[^,]+,[^,]+")


@dataclass(frozen=True, eq=False)
class Asked:
    """What the user says of a file. pump_nm: wavelength from which light is shifted. axis: (p,), where the
    file has none: a raman shift, or wavelengths in nm if pump_nm is given. unit: of it, if it is stated.
    any_axis: another axis takes the place of the file's own, which may be any or none."""

    pump_nm: float | None = None
    axis: NDArray[np.float64] | None = None
    unit: str = ""
    any_axis: bool = False

    @property
    def needs_own(self) -> bool:
        """Whether the file itself has to have an axis."""
        return self.axis is None and not self.any_axis


@dataclass(frozen=True, eq=False)
class Scale:
    """raman_shift: (p,), cm-1, growing. turned: it fell in the file, so each spectrum has to be turned round,
    too. said: where it comes from, for people. Empty and never turned where any axis will do."""

    raman_shift: NDArray[np.float64]
    turned: bool
    said: str


def scale_of(values: ArrayLike | None, unit: str, asked: Asked, where: str) -> Scale:
    """The axis of a file. values: (p,), None where it has none. where: its place there, for people.

    Raises WavelengthError for wavelengths without a pump, SpectraError for no axis and for other units.
    """
    if asked.any_axis:
        return Scale(np.empty(0), turned=False, said="")
    if values is None:
        if asked.axis is None:
            raise SpectraError(
                f"has no axis ({where}); give --axis FILE with the raman shift of each pixel, in cm-1"
            )
        values, where = asked.axis, "given with --axis"
        if not asked.unit and asked.pump_nm is None and may_be_wavelengths(values):
            raise WavelengthError(
                f"the axis {where}, {values[0]:g} to {values[-1]:g}, may be nm or cm-1: for nm give "
                "--pump-nm, such as 785; for cm-1 write it as text, below a line: raman_shift"
            )
        unit = asked.unit or (CM1 if asked.pump_nm is None else NM)
    elif asked.axis is not None:
        raise SpectraError(f"has an axis of its own ({where}); leave --axis out")
    axis = np.asarray(values, np.float64)
    unit = unit.strip()
    if is_shift(unit):
        if asked.pump_nm is not None:
            raise SpectraError(f"has its axis in cm-1 already ({where}); leave --pump-nm out")
        said = where
    elif (factor := nm_per(unit)) is not None:
        if asked.pump_nm is None:
            raise WavelengthError(
                f"has its axis in {unit} ({where}): give the wavelength that the light is shifted from, such "
                "as --pump-nm 785"
            )
        axis = from_wavelength(axis * factor, asked.pump_nm)
        said = f"{where}, from {unit} with a pump of {asked.pump_nm:g} nm"
    else:
        wrong = f"has an axis in {unit!r} ({where}), which is neither cm-1 nor a wavelength"
        none = f"does not say the unit of its axis ({where})"
        raise SpectraError(f"{wrong if unit else none}; write 1/cm or nm beside it")
    turned = axis.ndim == 1 and len(axis) > 1 and bool(axis[0] > axis[-1])
    return Scale(axis[::-1] if turned else axis, turned, said + (", turned round" if turned else ""))


def read_axis(path: Path) -> tuple[NDArray[np.float64], str]:
    """The numbers of --axis, and their unit if it is stated: .npy, or text with one number on each line, also
    below a name, or all on one, or on several. Raises SpectraError, also for one at an end apart."""
    if not path.exists():
        raise SpectraError(f"there is no file {path}")
    unit = ""
    if path.suffix.lower() == ".npy":
        from cars_rt.files.npz import read_npy

        array = read_npy(path)
        if not are_numbers(array.dtype):
            raise SpectraError(f"{path} holds values of type {array.dtype}, not numbers")
        values = np.asarray(array, np.float64)
    else:
        try:
            text = plain(decoded(read_bytes(path, MOST_AXIS_BYTES)))
        except TableError as error:
            raise SpectraError(f"{path} {error}") from None
        lines = [line.strip(" ,;\t") for line in text.splitlines() if line.strip(" ,;\t")]
        if not lines:
            raise SpectraError(f"{path} is empty; it must hold one number for each pixel, on a line each")
        name = lines[0].lstrip("#%! ")
        kind, written = unit_in(name)
        if len(lines) > 1 and not is_number(name) and kind:
            unit, lines = CM1 if kind == CM1 else written or kind, lines[1:]
        words = _words(lines)
        if odd := next((word for word in words if not is_number(word)), ""):
            raise SpectraError(
                f"{path} must hold one number for each pixel, on a line each, and nothing else; "
                f"{odd[:40]!r} is none"
            )
        named = unit and re.search(r"[,;\t]", name)  # each column, above them
        if all("," in word for word in words) and (named or _two_columns(words)):
            raise SpectraError(
                f"{path} has two columns, such as pixels and an axis, or decimal commas ({words[0]!r}); "
                "leave one number for each pixel, with a point"
            )
        values = np.array([float(word.replace(",", ".")) for word in words])
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise SpectraError(f"{path} must hold a list of finite numbers, one for each pixel")
    nm = nm_per(unit) or (1.0 if not unit and len(values) > 3 and may_be_wavelengths(values[1:-1]) else 0)
    if (at := end_apart(values, nm, numbering=True)) is not None:
        which, beside = ("first", values[1]) if at == 0 else ("last", values[-2])
        raise SpectraError(
            f"{path}: its {which} number, {values[at]:g}, is no pixel's, since it lies apart from the others "
            f"({beside:g} beside it); leave it out"
        )
    return values, unit


def _words(lines: list[str]) -> list[str]:
    """One number on each line, or all on one. Several lines of several are one list where its numbers grow
    or fall from the first line to the last, as those of columns do not. Commas are between numbers with
    points, or decimal ones."""
    text = " ".join(lines)
    words = re.split(r"[\s;]+", text)
    decimal = len(words) > 1 and any(map(DECIMAL.fullmatch, words)) and all(map(WITH_COMMA.fullmatch, words))
    words = words if decimal else re.split(r"[\s,;]+", text)
    if len(lines) < 2:
        return words
    pointed = decimal or "," not in text or all("." in word for word in words)
    if len(words) > len(lines) and pointed and all(map(is_number, words)):
        steps = np.diff([float(word.replace(",", ".")) for word in words])
        if (steps > 0).all() or (steps < 0).all():
            return words
    return lines


def _two_columns(words: list[str]) -> bool:
    """Whether whole numbers with commas between them are an axis and counts, or pixels and an axis, rather
    than one axis with decimal commas: what stands before the commas is one by itself, and with what stands
    behind them its steps are not more even."""
    whole = np.array([float(word.replace(",", ".")) for word in words])
    before = np.trunc(whole)
    if is_numbering(before):
        return True
    bends = np.diff(before, 2)
    if not len(bends) or np.abs(bends).max() > 1 + 0.1 * np.abs(np.diff(before)).mean():
        return False
    last_place = 10.0 ** -max(len(word.split(",")[1]) for word in words)
    return bool(np.std(np.diff(whole, 2)) > np.std(bends) / 2 + 2 * last_place)
