"""What was seen of one run: maps of the daemon's bands, spectra within a bound of memory, the latest one."""

import math
import time
from collections import Counter, deque
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cars_rt.physics.fitness import named
from cars_rt.protocol import MAX_BANDS, Band, End, Frame, Start
from cars_rt.view.grid import Floats, Grid, Trail
from cars_rt.view.quantity import Kind, Quantity

PLANE_BYTES = 16e6  # of the map of one band: four million cells
LEAST_PAUSE_S = 5.0  # shorter ones mean nothing in any run
MOST_PAUSES, ALIKE = 256, 1.25  # the last ones are kept; about as long is within this factor
PASSED = 10  # times as many bundles as lay between two pauses: then no other one is expected
TRAIL_ROWS = 16_384  # moments of point measurements that are kept apart


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What is drawn as a spectrum: means over `pixels` of the scan, with what is known beside."""

    title: str
    raman: Floats  # (p,)
    counts: Floats | None = None  # (p,)
    deviation: Floats | None = None  # (p,): of raman over the region, or as the model states it
    pixels: int = 1
    place: str = ""  # where it is from, if the title does not say that


class Scan:
    """One run. `most_bytes` bounds the spectra that are kept, raman and counts together.

    The feed's thread writes and the page's reads, under the lock of the store.
    """

    def __init__(self, start: Start, most_bytes: float) -> None:
        self.start = start
        self.axis: NDArray[np.float64] = start.raman_shift
        self.points = start.scan is None  # no map, but one place in time
        self.stacked = 1  # planes of a stack that lie one under the other, if that is known
        self.planes: dict[Band, Grid] = {}
        self._steady: set[Band] = set()  # bands that the daemon has computed since the first bundle
        self.first = 0  # of points, the first one that came: a run may be joined after hours
        self.numbers: NDArray[np.int64] | None = None  # of a list by places, what its spectra are called
        self._share = most_bytes / 2
        self.raman = self._grid(start.pixels, self._share)
        self.counts: Grid | None = None  # if the source of spectra sends them
        self.latest: Spectrum | None = None
        self.latest_index = -1
        self.latest_ns = 0  # when the camera had delivered the latest one
        self.bands: tuple[Band, ...] = ()  # that the daemon computes now
        self.seen = 0  # spectra in the preview
        self.kept = 0  # spectra that came whole
        self.missed = 0  # spectra whose bundles did not come, though they were sent
        self.beyond = 0  # spectra after the last pixel of the scan
        self.not_finite = 0  # spectra whose bands, or that themselves in a recording, are no numbers
        self.flagged: Counter[str] = Counter()  # spectra with each flag
        self.with_flags = 0  # spectra with any
        self.lost: dict[str, int] = {}
        self.end: End | None = None
        self.begun = time.monotonic()
        self.touched = self.begun  # when anything came last
        self._bundled: float | None = None  # when a bundle came last
        self._bundles = 0
        self._pauses: deque[tuple[float, int]] = deque(maxlen=MOST_PAUSES)  # s, and the bundle behind each

    def _grid(self, depth: int, most_bytes: float) -> Grid:
        if self.start.scan is None:
            return Trail(depth, most_bytes, TRAIL_ROWS, self.first)
        return Grid(*self.start.scan, depth, most_bytes)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the scan; of points, moments and 1."""
        return self.raman.scan

    @property
    def rows(self) -> range:
        """Rows that there may be; of points, moments."""
        return range(self.first, self.first + (self.shape[0] if self.numbers is None else len(self.numbers)))

    @property
    def step_um(self) -> tuple[float, float] | None:
        """Distance between rows, between columns, um; None if it is unknown or cannot be."""
        step = self.start.step_um
        return step if step and all(math.isfinite(each) and each > 0 for each in step) else None

    @property
    def between_s(self) -> float:
        """For so long nothing comes in this run though all is well, as far as that is known: such as between
        planes of a stack. What came once may be the instrument held up; about as long twice is expected, as
        long as it goes on."""
        expected = self.start.exposure_s or 0.0
        for (more, one), (less, other) in pairwise(sorted(self._pauses, reverse=True)):
            passed = self._bundles - max(one, other)
            if more <= ALIKE * less and passed <= PASSED * abs(one - other):
                return max(expected, less)
        return expected

    @property
    def thinned(self) -> bool:
        """Whether some spectra were not kept whole, so that maps of other bands have holes."""
        return self.kept + self.beyond < self.seen

    def take_bundle(self, frame: Frame) -> None:
        """A frame of the preview."""
        bands = frame.bands or ()
        values = np.asarray(frame.block, np.float32)
        self._touch(frame)
        if self._bundled is not None and (pause_s := self.touched - self._bundled) > LEAST_PAUSE_S:
            self._pauses.append((pause_s, self._bundles))
        self._bundled, self._bundles = self.touched, self._bundles + 1
        if bands != self.bands:
            self._change_bands(bands)
        for number, band in enumerate(bands[: values.shape[1]]):
            self.planes[band].add(frame.index, values[:, number : number + 1])
        self.seen += len(values)
        self.beyond = max(self.beyond, frame.index + len(values) - self._pixels)
        self.not_finite += _not_finite(values)
        self._flag(frame)
        raman, counts = frame.arrays.get("latest_raman"), frame.arrays.get("latest_counts")
        if raman is not None and raman.shape == self.axis.shape:
            good = counts is not None and counts.shape == self.axis.shape
            self._is_latest(frame, raman, counts if good else None, None)

    def take_spectra(self, frame: Frame) -> None:
        """A frame of whole spectra; `counts` (k, p) beside them are kept, too."""
        raman, counts = frame.raman, frame.arrays.get("counts")
        self._touch(frame)
        self.raman.add(frame.index, raman)
        if counts is not None and counts.shape == raman.shape:
            if self.counts is None:
                self.counts = self._grid(self.start.pixels, self._share)
            self.counts.add(frame.index, counts)
        self.kept += len(raman)
        deviation = frame.deviation
        if deviation is not None:
            last = counts[-1] if counts is not None and counts.shape == raman.shape else None
            self._is_latest(frame, raman[-1], last, deviation[-1])

    def take_recorded(self, frame: Frame) -> None:
        """Whole spectra of a recording: all that there is of them."""
        self.take_spectra(frame)
        self.seen += len(frame.raman)
        self.not_finite += _not_finite(frame.raman)
        self._flag(frame)
        counts = frame.arrays.get("counts")
        last = counts[-1] if counts is not None and counts.shape == frame.raman.shape else None
        self._is_latest(frame, frame.raman[-1], last, None)

    def _flag(self, frame: Frame) -> None:
        if frame.flags is not None and frame.flags.any():
            self.flagged.update(named(frame.flags))
            self.with_flags += int(np.count_nonzero(frame.flags))

    def _touch(self, frame: Frame) -> None:
        now = time.monotonic()
        self.touched = now
        if self.points and not (self.seen or self.kept):
            self.first = self.raman.first = frame.index

    def _is_latest(
        self, frame: Frame, raman: Floats, counts: Floats | None, deviation: Floats | None
    ) -> None:
        index = frame.index + len(frame.block) - 1
        if index < self.latest_index or (index == self.latest_index and deviation is None):
            return
        self.latest_index, self.latest_ns = index, int(frame.times_ns[-1])
        copy = None if counts is None else np.array(counts, np.float32)
        spread = None if deviation is None else np.array(deviation, np.float32)
        place = self._place(*divmod(index, self.shape[1]))
        self.latest = Spectrum("latest spectrum", np.array(raman, np.float32), copy, spread, place=place)

    @property
    def _pixels(self) -> int:
        scan = self.start.scan
        return 2**62 if scan is None else scan[0] * scan[1]

    def _change_bands(self, bands: tuple[Band, ...]) -> None:
        """Keep maps of bands that are no longer computed, while there is room for them."""
        self._steady = self._steady & set(bands) if self.seen else set(bands)
        for band in bands:
            if band not in self.planes:
                self.planes[band] = self._grid(1, PLANE_BYTES)
        for band in list(self.planes):
            if len(self.planes) <= MAX_BANDS:
                break
            if band not in bands:
                del self.planes[band]
        self.bands = bands

    def grid_of(self, quantity: Quantity) -> Grid:
        """Where this quantity is read: the daemon's own map of its band if there is one, or the spectra."""
        return self.plane_of(quantity) or self.raman

    def plane_of(self, quantity: Quantity) -> Grid | None:
        """The daemon's map of this band. One that was set in mid-run, or, where the spectra's map is as fine,
        missed bundles, is none while the spectra know more of the scan."""
        if quantity.kind is not Kind.MEAN:
            return None
        low, high = quantity.band.low, quantity.band.high
        alike = [band for band in self.planes if (band.low, band.high) == (low, high)]
        # One that was there from the beginning is whole, though spectra may be ahead of the bundles; and some
        # holes are better than coarse cells for all that is left of the run.
        steady = set() if self.missed and self.raman.exact else self._steady
        whole = [band for band in alike if band in steady or self.planes[band].covered >= self.raman.covered]
        return self.planes[whole[-1]] if whole else None

    def values(self, quantity: Quantity, grid: Grid, rows: slice, columns: slice) -> Floats:
        """The quantity (rows, columns) in these cells of `grid`; NaN where nothing was seen."""
        if grid is not self.raman:
            return grid.mean(rows, columns)[..., 0]
        first, second = quantity.pixels(self.axis)
        values = quantity.of(grid.mean(rows, columns, first), self.axis[first])
        if second is not None:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = values / quantity.of(grid.mean(rows, columns, second), self.axis[second])
            values[~np.isfinite(values)] = np.nan
        return values

    def at(self, row: int, column: int) -> Spectrum | None:
        """The spectrum at a pixel, or the nearest that was kept; the title says which. None: none near."""
        grid = self.raman
        if not (row in self.rows and 0 <= column < self.shape[1]):
            return None
        cell = grid.nearest(*grid.cell(row, column))
        if cell is None:
            return None
        there = slice(cell[0], cell[0] + 1), slice(cell[1], cell[1] + 1)
        counts = None if self.counts is None else self.counts.mean(*there)[0, 0]
        return Spectrum(
            self._title(row, column, cell),
            grid.mean(*there)[0, 0],
            counts,
            pixels=int(grid.counts[cell]),
        )

    def _title(self, row: int, column: int, cell: tuple[int, int]) -> str:
        """Which spectrum is shown, and for which, where another one was asked for."""
        grid = self.raman
        (tall, wide), near, (top, left) = grid.bin, cell != grid.cell(row, column), grid.corner(cell)
        kept, asked = self._place(top, left), self._place(row, column)
        mean = f"mean of {tall} spectra" if self.points else f"mean of {tall} × {wide} pixels"
        kept = kept if grid.exact else f"{mean} from {kept}"
        return f"{kept}, nearest kept to {asked}" if near else kept

    def _place(self, row: int, column: int) -> str:
        if self.points:
            return f"spectrum {row if self.numbers is None else self.numbers[row]}"
        return f"row {row}, column {column}"


def _not_finite(values: NDArray[np.generic]) -> int:
    """How many of these (k, n) hold anything that is no number."""
    return int(np.count_nonzero(~np.isfinite(values).all(axis=1)))
