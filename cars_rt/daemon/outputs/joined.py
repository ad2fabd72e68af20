"""Frames of counts that leave as one frame of results, since they were computed together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.daemon.batch import Entry
from cars_rt.protocol import DELAYS, MAX_BLOCK, Start
from cars_rt.protocol.limits import MAX_DELAY_S

JOINED_BYTES = 500_000


def largest(start: Start, arrays: int) -> int:
    """Spectra in one frame of results: as many as the instrument sends at once, or JOINED_BYTES.

    arrays: (k, p) float32 each, that a frame of results carries.
    """
    spectrum = start.pixels * np.dtype(np.float32).itemsize * arrays
    return max(start.block, min(JOINED_BYTES // spectrum, MAX_BLOCK))


@dataclass(frozen=True, slots=True)
class Joined:
    """Consecutive rows of a batch, of one frame of counts or several that follow on."""

    index: int  # of the first spectrum in the run
    first: int  # row in the batch
    rows: int
    time_ns: int  # when the camera had delivered the first of the frames
    received_ns: int  # when that one came in
    lost: int  # spectra of the run lost before the last of them came in
    entries: Sequence[Entry]

    def delays(self) -> dict[str, NDArray[Any]]:
        """When the camera had delivered each spectrum, (k,), s after time_ns; nothing for one frame."""
        if len(self.entries) == 1:
            return {}
        after = [frame.time_ns - self.time_ns for frame in self.entries]
        spectra = [frame.spectra for frame in self.entries]
        return {DELAYS: np.repeat(np.array(after, np.float64) / 1e9, spectra)}


def joined(frames: Sequence[Entry], most: int) -> Iterator[Joined]:
    """The frames of a batch in order, those that follow on without a gap as one of at most `most` spectra."""
    begin = 0
    for at in range(1, len(frames) + 1):
        first, last = frames[begin], frames[at - 1]
        rows = last.row + last.spectra - first.row
        if at < len(frames):
            following = frames[at]
            apart_ns = abs(following.time_ns - first.time_ns)
            fits = rows + following.spectra <= most and apart_ns < MAX_DELAY_S * 1e9
            if following.index == first.index + rows and fits:
                continue
        yield Joined(
            first.index, first.row, rows, first.time_ns, first.received_ns, last.lost, frames[begin:at]
        )
        begin = at
