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

    __slots__ = ("_held", "_marks", "_times", "due", "first", "last")

    def __init__(self) -> None:
        self.last: Frame | None = None  # the last frame in order
        self.first = self.due = 0  # the number of the first one, and of the next one
        self._times = array("q", [NEVER]) * SIZE  # each at its number, modulo SIZE
        self._held: tuple[object, int] = None, 0  # the last block, and its CRC-32
        self._marks: dict[int, int] = {}  # CRC-32 by number, only where a time stamp is not enough

    def take(self, frame: Frame) -> None:
        """It came in order, and what is missing before it did not."""
        number, last = frame.sequence, self.last
        if last is None:
            self.first = number
        else:
            for missing in range(max(self.due, number - SIZE), number):
                self._times[missing % SIZE] = NEVER
            if frame.time_ns <= last.time_ns:
                self._mark(last)
                self._mark(frame)
        self._times[number % SIZE] = frame.time_ns
        self.last, self.due = frame, number + 1

    def take_late(self, frame: Frame) -> None:
        """It was missing, and came at last: what comes with its number from here on is a copy, or another."""
        self._times[frame.sequence % SIZE] = frame.time_ns
        self._mark(frame)

    def copied(self, frame: Frame, number: int) -> bool:
        """Whether this very frame came before, under this number."""
        return self.came(frame, number) is True

    def late(self, frame: Frame, number: int) -> bool:
        """Whether it may be the one with this number, which was missing, and comes too late."""
        last = self.last
        return (last is None or frame.time_ns <= last.time_ns) and self.came(frame, number) is None

    def came(self, frame: Frame, number: int) -> bool | None:
        """Whether it came before; None if none with this number did. Of what was too long ago nobody knows:
        that is no copy then, since what is not counted as one is told and lost, and a copy is neither."""
        if self.last is None or number < self.first:
            return None
        if not 0 < self.due - number <= SIZE:
            return False
        if number == self.last.sequence:
            self._mark(self.last)
        if (stamp := self._times[number % SIZE]) == NEVER:
            return None
        mark = self._marks.get(number)
        return stamp == frame.time_ns and (mark is None or mark == self._crc(frame))

    def _mark(self, frame: Frame) -> None:
        """Its time stamp is not its own alone."""
        if frame.sequence in self._marks:
            return
        if len(self._marks) > 2 * SIZE:
            near = range(self.due - SIZE, self.due + 1)
            self._marks = {number: crc for number, crc in self._marks.items() if number in near}
        self._marks[frame.sequence] = self._crc(frame)

    def _crc(self, frame: Frame) -> int:
        """Of what a frame holds: once for each, whatever it is compared with."""
        if self._held[0] is not frame.block:
            self._held = frame.block, zlib.crc32(np.ascontiguousarray(frame.block).data)
        return self._held[1]

    def shortest(self) -> int:
        """The shortest time in ns between two frames one after the other, of the last ones; 0 if unknown."""
        return min(self._waits(), default=0)

    def pace(self) -> tuple[float, int]:
        """The usual and the longest time in ns between two frames one after the other, of the last ones. The
        usual one is a mean without the longest, which may be the pause after a line."""
        waits = self._waits()
        longest = max(waits, default=0)
        return (sum(waits) - longest) / max(len(waits) - 1, 1), longest

    def _waits(self) -> list[int]:
        times = [self._times[number % SIZE] for number in range(max(self.due - 64, 0), self.due)]
        return [b - a for a, b in pairwise(times) if NEVER not in (a, b) and b >= a]
