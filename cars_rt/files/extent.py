"""Where an HDF5 file ends: a program that is killed, or a power failure, may leave it saying otherwise."""

import os
from pathlib import Path

from cars_rt.storage import complete

#: The beginning of a file of HDF5's earliest format: signature, its version 0 at 8, 8 for the size of
#: addresses at 13, and where the file ends.
_SIGNATURE, _END, _HEAD = b"\x89HDF\r\n\x1a\n", 40, 48


def mend(path: Path) -> None:
    """What a program left that was killed while it wrote a file: it completes changes that were to take
    effect at once, and has the file as long as it is. HDF5 writes last where the file ends, and refuses what
    lies behind (h5clear --filesize does the same). Only for a file that nobody else uses. Raises OSError."""
    complete(path)
    with path.open("r+b", buffering=0) as file:
        head, size = file.read(_HEAD), file.seek(0, os.SEEK_END)
        ours = len(head) == _HEAD and head.startswith(_SIGNATURE) and head[8] == 0 and head[13] == 8
        if ours and int.from_bytes(head[_END:], "little") < size:
            file.seek(_END)
            file.write(size.to_bytes(8, "little"))
