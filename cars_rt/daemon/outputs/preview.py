"""The preview: 20 times a second the latest spectrum, and band intensities of all since the last time."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.daemon.batch import Batch
from cars_rt.daemon.outputs.bundles import Bundles, Piece
from cars_rt.daemon.run import Run
from cars_rt.daemon.settings import SettingsError
from cars_rt.physics.band import ends
from cars_rt.protocol import (
    BANDS,
    FLAGS,
    MAX_BLOCK,
    MAX_PAYLOAD_BYTES,
    Band,
    ProtocolError,
    Start,
    check_band,
)  # fmt: skip
from cars_rt.protocol.messages import LATEST
from cars_rt.trust.curve import Access

BUFFER_MB = 8.0  # a viewer that is that far behind gets no more until it has caught up


class Preview(Bundles):
    """Collects band intensities as batches are computed, and publishes them in bundles.

    A frame of the stream holds `bands` (k, bands), the mean of raman over each band for k consecutive
    spectra, their `flags` (k,), and `latest_counts` and `latest_raman` (p,) of the last one. It drops for a
    slow viewer rather than wait. Raises StreamError if the address cannot be bound.
    """

    name = "the preview"

    def __init__(self, address: str, bands: Sequence[Band] = (), security: Access = None) -> None:
        """bands: the default ones if there are none. Raises SettingsError for two of one name."""
        distinct(bands)
        super().__init__(address, "preview", BUFFER_MB, security)
        #: Those that are computed: that lie on the run's axis.
        self.bands: tuple[Band, ...] = tuple(bands) or BANDS
        self._wanted = self.bands
        self.weights: NDArray[np.float32] | None = None  # (pixels, bands), while a run is open
        self._latest: dict[str, NDArray[Any]] = {}
        self._time_ns = 0  # of that

    def set_bands(self, bands: Iterable[Band]) -> None:
        """Compute these from the next batch on. Raises SettingsError for two of one name."""
        self._wanted = self.bands = distinct(bands)
        if self._run is not None:
            self._weigh(self._run.start)

    @property
    def outside(self) -> list[Band]:
        """Bands that are wanted, and lie outside the axis of the open run."""
        return [band for band in self._wanted if self._run is not None and band not in self.bands]

    def open(self, run: Run) -> None:
        """A run begins."""
        start = run.published
        assert start is not None
        self._weigh(start)
        # A start is judged by its pixels, whatever its frames hold: no block of theirs exceeds a message.
        row = start.pixels * np.dtype(np.float32).itemsize
        self._begin(run, min(MAX_BLOCK, MAX_PAYLOAD_BYTES // row))

    def _weigh(self, start: Start) -> None:
        low, high = float(start.raman_shift.min()), float(start.raman_shift.max())
        everything = Band("everything", low, high)
        on_axis = tuple(band for band in self._wanted if band.high >= low and band.low <= high)
        self.bands = on_axis or (everything,)
        self.weights = band_weights(start.raman_shift, self.bands)

    def prepare(self, batch: Batch) -> None:
        """Have the intensities of the present bands computed."""
        batch.weights, batch.bands = self.weights, self.bands

    def take(self, batch: Batch) -> None:
        """Keep its intensities, and its last spectrum: the slab will be filled again."""
        computed, frames = batch.result(), batch.frames
        values = computed.bands
        if values is None:
            return

        def keep(index: int, part: slice) -> None:
            arrays: dict[str, NDArray[Any]] = {"bands": values[part], FLAGS: computed.flags[part]}
            self._pieces.append(Piece(index, arrays, batch.made_by, batch.bands))

        first, begin = frames[0].index, 0
        for frame in frames:
            if frame.index != first + frame.row - begin:  # spectra are missing in between
                keep(first, slice(begin, frame.row))
                first, begin = frame.index, frame.row
        keep(first, slice(begin, None))
        latest = batch.counts[batch.rows - 1].copy(), computed.raman[-1].copy()
        self._latest = dict(zip(LATEST, latest, strict=True))
        self._time_ns = frames[-1].time_ns

    def _message(self, part: dict[str, NDArray[Any]]) -> tuple[int, dict[str, NDArray[Any]]]:
        return self._time_ns, part | self._latest

    def end(self, run: Run) -> None:
        """The run is over; its totals are those of the result stream's end."""
        super().end(run)
        self.weights = None


def band_weights(raman_shift: NDArray[np.float64], bands: Sequence[Band]) -> NDArray[np.float32]:
    """Weights (pixels, bands) that give the mean over each band; the nearest pixel where none lies in it."""
    weights = np.zeros((len(raman_shift), len(bands)), np.float32)
    for number, band in enumerate(bands):
        inside = (raman_shift >= band.low) & (raman_shift <= band.high)
        if not inside.any():
            inside[np.abs(raman_shift - (band.low + band.high) / 2).argmin()] = True
        weights[inside, number] = 1 / inside.sum()
    return weights


def distinct(bands: Iterable[Band]) -> tuple[Band, ...]:
    """The bands. Files and displays tell them apart by their names: raises SettingsError for two of one."""
    known = tuple(bands)
    names = [band.name for band in known]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise SettingsError(f"two bands are called {twice!r}: give each a name of its own")
    return known


def parse_band(text: str) -> Band:
    """A band from LOW:HIGH or LOW-HIGH, cm-1, NAME= before it or not. Raises SettingsError."""
    name, _, limits = text.rpartition("=")
    try:
        low, high = ends(limits)
    except ValueError:
        raise SettingsError(f"a band is NAME=LOW:HIGH in cm-1, such as CH=2800:3050, not {text!r}") from None
    try:
        return check_band(name.strip() or f"{low:.12g}:{high:.12g}", low, high)
    except ProtocolError as error:
        raise SettingsError(f"{text[:80]!r} is no band: {error}") from None
