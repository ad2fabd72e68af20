"""Replay: publishes spectra from a file as if a camera had just taken them."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cars_rt.drivers.base import Acquisition, Block, Instrument, InstrumentError, Yielded, until
from cars_rt.drivers.images import HELD
from cars_rt.files.calibrated import open_calibrated
from cars_rt.files.places import positions
from cars_rt.files.spectra import SpectraError
from cars_rt.protocol import DTYPES, MAX_BLOCK

log = logging.getLogger("cars_rt.drivers")

PIECE_BYTES = 8 * 2**20  # of counts that are read at once
SURVEYED = 2**18  # numbers of spectra that are looked at at once


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """Settings of `cars-rt drive replay`. Raises InstrumentError for what cannot be."""

    rate: float = 1000.0
    """Spectra per second; 0 is as fast as the subscribers take them."""

    block: int | None = None
    """Spectra per frame; if not given, as they were recorded, or 1."""

    loops: int = 1
    """How often the file is played within one run; 0 plays until stopped. Played more than once, spectra
    are numbered and stamped anew and make no scan."""

    calibration: Path | None = None
    """A file of `cars-rt calibrate`: its axis, if it has one, instead of the file's own, and its dark and
    saturation level where the file has none."""

    def __post_init__(self) -> None:
        if self.block is not None and not 1 <= self.block <= MAX_BLOCK:
            raise InstrumentError(f"--block must be from 1 to {MAX_BLOCK}")
        if not 0 <= self.rate < np.inf:
            raise InstrumentError(f"--rate must be 0 or more, not {self.rate:g}")
        if self.loops < 0:
            raise InstrumentError(f"--loops must be 0 or more, not {self.loops}")


class Replay(Instrument):
    """Play a file of spectra as if they were being measured.

    Of a recording all that it holds goes along: the driver's settings, its dark, times, and which spectra are
    missing.

    Example: cars-rt drive replay toluene.csv --rate 100 --loops 0

    Parameters
    ----------
    file
        .csv (raman shift, then one column per spectrum), .npz (spectra, raman_shift), .h5 (a recording).
    """

    def __init__(self, file: Path, settings: ReplaySettings) -> None:
        """Raises InstrumentError if it cannot be read or played so."""
        self._file = file
        self._settings = settings
        self._open = ExitStack()
        with _told():
            self._spectra = self._open.enter_context(open_calibrated(file, calibrated=settings.calibration))
        counts = self._spectra.counts
        self._dtype = name if (name := counts.dtype.name) in DTYPES else HELD.get(name, "float32")
        self._columns = self._spectra.columns if settings.loops == 1 else {}
        self._scan = self._spectra.scan if settings.loops == 1 else None
        self._rows = max(PIECE_BYTES // (counts.shape[1] * counts.dtype.itemsize), 2 * MAX_BLOCK)
        with _told(), ExitStack() as failed:
            failed.callback(self.close)
            self._end, self._block = self._survey()
            failed.pop_all()

    def acquisition(self) -> Acquisition:
        spectra, once = self._spectra, self._settings.loops == 1
        total = len(spectra.counts) * self._settings.loops
        if once:
            total = max(spectra.spectra or 0, self._measured)
        return Acquisition(
            source=spectra.source or f"replay of {self._file.name}",
            time_ns=spectra.time_ns if once else None,
            raman_shift=spectra.raman_shift,
            dtype=self._dtype,
            block=self._block,
            spectra=total or None,
            scan=self._scan,
            step_um=None if self._scan is None else spectra.step_um,
            exposure_s=spectra.exposure_s,
            full_scale=spectra.full_scale,
            dark=spectra.dark,
            calibration=spectra.calibration,
            instrument=spectra.instrument,
        )

    def frames(self) -> Iterator[Yielded]:
        begin, played, loop = time.perf_counter(), 0, 0
        while self._settings.loops == 0 or loop < self._settings.loops:
            for block in self._blocks():
                if self._settings.rate > 0:
                    yield from until(begin + played / self._settings.rate)
                yield block if self._settings.loops == 1 else block.counts
                played += len(block.counts)
            loop += 1
        if self._settings.loops == 1 and self._measured > self._end:
            nothing = np.empty((0, self._spectra.counts.shape[1]), self._dtype)
            yield Block(nothing, self._measured)  # the last ones are not in the file

    def close(self) -> None:
        self._open.close()

    @classmethod
    def conformance(cls, make: Callable[[], Instrument]) -> Mapping[str, Any]:
        """The counts should be those of the file."""
        played = make()
        assert isinstance(played, Replay)
        with closing(played), _told():
            counts = played._spectra.counts[0:SURVEYED].astype(played._dtype, copy=False)
            index = played._columns["index"][0:SURVEYED] if "index" in played._columns else None
        rows = {number: row for row, number in enumerate(np.arange(len(counts)) if index is None else index)}
        return {"truth": lambda wanted: counts[[rows[number % len(counts)] for number in wanted.tolist()]]}

    @property
    def _measured(self) -> int:
        """Spectra of the run that was recorded, those that are not in the file, too."""
        return max(self._end, int(self._spectra.receipt.get("announced", 0)))

    def _survey(self) -> tuple[int, int]:
        """The index after the last spectrum, and the largest block. Raises SpectraError if the numbers in
        the file are not those of a run."""
        total = len(self._spectra.counts)
        end, largest = 0, 1
        for first in range(0, total, SURVEYED):
            rows = slice(first, first + SURVEYED)
            index = np.arange(first, min(first + SURVEYED, total))
            if "index" in self._columns:
                index = self._columns["index"][rows].astype(np.int64)
                if index[0] < end or (np.diff(index) <= 0).any():
                    raise SpectraError(f"{self._file}: index does not grow from spectrum to spectrum")
            end = int(index[-1]) + 1
            if self._scan is not None and "position" in self._columns:
                said = positions(index % math.prod(self._scan), self._scan[1])  # of a stack in each plane
                if not np.array_equal(self._columns["position"][rows], said):
                    self._scan = None
                    text = "spectra lie elsewhere in the scan than their order says, which no stream tells"
                    log.warning("%s: its %s: they are published without a scan", self._file, text)
            if "sequence" in self._columns:
                cuts = np.flatnonzero(np.diff(self._columns["sequence"][rows])) + 1
                largest = max(largest, int(np.diff([0, *cuts, min(SURVEYED, total - first)]).max()))
        recorded = max(min(largest, MAX_BLOCK), self._spectra.block or 1)
        return end, min(self._settings.block or recorded, total)

    def _blocks(self) -> Iterator[Block]:
        """The file from its beginning to its end."""
        total, first = len(self._spectra.counts), 0
        while first < total:
            last = min(first + self._rows // self._block * self._block, total)
            index, sequence, times = (
                self._columns[name][first:last] if name in self._columns else None
                for name in ("index", "sequence", "time_ns")
            )
            index = np.arange(first, last) if index is None else index.astype(np.int64)
            apart = np.diff(index) != 1
            if sequence is not None and self._settings.block is None:
                apart |= np.diff(sequence) != 0
            with _told():
                counts = self._spectra.counts[first:last]
            counts = counts.astype(self._dtype, copy=False)
            cuts = [0, *(np.flatnonzero(apart) + 1).tolist(), last - first]
            done = 0
            for begin, end in pairwise(cuts):
                if end == last - first and last < total and begin > 0:
                    break  # it may go on in the next piece
                for row in range(begin, end, self._block):
                    rows = slice(row, min(row + self._block, end))
                    stamp = None if times is None else int(times[rows.stop - 1])
                    yield Block(counts[rows], int(index[row]), stamp)
                done = end
            first += done


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong with the file, as an error of the instrument."""
    try:
        yield
    except SpectraError as error:
        raise InstrumentError(str(error)) from None
