"""What a disk has spoiled of a file so that HDF5 neither writes nor deletes it: it makes room for another."""

from typing import Any

import h5py
import numpy as np

from cars_rt.files.hdf5 import readable_attrs

SPOILED = "spoiled"  # the group where such things lie, which nobody reads


def put_aside(parent: h5py.Group, name: str) -> None:
    """Take the name from what is there. It is not deleted: HDF5 would end amid that."""
    aside = parent.file.require_group(SPOILED)
    place = f"{str(parent.name).strip('/')}/{name}".strip("/").replace("/", "_")
    taken = next(each for number in range(len(aside) + 1) if (each := f"{place}_{number}") not in aside)
    parent.move(name, f"/{SPOILED}/{taken}")


def replace(there: h5py.Dataset, values: np.ndarray[Any, Any]) -> h5py.Dataset:
    """A dataset of these values instead of this one, with the same name, type, chunks and attributes."""
    parent, name = there.parent, str(there.name).rpartition("/")[2]
    growing = None if there.maxshape[0] is not None else (None, *values.shape[1:])
    attrs, kind, chunks, summed = readable_attrs(there), there.dtype, there.chunks, there.fletcher32
    put_aside(parent, name)
    anew = parent.create_dataset(
        name, data=values.astype(kind), chunks=chunks, maxshape=growing, fletcher32=summed
    )
    anew.attrs.update(attrs)
    return anew
