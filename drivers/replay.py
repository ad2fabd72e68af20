"""Replay: publishes spectra from a file as if a camera had just taken them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.drivers.base import Acquisition, Instrument, InstrumentError, paced
from cars_rt.protocol import DTYPES, MAX_BLOCK
from cars_rt.spectra import SpectraError, read_spectra


@dataclass(frozen=True, kw_only=True)
class ReplaySettings:
    """Settings of `cars-rt drive replay`."""

    rate: float = 1000.0
    """Spectra per second; 0 is as fast as the subscribers take them."""

    block: int = 1
    """Spectra per frame."""

    loops: int = 1
    """How often the file is played within one run; 0 plays until stopped."""


class Replay(Instrument):
    """Plays a .csv, .npz or .h5 file. Raises InstrumentError if it cannot be read or played so."""

    def __init__(self, file: Path, settings: ReplaySettings) -> None:
        if not 1 <= settings.block <= MAX_BLOCK:
            raise InstrumentError(f"--block must be from 1 to {MAX_BLOCK}")
        if not np.isfinite(settings.rate) or settings.rate < 0 or settings.loops < 0:
            raise InstrumentError("--rate and --loops cannot be negative")
        try:
            self._spectra = read_spectra(file)
        except SpectraError as error:
            raise InstrumentError(str(error)) from None
        self._file = file
        self._settings = settings

    def acquisition(self) -> Acquisition:
        counts, loops = self._spectra.counts, self._settings.loops
        dtype = counts.dtype.name if counts.dtype.name in DTYPES else "float32"
        return Acquisition(
            source=f"replay of {self._file.name}",
            raman_shift=self._spectra.raman_shift,
            dtype=dtype,
            block=min(self._settings.block, len(counts)),
            spectra=len(counts) * loops or None,
            scan=self._spectra.scan if loops == 1 else None,
            dark=self._spectra.dark,
        )

    def frames(self) -> Iterator[NDArray[Any]]:
        acquisition = self.acquisition()
        counts = self._spectra.counts.astype(acquisition.dtype, copy=False)
        ticks = paced(self._settings.rate / acquisition.block)
        loop = 0
        while self._settings.loops == 0 or loop < self._settings.loops:
            for first in range(0, len(counts), acquisition.block):
                next(ticks)
                yield counts[first : first + acquisition.block]
            loop += 1
