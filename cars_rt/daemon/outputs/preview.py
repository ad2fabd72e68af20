"""The preview: 20 times a second the latest spectrum, and band intensities of all since the last time."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Cause, Ledger
from cars_rt.daemon.batch import Batch
from cars_rt.daemon.outputs.base import Output
from cars_rt.daemon.run import Run
from cars_rt.daemon.settings import SettingsError
from cars_rt.engines.base import Slab
from cars_rt.physics.fitness import Flags
from cars_rt.protocol import BANDS, FLAGS, MAX_BLOCK, MAX_PAYLOAD_BYTES, Band, End, Frame, Start, check_band
from cars_rt.sockets import Publisher
from cars_rt.trust.curve import Access

INTERVAL_S = 0.05
BUFFER_MB = 8.0  # a viewer that is that far behind gets no more until it has caught up
LINGER_S = 0.2  # how long a close waits for viewers
STALL_S = 1.0  # and others are not kept waiting for it

#: First index, bands, their intensities (k, bands), flags (k,), made by.
Piece = tuple[int, tuple[Band, ...], NDArray[np.float32], Flags, str]


class Preview(Output):
    """Collects band intensities as batches are computed, and publishes them in bundles.

    A frame of the stream holds `bands` (k, bands), the mean of raman over each band for k consecutive
    spectra, their `flags` (k,), and `latest_counts` and `latest_raman` (p,) of the last one. It drops for a
    slow viewer rather than wait. Raises StreamError if the address cannot be bound.
    """

    name, needed = "the preview", False

    def __init__(self, address: str, bands: Sequence[Band] = (), security: Access = None) -> None:
        """bands: the default ones if there are none."""
        super().__init__()
        self.publisher = Publisher(
            address,
            "preview",
            buffer_mb=BUFFER_MB,
            overload="drop-newest",
            stall_s=STALL_S,
            security=security,
        )
        self.bands: tuple[Band, ...] = (
            tuple(bands) or BANDS
        )  # that are computed: those that lie on the run's axis
        self._wanted = self.bands
        self.weights: NDArray[np.float32] | None = None  # (pixels, bands), while a run is open
        self._run: Run | None = None  # the open one
        self._block = MAX_BLOCK  # spectra in one message
        self._ledger = Ledger()
        self._pieces: list[Piece] = []
        self._latest: tuple[Slab, Slab] | None = None
        self._time_ns = 0
        self._due = 0.0

    def set_bands(self, bands: Iterable[Band]) -> None:
        """Compute these from the next batch on."""
        self._wanted = self.bands = tuple(bands)
        if self._run is not None:
            self._weigh(self._run.start)

    def open(self, run: Run) -> None:
        """A run begins."""
        start = run.published
        assert start is not None
        self._run = run
        self._weigh(start)
        self._ledger = Ledger()
        # A start is judged by its pixels, whatever its frames hold: no block of theirs exceeds a message.
        self._block = min(MAX_BLOCK, MAX_PAYLOAD_BYTES // (start.pixels * np.dtype(np.float32).itemsize))
        self.publisher.open(replace(start, stream="preview", block=self._block), self._ledger)

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
        computed, frames, bands, made_by = batch.result(), batch.frames, batch.bands, batch.made_by
        if computed.bands is None:
            return
        first, begin = frames[0][0].index, 0
        for frame, row, _, _ in frames:
            if frame.index != first + row - begin:  # spectra are missing in between
                part = slice(begin, row)
                self._pieces.append((first, bands, computed.bands[part], computed.flags[part], made_by))
                first, begin = frame.index, row
        self._pieces.append((first, bands, computed.bands[begin:], computed.flags[begin:], made_by))
        self._latest = batch.counts[batch.rows - 1].copy(), computed.raman[-1].copy()
        self._time_ns = frames[-1][0].time_ns

    def publish(self) -> None:
        """Send what has come together since the last time."""
        self._due = time.monotonic() + INTERVAL_S
        if self._latest is None or self._run is None:
            return
        counts, raman = self._latest
        latest = {"latest_counts": counts, "latest_raman": raman}
        pieces, self._pieces = _joined(self._pieces), []
        for first, bands, values, flags, made_by in pieces:
            for begin in range(0, len(values), self._block):
                part = slice(begin, begin + self._block)
                self.publisher.send(
                    Frame(
                        stream="preview",
                        run=self._run.start.run,
                        sequence=self.publisher.sequence,
                        index=first + begin,
                        time_ns=self._time_ns,
                        arrays={"bands": values[part], FLAGS: flags[part], **latest},
                        made_by=made_by,
                        bands=bands,
                    )
                )
        self._latest = None

    @property
    def due_s(self) -> float:
        """How soon there is something to publish, s."""
        return max(self._due - time.monotonic(), 0.0) if self._pieces else math.inf

    def serve(self) -> None:
        """Call it often: late viewers get their start, and the last spectra of a pause are shown."""
        self.publisher.serve()
        if self._pieces and time.monotonic() >= self._due:
            self.publish()

    def end(self, run: Run) -> None:
        """The run is over; its totals are those of the result stream's end."""
        self.publish()
        assert run.closed is not None
        end, ledger, first = run.closed.end, self._ledger, run.start.sequence
        self._run = self.weights = None
        announced = end.spectra if end.announced is None else end.announced

        def totals() -> End:
            missing = announced - ledger.spectra
            return replace(
                end,
                stream="preview",
                frames=first + ledger.frames,
                spectra=ledger.spectra,
                announced=announced,
                lost={Cause.UPSTREAM.value: missing} if missing > 0 else {},
                ranges=(),
            )

        self.publisher.end(totals)

    def close(self, linger_s: float | None) -> bool:
        """Close after LINGER_S at most, whatever the limit: viewers that are late miss the last bundles."""
        return self.publisher.close(LINGER_S)


def band_weights(raman_shift: NDArray[np.float64], bands: Sequence[Band]) -> NDArray[np.float32]:
    """Weights (pixels, bands) that give the mean over each band; the nearest pixel where none lies in it."""
    weights = np.zeros((len(raman_shift), len(bands)), np.float32)
    for number, band in enumerate(bands):
        inside = (raman_shift >= band.low) & (raman_shift <= band.high)
        if not inside.any():
            inside[np.abs(raman_shift - (band.low + band.high) / 2).argmin()] = True
        weights[inside, number] = 1 / inside.sum()
    return weights


def parse_band(text: str) -> Band:
    """A band from NAME=LOW:HIGH or LOW:HIGH, cm-1. Raises SettingsError."""
    name, _, limits = text.rpartition("=")
    try:
        low, high = (float(each) for each in limits.split(":"))
        return check_band(name or limits, low, high)
    except ValueError:
        raise SettingsError(f"a band is NAME=LOW:HIGH in cm-1, such as CH=2800:3050, not {text!r}") from None


def _joined(pieces: Iterable[Piece]) -> list[Piece]:
    """Pieces that follow on as one."""
    joined: list[list[Piece]] = []
    following: tuple[int, tuple[Band, ...], str] | None = None
    for piece in pieces:
        first, bands, values, _, made_by = piece
        if (first, bands, made_by) == following:
            joined[-1].append(piece)
        else:
            joined.append([piece])
        following = first + len(values), bands, made_by
    return [
        (
            group[0][0],
            group[0][1],
            np.concatenate([values for _, _, values, _, _ in group]),
            np.concatenate([flags for _, _, _, flags, _ in group]),
            group[0][4],
        )
        for group in joined
    ]
