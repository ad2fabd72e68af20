"""Pictures of a scan for a screen: no more cells than it shows, and which rows of them are new."""

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cars_rt.view.grid import Floats, Grid, reduced
from cars_rt.view.quantity import Quantity
from cars_rt.view.scan import Scan

SCREEN = 512  # cells along each side of a picture
AT_ONCE = 64  # rows that are read while the feed waits
EMPTY_BELOW, EMPTY_ABOVE = 1.0, 99.5  # percentiles of automatic limits


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the scan, in pixels: rows top to bottom and columns left to right, without the last ones."""

    top: int
    left: int
    bottom: int
    right: int

    def within(self, rows: int, columns: int, first: int = 0) -> "Window":
        """Cut to a scan, or to its rows from `first` on without `rows`; at least one pixel."""
        top, left = min(max(self.top, first), rows - 1), min(max(self.left, 0), columns - 1)
        return Window(
            top, left, min(max(self.bottom, top + 1), rows), min(max(self.right, left + 1), columns)
        )


class Picture:
    """Values (rows, columns) of a quantity in a window; `update` says which rows have changed."""

    def __init__(
        self,
        scan: Scan,
        quantity: Quantity,
        window: Window | None = None,
        grid: Grid | None = None,
        least: tuple[int, int] = (1, 1),
    ) -> None:
        """grid: where the quantity is read; the scan's own choice without it. least: pixels of a cell.

        Raises QuantityError for a band outside the axis.
        """
        quantity.pixels(scan.axis)
        self.scan, self.quantity = scan, quantity
        self.grid = grid or scan.grid_of(quantity)
        rows, columns = self.grid.scan
        window = (window or Window(0, 0, rows, columns)).within(rows, columns)
        self._grid_bin = self.grid.bin
        self.tall = smallest_cell(window.bottom - window.top, max(self.grid.bin[0], least[0]))
        self.wide = smallest_cell(window.right - window.left, max(self.grid.bin[1], least[1]))
        # Widened to whole cells, so that these do not depend on where the window begins.
        self.window = Window(
            window.top // self.tall * self.tall,
            window.left // self.wide * self.wide,
            min(-(-window.bottom // self.tall) * self.tall, rows),
            min(-(-window.right // self.wide) * self.wide, columns),
        )
        self._seen = 0
        shape = (
            -(-(self.window.bottom - self.window.top) // self.tall),
            -(-(self.window.right - self.window.left) // self.wide),
        )
        self.values: Floats = np.full(shape, np.nan, np.float32)

    @property
    def stale(self) -> bool:
        """Whether the scan has moved on in a way that needs another picture."""
        return self.grid.bin != self._grid_bin or self.scan.grid_of(self.quantity) is not self.grid

    def update(self, lock: threading.Lock) -> slice | None:
        """Read what is new. Returns the rows of `values` that changed; None without any."""
        grid, (tall, wide) = self.grid, self.grid.bin
        first, end = self.window.top // tall, -(-self.window.bottom // tall)
        columns = slice(self.window.left // wide, -(-self.window.right // wide))
        with lock:
            changed = np.flatnonzero(grid.changed[first:end] > self._seen)
            self._seen = grid.version
        if not len(changed):
            return None
        step = self.tall // tall
        begin = int(changed[0]) // step
        stop = int(changed[-1]) // step + 1
        for row in range(begin, stop, max(AT_ONCE // step, 1)):
            last = min(row + max(AT_ONCE // step, 1), stop)
            rows = slice(first + row * step, min(first + last * step, end))
            with lock:
                values = self.scan.values(self.quantity, grid, rows, columns)
            self.values[row:last] = reduced(values, step, self.wide // wide)
        return slice(begin, stop)


def alike(scan: Scan, quantities: list[Quantity], window: Window | None = None) -> list[Picture]:
    """Pictures of several quantities with cells of one size. Raises QuantityError as each of them does."""
    grids = [scan.grid_of(each) for each in quantities]
    least = max(each.bin[0] for each in grids), max(each.bin[1] for each in grids)
    return [Picture(scan, each, window, grid, least) for each, grid in zip(quantities, grids, strict=True)]


def smallest_cell(pixels: int, smallest: int) -> int:
    """The cell along one side: a power of two from `smallest` on."""
    size = smallest
    while -(-pixels // size) > SCREEN:
        size *= 2
    return size


def limits(values: Floats) -> tuple[float, float] | None:
    """Percentiles between which colours are spread; None without any number."""
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = (float(each) for each in np.percentile(known, (EMPTY_BELOW, EMPTY_ABOVE)))
    return (low, high) if high > low else (low, low + max(abs(low) * 1e-3, 1e-6))


def rgba(channels: tuple[Floats, Floats, Floats], ranges: list[tuple[float, float]]) -> NDArray[np.uint32]:
    """Three pictures as one (rows, columns) of red, green, blue; transparent where one of them is missing."""
    shape = channels[0].shape
    image = np.zeros((*shape, 4), np.uint8)
    known = np.ones(shape, bool)
    for number, (values, (low, high)) in enumerate(zip(channels, ranges, strict=True)):
        finite = np.isfinite(values)
        known &= finite
        share = np.clip((np.where(finite, values, low) - low) / max(high - low, 1e-30), 0, 1)
        image[..., number] = (share * 255).astype(np.uint8)
    image[..., 3] = np.where(known, 255, 0)
    return image.view("<u4")[..., 0]
