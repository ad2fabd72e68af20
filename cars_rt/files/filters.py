"""How numbers of HDF5 files are compressed: by filters, of which h5py has some and hdf5plugin more."""

from functools import cache
from pathlib import Path

import h5py

from cars_rt.installation import pip_install
from cars_rt.storage import StorageError

BITSHUFFLE = 32008  # of HDF5's registered filters; hdf5plugin brings it


class FilterError(StorageError):
    """Numbers that are compressed in a way that cannot be read here."""

    @property
    def of_file(self) -> bool:
        """Nothing is wrong with them."""
        return False


@cache
def load_filters() -> bool:
    """Have h5py read and write bitshuffle with LZ4; False where hdf5plugin is missing, which brings it."""
    return bool(h5py.h5z.filter_avail(BITSHUFFLE)) or _load_plugin()


@cache
def _load_plugin() -> bool:
    """Have h5py know the filters of hdf5plugin; False where that is missing."""
    try:
        import hdf5plugin  # noqa: F401 - it registers its filters
    except ImportError:
        return False
    return True


def refuse_packed(path: Path, name: str, dataset: h5py.Dataset) -> None:
    """Raises FilterError if a dataset is compressed in a way that cannot be read here."""
    made = dataset.id.get_create_plist()
    for number in range(made.get_nfilters()):
        which = made.get_filter(number)[0]
        if h5py.h5z.filter_avail(which) or (_load_plugin() and h5py.h5z.filter_avail(which)):
            continue
        reads = "reads it" if which == BITSHUFFLE else f"may know its filter {which}"
        remedy = (
            f"no filter {which} is known here"
            if _load_plugin()
            else f"install hdf5plugin, which {reads}: {pip_install('hdf5plugin')}"
        )
        raise FilterError(path, f"has {name!r} compressed in a way that cannot be read here; {remedy}")


def packed_together(dataset: h5py.Dataset) -> int:
    """Rows that can be read together only: those of a packed chunk, 1 where nothing is packed."""
    packed = dataset.chunks and dataset.id.get_create_plist().get_nfilters()
    return int(dataset.chunks[0]) if packed else 1
