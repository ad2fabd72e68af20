"""HDF5's heaps of texts, looked at as HDF5 reads them.

A file has its texts in a few lists, of objects that say how long they are, and HDF5 goes through a list when
it reads the first text in it. Where a disk has spoiled such a length it goes on for ever, in C, where Ctrl-C
does nothing. So what it reads comes by these files, for which such a list ends before that object: the texts
from there on cannot be read, and all else can. In a file that is changed it ends there from then on.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import h5py

from cars_rt.storage import Changes

_BEGINNING = b"GCOL\x01\0\0\0"  # of a list: what it is and its version; then its length
_HEAD = 16  # bytes before the first object, and of an object before its text
_SHORTEST = 4096  # list, which most are
_ANY = b"\xff\xff\x01\0\0\0\0\0"  # of an object that no text is expected in, before its length


class Read(io.FileIO):
    """A file to be read, as h5py's driver for files of Python uses it. Raises OSError."""

    ended = False  # whether a list ended where it was spoiled
    _place = 0  # of its own: the system's is shared with processes that are forked

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._place = offset if whence == os.SEEK_SET else super().seek(offset, whence)
        return self._place

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """All that is asked for: zeros behind the end, as HDF5 has them."""
        first, found = self._place, memoryview(buffer).cast("B")
        done = 0
        while done < len(found) and (size := self._read(first + done, found[done:])):
            done += size
        found[done:] = bytes(len(found) - done)
        if _end(found, lambda at, head: self._read(first + at, head)):
            self.ended = True
        return len(found)

    def _read(self, place: int, buffer: "memoryview | bytearray") -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self.fileno(), [buffer], place)
        super().seek(place)
        return super().readinto(buffer) or 0


class Changed(Changes):
    """A file to be changed. Raises OSError."""

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        first, done = self.tell(), super().readinto(buffer)
        found = memoryview(buffer).cast("B")
        if _end(found, lambda at, head: self.seek(first + at) and super(Changed, self).readinto(head)):
            self.seek(first)
            self.write(found)
        return done


def watched(path: Path, content: Read | Changed) -> h5py.File:
    """The file with this content. Raises OSError."""
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    access.set_libver_bounds(h5py.h5f.LIBVER_EARLIEST, h5py.h5f.LIBVER_LATEST)
    # No cache of chunks: HDF5 crashes on a cached chunk that a full disk refuses.
    access.set_cache(*access.get_cache()[:2], 0, 1.0)
    access.set_fileobj_driver(h5py.h5fd.fileobj_driver, content)
    mode = h5py.h5f.ACC_RDWR if content.writable() else h5py.h5f.ACC_RDONLY
    return h5py.File(h5py.h5f.open(os.fsencode(path), mode, access))


def _end(found: memoryview, read: Callable[[int, bytearray], int | None]) -> bool:
    """Have a list end, if this is the beginning of one, before the first object that cannot be. Returns
    whether there was one. read: other bytes of it, from a place within it on; HDF5 may read its beginning
    first. Raises OSError for one whose own length may be spoiled: what lies behind is something else."""
    if len(found) < _HEAD or found[:8] != _BEGINNING:
        return False
    length, at = int.from_bytes(found[8:_HEAD], "little"), _HEAD
    while at + _HEAD <= length:
        head = bytearray(found[at : at + _HEAD])
        if len(head) < _HEAD:
            head = bytearray(_HEAD)
            read(at, head)
        size = int.from_bytes(head[8:], "little")
        if head[0] or head[1]:  # that of what is free, which has no number, is of all of it
            size = _HEAD + -(-size // 8) * 8
        if not 0 < size <= length - at:
            if length != _SHORTEST or len(found) < length or at % 8:
                raise OSError("texts in it are damaged")
            found[at : at + _HEAD] = _ANY + (length - at - _HEAD).to_bytes(8, "little")
            return True
        at += size
    return False
