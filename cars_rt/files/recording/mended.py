"""What a kill, a power failure or a disk has spoiled of a recording, as it was, where the rest says that."""

import logging
from collections.abc import Mapping

import h5py

from cars_rt.files.hdf5 import attribute, stored
from cars_rt.files.recording.indices import are_spoiled, mend_indices
from cars_rt.files.recording.left import find_left
from cars_rt.files.recording.shared import mend_shared, spoiled
from cars_rt.files.recording.texts import mend_texts
from cars_rt.files.unreadable import UNREADABLE, is_of_file
from cars_rt.files.written import DESCRIBED, rows_written
from cars_rt.protocol.messages import MAIN_ARRAY

log = logging.getLogger("cars_rt.recording")


def is_spoiled(file: h5py.File, rows: Mapping[str, int]) -> bool:
    """Whether something of a finished recording cannot be read that `mend` may mend. rows: of its streams.
    Raises StorageError where the system reads nothing."""
    return bool(spoiled(file)) or any(are_spoiled(file[name], each) for name, each in rows.items())


def mend(file: h5py.File) -> list[str]:
    """Have texts, axis and dark, rows, and what says which these are, as they were. Returns what of it was
    otherwise, as "raw/dark". What cannot be read stays as it is: `count` says that of a stream. Raises
    OSError where the system reads nothing."""
    mend_texts(file)
    mended = mend_shared(file)
    for stream, main in MAIN_ARRAY.items():
        try:
            if (group := stored(file, stream, h5py.Group)) is None:
                continue
            if attribute(file, DESCRIBED):
                mended += mend_indices(group, rows_written(group))
            else:
                mended += find_left(group, main)
        except UNREADABLE as error:
            if not is_of_file(error):
                raise
    if mended:
        log.warning("%s: %s was damaged, and is mended by what is left", file.filename, ", ".join(mended))
    return mended
