"""Values of an HDF5 dataset that stand for "nothing was measured here", as other programs say it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.unreadable import UNREADABLE, unreadable
from cars_rt.storage import StorageError

VALUES = ("_FillValue", "missing_value", "FillValue", "fill_value")  # attributes: such a value is no number
LOWEST, HIGHEST, RANGE = "valid_min", "valid_max", "valid_range"  # attributes: what lies beyond is none
NETCDF = "_NCProperties"  # attribute of the root of a file that netCDF-4 wrote
UNWRITTEN = {"f4": 9.969209968386869e36, "f8": 9.969209968386869e36, "i2": -32767, "i4": -2147483647}

Rule: TypeAlias = tuple[str, Callable[[NDArray[Any]], Any]]  # what says it, and where it is so


class Missing:
    """How a dataset says that values are missing. Raises StorageError if it says it in no number."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._path, self._name = Path(dataset.file.filename), repr(str(dataset.name))
        try:
            self._rules = [*self._by_value(dataset), *self._by_limit(dataset)]
        except StorageError:
            raise
        except UNREADABLE as error:
            raise unreadable(self._path, self._name, error) from None

    def refuse(self, values: NDArray[Any], first: int = 0, within: tuple[int, ...] = ()) -> None:
        """Raises StorageError if some of these values are missing, rows of the dataset from `first` on.
        within: where in the dataset these rows lie, if not in its first dimension."""
        for said, is_missing in self._rules:
            if np.any(missing := is_missing(values)):
                at = [int(each) for each in np.argwhere(missing)[0]]
                place = (*within, at[0] + first, *at[1:]) if at else ()
                where = f" at [{', '.join(map(str, place))}]" if place else ""
                raise StorageError(
                    self._path,
                    f"has no value in {self._name}{where}: it is missing, by its {said}; leave such spectra "
                    "out, or the attribute if it is wrong",
                )

    def _by_value(self, dataset: h5py.Dataset) -> list[Rule]:
        said = {f"{name} = {each:g}": each for name in VALUES for each in self._numbers(dataset, name)}
        fill, dtype = dataset.fillvalue, dataset.dtype
        if dtype.kind in "if" and np.ndim(fill) == 0 and fill < 0:  # another one may have been measured
            said[f"fill value {fill:g}"] = float(fill)
        default = UNWRITTEN.get(f"{dtype.kind}{dtype.itemsize}")
        if default is not None and _is_of_netcdf(dataset.file):
            said[f"fill value {default:g}"] = default
        stored = {each: _as_stored(value, dtype) for each, value in said.items()}
        return [(each, partial(np.equal, gap)) for each, gap in stored.items()]

    def _by_limit(self, dataset: h5py.Dataset) -> list[Rule]:
        rules: list[Rule] = []
        for name in (LOWEST, HIGHEST, RANGE):
            limits = self._numbers(dataset, name)
            said = f"{name} = {' to '.join(f'{each:g}' for each in limits)}"
            if limits and name != HIGHEST:
                rules.append((said, partial(np.greater, limits[0])))
            if limits and name != LOWEST:
                rules.append((said, partial(np.less, limits[-1])))
        return rules

    def _numbers(self, dataset: h5py.Dataset, name: str) -> list[float]:
        if name not in dataset.attrs:
            return []
        try:
            return [float(each) for each in np.ravel(dataset.attrs[name])]
        except (OSError, RuntimeError, TypeError, ValueError):
            wrong = f"has {self._name} with an attribute {name} that is no number; mend it or leave it out"
            raise StorageError(self._path, wrong) from None


def _is_of_netcdf(file: h5py.File) -> bool:
    try:
        return NETCDF in file.attrs
    except UNREADABLE:  # one of them is spoiled, which is nothing of these numbers
        return False


def _as_stored(value: float, dtype: np.dtype[Any]) -> Any:
    """What a writer that was given this value has stored: one that an integer does not hold wraps."""
    if dtype.kind not in "iu":
        with np.errstate(over="ignore"):
            return np.float64(value).astype(dtype)
    if not float(value).is_integer():
        return np.nan
    bits = 8 * dtype.itemsize
    wrapped = int(value) % 2**bits
    return wrapped - 2**bits if dtype.kind == "i" and wrapped >= 2 ** (bits - 1) else wrapped
