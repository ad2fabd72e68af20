"""Which frames came lately: what tells a copy of one from another frame with the same number."""

import zlib
from array import array
from itertools import pairwise

import numpy as np

from cars_rt.protocol.messages import Frame

SIZE = 4096  # frames; a power of two
NEVER = -1  # the time stamp of a frame that did not come


class Recent:
    """The time stamps of the last frames, by number; of frames that share one, also what they hold."""

    __slots__ = ("_marks", "times")

    def __init__(self) -> None:
        self.times = array("q", [NEVER]) * SIZE  # each at its number, modulo SIZE
        self._marks: dict[int, int] = {}  # CRC-32 by number, only where a time stamp is not enough

    def note(self, frame: Frame) -> None:
        """It came."""
        self.times[frame.sequence % SIZE] = frame.time_ns

    def skip(self, first: int, count: int) -> None:
        """So many frames, from this number on, did not come."""
        for number in range(max(first, first + count - SIZE), first + count):
            self.times[number % SIZE] = NEVER

    def mark(self, frame: Frame) -> None:
        """Its time stamp is not its own alone."""
        if frame.sequence in self._marks:
            return
        if len(self._marks) > 2 * SIZE:
            oldest = frame.sequence - SIZE
            self._marks = {number: crc for number, crc in self._marks.items() if number >= oldest}
        self._marks[frame.sequence] = _crc(frame)

    def pace(self, due: int) -> tuple[float, int]:
        """The usual and the longest time in ns between two frames one after the other, of some before this
        number. The usual one is a mean without the longest, which may be the pause after a line."""
        times = [self.times[number % SIZE] for number in range(max(due - 64, 0), due)]
        waits = [b - a for a, b in pairwise(times) if NEVER not in (a, b)]
        longest = max(waits, default=0)
        return (sum(waits) - longest) / max(len(waits) - 1, 1), longest

    def came(self, frame: Frame) -> bool | None:
        """Whether it is a copy of the frame with its number, which is one of the last SIZE; None if that one
        never came."""
        stamp = self.times[frame.sequence % SIZE]
        if stamp == NEVER:
            return None
        mark = self._marks.get(frame.sequence)
        return stamp == frame.time_ns and (mark is None or mark == _crc(frame))


def _crc(frame: Frame) -> int:
    return zlib.crc32(np.ascontiguousarray(frame.block).data)
