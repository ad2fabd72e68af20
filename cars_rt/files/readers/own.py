"""Where counts lie in an HDF5 file of our layout: a recording, or the same names in a file of somebody."""

import h5py

from cars_rt.files.hdf5 import stored
from cars_rt.files.readers.nexus import is_own
from cars_rt.files.written import is_recording


def has_axis(file: h5py.File) -> bool:
    """Whether an axis lies where our layout has it. Without one, counts there may be a short way to those of
    an NXdata."""
    raw = [file["raw"]] if is_own(file, "raw", h5py.Group) else []
    return is_recording(file) or any(_lies(each, "raman_shift") for each in (file, *raw))


def place_of(file: h5py.File) -> h5py.Group | None:
    """Where counts lie as in our layout. Groups of these names are other programs' own, as of an NXentry."""
    ours = is_recording(file)
    if _lies(file, "raw"):
        stored(file, "raw", h5py.Group)  # says why it is none
    for group in (file.get("raw"), file):
        if group is not None and (ours or any(_lies(group, name) for name in ("counts", "spectra"))):
            return group
    return None


def _lies(group: h5py.Group, name: str) -> bool:
    """Whether anything but a group has this name, also a link, which is refused where it is read."""
    link = group.get(name, getlink=True)
    return link is not None and not is_own(group, name, h5py.Group)
