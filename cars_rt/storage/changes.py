"""Changes to a file that take effect all at once, or not at all, when a program is killed or the power fails.

Until `commit` the file's bytes stay as they are: what changes is kept in memory, by pages, and only what
lies behind the old end is written at once. Then all pages are written behind the end, with a checksum, and
last to their places. Who finds such pages behind the end of a file puts them there (`complete`).

Meanwhile the file has no beginning, so that nobody takes it for one: of pages of which some are old HDF5
makes lists without an end, which take all memory.

    pages, each of PAGE bytes; their numbers, uint64; then MAGIC, and as uint64 the file's length afterwards,
    how many pages, and the CRC-32 of pages and numbers; all little-endian, up to the end of the file
"""

import errno
import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

PAGE = 4096
MAGIC = b"cars-rt changes\n"
FULL = errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)
_TAIL = struct.Struct("<16s3Q")  # MAGIC, length, pages, checksum
_NUMBER = struct.Struct("<Q")
_PIECE = 2**20  # bytes that are copied at once
_BEGINNING = 16  # bytes of a file by which it is known


class Changes(io.RawIOBase):
    """A file to be changed, as h5py's driver for files of Python uses it. Raises OSError."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("r+b", buffering=0)
        self._size = self._kept = self._file.seek(0, os.SEEK_END)  # up to `kept` the old bytes count
        self._direct = -(-self._size // PAGE) * PAGE  # from here on nothing of the old file lies
        self._pages: dict[int, bytearray] = {}
        self._full = False  # no room behind the old end: what is written there is kept in memory, too
        self._at = 0

    def commit(self) -> None:
        """Let them take effect. On a full disk they go to their places at once, and a kill in that
        millisecond spoils the file."""
        end = max(self._file.seek(0, os.SEEK_END), self._direct, self._size)
        for number in range(self._kept // PAGE, min(-(-self._size // PAGE), self._direct // PAGE)):
            self._page(number)  # what was cut off comes again as zeros
        self._pages = {number: page for number, page in self._pages.items() if self._differs(number, page)}
        if self._pages:
            self._page(0)
            try:
                self._write_behind(end)
                _put(self._file, 0, bytes(_BEGINNING), self._size)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self._file.truncate(self._size)  # which may make room
            for number in self._numbers:
                _put(self._file, number, self._pages[number], self._size)
            os.fsync(self._file.fileno())  # before what lies behind goes
        self._file.truncate(self._size)
        self._pages.clear()

    def _write_behind(self, end: int) -> None:
        self._file.seek(end)
        checksum = 0
        for part in self._behind():
            checksum = zlib.crc32(part, checksum)
            _write(self._file, part)
        _write(self._file, _TAIL.pack(MAGIC, self._size, len(self._pages), checksum))
        os.fsync(self._file.fileno())  # before any of them goes to its place

    def _differs(self, number: int, page: bytearray) -> bool:
        """Whether it is not in the file yet: what was written may be what was there, or zeros in a hole."""
        self._file.seek(number * PAGE)
        there = self._file.read(PAGE)
        return there + bytes(PAGE - len(there)) != page or len(there) < PAGE

    def _behind(self) -> Iterator[bytes]:
        numbers, many = self._numbers, _PIECE // PAGE
        for first in range(0, len(numbers), many):
            yield b"".join(self._pages[number] for number in numbers[first : first + many])
        yield b"".join(_NUMBER.pack(number) for number in numbers)

    @property
    def _numbers(self) -> list[int]:
        """The last ones first: what lies behind is led to from before."""
        return sorted(self._pages, reverse=True)

    def close(self) -> None:
        """Leave it, without what was not committed."""
        if not self.closed:
            self._file.close()
        super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- as a file ----------------------------------------------------------------------------------

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        """All that is asked for: zeros where nothing was written."""
        found = memoryview(buffer).cast("B")
        first, last = self._at, self._at + len(found)
        self._file.seek(first)
        done = 0
        while done < len(found) and (size := self._file.readinto(found[done:])):  # type: ignore[attr-defined]
            done += size
        found[done:] = bytes(len(found) - done)
        cut = slice(max(self._kept - first, 0), max(min(self._direct, last) - first, 0))
        found[cut] = bytes(len(found[cut]))
        for number in range(first // PAGE, -(-last // PAGE) if self._pages else 0):
            if (page := self._pages.get(number)) is not None:
                begin, end = max(number * PAGE, first), min((number + 1) * PAGE, last)
                found[begin - first : end - first] = page[begin - number * PAGE : end - number * PAGE]
        self._at = last
        return len(found)

    def write(self, content: "bytes | memoryview") -> int:  # type: ignore[override]
        given = memoryview(content).cast("B")
        first, last = self._at, self._at + len(given)
        if last > self._direct and not self._full:
            self._full = not self._written(max(first, self._direct), given[max(self._direct - first, 0) :])
        place = first
        while place < (last if self._full else min(last, self._direct)):
            number, within = divmod(place, PAGE)
            end = min((number + 1) * PAGE, last)
            self._page(number)[within : within + end - place] = given[place - first : end - first]
            place = end
        self._at, self._size = last, max(self._size, last)
        return len(given)

    def _written(self, place: int, content: memoryview) -> bool:
        """Whether there was room for it behind the old end."""
        try:
            self._file.seek(place)
            _write(self._file, content)
        except OSError as error:
            if error.errno not in FULL:
                raise
            return False
        return True

    def truncate(self, size: int | None = None) -> int:
        size = self._at if size is None else size
        if size < self._size:
            self._kept = min(self._kept, size)
            for number in [each for each in self._pages if (each + 1) * PAGE > size]:
                within = max(size - number * PAGE, 0)
                self._pages[number][within:] = bytes(PAGE - within)
            self._file.truncate(max(size, self._direct))
        self._size = size
        return size

    def flush(self) -> None:
        """Nothing: it takes effect by `commit` alone."""

    def _page(self, number: int) -> bytearray:
        if (page := self._pages.get(number)) is None:
            self._file.seek(number * PAGE)
            there = PAGE if number * PAGE >= self._direct else min(PAGE, self._kept - number * PAGE)
            page = bytearray(self._file.read(max(there, 0)))
            page.extend(bytes(PAGE - len(page)))
            self._pages[number] = page
        return page


def are_under_way(path: Path) -> bool:
    """Whether a file has no beginning, since its changes go to their places just now, or a program was killed
    while they did. Raises OSError."""
    with path.open("rb") as file:
        without = file.read(_BEGINNING) == bytes(_BEGINNING)
        end = file.seek(0, os.SEEK_END)
        file.seek(max(end - _TAIL.size, 0))
        return without and file.read(len(MAGIC)) == MAGIC


def complete(path: Path) -> bool:
    """Put the pages in their places that are behind the end of this file; whether there were some, all of
    them. A file whose program was killed before that is as it was, but for its length. Raises OSError."""
    with path.open("r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if end < _TAIL.size:
            return False
        file.seek(end - _TAIL.size)
        magic, size, pages, checksum = _TAIL.unpack(file.read(_TAIL.size))
        begin = end - _TAIL.size - pages * (PAGE + _NUMBER.size)
        if magic != MAGIC or begin < size or _checksum(file, begin, end - _TAIL.size) != checksum:
            return False
        numbers = begin + pages * PAGE
        _put(file, 0, bytes(_BEGINNING), size)  # which the last page brings back, as in `commit`
        for each in range(pages):
            file.seek(numbers + each * _NUMBER.size)
            (number,) = _NUMBER.unpack(file.read(_NUMBER.size))
            file.seek(begin + each * PAGE)
            _put(file, number, file.read(PAGE), size)
        os.fsync(file.fileno())
        file.truncate(size)
        return True


def _checksum(file: BinaryIO, begin: int, end: int) -> int:
    checksum = 0
    file.seek(begin)
    while begin < end and (part := file.read(min(_PIECE, end - begin))):
        checksum, begin = zlib.crc32(part, checksum), begin + len(part)
    return checksum


def _put(file: BinaryIO, number: int, page: bytes | bytearray, size: int) -> None:
    """A page in its place, as far as the file reaches."""
    if (room := size - number * PAGE) > 0:
        file.seek(number * PAGE)
        _write(file, memoryview(page)[:room])


def _write(file: BinaryIO, content: "bytes | bytearray | memoryview") -> None:
    """All of it: the system may take a part of it at a time."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]
