"""HyperSpy's own HDF5 layout, .hspy: /Experiments/NAME with data and one group for each axis."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.columns import refuse_no_counts
from cars_rt.files.hdf5 import are_numbers, numbers, stored
from cars_rt.files.readers.cube import Along, map_of
from cars_rt.files.readers.lazy import of_dataset
from cars_rt.files.readers.nexus import TEXTS, is_own, noted, text_of
from cars_rt.files.readers.scale import Asked, scale_of
from cars_rt.files.spectra import Spectra, SpectraError
from cars_rt.files.units import length_um
from cars_rt.printable import printable

EXPERIMENTS = "Experiments"


def is_hyperspy(file: h5py.File) -> bool:
    """Whether a file has this layout."""
    return is_own(file, EXPERIMENTS, h5py.Group)


def read_hyperspy(file: h5py.File, path: Path, asked: Asked) -> Spectra:
    """Its one signal, of one spectral axis. Raises SpectraError."""
    experiments = stored(file, EXPERIMENTS, h5py.Group)
    names = list(experiments)
    if len(names) != 1:
        raise SpectraError(
            f"holds {len(names)} signals, {printable(', '.join(names), TEXTS)}; save one to a file"
        )
    group = stored(experiments, names[0], h5py.Group)
    data = stored(group, "data", h5py.Dataset)
    if data is None or not data.ndim:
        raise SpectraError(f"has no data in {printable(names[0], TEXTS)}")
    signal = stored(stored(group, "metadata", h5py.Group) or group, "Signal", h5py.Group)
    refuse_no_counts(text_of(signal, "quantity"))
    axes = [stored(group, f"axis-{at}", h5py.Group) for at in range(data.ndim)]
    if any(axis is None for axis in axes):
        raise SpectraError(f"lacks an axis of {printable(names[0], TEXTS)}")
    spectral = [at for at, axis in enumerate(axes) if not axis.attrs.get("navigate", at < data.ndim - 1)]
    if spectral != [data.ndim - 1]:
        raise SpectraError(
            "must have one signal axis, the last one; transpose it: signal.transpose(signal_axes=1)"
        )
    last, size = axes[-1], data.shape[-1]
    name = text_of(last, "name") or f"axis-{data.ndim - 1}"
    # Without a unit and a scale it is what HyperSpy makes of an array without an axis.
    values = None if asked.any_axis or _is_default(last) else _values(last, size)
    scale = scale_of(values, _unit(last), asked, f"axis {printable(name, TEXTS)!r}")
    return Spectra(
        scale.raman_shift,
        of_dataset(data, path, scale.turned),
        **map_of(path, data.shape, [_along(axis) for axis in axes[-3:-1]]),
        of_axis=scale.said,
        turned=scale.turned,
        written=noted("" if names[0] == "__unnamed__" else names[0]),
    )


def _unit(axis: h5py.Group) -> str:
    unit = text_of(axis, "units")
    return "" if unit in ("<undefined>", "None", "_None_") else unit


def _number(axis: h5py.Group, name: str, default: float) -> float:
    value = axis.attrs.get(name, default)
    if np.ndim(value) or not are_numbers(np.asarray(value).dtype):
        raise SpectraError(f"has no number as {name} of {axis.name}")
    return float(value)


def _is_default(axis: h5py.Group) -> bool:
    return not _unit(axis) and "axis" not in axis and _number(axis, "scale", 1) == 1


def _values(axis: h5py.Group, size: int) -> NDArray[np.float64] | None:
    if (listed := numbers(axis, "axis")) is not None:
        if listed.shape != (size,):
            raise SpectraError(f"has an axis of {listed.size} points for {size} pixels")
        return np.asarray(listed, np.float64)
    if "expression" in axis.attrs:
        raise SpectraError(
            "has an axis that is a function of another one; make it a list of numbers in HyperSpy: "
            "axis.convert_to_non_uniform_axis()"
        )
    offset, scale = _number(axis, "offset", 0), _number(axis, "scale", 1)
    return np.asarray(offset + scale * np.arange(size), np.float64)


def _along(axis: h5py.Group) -> Along:
    factor = length_um(_unit(axis))
    step = _number(axis, "scale", 1) if "scale" in axis.attrs else 0.0
    return Along(text_of(axis, "name"), None if factor is None else abs(step) * factor, falls=step < 0)
