"""The formats of files with spectra, by the ending of the name: those of this package, and those of others.

Another package's format is an entry point of the group `cars_rt.formats`, called as the files end, without
the dot: a function that is given the path and returns `Spectra`, whole, in memory, which are checked here.
"""

import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.columns import PIXELS, why_no_axis
from cars_rt.files.hdf5 import StoredRows, numbers, opened, readable_attrs, stored
from cars_rt.files.measurement import ABOUT, COLUMNS, MOST_WRITTEN, RECEIPT, WRITTEN, judged, line
from cars_rt.files.npz import read_npz
from cars_rt.files.readers.crikit import find_crikit, read_crikit
from cars_rt.files.readers.hyperspy import is_hyperspy, read_hyperspy
from cars_rt.files.readers.nexus import find_data, read_data, unit_of
from cars_rt.files.readers.npy import read_array
from cars_rt.files.readers.own import has_axis, place_of
from cars_rt.files.readers.scale import Asked, read_axis, scale_of
from cars_rt.files.readers.sif import read_sif
from cars_rt.files.readers.spe import read_spe
from cars_rt.files.readers.wdf import read_wdf
from cars_rt.files.spectra import (
    START_NAMES,
    Spectra,
    SpectraError,
    StoredCounts,
    WavelengthError,
    checked,
    finite,
    fits,
    said_of,
    within,
)  # fmt: skip
from cars_rt.files.tables import parse
from cars_rt.files.units import CM1, NM, is_shift
from cars_rt.files.written import column_of, damaged, dark_of, located, place_in, places_written
from cars_rt.physics.axis import check_raman_shift, from_wavelength, is_numbering, may_be_wavelengths
from cars_rt.plugins import remedy_for
from cars_rt.printable import printable
from cars_rt.storage import refuse_no_table

log = logging.getLogger("cars_rt")

Given = Callable[[int], NDArray[np.float64]]
GROUP = "cars_rt.formats"  # of entry points
NAME = re.compile(r"[a-z0-9]+")  # of one
TEXT = (".csv", ".txt")
HDF5 = (".h5", ".hdf5", ".nxs", ".hspy")
PACKED = (".gz", ".zip", ".bz2", ".xz", ".7z", ".tar", ".zst")
BESIDE = ("block", "scan", "step_um", "exposure_s", "full_scale")  # one number or two of a measurement
MOST_TEXT_BYTES = 2**26  # of a text table, which takes up to 50 times as much memory; .npz, .h5 do not
MOST_LINE_BYTES = 2**23  # size of one of its lines: a million spectra side by side
MOST_SAID = 64  # files of which it is known that it was said which way round they are
MOST_LINES = 2**19  # lines of it: one for each pixel, and a head


def read_spectra(path: Path, pump_nm: float | None = None, axis: Path | None = None) -> Spectra:
    """Spectra from a file.

    .csv, .txt: an axis and one spectrum in each further column, as `cars_rt.files.tables` reads them.
    .npz: `spectra` or `counts` (n, p), (p,) or (rows, columns, p), which is a scan, and `raman_shift` (p,),
    `dark` (p,) and what else `cars_rt.files.measurement` names, if known.
    .h5, .nxs: a recording of `cars-rt record`, or the same names as in .npz, or an NXdata, or what HyperSpy
    (.hspy) or CRIkit2 wrote. .wdf, .sif, .spe, .npy: see `cars_rt.files.readers`.
    pump_nm: of a file whose axis is in nm, of light shifted from there (see `cars_rt.physics.axis`). axis: a
    file with the axis of one that has none. Raises SpectraError, also for NaN, empty or mismatched arrays.
    """
    with open_spectra(path, pump_nm, axis) as spectra, said_of(path):
        columns = {name: rows[:] for name, rows in spectra.columns.items()}
        return replace(spectra, counts=spectra.counts[:], columns=columns)


@contextmanager
def open_spectra(
    path: Path, pump_nm: float | None = None, axis: Path | None = None, *, given: Given | None = None
) -> Iterator[Spectra]:
    """As `read_spectra`, for files larger than memory: `counts` and `columns` of an .h5 file and its kin are
    read, and the counts checked, when a slice of them is asked for, which may raise SpectraError, too.

    given: makes the raman shift (p,), cm-1, of so many pixels, in place of the file's own, which may be any
    or none. Then pixels are in the file's order.
    """
    ending = path.suffix.lower()
    others = {} if ending in FORMATS else _foreign()
    if not path.exists():
        raise SpectraError(f"there is no file {path}")
    if path.is_dir():
        raise SpectraError(f"{path} is a folder, where a file is needed")
    if ending not in FORMATS and ending not in others:
        hint = "unpack it" if ending in PACKED else "a table of text can be called .txt"
        raise SpectraError(f"{path}: the file's name must end in one of {', '.join(endings())}; {hint}")
    known, unit = None, ""
    if axis is not None:
        known, unit = read_axis(axis)
        with said_of(axis):
            check_raman_shift(known)
    asked = Asked(pump_nm, known, unit, given is not None)
    with ExitStack() as stack:
        with said_of(path):
            if ending in FORMATS:
                spectra = stack.enter_context(FORMATS[ending](path, asked))
            else:
                _refuse_asked(asked)
                spectra = _read_foreign(path, others[ending])
            if given is not None:
                if spectra.turned:
                    raise SpectraError(
                        "has an axis that falls, so that its pixels were turned round: which one is which of "
                        "the camera's is not known any more"
                    )
                shift = given(np.shape(spectra.counts)[-1])
                spectra = replace(spectra, raman_shift=shift, of_axis="given, not the file's own")
            spectra = checked(spectra)
            count, pixels = spectra.counts.shape
            if count == pixels and spectra.scan is None and spectra.receipt == {} and ending not in TEXT:
                _say_which_way_round(path.absolute(), count)
            if not isinstance(spectra.counts, StoredRows):
                finite(spectra.counts, 0)
        yield spectra


@lru_cache(MOST_SAID)
def _say_which_way_round(path: Path, count: int) -> None:
    """Once of a file, which is opened again for each piece of it."""
    log.warning(
        "%s holds as many spectra as pixels, %d: each row is taken as a spectrum; if each column is one, "
        "turn them round: spectra.T",
        path,
        count,
    )


def _refuse_asked(asked: Asked, axis: str = "a raman_shift in cm-1") -> None:
    """Refuse flags for an axis, where the file has its own in cm-1."""
    if asked.pump_nm is not None:
        raise SpectraError(f"holds {axis}; --pump-nm is for files with an axis in nm")
    if asked.axis is not None:
        raise SpectraError(f"holds {axis}; leave --axis out")


@contextmanager
def _text(path: Path, asked: Asked) -> Iterator[Spectra]:
    pump_nm = asked.pump_nm
    refuse_no_table(path, MOST_TEXT_BYTES, MOST_LINE_BYTES, MOST_LINES)
    table = parse(path.read_bytes(), asked.needs_own)
    axis, of_axis = table.axis, table.about
    if asked.axis is not None:
        if table.unit != PIXELS and not is_numbering(axis):
            raise SpectraError(f"has its axis in {of_axis}; leave --axis out, or that column")
        axis, of_axis = _given_axis(asked, of_axis), "given with --axis"
    elif asked.any_axis:
        pump_nm = None
    elif table.unit == PIXELS and not is_numbering(axis):
        raise SpectraError(
            f"numbers pixels instead of an axis ({of_axis}); give --axis FILE with the raman shift of each "
            "pixel, in cm-1"
        )
    elif not table.unit and (wrong := why_no_axis(axis, of_axis)):
        raise SpectraError(wrong)
    elif table.unit == NM and pump_nm is None:
        raise WavelengthError(
            f"the axis is in nm ({of_axis}): give the wavelength that the light is shifted from, such as "
            "--pump-nm 785, or write raman shifts in cm-1"
        )
    elif not table.unit and pump_nm is None and may_be_wavelengths(axis):
        raise WavelengthError(
            f"does not say the unit of its axis ({of_axis}), and {axis[0]:g} to {axis[-1]:g} may be nm or "
            "cm-1: for nm give --pump-nm, such as 785; for cm-1 write a line of names above the numbers: "
            "raman shift,counts"
        )
    elif table.unit == CM1 and pump_nm is not None:
        raise SpectraError(f"the axis is in cm-1 already ({of_axis}); leave --pump-nm out")
    if pump_nm is not None and asked.axis is None:
        axis = from_wavelength(axis, pump_nm)
        of_axis += f", from nm with a pump of {pump_nm:g} nm"
    counts = table.counts
    whole = counts.min() >= 0 and counts.max() <= 65_535 and np.array_equal(counts, np.round(counts))
    with np.errstate(over="ignore"):  # what is infinite then is refused with its place
        counts = np.ascontiguousarray(counts, np.uint16 if whole else np.float32)
        dark = None if table.dark is None else table.dark.astype(np.float32)
    yield Spectra(axis, counts, dark, table.scan, of_axis=of_axis)


@contextmanager
def _npz(path: Path, asked: Asked) -> Iterator[Spectra]:
    names = ("raman_shift", "spectra", "counts", "dark", *ABOUT, *COLUMNS, *RECEIPT, *START_NAMES.values())
    arrays, there = read_npz(path, names)
    if "counts" in arrays:
        arrays.setdefault("spectra", arrays["counts"])
    if "spectra" not in arrays and {"raman", "model"} <= set(there):
        raise SpectraError(
            "holds results of `cars-rt process` and no counts; `show`, `export` and cars_rt.open read "
            "results in .h5: process the counts with -o NAME.h5"
        )
    if "spectra" not in arrays:
        names_there = printable(", ".join(there) or "nothing", 200)
        raise SpectraError(f"holds no array 'spectra' or 'counts', only {names_there}")
    if "raman_shift" in arrays:
        _refuse_asked(asked)
    else:
        arrays["raman_shift"] = _given_axis(asked, f"no raman_shift, only {printable(', '.join(there), 200)}")
    known = {name: arrays[name] for name in (*ABOUT, *COLUMNS, *RECEIPT) if name in arrays}
    # Here time_ns is that of each spectrum, and spectra are the counts; those of the start have a prefix.
    scalars = {
        name: values.tolist()
        for name, values in known.items()
        if name != "spectra" and not (name in COLUMNS and values.ndim)
    }
    scalars |= {name: arrays[other].tolist() for name, other in START_NAMES.items() if other in arrays}
    columns = {name: known[name] for name in COLUMNS if name in known}
    columns |= {name: line(rows) for name, rows in columns.items() if not COLUMNS[name][0]}
    about = judged(scalars, ABOUT, strict=False)
    *shape, _ = arrays["spectra"].shape or (0,)
    scan = (shape[0], shape[1]) if len(shape) == 2 else about.get("scan")
    fitting = {
        name: rows
        for name, rows in columns.items()
        if fits(name, rows, math.prod(shape)) and within(name, rows, scan)
    }
    receipt = judged(scalars, RECEIPT, strict=False)
    said = {name: scalars[name] for name in (*ABOUT, *RECEIPT) if name in scalars}
    _say_left_out(path, columns | said, about, receipt, fitting)
    dark = arrays.get("dark")
    yield Spectra(arrays["raman_shift"], arrays["spectra"], dark, **about, columns=fitting, receipt=receipt)


@contextmanager
def _hdf5(path: Path, asked: Asked) -> Iterator[Spectra]:
    """Spectra of an HDF5 file in our layout, or in one of other programs that is found in it."""
    with opened(path) as file:
        if not (has_axis(file) or is_hyperspy(file)) and (group := find_data(file)) is not None:
            yield read_data(group, path, asked)
        elif (place := place_of(file)) is not None:
            yield _stored(place, path, asked)
        elif is_hyperspy(file):
            yield read_hyperspy(file, path, asked)
        elif (dataset := find_crikit(file)) is not None:
            yield read_crikit(dataset, path, asked)
        else:
            raise SpectraError(
                "holds neither raw/counts nor spectra, with raman_shift beside it, nor an NXdata, nor what "
                "HyperSpy or CRIkit2 write"
            )


def _plain(read: Callable[[Path, Asked], Spectra]) -> "Opener":
    """A reader that leaves nothing open."""

    @contextmanager
    def opener(path: Path, asked: Asked) -> Iterator[Spectra]:
        yield read(path, asked)

    return opener


def _given_axis(asked: Asked, where: str) -> NDArray[np.float64]:
    """The axis of --axis, of a file that has none, in the order of its pixels. Raises SpectraError."""
    scale = scale_of(None, "", asked, where)
    return scale.raman_shift[::-1] if scale.turned else scale.raman_shift


def _stored(group: h5py.Group, path: Path, asked: Asked) -> Spectra:
    file = group.file
    found = [stored(group, name, h5py.Dataset) for name in ("counts", "spectra")]
    counts = next((each for each in found if each is not None), None)
    raman_shift = numbers(group, "raman_shift")
    if counts is None or not counts.shape:
        raise SpectraError("holds neither raw/counts nor spectra, with raman_shift beside it")
    if raman_shift is None:
        raman_shift = _given_axis(asked, f"no raman_shift beside {counts.name}")
    else:
        unit = unit_of(group["raman_shift"])
        if unit and not is_shift(unit) and not asked.any_axis:
            raise SpectraError(f"has its raman_shift in {printable(unit, 40)!r}; write it in cm-1")
        _refuse_asked(asked)
    if found[0] is not None and found[1] is not None:
        raise SpectraError("has both 'counts' and 'spectra'; leave the one that is to be read")
    rows = numbers(group, "written")
    ours, one = rows is not None and rows.ndim == 0, counts.ndim == 1
    name = str(counts.name).rpartition("/")[2]
    counts, written, *where = located(group, name) if ours and not one else (counts, len(counts))
    attrs = readable_attrs(group)
    attrs |= {} if ours else _beside(group, attrs)
    columns: dict[str, Any] = {}
    for key in () if one else COLUMNS:
        if key == "position" and not places_written(group):
            continue
        if (found_rows := column_of(group, key) if ours else _rows(group, key, written)) is not None:
            columns[key] = found_rows
    lines = [key for key, rows in columns.items() if rows.ndim > 1 and not COLUMNS[key][0]]
    columns |= {key: line(numbers(group, key)) for key in lines}  # type: ignore[arg-type]
    about = judged(attrs, ABOUT, strict=ours)
    fitting = {
        key: rows
        for key, rows in columns.items()
        if ours or (fits(key, rows, written) and within(key, rows[:], about.get("scan")))
    }
    receipt = judged(attrs, RECEIPT, strict=ours)
    said = {key: attrs[key] for key in (*ABOUT, *RECEIPT) if key in attrs}
    _say_left_out(path, columns | said, about, receipt, fitting)
    return Spectra(
        raman_shift,
        numbers(group, name)  # type: ignore[arg-type]
        if one
        else StoredCounts(path, place_in(group, name) in damaged(file), counts, written, *where),
        dark_of(group),
        **about,
        columns=fitting,
        receipt=receipt,
        written=_written(file) if ours else {},
    )


def _rows(group: h5py.Group, name: str, rows: int) -> StoredRows | None:
    """Rows that another program wrote, None if there are none of this name."""
    found = stored(group, name, h5py.Dataset)
    return None if found is None else StoredRows(found, rows)


def _beside(group: h5py.Group, known: Mapping[str, Any]) -> dict[str, Any]:
    """What datasets say of the measurement, as arrays in .npz do; what attributes say is known."""
    found = {}
    for name in BESIDE:
        if name in known or not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        each = group[name]
        if isinstance(each, h5py.Dataset) and each.size in (1, 2) and each.dtype.kind in "iuf":
            found[name] = np.asarray(numbers(group, name)).tolist()
    return found


def _say_left_out(path: Path, there: Mapping[str, Any], *taken: Mapping[str, Any]) -> None:
    """Say what a file of another program has by a name of ours, and means otherwise."""
    left = [name for name in there if not any(name in each for each in taken)]
    if left:
        said = ", ".join(
            name if name in COLUMNS else f"{name} = {printable(str(there[name]), 40)!r}" for name in left
        )
        log.warning("%s: left out, since it is not what the name means here: %s", path, said)


def _written(file: h5py.File) -> dict[str, str]:
    """Read what people wrote of the run."""
    found = {name: file.attrs[name] for name in WRITTEN if name in file.attrs}
    return {name: text[:MOST_WRITTEN] for name, text in found.items() if isinstance(text, str) and text}


def _read_foreign(path: Path, entry: EntryPoint) -> Spectra:
    remedy = remedy_for(entry)
    try:
        spectra = entry.load()(path)
    except SpectraError:
        raise
    except (Exception, SystemExit) as error:  # somebody else's code may raise anything
        raise SpectraError(
            f"{path}: {entry.value} does not read it ({type(error).__name__}: {printable(str(error), 200)}); "
            f"{remedy}"
        ) from None
    if not isinstance(spectra, Spectra):
        raise SpectraError(f"{path}: {entry.value} returns no cars_rt.files.spectra.Spectra; {remedy}")
    return spectra


def _foreign() -> dict[str, EntryPoint]:
    """Formats of other packages by ending; none takes the place of one of ours."""
    found = {f".{each.name}": each for each in entry_points(group=GROUP) if NAME.fullmatch(each.name)}
    return {ending: entry for ending, entry in found.items() if ending not in FORMATS}


def any_axis(pixels: int) -> NDArray[np.float64]:
    """(pixels,), cm-1: stands for an axis that is not known yet."""
    return np.asarray(100.0 + np.arange(pixels), np.float64)


def endings() -> list[str]:
    """Of the names of files that can be read, those of other packages last."""
    return [*FORMATS, *_foreign()]


Opener = Callable[[Path, Asked], AbstractContextManager[Spectra]]
FORMATS: dict[str, Opener] = {
    **dict.fromkeys(TEXT, _text), ".npz": _npz, ".npy": _plain(read_array), **dict.fromkeys(HDF5, _hdf5),
    ".wdf": _plain(read_wdf), ".sif": _plain(read_sif), ".spe": _plain(read_spe),
}  # fmt: skip
