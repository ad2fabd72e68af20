"""Whose spectrum a page shows: of a pixel, a region, or the latest one; and when it is looked for again."""

from cars_rt.view.scan import Scan, Spectrum

AGAIN_S = 1.0  # a region that is still being scanned


class Place:
    """Neither a pixel nor a region: the latest spectrum. Times are of one monotonic clock, s."""

    def __init__(self) -> None:
        self.pixel: tuple[int, int] | None = None  # row, column
        self.region: tuple[int, int, int, int] | None = None  # top, left, bottom, right
        self.stale = True  # another one was chosen
        self.missing = False  # its spectrum may come after the run's end, which another stream tells
        self._due = 0.0

    def choose(
        self, pixel: tuple[int, int] | None = None, region: tuple[int, int, int, int] | None = None
    ) -> None:
        """Another one."""
        self.pixel, self.region, self.stale = pixel, region, True

    @property
    def chosen(self) -> bool:
        """Whether it is not the latest."""
        return self.pixel is not None or self.region is not None

    def is_due(self, now: float, *, ended: bool) -> bool:
        """Whether it is to be looked at. ended: the run is over, and what was there does not change."""
        again = now >= self._due
        return self.stale or (again and (not self.chosen or not ended or self.missing))

    def look(self, scan: Scan, now: float, pause: float) -> tuple[Spectrum | None, bool]:
        """What is there, and whether it is to be said that it is missing, or no longer is. The scan's lock is
        held by the caller. pause: until the latest is looked at again, s."""
        if not self.chosen:
            self.stale, self._due = False, now + pause
            return scan.latest, False
        shown = scan.region(*self.region) if self.region else scan.at(*self.pixel) if self.pixel else None
        said = (shown is None) != self.missing or (shown is None and self.stale)
        self.missing, self.stale, self._due = shown is None, False, now + AGAIN_S
        return shown, said
