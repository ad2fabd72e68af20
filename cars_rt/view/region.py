"""The mean over a region of a map: read some rows at a time, and again only where something came."""

import threading

import numpy as np
from numpy.typing import NDArray

from cars_rt.view.grid import Floats, Grid
from cars_rt.view.picture import Window
from cars_rt.view.scan import Scan, Spectrum

AT_ONCE = 2**20  # values that are copied while the feed waits


class Region:
    """The pixels of a window of one scan that has a map."""

    def __init__(self, window: Window) -> None:
        self.window = window
        self._shown: Spectrum | None = None  # what was there at the last look
        self._seen = -1  # the version of the spectra then

    def look(self, scan: Scan, lock: threading.Lock) -> Spectrum | None:
        """Mean over the region, and the deviation where each pixel was kept; None where nothing is. The very
        object of the last look if none of the rows has changed."""
        window, grid, (tall, wide) = self.window, scan.raman, scan.raman.bin
        rows = slice(window.top // tall, min(-(-window.bottom // tall), grid.shape[0]))
        columns = slice(window.left // wide, min(-(-window.right // wide), grid.shape[1]))
        with lock:
            changed, version = int(grid.changed[rows].max(initial=0)), grid.version
        if changed <= self._seen:
            return self._shown
        self._seen, self._shown = version, None
        mean, deviation, pixels = _moments(grid, rows, columns, lock)
        if pixels:
            counts = None if scan.counts is None else _moments(scan.counts, rows, columns, lock)[0]
            last = min(rows.stop * tall, scan.shape[0]) - 1, min(columns.stop * wide, scan.shape[1]) - 1
            title = f"mean of {pixels} spectra, rows {rows.start * tall} to {last[0]}"
            title += f", columns {columns.start * wide} to {last[1]}"
            self._shown = Spectrum(title, mean, counts, deviation, pixels)
        return self._shown


def _moments(
    grid: Grid, rows: slice, columns: slice, lock: threading.Lock
) -> tuple[Floats, Floats | None, int]:
    """Mean (p,) over the pixels in these cells, standard deviation where each cell is one pixel, and how many
    pixels are there."""
    depth, pixels = grid.sums.shape[2], 0
    total: NDArray[np.float64] = np.zeros(depth)
    squares: NDArray[np.float64] = np.zeros(depth)
    step = max(AT_ONCE // ((columns.stop - columns.start) * depth), 1)
    for first in range(rows.start, rows.stop, step):
        part = slice(first, min(first + step, rows.stop))
        with lock:
            counts = grid.counts[part, columns]
            pixels += int(counts.sum())
            sums = grid.sums[part, columns][counts > 0]
        values = sums.astype(np.float64)
        total += values.sum(axis=0)
        squares += np.einsum("kp,kp->p", values, values)
    mean = total / max(pixels, 1)
    if not grid.exact or pixels < 2:
        return mean.astype(np.float32), None, pixels
    spread = np.sqrt(np.maximum(squares / pixels - mean**2, 0) * pixels / (pixels - 1))
    return mean.astype(np.float32), spread.astype(np.float32), pixels
