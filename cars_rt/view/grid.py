"""Values over a scan within a bound of memory: pixels are averaged to cells where there are too many."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float32]


class Grid:
    """Sums and counts (rows, columns) of cells, each of `depth` values; a cell is `bin` pixels of the scan.

    The bin is the smallest power of two along each axis with which the sums take at most `most_bytes`. With a
    bin of one, a value that comes again replaces the first. Not for several threads at once.
    """

    first = 0  # the row of the scan that is its first one

    def __init__(self, rows: int, columns: int, depth: int, most_bytes: float) -> None:
        self.scan = rows, columns
        self.bin = smallest_bin(rows, columns, most_bytes / (4 * depth))
        shape = -(-rows // self.bin[0]), -(-columns // self.bin[1])
        self.sums: Floats = np.zeros((*shape, depth), np.float32)  # unwritten memory costs nothing
        self.counts: NDArray[np.uint32] = np.zeros(shape, np.uint32)
        self.changed: NDArray[np.int64] = np.zeros(
            shape[0], np.int64
        )  # the version of each row's last change
        self.version = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return self.counts.shape[0], self.counts.shape[1]

    @property
    def exact(self) -> bool:
        """Whether each cell is one pixel."""
        return self.bin == (1, 1)

    @property
    def covered(self) -> int:
        """Pixels that are in it."""
        return int(self.counts.sum())

    def add(self, index: int, values: ArrayLike) -> None:
        """Take in (k, depth) values of consecutive pixels from `index` on, without those beyond the scan."""
        columns = self.scan[1]
        block = np.asarray(values, np.float32)[: max(self.scan[0] * columns - index, 0)]
        if not len(block):
            return
        self.version += 1
        first, last = index // columns, (index + len(block) - 1) // columns
        if self.exact:
            part = slice(index, index + len(block))
            self.sums.reshape(-1, self.sums.shape[2])[part] = block
            self.counts.reshape(-1)[part] = 1
        else:
            for row in range(first, last + 1):
                begin, end = max(row * columns, index), min((row + 1) * columns, index + len(block))
                self._bin(row, begin - row * columns, block[begin - index : end - index])
        self.changed[first // self.bin[0] : last // self.bin[0] + 1] = self.version

    def _bin(self, row: int, column: int, values: Floats) -> None:
        """Values (k, depth) of one row of the scan, from this column on."""
        width = self.bin[1]
        cells = (column + np.arange(len(values))) // width
        starts = np.flatnonzero(np.diff(cells, prepend=-1))
        into = slice(int(cells[0]), int(cells[-1]) + 1)
        self.sums[row // self.bin[0], into] += np.add.reduceat(values, starts, axis=0)
        self.counts[row // self.bin[0], into] += np.diff(starts, append=len(values)).astype(np.uint32)

    def cell(self, row: int, column: int) -> tuple[int, int]:
        """The cell of a pixel."""
        return (row - self.first) // self.bin[0], column // self.bin[1]

    def corner(self, cell: tuple[int, int]) -> tuple[int, int]:
        """The first pixel of a cell."""
        return self.first + cell[0] * self.bin[0], cell[1] * self.bin[1]

    def mean(self, rows: slice, columns: slice = slice(None), depth: slice = slice(None)) -> Floats:
        """Means (rows, columns, depth) of these cells; NaN where nothing is."""
        sums, counts = self.sums[rows, columns, depth], self.counts[rows, columns, None]
        if self.exact:
            return np.where(counts > 0, sums, np.float32(np.nan))
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(sums / counts, np.float32)

    def nearest(self, row: int, column: int, most: int = 8) -> tuple[int, int] | None:
        """The filled cell nearest to this one, within `most` cells along each axis; None without any."""
        top, left = max(row - most, 0), max(column - most, 0)
        around = self.counts[top : row + most + 1, left : column + most + 1]
        where = np.argwhere(around > 0)
        if not len(where):
            return None
        offset = where + np.array((top - row, left - column))
        found = where[(offset**2).sum(axis=1).argmin()]
        return int(found[0] + top), int(found[1] + left)


class Trail(Grid):
    """A grid of one column and of any number of rows: when it is full, each two rows become one.

    It begins at `first`; what comes from before that is left out.
    """

    def __init__(self, depth: int, most_bytes: float, most_rows: int, first: int) -> None:
        rows = max(min(int(most_bytes / (4 * depth)), most_rows) // 2 * 2, 2)
        super().__init__(rows, 1, depth, 8.0 * rows * depth)
        self.first = first

    def add(self, index: int, values: ArrayLike) -> None:
        """Take in values as Grid does; none lie beyond."""
        block = np.asarray(values, np.float32)[max(self.first - index, 0) :]
        row = max(index - self.first, 0)
        while row + len(block) > self.scan[0]:
            self._halve()
        super().add(row, block)

    def _halve(self) -> None:
        rows = self.shape[0]
        half = rows // 2
        self.sums[:half] = self.sums[0::2] + self.sums[1::2]
        self.counts[:half] = self.counts[0::2] + self.counts[1::2]
        self.sums[half:], self.counts[half:] = 0, 0
        self.bin = 2 * self.bin[0], 1
        self.scan = rows * self.bin[0], 1
        self.version += 1
        self.changed[:] = self.version


def smallest_bin(rows: int, columns: int, most_cells: float) -> tuple[int, int]:
    """Powers of two, rows and columns of a cell, with which there are at most so many cells."""
    tall = wide = 1
    while -(-rows // tall) * -(-columns // wide) > max(most_cells, 1):
        if -(-columns // wide) >= -(-rows // tall):
            wide *= 2
        else:
            tall *= 2
    return tall, wide


def reduced(values: Floats, tall: int, wide: int) -> Floats:
    """Means of tall x wide values (rows, columns), without those that are NaN; NaN where all are."""
    if tall == wide == 1:
        return values
    rows, columns = values.shape
    padded = np.full((-(-rows // tall) * tall, -(-columns // wide) * wide), np.nan, np.float32)
    padded[:rows, :columns] = values
    blocks = padded.reshape(padded.shape[0] // tall, tall, padded.shape[1] // wide, wide)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(known, blocks, 0).sum(axis=(1, 3)) / count, np.float32)
