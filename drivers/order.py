"""In which order a scan is measured, and how its spectra come into that of the stream; pure.

The stream goes row by row, always in the same direction, one spectrum for each point. A microscope may scan
there and back, measure several frames at each point, or go on measuring while its mirror flies back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Cause
from cars_rt.physics.darkness import three_beside
from cars_rt.protocol import MAX_BLOCK
from cars_rt.protocol.limits import MAX_PAYLOAD_BYTES

MOST_FRAMES = 2**16  # at one point: sums of 16 bits have 32


@dataclass(frozen=True, kw_only=True)
class Order:
    """How the points of a scan are measured. As it stands: row by row, one frame each."""

    snake: bool = False  # every second row backwards
    frames: int = 1  # at each point, which are added up
    rows: int | None = None  # of each plane, which begins forwards; None: there is one
    flyback: int = 0  # points after each row where nothing is measured that counts

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= MOST_FRAMES or self.flyback < 0:
            raise ValueError(f"a point has 1 to {MOST_FRAMES} frames, and a flight back no fewer than 0")


ROW_BY_ROW = Order()


@dataclass(slots=True)
class Piece:
    """Consecutive spectra of a run: counts, or the cause for which they are lost."""

    index: int
    spectra: int
    counts: NDArray[Any] | None = None  # (spectra, p)
    time_ns: int | None = None
    cause: Cause | None = None


class Sorter:
    """Brings pieces as they are measured into the order of the stream. Holds back one row at most."""

    def __init__(self, order: Order, columns: int | None, pixels: int, dtype: str) -> None:
        """columns: of the scan; None: there is none. dtype: of the counts that are yielded."""
        self.columns = 1 if columns is None else columns
        self._order = order
        self.dtype = summed(dtype) if order.frames > 1 else dtype
        self.plain = replace(order, rows=None) == ROW_BY_ROW
        self._row = (self.columns + order.flyback) * order.frames  # frames from one row to the next
        most = MAX_PAYLOAD_BYTES // (pixels * max(np.dtype(self.dtype).itemsize, 4))
        self.block = max(min(self.columns, MAX_BLOCK, most), 1)
        self._counts = np.zeros((0 if self.plain else self.columns, pixels), self.dtype)
        self._causes: list[Cause | None] = [None] * len(self._counts)
        self._at = 0  # the row that is being measured
        self._frames = 0  # of it
        self._measured = 0  # points of it, whole ones
        self._passed = 0  # points of it that went on
        self._time_ns: int | None = None

    def points(self, frames: int) -> int:
        """Points of the stream that so many frames make."""
        if self.plain:
            return frames
        rows, rest = divmod(frames, self._row)
        return rows * self.columns + min(rest // self._order.frames, self.columns)

    @property
    def row(self) -> int:
        """Frames from the beginning of one row to that of the next."""
        return self._row

    def take(self, piece: Piece) -> Iterator[Piece]:
        """Pieces of the stream. Their counts may be overwritten when the next one is asked for."""
        if self.plain:
            yield piece
            return
        done = 0
        while done < piece.spectra:
            row, begin = divmod(piece.index + done, self._row)
            end = min(begin + piece.spectra - done, self._row)
            counts = None if piece.counts is None else piece.counts[done : done + end - begin]
            if row != self._at:
                self._at, self._frames, self._measured, self._passed = row, 0, 0, 0
            self._add(begin, end, counts, piece.cause)
            if piece.counts is not None:
                self._time_ns = piece.time_ns
            self._frames, self._measured = end, min(end // self._order.frames, self.columns)
            if not self._backwards or self._measured == self.columns:
                yield from self._pass()
            done += end - begin

    def finish(self) -> Iterator[Piece]:
        """What is held back of a row that was not measured to its end, and a point that lacks frames."""
        if self.plain or self._passed == self.columns or not self._frames:
            return
        first = self._at * self.columns
        if self._backwards:
            yield Piece(first, self.columns - self._measured, None, None, Cause.UNMEASURED)
            yield from self._pass()
        elif self._frames > self._measured * self._order.frames:
            yield Piece(first + self._measured, 1, None, None, Cause.UNMEASURED)

    @property
    def _backwards(self) -> bool:
        row = self._at % self._order.rows if self._order.rows else self._at
        return self._order.snake and row % 2 == 1

    def _add(self, begin: int, end: int, counts: NDArray[Any] | None, cause: Cause | None) -> None:
        frames = self._order.frames
        for frame in range(begin, min(end, self.columns * frames)):
            point, number = divmod(frame, frames)
            if number == 0:
                self._causes[point] = None
            if counts is None:
                self._causes[point] = cause
            elif number == 0:
                self._counts[point] = counts[frame - begin]
            else:
                self._counts[point] += counts[frame - begin]

    def _pass(self) -> Iterator[Piece]:
        """The points between those that went on and those that are measured, in the order of the stream."""
        begin, end, first = self._passed, self._measured, self._at * self.columns
        counts, causes, self._passed = self._counts[begin:end], self._causes[begin:end], end
        if self._backwards:
            counts, causes, begin = counts[::-1], causes[::-1], self.columns - end
        at = 0
        while at < len(causes):
            stop = at + 1
            while stop < len(causes) and causes[stop] is causes[at] and stop - at < self.block:
                stop += 1
            kept = counts[at:stop] if causes[at] is None else None
            yield Piece(first + begin + at, stop - at, kept, self._time_ns, causes[at])
            at = stop


def is_cut(parts: NDArray[Any], full_scale: float) -> bool:
    """Whether one of the parts (m, p) of a sum is cut at the camera's full scale, counts."""
    if parts.max() < full_scale:
        return False
    return three_beside(parts >= full_scale)


def summed(dtype: str) -> str:
    """A dtype that holds the sum of several frames, or rows, of this one."""
    return {"uint8": "uint32", "uint16": "uint32", "uint32": "float64"}.get(dtype, dtype)
