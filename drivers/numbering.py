"""The camera's own numbers of its images, also of 16 bits, which begin again, as places in the run; pure."""

from dataclasses import dataclass

MOST_LOST = 10**6  # images in a row; a larger step is another count, not a loss
MOST_COPIES = 3  # of an image, one after the other: where there are more its number says nothing


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """How a camera numbers its images."""

    first: int | None = None  # the number of a run's first image; None: whatever comes first
    lowest: int = 0  # where a counter of few bits begins again
    highest: int | None = None  # its last number; None: it never begins again
    spectra: int = 1  # that each image yields


AS_THEY_COME = Numbering()


class NumbersError(ValueError):
    """The numbers cannot be followed: the reason in one sentence."""


class Numbers:
    """Those of one run, in order."""

    def __init__(self, numbering: Numbering) -> None:
        self._about = numbering
        self._last: int | None = None if numbering.first is None else numbering.first - 1
        self._place = 0  # of the image after the last one
        self._copies = 0  # of the last one

    def place(self, number: int, spectra: int, expected: int) -> int | None:
        """The index of the first spectrum of a block of `spectra` whose first image has this number; None
        if it came already. expected: the index that would follow. Raises NumbersError."""
        about = self._about
        if self._last is None:
            ahead, self._place = 0, expected
        else:
            ahead = number - self._last - 1
            if about.highest is not None:
                size = about.highest - about.lowest + 1
                ahead = (ahead + size // 2) % size - size // 2  # nearer than half a turn, either way
            if ahead == -1:
                self._copies += 1
                if self._copies > MOST_COPIES:
                    raise NumbersError(
                        f"{self._copies + 1} images in a row have the number {number}, so nobody could tell "
                        "which are lost: have the instrument count them"
                    )
                return None
            if not 0 <= ahead <= MOST_LOST:
                raise NumbersError(
                    f"image {number} came after image {self._last}: the camera was started again, which ends "
                    "this run"
                )
        self._copies = 0
        images = max(spectra // about.spectra, 1)
        index = self._place + ahead * about.spectra
        self._place = index + images * about.spectra
        self._last = number + images - 1
        if about.highest is not None and self._last > about.highest:
            self._last -= about.highest - about.lowest + 1
        return index
