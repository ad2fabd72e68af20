"""Whether a file may grow by so much: on its disk, by a quota, and by a limit of its own."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile


def refuse_no_room(path: Path, size: int) -> None:
    """Raises OSError if a file, which need not be there yet, cannot have so many bytes more than it has.

    For what writes amid its own tables and crashes where the disk refuses one of them, as HDF5 does.
    """
    if shutil.disk_usage(path.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if not hasattr(os, "posix_fallocate"):
        return
    end = 0
    with suppress(FileNotFoundError):
        end = path.stat().st_size
    # Quotas and limits show only where room is taken: in a file beside it, as it may be open.
    with TemporaryFile(dir=path.parent, buffering=0) as trial:
        os.posix_fallocate(trial.fileno(), end, size)
