"""The camera's own numbers of its images, also of 16 bits, which begin again, as places in the run; pure."""

from dataclasses import dataclass

MOST_LOST = 10**6  # images in a row; a larger step is another count, not a loss


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """How a camera numbers its images."""

    first: int | None = None  # the number of a run's first image; None: whatever comes first
    lowest: int = 0  # where a counter of few bits begins again
    highest: int | None = None  # its last number; None: it never begins again
    spectra: int = 1  # that each image yields


AS_THEY_COME = Numbering()


class NumbersBackError(ValueError):
    """The numbers went back, or far away: the camera was started again, or another one took its place."""


class Numbers:
    """Those of one run, in order."""

    def __init__(self, numbering: Numbering) -> None:
        self._about = numbering
        self._last: int | None = None if numbering.first is None else numbering.first - 1
        self._place = 0  # of the image after the last one

    def place(self, number: int, spectra: int, expected: int) -> int | None:
        """The index of the first spectrum of a block of `spectra` whose first image has this number; None
        if it came already. expected: the index that would follow. Raises NumbersBackError."""
        about = self._about
        if self._last is None:
            ahead, self._place = 0, expected
        else:
            ahead = number - self._last - 1
            if about.highest is not None:
                size = about.highest - about.lowest + 1
                ahead = (ahead + size // 2) % size - size // 2  # nearer than half a turn, either way
            if ahead == -1:
                return None
            if not 0 <= ahead <= MOST_LOST:
                raise NumbersBackError(f"image {number} came after image {self._last}")
        images = max(spectra // about.spectra, 1)
        index = self._place + ahead * about.spectra
        self._place = index + images * about.spectra
        self._last = number + images - 1
        if about.highest is not None and self._last > about.highest:
            self._last -= about.highest - about.lowest + 1
        return index
