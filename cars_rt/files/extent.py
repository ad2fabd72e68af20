"""Where an HDF5 file ends: a program that is killed, or a power failure, may leave it saying otherwise."""

import os
from contextlib import suppress
from pathlib import Path

import h5py

from cars_rt.files.hdf5 import opened, stored
from cars_rt.files.unreadable import UNREADABLE
from cars_rt.protocol.messages import MAIN_ARRAY
from cars_rt.storage import complete

#: The beginning of a file of HDF5's earliest format: signature, its version 0 at 8, 8 for the size of
#: addresses at 13, and where the file ends.
_SIGNATURE, _END, _HEAD = b"\x89HDF\r\n\x1a\n", 40, 48
MOST_MISSING = 2**30  # bytes behind the end, or as many as there are: what a disk had still to write


def mend(path: Path) -> None:
    """What a program left that was killed while it wrote a file, or of which a power failure kept a part from
    the disk: it completes changes that were to take effect at once, and has the file as long as it says, and
    as any stream's table of chunks says; what is not there is zeros. HDF5 writes last where the file ends,
    and refuses what lies behind (h5clear --filesize does the same); what it allocates must not lie where
    something is expected. Only for a file that nobody else uses. Raises OSError."""
    complete(path)
    with path.open("r+b", buffering=0) as file:
        head, size = file.read(_HEAD), file.seek(0, os.SEEK_END)
        if not (len(head) == _HEAD and head.startswith(_SIGNATURE) and head[8] == 0 and head[13] == 8):
            return
        most = size + max(size, MOST_MISSING)
        said = int.from_bytes(head[_END:], "little")
        if said > most:
            return  # HDF5 says that it is cut short
        end = max(said, size)
        if said != size:
            _set_end(path, end)
    furthest = 0
    with suppress(OSError), opened(path, locking=False) as content:
        furthest = max((each for each in _ends(content) if each <= most), default=0)
    if furthest > end:
        _set_end(path, furthest)


def _set_end(path: Path, end: int) -> None:
    with path.open("r+b", buffering=0) as file:
        if end > file.seek(0, os.SEEK_END):
            file.truncate(end)
        file.seek(_END)
        file.write(end.to_bytes(8, "little"))


def _ends(file: h5py.File) -> list[int]:
    """Where each chunk ends that a table of a stream names, as far as tables can be read."""
    ends: list[int] = []
    for stream in MAIN_ARRAY:
        group, names = None, []
        with suppress(*UNREADABLE):
            group = stored(file, stream, h5py.Group)
            names = list(group or ())
        for name in names:
            with suppress(*UNREADABLE):
                found = stored(group, name)  # none where HDF5 finds nothing under a name that it lists
                if isinstance(found, h5py.Dataset):
                    found.id.chunk_iter(lambda chunk: ends.append(chunk.byte_offset + chunk.size))
    return ends
