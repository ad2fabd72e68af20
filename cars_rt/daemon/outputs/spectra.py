"""Whole spectra for displays: as many as a screen can use, counts beside results; nobody is waited for."""

import logging
import math
import time
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Cause, Ledger
from cars_rt.daemon.batch import Batch
from cars_rt.daemon.outputs.base import Output
from cars_rt.daemon.run import Run
from cars_rt.protocol import MAX_BLOCK, End, Frame
from cars_rt.protocol.limits import MAX_PARTS
from cars_rt.sockets import SPECTRA_ADDRESS, AddressInUseError, Publisher
from cars_rt.trust.curve import Access

log = logging.getLogger("cars_rt")

INTERVAL_S = 0.05
BUNDLE_BYTES = 2_000_000  # between two sends: 40 MB/s, which is 3700 spectra/s of 1340 pixels with counts
BUFFER_MB = 32.0
LINGER_S = 0.2  # how long a close waits for displays
STALL_S = 1.0
COUNTS = "counts"

#: First index, arrays of as many rows each, made by.
Piece = tuple[int, dict[str, NDArray[Any]], str]


class Spectra(Output):
    """The raman stream once more, with `counts` (k, p), for those who look and need not have everything.

    Up to BUNDLE_BYTES in each interval it is complete; beyond that the rest of the interval is left out.
    While nobody listens it costs nothing. Raises StreamError if the address cannot be bound.
    """

    name, needed = "the spectra for displays", False

    def __init__(self, address: str, security: Access = None) -> None:
        super().__init__()
        self.publisher = Publisher(
            address, "raman", buffer_mb=BUFFER_MB, overload="drop-newest", stall_s=STALL_S, security=security
        )
        self._run: Run | None = None
        self._ledger = Ledger()
        self._pieces: list[Piece] = []
        self._most = self._block = 1  # rows between two sends, and in one message
        self._rows = 0  # that wait
        self._time_ns = 0
        self._due = 0.0

    def open(self, run: Run) -> None:
        """A run begins."""
        start = run.published
        assert start is not None
        self._run, self._ledger = run, Ledger()
        arrays = max(len(run.outputs), 1) + 1
        self._most = max(BUNDLE_BYTES // (4 * start.pixels * arrays), 1)
        self._block = min(self._most, MAX_BLOCK)
        self.publisher.open(replace(start, block=self._block), self._ledger)

    def take(self, batch: Batch) -> None:
        """Copy what there is room for: the slab will be filled again."""
        if not self.publisher.subscribers:
            return
        arrays = batch.result().arrays
        assert self._run is not None
        names = [name for name in self._run.outputs if name in arrays][: MAX_PARTS - 3]
        for frame, row, _, _ in batch.frames:
            rows = min(len(frame.block), self._most - self._rows)
            if rows <= 0:
                break
            part = slice(row, row + rows)
            copies = {name: arrays[name][part].copy() for name in names}
            self._pieces.append((frame.index, copies | {COUNTS: batch.counts[part].copy()}, batch.made_by))
            self._time_ns = frame.time_ns
            self._rows += rows

    @property
    def due_s(self) -> float:
        """How soon there is something to publish, s."""
        return max(self._due - time.monotonic(), 0.0) if self._pieces else math.inf

    def serve(self) -> None:
        """Call it often: late displays get their start, and the last spectra of a pause are shown."""
        self.publisher.serve()
        if self._pieces and time.monotonic() >= self._due:
            self.publish()

    def publish(self) -> None:
        """Send what has come together since the last time."""
        self._due = time.monotonic() + INTERVAL_S
        pieces, self._pieces, self._rows = _joined(self._pieces), [], 0
        if self._run is None:
            return
        for first, arrays, made_by in pieces:
            for begin in range(0, len(arrays[COUNTS]), self._block):
                part = {name: array[begin : begin + self._block] for name, array in arrays.items()}
                self.publisher.send(
                    Frame(
                        "raman",
                        self._run.start.run,
                        self.publisher.sequence,
                        first + begin,
                        self._time_ns,
                        part,
                        made_by=made_by,
                    )
                )

    def end(self, run: Run) -> None:
        """The run is over; what was left out here is `upstream`, as it was not lost on the way."""
        self.publish()
        assert run.closed is not None
        end, ledger, first = run.closed.end, self._ledger, run.start.sequence
        self._run = None
        announced = end.spectra if end.announced is None else end.announced

        def totals() -> End:
            missing = announced - ledger.spectra
            return replace(
                end,
                stream="raman",
                frames=first + ledger.frames,
                spectra=ledger.spectra,
                announced=announced,
                lost={Cause.UPSTREAM.value: missing} if missing > 0 else {},
                ranges=(),
            )

        self.publisher.end(totals)

    def close(self, linger_s: float | None) -> bool:
        """Close after LINGER_S at most, whatever the limit: displays that are late miss the last spectra."""
        return self.publisher.close(LINGER_S)


def open_spectra(address: str, security: Access) -> Spectra | None:
    """The output, or None where another daemon has the default address. Raises StreamError otherwise."""
    try:
        return Spectra(address, security)
    except AddressInUseError as error:
        if address != SPECTRA_ADDRESS:
            raise
        log.warning("%s; displays get no whole spectra of this daemon", error)
        return None


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Pieces that follow on as one."""
    joined: list[list[Piece]] = []
    following: tuple[int, str] | None = None
    for piece in pieces:
        first, arrays, made_by = piece
        if (first, made_by) == following:
            joined[-1].append(piece)
        else:
            joined.append([piece])
        following = first + len(arrays[COUNTS]), made_by
    return [
        (
            group[0][0],
            {name: np.concatenate([arrays[name] for _, arrays, _ in group]) for name in group[0][1]},
            group[0][2],
        )
        for group in joined
    ]
