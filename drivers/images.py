"""Spectra from images: a spectrometer's camera has the spectrum along its rows."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.drivers.base import InstrumentError
from cars_rt.drivers.flags import MOST_SPAN, span
from cars_rt.drivers.order import is_cut, summed

log = logging.getLogger("cars_rt.drivers")

#: Numbers of a camera that the stream does not have: those that hold them.
HELD = {"int8": "float32", "int16": "float32", "int32": "float64", "int64": "float64", "uint64": "float64"}


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """What of an image is a spectrum."""

    rows: str | None = None
    """Rows of the image that are used, such as 100:140, the last one not included; all if not given."""

    tracks: int = 1
    """Spectra in each image: its rows are parted into so many equal groups, and each is summed; 0: every row
    is a spectrum."""

    def __post_init__(self) -> None:
        if self.tracks < 0:
            raise InstrumentError(f"--tracks cannot be negative, such as {self.tracks}")
        if self.rows is not None:
            span("--rows", self.rows, MOST_SPAN)


class Rows:
    """Sums rows of images of one shape. Raises InstrumentError for rows that these images do not have.

    A sum does not show that rows of it are cut at the camera's full scale: that is said, once.
    """

    def __init__(self, settings: ImageSettings, rows: int, dtype: Any, bits: int | None = None) -> None:
        """bits: of the camera; None: as many as its numbers have."""
        first, last = span("--rows", settings.rows, rows)
        self.used = first, last
        self.tracks = settings.tracks or last - first
        if (last - first) % self.tracks:
            raise InstrumentError(f"{last - first} rows cannot be parted into --tracks {settings.tracks}")
        self.summed = (last - first) // self.tracks  # rows in one spectrum
        name = np.dtype(dtype).name
        name = HELD.get(name, name)
        self.dtype = summed(name) if self.summed > 1 else name
        self._slice = slice(first, last)
        self._bits = bits
        full = 2**bits - 1 if bits else np.iinfo(dtype).max if np.dtype(dtype).kind == "u" else None
        #: Counts at which a row is cut; None: its sum shows it, it is not known, or it was said.
        self._looked_for: float | None = full if self.summed > 1 else None

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """Spectra (tracks, columns) of an image (rows, columns)."""
        used = image[self._slice]
        if self.summed == 1:
            return used.astype(self.dtype, copy=False)
        groups = used.reshape(self.tracks, self.summed, image.shape[1])
        if (full := self._looked_for) is not None and any(is_cut(group, full) for group in groups):
            self._looked_for = None
            log.warning(
                "rows of an image are cut at the camera's full scale, %d counts, which neither their sum nor "
                "a flag shows: less light or exposure", full,
            )  # fmt: skip
        total: NDArray[Any] = np.add.reduce(groups, axis=1, dtype=self.dtype)
        return total

    @property
    def full_scale(self) -> float | None:
        """Counts of a spectrum at which the camera saturates; None: its bits are not known."""
        return None if self._bits is None else float((2**self._bits - 1) * self.summed)
