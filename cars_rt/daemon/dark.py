"""The dark spectrum: the run's own, or one that was measured here while the beams were blocked."""

import hashlib
import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.base import Slab
from cars_rt.protocol import Start
from cars_rt.storage import replacing

log = logging.getLogger("cars_rt.daemon")

NONE, FROM_START = "none", "start"


class Dark:
    """Averages counts between `begin` and `finish`; the average holds until `clear`, for every run whose
    camera has as many pixels."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: where measured darks are kept, by their id."""
        self.spectra = 0  # averaged so far
        self._folder = folder
        self._sum: NDArray[np.float64] | None = None
        self._measured: Slab | None = None
        self._name = NONE

    @property
    def measuring(self) -> bool:
        """Whether counts are being averaged."""
        return self._sum is not None

    def begin(self, pixels: int) -> None:
        """Average from now on."""
        self._sum, self.spectra = np.zeros(pixels), 0

    def add(self, counts: NDArray[np.generic]) -> None:
        """Counts (k, p) came while measuring."""
        if self._sum is not None and counts.shape[1] == len(self._sum):
            self._sum += counts.sum(axis=0, dtype=np.float64)
            self.spectra += len(counts)

    def abandon(self) -> None:
        """The run is over before the measurement was finished."""
        self._sum = None

    def finish(self) -> str:
        """Take the average as the dark; its id. Raises ValueError if there is none."""
        total, self._sum = self._sum, None
        if total is None:
            raise ValueError("no dark is being measured; begin with `dark start`")
        if not self.spectra:
            raise ValueError("no spectrum came since `dark start`; the dark stays as it was")
        self._measured = (total / self.spectra).astype(np.float32)
        self._name = hashlib.sha256(self._measured.tobytes()).hexdigest()[:12]
        if self._folder is not None:
            path = self._folder / f"dark-{self._name}.csv"
            try:
                with replacing(path) as file:
                    np.savetxt(file, self._measured, fmt="%.6g")
            except OSError as error:
                log.warning("the dark %s cannot be written: %s", path, error.strerror or error)
        return self._name

    def clear(self) -> None:
        """Each run's own dark again."""
        self._sum = self._measured = None
        self._name = NONE

    def of(self, start: Start) -> tuple[Slab, str]:
        """The dark (pixels,) of a run, and its id."""
        if self._measured is not None:
            if len(self._measured) == start.pixels:
                return self._measured, self._name
            log.warning(
                "run %s has %d pixels, the measured dark %d: it is not subtracted",
                start.run, start.pixels, len(self._measured),
            )  # fmt: skip
        if start.dark is not None:
            return start.dark, FROM_START
        return np.zeros(start.pixels, np.float32), NONE
