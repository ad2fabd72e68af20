"""Locks between programs, each with a limit in time and a word of what is waited for."""

import errno
import logging
import os
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cars_rt.storage.errors import StorageError
from cars_rt.storage.write import refuse_target

log = logging.getLogger("cars_rt.storage")

#: What the system says where a file system has no locks, as that of a network may have none.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}
SAID_S = 1.0  # a wait longer than this is told
POLL_S = 0.1


class LockedError(StorageError):
    """A lock that another program holds."""


class Lock:
    """A lock on a file's name, given back by the system when its program ends, however it ends.

    Raises LockedError if another program (or another part of this one) holds it for longer than `timeout_s`,
    StorageError if the name belongs to something that is no regular file, OSError if it cannot be made.
    what: what is waited for, for people.
    """

    def __init__(self, path: Path, timeout_s: float = 0.0, what: str = "") -> None:
        self.path = path
        refuse_target(path)
        # Not bound to a thread: who makes it and who releases it may be two.
        self._lock = FileLock(path, mode=0o600, thread_local=False)
        try:
            try:
                self._lock.acquire(timeout=min(timeout_s, SAID_S), poll_interval=POLL_S)
            except Timeout:
                if not os.path.lexists(path):  # nobody holds it
                    path.touch(mode=0o600)  # raises where no file can be made, which FileLock tries for ever
                elif timeout_s <= SAID_S:
                    raise
                else:
                    log.info(
                        "waiting for %s, at most %g s: another program holds %s",
                        what or path,
                        timeout_s,
                        path,
                    )
                self._lock.acquire(timeout=max(0.0, timeout_s - SAID_S), poll_interval=POLL_S)
        except Timeout:
            raise LockedError(path, "is held by another program", errno.EAGAIN) from None
        except OSError as error:
            if error.errno in NO_LOCKS:
                with suppress(OSError):
                    path.unlink()  # nobody has it, nor can
            raise

    def release(self) -> None:
        """Give it back and remove its file. A second call does nothing."""
        if not self._lock.is_locked:
            return
        if os.name == "posix":  # while it is held; whoever waits for this file sees that it is gone
            with suppress(OSError):
                self.path.unlink()
        self._lock.release()
