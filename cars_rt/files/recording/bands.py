"""Means over a few bands, beside the results: pictures that need no plug-in, and no pass over all spectra."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.protocol import BANDS, Band

NAME = "bands"  # of the dataset, and of the attribute that says which they are


class Means:
    """Means over the usual bands that an axis has, or over all of it.

    raman_shift: (p,), cm-1, strictly monotonic.
    """

    def __init__(self, raman_shift: NDArray[np.float64]) -> None:
        low, high = float(raman_shift.min()), float(raman_shift.max())
        self.bands: list[Band] = []
        self._pixels: list[slice] = []
        for band in (*BANDS, Band("everything", low, high)):
            inside = np.flatnonzero((raman_shift >= band.low) & (raman_shift <= band.high))
            if len(inside) and (band.name != "everything" or not self.bands):
                self.bands.append(band)
                self._pixels.append(slice(int(inside[0]), int(inside[-1]) + 1))

    @property
    def about(self) -> str:
        """The bands as JSON: [name, low, high] each, cm-1."""
        return json.dumps([list(band) for band in self.bands])

    def of(self, spectra: NDArray[Any]) -> NDArray[np.float32]:
        """(n, p) to (n, bands)."""
        return np.stack(
            [spectra[:, pixels].mean(axis=1, dtype=np.float32) for pixels in self._pixels], axis=1
        )
