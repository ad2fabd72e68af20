"""The live picture in the terminal: the image at one Raman band while it is scanned, and the numbers."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from cars_rt.demo.pace import Pace
from cars_rt.latency import Latencies
from cars_rt.physics.fitness import named, shares
from cars_rt.protocol import Frame, Start

BAND_CM1 = (994.0, 1014.0)  # the ring breathing of toluene at 1004, polystyrene's at 1001
BAND_NAME = "1004 cm-1 (toluene, polystyrene)"
COLUMNS, LINES = 64, 28  # of the terminal at most; a line shows two rows of the image
BESIDE = 44  # columns for the numbers beside it
NOT_YET = (24, 24, 24)


class Display:
    """What has arrived so far."""

    def __init__(self) -> None:
        self.latencies = Latencies()  # source's time stamp to here
        self.spectra = 0
        self.flagged: Counter[str] = Counter()  # spectra that have a flag, by its name
        self.total: int | None = None
        self.pace = Pace()
        self.image: NDArray[np.float32] | None = None  # (rows, columns), NaN where not scanned yet
        self._band: slice | None = None

    def start(self, start: Start) -> None:
        """A run begins."""
        low, high = np.searchsorted(start.raman_shift, BAND_CM1)
        self._band = slice(int(low), max(int(high), int(low) + 1))
        self.total = start.spectra
        self.image = None if start.scan is None else np.full(start.scan, np.nan, np.float32)

    def add(self, frame: Frame, now_ns: int) -> None:
        """A block of results arrived."""
        self.latencies.add((now_ns - frame.time_ns) / 1e6)
        self.spectra += len(frame.block)
        self.pace.add(len(frame.block), frame.time_ns, now_ns)
        if frame.flags is not None and frame.flags.any():
            self.flagged.update(named(frame.flags))
        if self.image is not None:
            band = frame.raman[:, self._band].mean(axis=1)
            self.image.reshape(-1)[frame.index : frame.index + len(band)] = band

    def describe(self, rate: float) -> str | None:
        """The numbers in one line, where no picture can be drawn; None before the first spectrum."""
        if not self.spectra:
            return None
        return (
            f"{self.spectra} of {self.total or '?'} spectra, {rate:.0f}/s, "
            f"latency median {self.latencies.percentile(50):.1f} ms"
        )

    def render(self, rate: float, state: str, columns: int, lines: int) -> RenderableType:
        """The picture and the numbers, within so many columns and lines."""
        numbers = Table.grid(padding=(0, 2))
        total = f" of {self.total}" if self.total else ""
        for name, value in (
            ("", state),
            ("spectra", f"{self.spectra}{total}"),
            ("rate", f"{rate:.0f} spectra/s"),
            (
                "latency",
                f"{self.latencies.percentile(50):.1f} ms median, {self.latencies.percentile(99):.1f} ms p99",
            ),
            ("image", BAND_NAME),
            ("trust", shares(self.flagged, self.spectra) or "no spectrum has a flag"),
        ):
            numbers.add_row(Text(name, style="dim"), value)
        if self.image is None:
            return numbers
        both = Table.grid(padding=(0, 3))
        both.add_row(self._picture(max(columns - BESIDE, 8), max(lines, 4)), numbers)
        return both

    def _picture(self, most_columns: int, most_lines: int) -> Text:
        assert self.image is not None
        rows, columns = self.image.shape
        # All of the image in its own proportions, however small the terminal is.
        pixel = max(rows / (2 * min(LINES, most_lines)), columns / min(COLUMNS, most_columns), 1.0)
        height, width = max(int(rows / pixel), 1), max(int(columns / pixel), 1)
        chosen = self.image[np.ix_(_spread(rows, height), _spread(columns, width))]
        known = chosen[np.isfinite(chosen)]
        low, high = np.percentile(known, (1, 99.5)) if len(known) else (0.0, 1.0)
        # The root shows the faint lines of cells beside those of neat solvents.
        level = np.sqrt(np.clip((chosen - low) / max(high - low, 1e-6), 0, 1))
        text = Text(no_wrap=True)
        for upper in range(0, height, 2):
            text.append("\n" * (upper > 0))
            for column in range(width):
                top = _colour(level[upper, column])
                below = _colour(level[upper + 1, column]) if upper + 1 < height else NOT_YET
                text.append("▀", Style(color=_rgb(top), bgcolor=_rgb(below)))
        return text


def _spread(size: int, count: int) -> NDArray[np.intp]:
    return (np.arange(count) * size) // count


def _colour(level: float) -> tuple[int, int, int]:
    """Black, red, yellow, white: reads as brightness, too. Grey where nothing was scanned yet."""
    if not np.isfinite(level):
        return NOT_YET
    red, green, blue = (int(255 * min(max(3 * level - shift, 0), 1)) for shift in (0, 1, 2))
    return red, green, blue


def _rgb(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
