"""Whole spectra for displays: as many as a screen can use, counts beside results; nobody is waited for."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.daemon.batch import Batch
from cars_rt.daemon.outputs.bundles import Bundles, Piece
from cars_rt.daemon.run import Run
from cars_rt.protocol import DELAYS, MAX_BLOCK
from cars_rt.protocol.limits import MAX_DELAY_S, MAX_PARTS
from cars_rt.sockets import SPECTRA_ADDRESS, AddressInUseError
from cars_rt.trust.curve import Access

log = logging.getLogger("cars_rt")

BUNDLE_BYTES = 2_000_000  # between two sends: 40 MB/s, which is 3700 spectra/s of 1340 pixels with counts
BUFFER_MB = 32.0
COUNTS = "counts"
TIMES = "times"  # int64 (k,), ns: until a message is made of it


class Spectra(Bundles):
    """The raman stream once more, with `counts` (k, p), for those who look and need not have everything.

    Up to BUNDLE_BYTES in each interval it is complete; beyond that the rest of the interval is left out.
    While nobody listens it costs nothing. Raises StreamError if the address cannot be bound.
    """

    name = "the spectra for displays"

    def __init__(self, address: str, security: Access = None) -> None:
        super().__init__(address, "raman", BUFFER_MB, security)
        self._most = 1  # spectra between two sends

    def open(self, run: Run) -> None:
        """A run begins."""
        assert run.published is not None
        arrays = max(len(run.outputs), 1) + 1
        self._most = max(BUNDLE_BYTES // (4 * run.published.pixels * arrays), 1)
        self._begin(run, min(self._most, MAX_BLOCK))

    def take(self, batch: Batch) -> None:
        """Copy what there is room for: the slab will be filled again."""
        if not self.publisher.subscribers:
            return
        arrays = batch.result().arrays
        assert self._run is not None
        names = [name for name in self._run.outputs if name in arrays][: MAX_PARTS - 4]
        room = self._most - sum(len(piece) for piece in self._pieces)
        for frame in batch.frames:
            if room <= 0:
                break
            part = slice(frame.row, frame.row + min(frame.spectra, room))
            copies = {COUNTS: batch.counts[part].copy()} | {name: arrays[name][part].copy() for name in names}
            copies[TIMES] = np.full(len(copies[COUNTS]), frame.time_ns, np.int64)
            epoch = frame.time_ns // (MAX_DELAY_S * 10**9)
            self._pieces.append(Piece(frame.index, copies, batch.made_by, epoch=epoch))
            room -= frame.spectra

    def _message(self, part: dict[str, NDArray[Any]]) -> tuple[int, dict[str, NDArray[Any]]]:
        times = part.pop(TIMES)
        delays = (times - times[0]) / 1e9
        return int(times[0]), part | ({DELAYS: delays} if delays.any() else {})


def open_spectra(address: str, security: Access) -> Spectra | None:
    """The output, or None where another daemon has the default address. Raises StreamError otherwise."""
    try:
        return Spectra(address, security)
    except AddressInUseError as error:
        if address != SPECTRA_ADDRESS:
            raise
        log.warning("%s; displays get no whole spectra of this daemon", error)
        return None
