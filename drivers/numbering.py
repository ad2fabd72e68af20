"""The camera's own numbers of its images, also of 16 bits, which begin again, as places in the run; pure."""

from dataclasses import dataclass

MOST_LOST = 10**6  # images in a row; a larger step is another count, not a loss
MOST_COPIES = 3  # of an image, one after the other: where there are more its number says nothing


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """How a camera numbers its images."""

    first: int | None = None  # of a run, or of a row; None: whatever comes first
    anew: bool = False  # whether it counts each row (NextRow) from there
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
        self._last = self._before_first
        self._place = 0  # of the image after the last one
        self._said = 0  # spectra after the last one that the driver says are lost
        self._copies = 0  # of the last one
        self._row: tuple[int, int] | None = None  # index and length of that which the next image is in

    def lost(self, spectra: int) -> None:
        """So many are said to be lost after the last image, which the next number may show, too."""
        self._said += spectra

    def next_row(self, begin: int, spectra: int) -> None:
        """A row of so many spectra begins, with index `begin`: the next image is in it. Where numbers go on
        over rows, what is missing before that one fills the rows before, and the rest is the row's own
        beginning."""
        if self._about.anew:
            self._last, self._place, self._copies = self._before_first, begin, 0
            return
        self._place -= max(self._place + self._said - begin, 0)  # what the row before had too many
        self._row = begin, spectra

    def place(self, number: int, spectra: int, expected: int) -> int | None:
        """The index of the first spectrum of a block of `spectra` whose first image has this number; None
        if it came already. expected: the index that would follow. Raises NumbersError."""
        about = self._about
        if self._last is None:
            ahead, self._place = 0, expected
        else:
            ahead = self._ahead(number, self._last)
            if ahead == -1:
                self._copies += 1
                if self._copies > MOST_COPIES:
                    raise NumbersError(
                        f"{self._copies + 1} images in a row have the number {number}, so nobody could tell "
                        "which are lost: have the instrument count them"
                    )
                return None
            if not 0 <= ahead <= MOST_LOST:
                why = "the camera was started again, which ends this run"
                if self._row is not None:
                    why += ", or it counts rows anew: then say so (Numbering(first=..., anew=True))"
                raise NumbersError(f"image {number} came after image {self._last}: {why}")
        images = max(spectra // about.spectra, 1)
        index = self._place + ahead * about.spectra
        if self._row is not None:
            begin, length = self._row
            if index >= begin + length:
                raise NumbersError(
                    f"image {number} is the first one of a row, and after image {self._last} more are "
                    "missing than the row has: the trigger of a row was lost, or the camera counts on while "
                    "the scan flies back, and then the driver has to say so (Order(flyback=...))"
                )
            index, self._row = max(index, begin), None
        self._copies = self._said = 0
        self._place = index + images * about.spectra
        self._last = number + images - 1
        if about.highest is not None and self._last > about.highest:
            self._last -= about.highest - about.lowest + 1
        return index

    @property
    def _before_first(self) -> int | None:
        return None if self._about.first is None else self._about.first - 1

    def _ahead(self, number: int, last: int) -> int:
        """Images between them."""
        about, ahead = self._about, number - last - 1
        if about.highest is not None:
            size = about.highest - about.lowest + 1
            ahead = (ahead + size // 2) % size - size // 2  # nearer than half a turn, either way
        return ahead
