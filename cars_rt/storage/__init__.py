"""What meets the disk: files written at once or not at all, read within limits, locked for a limited time.

Folders may be shared with others, and files come from elsewhere. So nothing here follows a link to write,
waits at a pipe, trusts the size that a file announces, or waits for a lock without end.
"""

from cars_rt.storage.changes import Changes, are_under_way, complete
from cars_rt.storage.errors import StorageError
from cars_rt.storage.folder import make_folder, mkdir, refuse_missing_folder
from cars_rt.storage.lock import NO_LOCKS, Lock, LockedError
from cars_rt.storage.memory import SMALL, refuse_size, refuse_too_much
from cars_rt.storage.names import file_name, numbered
from cars_rt.storage.read import read_bytes, read_text, refuse_no_table, refuse_special_file
from cars_rt.storage.room import refuse_no_room
from cars_rt.storage.syncing import Syncing
from cars_rt.storage.write import refuse_target, replacing, write_bytes, write_text

__all__ = [
    "NO_LOCKS",
    "SMALL",
    "Changes",
    "Lock",
    "LockedError",
    "StorageError",
    "Syncing",
    "are_under_way",
    "complete",
    "file_name",
    "make_folder",
    "mkdir",
    "numbered",
    "read_bytes",
    "read_text",
    "refuse_missing_folder",
    "refuse_no_room",
    "refuse_no_table",
    "refuse_size",
    "refuse_special_file",
    "refuse_target",
    "refuse_too_much",
    "replacing",
    "write_bytes",
    "write_text",
]
