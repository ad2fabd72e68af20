"""Spectra in files: .csv, .npz and .h5."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.errors import CarsRtError
from cars_rt.files.columns import CM1, NM, TableError
from cars_rt.files.hdf5 import StoredRows, explained, numbers, opened, stored
from cars_rt.files.measurement import ABOUT, COLUMNS, RECEIPT, Rows, judged
from cars_rt.files.npz import read_npz
from cars_rt.files.tables import parse
from cars_rt.physics.axis import AxisError, from_wavelength, judged_raman_shift
from cars_rt.printable import printable
from cars_rt.storage import StorageError, refuse_no_table

TEXT = (".csv", ".txt")
KINDS = (*TEXT, ".npz", ".h5", ".hdf5")
MOST_TEXT_BYTES = 2**26  # of a text table, which takes up to 50 times as much memory; .npz and .h5 do not
MOST_LINE_BYTES = 2**23  # of one line of it: a million spectra side by side
MOST_LINES = 2**19  # of it: one for each pixel, and a head
START_NAMES = {"time_ns": "start_time_ns", "spectra": "start_spectra"}  # in an .npz file, of the run


class SpectraError(CarsRtError, ValueError):
    """A file that cannot be read or written, with the reason in one sentence."""


class WavelengthError(SpectraError):
    """Its axis is in nm, and nobody said shifted from where."""


@dataclass(frozen=True, eq=False)
class Spectra:
    """Counts as a camera gave them, and what is known of their measurement."""

    raman_shift: NDArray[np.float64]  # (p,), cm-1
    counts: NDArray[Any]  # (n, p); of `open_spectra`: rows that are read and checked by slices
    dark: NDArray[np.float32] | None = None  # (p,)
    scan: tuple[int, int] | None = None  # rows, columns
    full_scale: float | None = None  # counts at which the camera saturates, as stated
    run: str | None = None
    source: str | None = None  # the instrument
    time_ns: int | None = None  # when the run began
    block: int | None = None  # the largest number of spectra in one frame
    spectra: int | None = None  # planned
    step_um: tuple[float, float] | None = None
    exposure_s: float | None = None
    columns: Mapping[str, Rows] = field(default_factory=dict)  # of each spectrum, (n, ...), see COLUMNS
    receipt: Mapping[str, Any] = field(default_factory=dict)  # how the run ended, see RECEIPT
    of_axis: str = "raman_shift"  # what of the file the axis is, for people

    @property
    def saturates_at(self) -> float | None:
        """Counts at which the camera saturates: as stated, or what its integers can hold; None if unknown."""
        if self.full_scale is None and self.counts.dtype.kind == "u":
            return float(np.iinfo(self.counts.dtype).max)
        return self.full_scale

    @property
    def axis_said(self) -> str:
        """What was taken as the axis: where it stands, its unit, range and steps."""
        axis, steps = self.raman_shift, np.abs(np.diff(self.raman_shift))
        low, high = (f"{step:.4g}" for step in (steps.min(), steps.max()))
        each = low if low == high else f"{low} to {high}"
        return f"raman shift {axis[0]:.6g} to {axis[-1]:.6g} cm-1 in steps of {each} ({self.of_axis})"

    @property
    def about(self) -> dict[str, Any]:
        """What is known of the whole run, by the names in ABOUT."""
        return {name: value for name in ABOUT if (value := getattr(self, name)) is not None}


def read_spectra(path: Path, pump_nm: float | None = None) -> Spectra:
    """Spectra from a file.

    .csv, .txt: an axis and one spectrum in each further column, as `cars_rt.files.tables` reads them; with
    pump_nm, an axis in nm, of light shifted from there (see `cars_rt.physics.axis.from_wavelength`).
    .npz: `spectra` (n, p), (p,) or (rows, columns, p), which is a scan, and `raman_shift` (p,), `dark` (p,)
    and what else `cars_rt.files.measurement` names, if known.
    .h5: a recording of `cars-rt record`, or the same names as in .npz. Raises SpectraError, also for NaN,
    empty or mismatched arrays.
    """
    with open_spectra(path, pump_nm) as spectra, _said_of(path):
        columns = {name: rows[:] for name, rows in spectra.columns.items()}
        return replace(spectra, counts=spectra.counts[:], columns=columns)


@contextmanager
def open_spectra(path: Path, pump_nm: float | None = None) -> Iterator[Spectra]:
    """As `read_spectra`, for files larger than memory: `counts` and `columns` of an .h5 file are read, and
    the counts checked, when a slice of them is asked for, which may raise SpectraError, too."""
    kind = path.suffix.lower()
    if kind == ".npy":
        raise SpectraError(
            f"{path} holds one array and no axis; put both into an .npz file: np.savez('x.npz', "
            "spectra=np.load('x.npy'), raman_shift=AXIS)"
        )
    if kind not in KINDS:
        raise SpectraError(f"{path}: the file's name must end in one of {', '.join(KINDS)}")
    if not path.exists():
        raise SpectraError(f"there is no file {path}")
    with ExitStack() as stack:
        with _said_of(path):
            if pump_nm is not None and kind not in TEXT:
                raise SpectraError(
                    "holds a raman_shift in cm-1; --pump-nm is for tables of text with an axis in nm"
                )
            if kind in (".h5", ".hdf5"):
                spectra = _checked(_stored(stack.enter_context(opened(path)), path))
            else:
                spectra = _checked(_read_npz(path) if kind == ".npz" else _read_text(path, pump_nm))
                _finite(spectra.counts, 0)
        yield spectra


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    """What goes wrong with this file, in one sentence that names it."""
    try:
        yield
    except (SpectraError, AxisError, StorageError, TableError) as error:
        text = str(error)
        kind = WavelengthError if isinstance(error, WavelengthError) else SpectraError
        raise kind(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except Exception as error:  # three formats, and each has its own kinds of errors for a broken file
        raise SpectraError(f"{path} cannot be read: {explained(error)}") from None


class StoredCounts(StoredRows):
    """Counts (n, p) in an .h5 file, converted and checked as they are read."""

    def __init__(self, dataset: h5py.Dataset, rows: int, path: Path) -> None:
        super().__init__(dataset, rows)
        self._path = path
        self.dtype = _wanted(self.dtype)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        with _said_of(self._path):
            counts = super().__getitem__(rows).astype(self.dtype, copy=False)
            _finite(counts, rows.indices(len(self))[0])
            return counts


def _checked(spectra: Spectra) -> Spectra:
    """Judge everything but whether each count is finite."""
    counts: Any = spectra.counts
    if not isinstance(counts, StoredRows):
        counts = np.atleast_2d(np.asarray(counts))
        counts = counts.astype(_wanted(counts.dtype), copy=False)
    raman_shift = judged_raman_shift(spectra.raman_shift)
    if counts.ndim == 3 and counts.shape[2] == len(raman_shift) and not isinstance(counts, StoredRows):
        scan = counts.shape[:2]
        return _checked(replace(spectra, counts=counts.reshape(-1, len(raman_shift)), scan=scan))
    if counts.ndim == 2 and counts.shape[0] == len(raman_shift) != counts.shape[1]:
        raise SpectraError(
            f"the spectra have the shape {counts.shape}, pixels first; turn them round: spectra.T"
        )
    if counts.ndim != 2 or counts.size == 0:
        raise SpectraError(
            f"the spectra have the shape {counts.shape}; (spectra, pixels) is needed, or in an "
            ".npz file (rows, columns, pixels)"
        )
    if counts.shape[1] != len(raman_shift):
        raise SpectraError(f"spectra of {counts.shape[1]} pixels with an axis of {len(raman_shift)}")
    dark = spectra.dark
    if dark is not None:
        dark = np.asarray(dark, np.float32)
        if dark.shape != raman_shift.shape or not np.isfinite(dark).all():
            raise SpectraError(f"the dark spectrum must be {len(raman_shift)} finite numbers")
    for name, rows in spectra.columns.items():
        if not _fits(name, rows, len(counts)):
            shape = (len(counts), *COLUMNS[name][0])
            raise SpectraError(f"{name} must be whole numbers of the shape {shape}, one for each spectrum")
    return replace(spectra, raman_shift=raman_shift, counts=counts, dark=dark)


def _fits(name: str, rows: Rows, count: int) -> bool:
    return rows.shape == (count, *COLUMNS[name][0]) and rows.dtype.kind in "iu"


def _wanted(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which counts are passed on. Raises SpectraError for what is no number."""
    if dtype.kind not in "uif":
        raise SpectraError(f"the spectra are of type {dtype}, not numbers")
    if dtype.kind == "i" or dtype.itemsize > 8 or dtype == np.float16:
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")


def _finite(counts: NDArray[Any], first: int) -> None:
    if counts.dtype.kind == "f" and not np.isfinite(counts).all():
        row, pixel = np.argwhere(~np.isfinite(counts))[0]
        raise SpectraError(f"spectrum {first + row} is NaN or infinite at pixel {pixel}")


# -- one kind of file each --------------------------------------------------------------------------


def _read_text(path: Path, pump_nm: float | None) -> Spectra:
    refuse_no_table(path, MOST_TEXT_BYTES, MOST_LINE_BYTES, MOST_LINES)
    table = parse(path.read_bytes())
    axis, of_axis = table.axis, table.about
    if table.unit == NM and pump_nm is None:
        raise WavelengthError(
            f"the axis is in nm ({of_axis}): give `cars-rt process` the wavelength that the light is shifted "
            "from, such as --pump-nm 785, or write raman shifts in cm-1"
        )
    if table.unit == CM1 and pump_nm is not None:
        raise SpectraError(f"the axis is in cm-1 already ({of_axis}); leave --pump-nm out")
    if pump_nm is not None:
        axis = from_wavelength(axis, pump_nm)
        of_axis += f", from nm with a pump of {pump_nm:g} nm"
    counts = table.counts
    whole = counts.min() >= 0 and counts.max() <= 65_535 and np.array_equal(counts, np.round(counts))
    kind = np.uint16 if whole else np.float32
    dark = None if table.dark is None else table.dark.astype(np.float32)
    return Spectra(axis, np.ascontiguousarray(counts, kind), dark, of_axis=of_axis)


def _read_npz(path: Path) -> Spectra:
    names = ("raman_shift", "spectra", "dark", *ABOUT, *COLUMNS, *RECEIPT, *START_NAMES.values())
    arrays, there = read_npz(path, names)
    for name in ("spectra", "raman_shift"):
        if name not in arrays:
            others = printable(", ".join(there) or "nothing", 200)
            raise SpectraError(f"holds no array {name!r}, only {others}")
    known = {name: arrays[name] for name in (*ABOUT, *COLUMNS, *RECEIPT) if name in arrays}
    scalars = {name: values.tolist() for name, values in known.items() if name != "spectra"}
    # Here time_ns is that of each spectrum, and spectra are the counts; those of the start have a prefix.
    scalars |= {name: arrays[other].tolist() for name, other in START_NAMES.items() if other in arrays}
    columns = {name: known[name] for name in COLUMNS if name in known}
    return Spectra(
        arrays["raman_shift"],
        arrays["spectra"],
        arrays.get("dark"),
        **judged(scalars, ABOUT, strict=False),
        columns={name: rows for name, rows in columns.items() if _fits(name, rows, len(arrays["spectra"]))},
        receipt=judged(scalars, RECEIPT, strict=False),
    )


def _stored(file: h5py.File, path: Path) -> Spectra:
    group = stored(file, "raw", h5py.Group) or file
    found = [stored(group, name, h5py.Dataset) for name in ("counts", "spectra")]
    counts = next((each for each in found if each is not None), None)
    raman_shift = numbers(group, "raman_shift")
    if counts is None or not counts.shape or raman_shift is None:
        raise SpectraError("holds neither raw/counts nor spectra, with raman_shift beside it")
    rows = numbers(group, "written")
    ours = rows is not None and rows.ndim == 0
    written = int(rows) if ours and rows is not None else len(counts)
    if not 0 <= written <= len(counts):
        raise SpectraError(f"says that {written} of its {len(counts)} spectra are data")
    one = counts.ndim == 1
    attrs = {key: group.attrs[key] for key in (*ABOUT, *RECEIPT) if key in group.attrs}
    datasets = {key: stored(group, key, h5py.Dataset) for key in COLUMNS if not one}
    columns = {key: StoredRows(each, written) for key, each in datasets.items() if each is not None}
    return Spectra(
        raman_shift,
        numbers(group, str(counts.name).rpartition("/")[2]) if one else StoredCounts(counts, written, path),  # type: ignore[arg-type]
        numbers(group, "dark"),
        **judged(attrs, ABOUT, strict=ours),
        columns={key: rows for key, rows in columns.items() if ours or _fits(key, rows, written)},
        receipt=judged(attrs, RECEIPT, strict=ours),
    )
