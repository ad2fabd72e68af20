"""Spectra of a file: counts, what is known of their measurement, and whether they can be that."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.errors import CarsRtError
from cars_rt.files.columns import TableError
from cars_rt.files.hdf5 import StoredRows, are_numbers, are_whole_numbers
from cars_rt.files.measurement import ABOUT, COLUMNS, Rows, judged, line, stored
from cars_rt.files.unreadable import explained
from cars_rt.physics.axis import AxisError, judged_raman_shift
from cars_rt.protocol import Facts
from cars_rt.protocol.limits import MAX_COUNT, MAX_TIME
from cars_rt.protocol.saturation import largest_count
from cars_rt.storage import StorageError

START_NAMES = {"time_ns": "start_time_ns", "spectra": "start_spectra"}  # in an .npz file, of the run


class SpectraError(CarsRtError, ValueError):
    """A file that cannot be read or written, with the reason in one sentence."""


class WavelengthError(SpectraError):
    """Its axis is in nm, and the wavelength that it is shifted from is unknown."""


@dataclass(frozen=True, eq=False)
class Spectra:
    """Counts as a camera gave them, and what is known of their measurement."""

    raman_shift: NDArray[np.float64]  # (p,), cm-1
    counts: NDArray[Any]  # (n, p); of `open_spectra`: rows that are read and checked by slices
    dark: NDArray[np.float32] | None = None  # (p,)
    scan: tuple[int, int] | None = None  # rows, columns
    full_scale: float | None = None  # counts at which the camera saturates, as stated
    run: str | None = None
    source: str | None = None  # the instrument as its driver calls it; no title, and no type of camera
    time_ns: int | None = None  # when the run began
    block: int | None = None  # the largest number of spectra in one frame
    spectra: int | None = None  # planned
    step_um: tuple[float, float] | None = None
    exposure_s: float | None = None
    calibration: Facts | None = None  # where the axis comes from, as in `Start`
    instrument: Facts | None = None  # the camera's settings, as in `Start`
    columns: Mapping[str, Rows] = field(default_factory=dict)  # of each spectrum, (n, ...), see COLUMNS
    receipt: Mapping[str, Any] = field(default_factory=dict)  # how the run ended, see RECEIPT
    written: Mapping[str, str] = field(default_factory=dict)  # what people wrote of it, see WRITTEN
    of_axis: str = "raman_shift"  # what of the file the axis is, for people
    turned: bool = False  # the axis fell in the file: pixels are here in the opposite order, dark and all

    @property
    def saturates_at(self) -> float | None:
        """Counts at which the camera saturates: as stated, or what its integers can hold; None if unknown."""
        of_camera = largest_count(self.counts.dtype.name, self.instrument)
        return of_camera if self.full_scale is None else self.full_scale

    @property
    def axis_said(self) -> str:
        """What was taken as the axis: where it stands, its unit, range and steps."""
        axis, steps = self.raman_shift, np.abs(np.diff(self.raman_shift))
        low, high = (f"{step:.4g}" for step in (steps.min(), steps.max()))
        each = low if low == high else f"{low} to {high}"
        return f"raman shift {axis[0]:.6g} to {axis[-1]:.6g} cm-1 in steps of {each} ({self.of_axis})"

    @property
    def about(self) -> dict[str, Any]:
        """What is known of the whole run, by the names in ABOUT, as files hold it."""
        return {name: stored(value) for name in ABOUT if (value := getattr(self, name)) is not None}


def may_be_above_dark(exposure_s: float | None, source: str | None) -> bool:
    """Whether another program may have subtracted the dark: nothing says the spectra's exposure, nor the
    instrument. What was recorded is what the camera gave."""
    return exposure_s is None and not source


@contextmanager
def said_of(path: Path) -> Iterator[None]:
    """Errors within become one sentence that names this file."""
    try:
        yield
    except (SpectraError, AxisError, StorageError, TableError) as error:
        text = str(error)
        kind = WavelengthError if isinstance(error, WavelengthError) else SpectraError
        raise kind(text if text.startswith(str(path)) else f"{path}: {text}") from None
    except Exception as error:  # each format has its own kinds of errors for a broken file
        raise SpectraError(f"{path} cannot be read: {explained(error)}") from None


class StoredCounts(StoredRows):
    """Counts (n, p) in an .h5 file, converted and checked as they are read. spoiled: the file says itself
    that a disk has spoiled some, since `cars-rt repair` found them."""

    def __init__(self, path: Path, spoiled: bool, dataset: h5py.Dataset, rows: int, *where: Any) -> None:
        super().__init__(dataset, rows, *where)
        self._path, self._spoiled = path, spoiled
        self.dtype = wanted(self.dtype)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        with said_of(self._path):
            counts = super().__getitem__(rows).astype(self.dtype, copy=False)
            finite(counts, rows.indices(len(self))[0])
            return counts

    def readable(self, first: int, last: int) -> NDArray[Any]:
        """Spectra from first to before last; if the file says that some are spoiled, as float32 with NaN for
        those. Raises SpectraError as a slice does otherwise."""
        if not self._spoiled:
            return self[first:last]
        with said_of(self._path):
            counts, whole = self.sound(first, last)
            counts = counts.astype(self.dtype, copy=False)
            finite(counts, first)
        return (
            counts if whole.all() else np.where(whole[:, None], counts.astype(np.float32), np.float32(np.nan))
        )


def readable(counts: Any, first: int, last: int) -> NDArray[Any]:
    """Spectra from first to before last of counts as `Spectra` has them. A recording that says that some are
    spoiled has NaN for those, and float32. Raises SpectraError."""
    if isinstance(counts, StoredCounts):
        return counts.readable(first, last)
    return np.asarray(counts[first:last])


def checked(spectra: Spectra) -> Spectra:
    """Judge everything but whether each count is finite."""
    counts: Any = spectra.counts
    if not isinstance(counts, StoredRows):
        counts = np.atleast_2d(np.asarray(counts))
        counts = counts.astype(wanted(counts.dtype), copy=False)
    try:
        raman_shift = judged_raman_shift(line(np.asarray(spectra.raman_shift)))
    except AxisError as error:
        where = "" if spectra.of_axis == "raman_shift" else f" (axis: {spectra.of_axis})"
        raise SpectraError(f"{error}{where}") from None
    if counts.ndim == 3 and counts.shape[2] == len(raman_shift) and not isinstance(counts, StoredRows):
        scan = counts.shape[:2]
        return checked(replace(spectra, counts=counts.reshape(-1, len(raman_shift)), scan=scan))
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
        wrong = f"the dark spectrum must be {len(raman_shift)} finite numbers"
        if not are_numbers(np.asarray(dark).dtype):
            raise SpectraError(wrong)
        with np.errstate(over="ignore"):
            dark = line(np.asarray(dark, np.float32))
        if dark.shape != raman_shift.shape or not np.isfinite(dark).all():
            raise SpectraError(wrong)
    for name, rows in spectra.columns.items():
        if not fits(name, rows, len(counts)):
            shape = (len(counts), *COLUMNS[name][0])
            raise SpectraError(f"{name} must be whole numbers of the shape {shape}, one for each spectrum")
    known = {name: value for name in ABOUT if (value := getattr(spectra, name)) is not None}
    try:
        known = judged(known, ABOUT)
    except ValueError as error:
        raise SpectraError(str(error)) from None
    return replace(spectra, raman_shift=raman_shift, counts=counts, dark=dark, **known)


def fits(name: str, rows: Rows, count: int) -> bool:
    return rows.shape == (count, *COLUMNS[name][0]) and are_whole_numbers(rows.dtype)


def within(name: str, rows: NDArray[Any], scan: tuple[int, int] | None = None) -> bool:
    """Whether all values of a column are of its kind: none is negative, would wrap in its type or is outside
    of the scan, and an index does not count its places from 1."""
    size = np.dtype(COLUMNS[name][1]).itemsize
    most = min(2 ** (8 * size - 1) - 1, MAX_TIME if name == "time_ns" else MAX_COUNT)
    if rows.size and (rows.min() < 0 or int(rows.max()) > most):
        return False
    if name == "index" and scan is not None and len(rows) and len(rows) % (scan[0] * scan[1]) == 0:
        return not np.array_equal(rows, np.arange(1, len(rows) + 1))
    return name != "position" or scan is None or bool((rows < scan).all())


def wanted(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type in which counts are passed on. Raises SpectraError for what is no number."""
    if not are_numbers(dtype):
        raise SpectraError(f"the spectra are of type {dtype}, not numbers")
    if dtype.kind == "i":  # a float32 rounds above 2**24
        return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    if dtype.itemsize > 8 or dtype == np.float16:
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")


def finite(counts: NDArray[Any], first: int) -> None:
    if counts.dtype.kind == "f" and not np.isfinite(counts).all():
        row, pixel = np.argwhere(~np.isfinite(counts))[0]
        raise SpectraError(f"spectrum {first + row} is NaN or infinite at pixel {pixel}")
