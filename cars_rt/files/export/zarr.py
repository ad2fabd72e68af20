"""Zarr v3 with everything that `cars_rt.open` shows: each task writes one chunk, and there are no shards.

`xarray.open_zarr` opens it. No OME-Zarr: that has no place for an axis that is not uniform.
"""

import json
import warnings
from pathlib import Path
from typing import Any

from cars_rt.files.export.cube import Cube


def write_zarr(cube: Cube, path: Path) -> None:
    """Write all arrays of the file, chunk by chunk."""
    dataset = cube.dataset.copy()
    for place in (dataset, *dataset.variables.values()):
        place.attrs = {name: _plain(value) for name, value in place.attrs.items()}
        if place is not dataset:
            place.encoding = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as those about consolidated metadata, which is not asked for
        dataset.to_zarr(path, mode="w-", zarr_format=3, consolidated=False)


def _plain(value: Any) -> Any:
    """The value in a form that JSON has."""
    try:
        json.dumps(value)
    except TypeError:
        return [_plain(each) for each in value] if hasattr(value, "__iter__") else str(value)
    return value
