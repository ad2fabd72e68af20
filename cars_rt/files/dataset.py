"""`cars_rt.open`: a file of spectra as an xarray Dataset, read when it is computed."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files import measurement
from cars_rt.files.formats import HDF5, open_spectra
from cars_rt.files.hdf5 import StoredRows, are_numbers, numbers, opened, readable_attrs, stored
from cars_rt.files.mapped import Counts, Mapped, Reader, Stored, Whole, existing, patiently
from cars_rt.files.measurement import ABOUT, RECEIPT, TARGET, judged, labels
from cars_rt.files.places import MOST_PLACES, Places, joint, places_of
from cars_rt.files.spectra import SpectraError, said_of
from cars_rt.files.written import (
    DAMAGE,
    column_of,
    damaged,
    is_recording,
    is_said,
    place_in,
    read_position,
    rows_of,
    stored_rows,
)
from cars_rt.installation import install_extra
from cars_rt.physics.axis import judged_raman_shift
from cars_rt.protocol import FLAGS, NETWORK_OUTPUTS
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import StorageError

if TYPE_CHECKING:
    import xarray

log = logging.getLogger("cars_rt")

PIECE_BYTES = 16 * 2**20  # size of a piece that is read at once
CUT_BYTES = 4 * 2**20  # of rows that are unpacked at once: more are kept, as the next piece may cut them
MOST_PIECES = 2**14  # pieces of one array: a graph of more takes long to make
PART = ("began_at", "part", "previous_part", "next_part")  # what of its run a file is, see docs/operation.md

#: Of each spectrum, beside the main array: what it is called here, and its unit.
BESIDE: dict[str, dict[str, str]] = {
    "raw": {"sequence": "counts_sequence", "time_ns": "time"},
    "raman": {
        "sequence": "raman_sequence", "time_ns": "time", "time_in_ns": "time_in", "time_out_ns": "time_out",
        FLAGS: FLAGS, **{name: name for name in NETWORK_OUTPUTS},
    },
}  # fmt: skip
CALLED = {"z": "plane", "y": "row", "x": "column", "spectrum": "spectrum"}


def open_dataset(
    path: Path | str, *, pump_nm: float | None = None, axis: Path | str | None = None
) -> xarray.Dataset:
    """Spectra of a file as an xarray Dataset of dask arrays.

    Of HDF5 no spectrum is read until it is computed; .npz, text and .wdf are read at once.

    path: a recording, also one that is being written or was cut short; a result of `cars-rt process` in .h5;
    whatever else `process` reads. pump_nm: of files whose axis is in nm. axis: a
    file with the axis of one that has none.

    Of a scan the dimensions are (y, x, raman_shift), of a stack (z, y, x, raman_shift), y and x in um where
    the step is known; else (spectrum, raman_shift). The variables, as far as the file has them: counts and
    raman (and deviation), float32, or float64 for counts that float32 does not hold, NaN where a spectrum is
    missing or, as `cars-rt repair` found, spoiled; counts_measured and raman_measured, bool, which say where
    one is; flags; time, time_in, time_out, datetime64[ns] in UTC, NaT where missing; counts_sequence and
    raman_sequence, -1 where missing; dark. What is known of the whole run, the model and what was lost stands
    in `attrs`, calibration and instrument as JSON, those of a stream in the attrs of counts and raman.

    A Dataset of a recording that is being written shows the rows that were there when it was opened; it goes
    on working when the recording gets its final name. Raises SpectraError: one sentence.
    """
    try:
        import dask.array  # noqa: F401
        import xarray
    except ImportError as error:
        raise SpectraError(
            f"cars_rt.open needs {error.name}, which is not installed: {install_extra('files')}"
        ) from None
    path = existing(Path(path))
    parts = patiently(path, _of_hdf5) if path.suffix.lower() in HDF5 else None
    path = existing(path)
    with said_of(path):
        if parts is None:
            parts = _of_spectra(path, pump_nm, None if axis is None else Path(axis).absolute())
        elif pump_nm is not None:
            raise SpectraError("holds a raman_shift in cm-1; --pump-nm is for files with an axis in nm")
        elif axis is not None:
            raise SpectraError("holds a raman_shift in cm-1; leave --axis out")
        return _dataset(xarray, path, *parts)


@dataclass(frozen=True, eq=False)
class _Stream:
    """What a file says of one stream."""

    main: str  # counts or raman
    raman_shift: NDArray[np.float64]
    places: Places
    attrs: dict[str, Any]
    read: dict[str, Reader] = field(default_factory=dict)  # by name in the Dataset
    dark: NDArray[np.float32] | None = None


def of_plane(dataset: xarray.Dataset, plane: int | None) -> tuple[xarray.Dataset, str]:
    """One plane of a stack, and which one, in words; None: the middle one, of two the first, since the second
    may be hardly begun. What is no stack stays as it is, without words. Raises SpectraError."""
    path = dataset.attrs["file"]
    if "z" not in dataset.dims:
        if plane is not None:
            raise SpectraError(f"{path} is no stack, so it has no plane {plane}")
        return dataset, ""
    planes = int(dataset.sizes["z"])
    plane = (planes - 1) // 2 if plane is None else plane
    if not 0 <= plane < planes:
        raise SpectraError(f"there is no plane {plane} in {path}: it has 0 to {planes - 1}")
    return dataset.isel(z=plane), f"plane {plane} (of 0 to {planes - 1})"


def at_numbers(dataset: xarray.Dataset, numbers: range) -> slice | None:
    """Where in a list the spectra of these numbers are, from the first to the last that is there; None if
    none is. A run that was joined late does not begin with 0."""
    called = dataset["spectrum"].values
    there = np.flatnonzero((called >= numbers.start) & (called < numbers.stop))
    return slice(int(there[0]), int(there[-1]) + 1) if len(there) else None


def _of_hdf5(path: Path) -> tuple[dict[str, Any], list[_Stream]] | None:
    """A recording, which is what `process` writes, too; None if it is none."""
    with opened(path, locking=False) as file:
        if not is_recording(file):
            return None
        found = [_readable(path, file, name) for name in MAIN_ARRAY]
        streams = [each for each in found if each is not None]
        names = ("version", "complete", "reason", "sample", "notes", *PART)
        said = readable_attrs(file)
        attrs = {name: _plain(said[name]) for name in (*names, DAMAGE) if name in said}
        return attrs | judged(said, ABOUT), streams


def _readable(path: Path, file: h5py.File, name: str) -> _Stream | None:
    """A stream of a recording; None if there is none, or where `repair` has said that it is spoiled, or what
    nobody reads it without, and it is."""
    try:
        group = stored(file, name, h5py.Group)
        return None if group is None else _stream(path, group, name)
    except StorageError as error:
        needed = {
            name,
            *(f"{name}/{each}" for each in (MAIN_ARRAY[name], "raman_shift", "index", "position")),
        }
        if not error.of_file or needed.isdisjoint(damaged(file)):
            raise
        return None


def _stream(path: Path, group: h5py.Group, name: str) -> _Stream | None:
    main = MAIN_ARRAY[name]
    if stored(group, main, h5py.Dataset) is None:
        return None  # it never began, or was killed while it began
    raman_shift = numbers(group, "raman_shift")
    if raman_shift is None:
        raise SpectraError(f"has {main} without a raman_shift")
    raman_shift = judged_raman_shift(raman_shift)
    attrs = {key: _plain(value) for key, value in readable_attrs(group).items()}
    about, receipt = judged(attrs, ABOUT, strict=False), judged(attrs, RECEIPT, strict=False)
    rows = len(stored_rows(group, main))
    spoiled = damaged(group.file)
    index = np.arange(rows)
    if stored(group, "index") is not None:
        index = rows_of(group, "index", place_in(group, "index") in spoiled)[:rows]
    position = read_position(group)
    if position is not None and position.shape[1:] != (2,):
        raise SpectraError("has positions that are no rows and columns")
    position = None if position is None else position[:rows]
    places = places_of(index, position, about.get("scan"), receipt.get("announced", -1))
    read: dict[str, Reader] = {}
    for stored_as, called in {main: main, **BESIDE[name]}.items():
        if (found := column_of(group, stored_as)) is None:
            continue
        if len(found) < rows or not are_numbers(found.dtype):
            raise SpectraError(f"has {stored_as} of {len(found)} rows for {rows} spectra")
        if found.ndim > 1 and found.shape[1:] != raman_shift.shape:
            raise SpectraError(
                f"has {stored_as} of {found.shape[1:]} points with {len(raman_shift)} of an axis"
            )
        some = place_in(group, stored_as) in spoiled
        read[called] = Stored(path.absolute(), name, stored_as, found.dtype, found.shape[1:], some)
    return _Stream(main, raman_shift, places, attrs, read, _dark(group))


def _dark(group: h5py.Group) -> NDArray[Any] | None:
    """The dark, if there is one; none where `repair` has said that it is spoiled, and it is."""
    try:
        return numbers(group, "dark")
    except StorageError as error:
        if not is_said(error, group, "dark"):
            raise
        return None


def _of_spectra(path: Path, pump_nm: float | None, axis: Path | None) -> tuple[dict[str, Any], list[_Stream]]:
    """Counts of any other format that `process` reads."""
    with open_spectra(path, pump_nm, axis) as spectra:
        counts: Any = spectra.counts
        columns = spectra.columns
        index = columns["index"][:] if "index" in columns else np.arange(len(counts))
        position = columns["position"][:] if "position" in columns else None
        places = places_of(index, position, spectra.scan, int(spectra.receipt.get("announced", -1)))
        lazy = isinstance(counts, StoredRows)
        together, kept = (counts.together, None) if lazy else (len(counts), (0, counts))
        if lazy and together * counts.shape[1] * counts.dtype.itemsize <= CUT_BYTES:
            together = 0
        shape = counts.dtype, counts.shape[1:]
        read: dict[str, Reader] = {"counts": Counts(path.absolute(), pump_nm, axis, *shape, together, kept)}
        attrs = {**spectra.about, **spectra.receipt}
        return {}, [_Stream("counts", spectra.raman_shift, places, attrs, read, spectra.dark)]


def _dataset(xr: Any, path: Path, attrs: dict[str, Any], streams: list[_Stream]) -> xarray.Dataset:
    if not streams:
        damage = attrs.get(DAMAGE, "")
        raise SpectraError(f"holds no spectra that can be read: {damage}" if damage else "holds no spectra")
    first = streams[0]
    variables: dict[str, Any] = {}
    about = dict(attrs)
    for each in streams:
        if not np.array_equal(each.raman_shift, first.raman_shift):
            raise SpectraError("holds counts and results on different axes")
        about |= judged(each.attrs, ABOUT, strict=False)
    places = joint([each.places for each in streams])
    shape = places[0]
    if (scan := about.get("scan")) is not None and not shape.is_map:
        wide = "%s: its scan of %d x %d has more than %d places, with all planes; it is taken as a list"
        log.warning(wide, path, *scan, MOST_PLACES)
    for each, of_all in zip(streams, places, strict=True):
        for name, reader in each.read.items():
            if name in variables:  # the time of a spectrum is that of its counts, in the results, too
                continue
            dtype, missing = _kind(name, reader.dtype)
            dims = (*shape.dims, *(("raman_shift",) if reader.tail else ()))
            said = labels(name, each.attrs.get(TARGET)) | (_said(each) if name == each.main else {})
            variables[name] = (dims, _lazy(Mapped(reader, of_all, dtype, missing)), said)
        main = each.read[each.main]
        whole = Whole(main) if isinstance(main, Stored) and attrs.get(DAMAGE) else None
        mask = Mapped(whole, of_all, np.dtype(bool), False)
        there = {"long_name": f"where there is a spectrum of {each.main}"}
        variables[f"{each.main}_measured"] = (shape.dims, _lazy(mask), there)
        if each.dark is not None and each.dark.shape == each.raman_shift.shape:
            variables["dark"] = ("raman_shift", each.dark, labels("dark"))
    about |= {"file": str(path), "spectra_repeated": max(each.repeated for each in places)}
    coordinates = _coordinates(shape, about.get("step_um"), first.raman_shift)
    written = {name: measurement.stored(value) for name, value in about.items()}  # netCDF has no maps
    found: xarray.Dataset = xr.Dataset(variables, coords=coordinates, attrs=written)
    return found


def _lazy(values: Mapped) -> Any:
    import dask.array

    meta = np.empty((0,) * values.ndim, values.dtype)
    return dask.array.from_array(values, _pieces(values), asarray=False, meta=meta)  # type: ignore[no-untyped-call]


def _kind(name: str, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], Any]:
    """The type of an array here, and its value where nothing was measured."""
    if name.startswith("time"):
        return np.dtype("datetime64[ns]"), np.datetime64("NaT", "ns")
    if name == FLAGS:
        return np.dtype(np.uint8), 0
    if name.endswith("sequence"):
        return np.dtype(np.int64), -1
    exact = dtype.itemsize <= 2 or dtype == np.float32
    return np.dtype(np.float32 if exact else np.float64), np.nan


def _pieces(values: Mapped) -> tuple[int, ...]:
    """Sizes of the pieces that are read at once: whole lines of the map where they fit."""
    row = max(int(np.prod(values.tail, dtype=int)), 1) * values.dtype.itemsize
    lead = values.shape[: values.ndim - len(values.tail)]
    left = max(PIECE_BYTES // row, -(-math.prod(lead) // MOST_PIECES), 1)
    sizes: list[int] = []
    for size in reversed(lead):
        sizes.insert(0, max(min(size, left), 1))
        left = max(left // max(size, 1), 1)
    return (*sizes, *values.tail)


def _coordinates(
    places: Places, step_um: tuple[float, float] | None, raman_shift: NDArray[np.float64]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "raman_shift": ("raman_shift", raman_shift, {"units": "1/cm", "long_name": "Raman shift"})
    }
    steps = dict(zip(("y", "x"), step_um or (), strict=False))
    for name in places.dims:
        values = places.coordinate(name)
        about = {"long_name": f"number of the {CALLED[name]}"}
        if name in steps:
            values, about = values * steps[name], {"units": "um", "long_name": f"{name} position"}
        found[name] = (name, values, about)
    return found


def _said(stream: _Stream) -> dict[str, Any]:
    """What a stream says of itself: how it ended, and for results what made them, in part as JSON."""
    return {key: value for key, value in stream.attrs.items() if key not in ABOUT}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.bool_):
        return int(value)  # netCDF has no bool
    return value.item() if isinstance(value, np.generic) else value
