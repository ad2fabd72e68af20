"""Points over time for a screen: a waterfall of spectra, and curves of quantities, read as they come."""

import threading
from abc import ABC, abstractmethod

import numpy as np

from cars_rt.view.grid import Floats, Grid, reduced
from cars_rt.view.picture import AT_ONCE, SCREEN, smallest_cell
from cars_rt.view.quantity import Quantity
from cars_rt.view.scan import Scan

MOST_AT_ONCE = 2**23  # numbers of the trail that are read in one go, about: the server's loop waits for it
GAP = 3  # times as far apart as most: between such points others are missing


class Trace(ABC):
    """Values (moments, n) of a run of points, the newest last; each stands for `step` spectra, the first one
    from spectrum `first` on. NaN where nothing was seen, or read yet."""

    def __init__(self, scan: Scan, width: int, depth: int) -> None:
        """width: numbers of a moment. depth: numbers of the trail that are read for each spectrum."""
        self.scan = scan
        self.step = self._group = self._bin = 1
        self.values: Floats = np.zeros((0, width), np.float32)
        self.behind = False  # something was left for the next go
        self._depth = depth
        self._grid: Grid | None = None
        self._read = np.zeros(0, np.int64)  # the version of each row of the trail when it was read

    @property
    def first(self) -> int:
        """The spectrum with which it begins."""
        return self.scan.first

    @abstractmethod
    def _where(self) -> Grid:
        """The trail that is read now."""

    @abstractmethod
    def _of(self, grid: Grid, rows: slice) -> Floats:
        """What is read (k, depth) of these rows. The lock is held."""

    def _made(self, means: Floats) -> Floats:
        """Values (k, n) of what was read, averaged to moments (k, depth)."""
        return means

    def _grouped(self, rows: int) -> int:
        """Rows of the trail that make one moment, a power of two."""
        return 1

    def update(self, lock: threading.Lock) -> bool:
        """Read what is new, the newest first. Returns whether there was anything; what was too much for one
        go is left for the next one."""
        with lock:
            grid = self._where()
            known = np.flatnonzero(grid.counts[:, 0])
            rows = int(known[-1]) + 1 if len(known) else 0
            self._turn(grid, self._grouped(rows), -(-rows // self._grouped(rows)))
            block = max(AT_ONCE, self._group)
            stale = np.unique(np.flatnonzero(grid.changed[:rows] > self._read[:rows]) // block)
        left, self.behind = MOST_AT_ONCE, False
        for begin in (stale[::-1] * block).tolist():
            part = slice(begin, min(begin + block, rows))
            with lock:
                self.behind = left <= 0 or grid.bin[0] != self._bin
                if self.behind:
                    break
                read = self._of(grid, part)
                self._read[part] = grid.changed[part]
            moments = slice(begin // self._group, -(-part.stop // self._group))
            self.values[moments] = self._made(reduced(read, self._group, 1))
            left -= block * self._depth
        return bool(len(stale))

    def _turn(self, grid: Grid, group: int, moments: int) -> None:
        """Make room for so many moments. Where they are others than before, all is to be read again; what is
        known of them stays meanwhile."""
        step = group * grid.bin[0]
        if grid is not self._grid or (grid.bin[0], group) != (self._bin, self._group):
            old = self.values[:0] if grid is not self._grid else reduced(self.values, step // self.step, 1)
            self.values, self._read = old, np.zeros(len(grid.changed), np.int64)
            self._grid, self._bin, self._group, self.step = grid, grid.bin[0], group, step
        more = np.full((max(moments - len(self.values), 0), self.values.shape[1]), np.nan, np.float32)
        self.values = np.concatenate((self.values[:moments], more))


class Waterfall(Trace):
    """Spectra (moments, steps of raman shift)."""

    def __init__(self, scan: Scan) -> None:
        low, high = float(scan.axis.min()), float(scan.axis.max())
        steps = min(len(scan.axis), SCREEN)
        super().__init__(scan, steps, len(scan.axis))
        self.low, self.high = low, high if high > low else low + 1
        edges = np.linspace(self.low, self.high, steps + 1)
        order = np.argsort(scan.axis)
        places = np.clip(np.searchsorted(scan.axis[order], edges[:-1]), 0, len(order) - 1)
        self._order, self._places = order, places
        self._counts = np.maximum(np.diff(places, append=len(order)), 1)

    def _where(self) -> Grid:
        return self.scan.raman

    def _of(self, grid: Grid, rows: slice) -> Floats:
        return grid.mean(rows)[:, 0]

    def _made(self, means: Floats) -> Floats:
        sums = np.add.reduceat(means[:, self._order], self._places, axis=1)
        return np.asarray(sums / self._counts, np.float32)

    def _grouped(self, rows: int) -> int:
        return smallest_cell(rows, 1)


class Curve(Trace):
    """A quantity (moments, 1)."""

    def __init__(self, scan: Scan, quantity: Quantity) -> None:
        """Raises QuantityError for a band outside the axis."""
        spans = [each for each in quantity.pixels(scan.axis) if each is not None]
        super().__init__(scan, 1, sum(each.stop - each.start for each in spans))
        self.quantity = quantity

    def _where(self) -> Grid:
        return self.scan.grid_of(self.quantity)

    def _of(self, grid: Grid, rows: slice) -> Floats:
        return self.scan.values(self.quantity, grid, rows, slice(None))

    def drawn(self) -> tuple[Floats, Floats]:
        """Spectra and values (n,) of its known points, no more than a screen shows; NaN where many are
        missing, so that no line is drawn across."""
        group = smallest_cell(len(self.values), 1)
        values = reduced(self.values, group, 1)[:, 0]
        known = np.flatnonzero(np.isfinite(values))
        apart = np.diff(known)
        usual = np.median(apart) if len(apart) else 0
        gaps = np.flatnonzero(apart > GAP * usual) + 1
        places = np.asarray(self.first + known * (group * self.step), np.float64)
        return np.insert(places, gaps, np.nan), np.insert(values[known], gaps, np.nan)
