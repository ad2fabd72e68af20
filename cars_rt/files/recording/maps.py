"""The map of a recording for other programs: NXdata with axes, and each spectrum at its place.

The spectra are not written twice: their map is a virtual dataset of this same file over the rows, which lie
in /raw and /raman in the order in which they came. What is small is written out, and never compressed.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.checksum import WHOLE, checksum
from cars_rt.files.hdf5 import numbers, stored
from cars_rt.files.measurement import NOWHERE, TARGET, labels
from cars_rt.files.places import Places, blocks, joint, places_of
from cars_rt.files.recording.bands import NAME as BANDS
from cars_rt.files.written import DAMAGE, places_written, rows_of, stored_rows
from cars_rt.protocol import FLAGS, NETWORK_OUTPUTS
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import StorageError

log = logging.getLogger("cars_rt.recording")

MOST_PARTS = 10_000  # parts of a virtual dataset; spectra that are scattered more are left as a list
PIECE = 2**16  # places that are written at once
PIECE_ROWS = 1024  # that are looked at at once
MOST_LINE = 2**20  # places of one line, which is written at once
NO_TIME = np.iinfo(np.int64).min


def nexus_group(parent: h5py.Group, name: str, kind: str, **attrs: str) -> h5py.Group:
    """A new group of a class of NeXus."""
    group = parent.create_group(name)
    group.attrs.update({"NX_class": kind, **attrs})
    return group


def say_axes(group: h5py.Group, names: Sequence[str]) -> None:
    """Say which dataset of an NXdata is the axis of each dimension."""
    group.attrs["axes"] = np.array(names, dtype=h5py.string_dtype())
    group.attrs.update({f"{name}_indices": number for number, name in enumerate(names)})


def text_of(value: Any) -> str:
    """An attribute as a text that HDF5 can hold."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text.replace("\0", " ")


class Map:
    """Where the spectra of one stream lie in the map, and how many parts that has."""

    def __init__(self, group: h5py.Group, places: Places) -> None:
        self.group, self.places = group, places
        self.cuts = [0, *places.cuts, len(places.of_rows)] if len(places.of_rows) else [0]

    @classmethod
    def of(cls, group: h5py.Group) -> "Map":
        scan = group.attrs.get("scan")
        size = None if scan is None else (int(scan[0]), int(scan[1]))
        announced = int(group.attrs.get("announced", -1))
        index, position = rows_of(group, "index", spoiled=True)[:], None
        if places_written(group):
            position, known = stored_rows(group, "position").sound(0, len(index))
            index[~known] = NOWHERE
        return cls(group, places_of(index, position, size, announced))


def write_map(
    entry: h5py.Group, name: str, maps: dict[str, Map], main: str
) -> tuple[h5py.Group, dict[str, Map]]:
    """Make the default plot. Returns it and the maps that are in it. They are lists where a map is impossible
    or would be in too many parts."""
    places = joint([each.places for each in maps.values()])
    maps = {name: Map(each.group, at) for (name, each), at in zip(maps.items(), places, strict=True)}
    along = {name: _along(each.group) for name, each in maps.items()}
    maps = {name: each for name, each in maps.items() if np.array_equal(along[name], along[main])}
    if (
        sum(len(each.cuts) for each in maps.values()) > MOST_PARTS
        or int(np.prod(maps[main].places.shape[1:])) > MOST_LINE
    ):
        log.warning("%s: its spectra are scattered too much for a map; it has a list", entry.file.filename)
        maps = {main: Map(maps[main].group, maps[main].places.compact())}
    data = nexus_group(entry, name, "NXdata", signal=MAIN_ARRAY[main], interpretation="spectrum")
    shape = maps[main].places
    axes = _axes(data, shape, maps[main].group)
    say_axes(data, [*shape.dims, "raman_shift"])
    for stream, each in maps.items():
        wide = [MAIN_ARRAY[stream], *(NETWORK_OUTPUTS if stream == "raman" else ())]
        for array in wide:
            if stored(each.group, array, h5py.Dataset) is not None:
                found = _shown(data, array, each)
                said = labels(array, each.group.attrs.get(TARGET))
                found.attrs.update({"interpretation": "spectrum", **said})
                _scales(found, axes)
        _beside(data, stream, each, axes)
    return data, maps


def _along(group: h5py.Group) -> NDArray[Any]:
    if (found := numbers(group, "raman_shift")) is None:
        raise KeyError("raman_shift")
    return found


def _axes(data: h5py.Group, places: Places, group: h5py.Group) -> list[h5py.Dataset]:
    step = dict(zip(("y", "x"), np.asarray(group.attrs.get("step_um", ())).tolist(), strict=False))
    axes = []
    for dim in places.dims:
        along = places.coordinate(dim)
        along *= float(step.get(dim, 1))
        data[dim] = along
        said = {"units": "um", "long_name": f"{dim} position"} if dim in step else {"long_name": dim}
        data[dim].attrs.update(said)
        axes.append(data[dim])
    data["raman_shift"] = axis = _along(group)
    data["raman_shift"].attrs.update({**labels("raman_shift"), WHOLE: checksum(axis)})
    axes.append(data["raman_shift"])
    for axis in axes:
        axis.make_scale(str(axis.name).rpartition("/")[2])
    return axes


def _scales(dataset: h5py.Dataset, axes: list[h5py.Dataset]) -> None:
    for number in range(dataset.ndim):
        dataset.dims[number].attach_scale(axes[number])


def _shown(data: h5py.Group, name: str, each: Map) -> h5py.Dataset:
    """The rows of an array at their places: a virtual dataset of this file."""
    rows = each.group[name]
    shape = (*each.places.shape, rows.shape[1])
    layout = h5py.VirtualLayout(shape, rows.dtype)
    source = h5py.VirtualSource(".", str(rows.name), rows.shape, rows.dtype)
    for first, last in zip(each.cuts, each.cuts[1:], strict=False):
        place = int(each.places.of_rows[first])
        if place < 0:
            continue
        for lead, part, size in blocks(place, place + last - first, each.places.shape):
            layout[(*lead, part)] = source[first : first + size]
            first += size
    missing = np.nan if rows.dtype.kind == "f" else 0
    return data.create_virtual_dataset(name, layout, fillvalue=missing)


def _beside(data: h5py.Group, stream: str, each: Map, axes: list[h5py.Dataset]) -> None:
    """Write what is known of each spectrum at its place. It is small, so it is written out, uncompressed."""
    places, main = each.places, MAIN_ARRAY[stream]

    def put(name: str, values: Any, missing: Any, dtype: Any, **attrs: Any) -> None:
        if name not in data:
            _at_places(data, name, values, places, np.asarray(missing, dtype))
            data[name].attrs.update(attrs)
            _scales(data[name], axes)

    put(
        f"{main}_measured",
        _measured(each.group, main, len(places.of_rows)),
        0,
        np.uint8,
        long_name=f"1 where there is a spectrum of {main}",
    )
    about = {"units": "nanoseconds since 1970-01-01", "_FillValue": np.int64(NO_TIME)}
    if "time" not in data:
        times = rows_of(each.group, "time_ns", spoiled=True)[:]
        times[times == 0] = NO_TIME
        put("time", times, NO_TIME, np.int64, **about,
            long_name="when the camera had delivered the spectrum")  # fmt: skip
    if stream == "raman" and stored(each.group, FLAGS) is not None:
        names = text_of(each.group.attrs.get("model_flags", "")).split()
        said = {"flag_masks": np.array([1 << bit for bit in range(len(names))], np.uint8)} if names else {}
        put(FLAGS, rows_of(each.group, FLAGS, spoiled=True)[:], 0, np.uint8, flag_meanings=" ".join(names),
            long_name="what is wrong with the spectrum", **said)  # fmt: skip


def _measured(group: h5py.Group, main: str, count: int) -> NDArray[np.bool_]:
    """Which rows are spectra: results without counts are none."""
    measured = np.ones(count, np.bool_)
    if group.attrs.get(DAMAGE):
        rows = stored_rows(group, main)
        for first in range(0, count, PIECE_ROWS):
            piece = slice(first, min(first + PIECE_ROWS, count))
            values, whole = rows.sound(piece.start, piece.stop)
            measured[piece] = whole & ~np.isnan(values[:, 0])
    return measured


def write_bands(entry: h5py.Group, data: h5py.Group, each: Map) -> None:
    """Pictures at a few bands, with the axes of the map: the only ones that need no plug-in."""
    try:
        bands = json.loads(text_of(each.group.attrs.get(BANDS, "[]")))
        means = np.empty((0, 0), np.float32)
        if bands:
            means, whole = (rows := stored_rows(each.group, BANDS)).sound(0, len(rows))
            means[~whole] = np.nan
        names = [text_of(name).replace("/", " ")[:80] or "band" for name, _, _ in bands]
    except (StorageError, ValueError, TypeError):
        return
    axes = [str(axis) for axis in data.attrs["axes"]][:-1]
    if not bands or means.shape[1:] != (len(bands),) or len(set(names)) != len(names):
        return
    group = nexus_group(entry, BANDS, "NXdata", signal=names[0])
    group.attrs["auxiliary_signals"] = np.array(names[1:], dtype=h5py.string_dtype())
    say_axes(group, axes)
    for axis in axes:
        group[axis] = data[axis]
    of_results = labels("raman", each.group.attrs.get(TARGET))
    for number, (name, (_, low, high)) in enumerate(zip(names, bands, strict=True)):
        image = _at_places(group, name, means[:, number], each.places, np.array(np.nan, np.float32))
        about = f"{name}, mean from {float(low):g} to {float(high):g} 1/cm"
        image.attrs.update({**of_results, "long_name": about})
        if image.ndim > 1:
            image.attrs["interpretation"] = "image"
        _scales(image, [data[axis] for axis in axes])


def _at_places(
    data: h5py.Group, name: str, values: NDArray[Any], places: Places, missing: NDArray[Any]
) -> h5py.Dataset:
    """A number of each spectrum in a map, of which only the lines are stored where something was measured."""
    shape = places.shape
    line = int(np.prod(shape[1:]))
    lines = min(max(PIECE // line, 1), shape[0]) if shape[0] else 0
    if not lines:
        return data.create_dataset(name, shape, missing.dtype)
    chunk = (lines, *shape[1:])
    found = data.create_dataset(name, shape, missing.dtype, chunks=chunk, fillvalue=missing[()])
    for number in range(-(-shape[0] // lines)):
        first, last = number * lines, min((number + 1) * lines, shape[0])
        part = places.values(values, first * line, last * line, missing)
        if part is not None:
            found[first:last] = part.reshape(last - first, *shape[1:])
    return found
