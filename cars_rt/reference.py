"""A measured non-resonant background: what one's own instrument shows without molecules."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration import CalibrationError
from cars_rt.calibration import read as read_calibration
from cars_rt.calibration.settings import moving, said
from cars_rt.files.formats import read_spectra
from cars_rt.files.spectra import Spectra, SpectraError, WavelengthError
from cars_rt.physics.axis import resampling_matrix
from cars_rt.physics.darkness import bridged, may_be_hot
from cars_rt.physics.fitness import FULL_OF_MEAN
from cars_rt.printable import listed

log = logging.getLogger("cars_rt.files")

SLACK = 2.0  # steps that an axis may reach beyond the reference's axis
BRIGHT = 0.95  # of the reference's pixels are darker than its bright part, which hot pixels are no part of
DARKEST = 0.01  # of that: where the reference is darker, it counts as that


@dataclass(frozen=True, eq=False)
class Reference:
    """The mean spectrum of a purely non-resonant sample, such as glass.

    raman_shift: (p,) float64, cm-1, ascending. counts: (p,) float64, above dark, positive. source: where
    it is from, for messages. instrument: what it was measured with, where its file says so. dark:
    whether its file had one, which is subtracted.
    """

    raman_shift: NDArray[np.float64]
    counts: NDArray[np.float64]
    source: str = "the reference"
    instrument: str | None = None
    dark: bool | None = None

    @property
    def sha256(self) -> str:
        """Of axis and counts, whatever file they came in."""
        content = [part.astype("<f8").tobytes() for part in (self.raman_shift, self.counts)]
        return hashlib.sha256(b"".join(content)).hexdigest()

    def envelope(self, raman_shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """Counts at other places, (q,) float64; edges are repeated."""
        return np.interp(raman_shift, self.raman_shift, self.counts)

    def on(self, raman_shift: NDArray[np.float64]) -> NDArray[np.float64]:
        """Counts over their mean on an ascending axis, (n,) float64: on its own the very counts, but for
        those that are too dark to divide by.

        Raises SpectraError if the reference does not cover the axis.
        """
        low, high = float(self.raman_shift[0]), float(self.raman_shift[-1])
        first, last = float(raman_shift[0]), float(raman_shift[-1])
        slack = SLACK * (last - first) / (len(raman_shift) - 1)
        if low > first + slack or high < last - slack:
            raise SpectraError(
                f"{self.source}: the reference covers {low:.0f} to {high:.0f} cm-1, the axis {first:.0f} to "
                f"{last:.0f}; measure it on the same axis"
            )
        scaled = self.counts / self.counts.mean()
        there = np.asarray(scaled @ resampling_matrix(self.raman_shift, raman_shift), np.float64)
        return np.asarray(np.maximum(there, max(scaled.min(), darkest(there))))

    @property
    def dark_pixels(self) -> int:
        """How many are too dark to divide by."""
        return int((self.counts < darkest(self.counts)).sum())


def darkest(counts: NDArray[np.float64]) -> float:
    """What a reference's counts (p,) are taken to be at least."""
    return DARKEST * float(np.quantile(counts, BRIGHT))


def read_reference(path: Path, pump_nm: float | None = None) -> Reference:
    """The reference in a file of spectra, which are averaged; pump_nm counts where its axis is in nm.

    A .json file is a calibration that holds a reference. See `cars_rt.files.formats.read_spectra`. Raises
    SpectraError if it cannot be read, is saturated, or is not above the dark everywhere.
    """
    if path.suffix.lower() == ".json":
        return _calibrated(path, pump_nm)
    spectra = _read(path, pump_nm)
    axis, counts = spectra.raman_shift, spectra.counts.mean(axis=0, dtype=np.float64)
    full_scale = spectra.saturates_at
    full = counts >= FULL_OF_MEAN * (np.inf if full_scale is None else full_scale)
    if not may_be_hot(full):
        raise SpectraError(
            f"{path}: the reference is saturated at {full.sum()} of {len(counts)} pixels ({full_scale:g} "
            "counts); expose for a shorter time"
        )
    if full.any():
        where = listed(np.flatnonzero(full).tolist(), "pixel")
        log.warning("%s: saturated at %s: hot? neighbours stand for them", path, where)
    if spectra.dark is not None:
        counts = counts - spectra.dark
    counts = bridged(counts, full)
    axis, counts = _ascending(axis, counts)
    low = np.flatnonzero(counts <= 0)
    if low.size:
        raise SpectraError(
            f"{path}: the reference is {counts[low[0]]:g} above dark at {axis[low[0]]:.0f} cm-1 (and at "
            f"{low.size} of {len(axis)} pixels in all not positive); it needs light at every pixel"
        )
    return Reference(axis, counts, str(path), spectra.source, spectra.dark is not None)


def _calibrated(path: Path, pump_nm: float | None) -> Reference:
    try:
        known = read_calibration(path)
        if known.reference is None:
            raise SpectraError(f"{path} holds no reference: add one with `cars-rt calibrate reference`")
        region = known.region
        axis = known.axis(region.pixels, binning=region.binning, first=region.first, probe_nm=pump_nm)
    except CalibrationError as error:
        raise SpectraError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
    then, of_axis = known.reference.settings, known.settings
    for name in moving(then, of_axis):
        log.warning(
            "%s: its reference was made at %s %s, and its axis at %s: measure the one or the other again",
            path, name, said(then[name]), said(of_axis[name]),
        )  # fmt: skip
    counts = known.reference.counts.astype(np.float64)
    return Reference(*_ascending(axis, counts), str(path), known.source or None)


def _ascending(
    axis: NDArray[np.float64], counts: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    step = 1 if axis[0] < axis[-1] else -1
    return np.ascontiguousarray(axis[::step]), np.ascontiguousarray(counts[::step])


def _read(path: Path, pump_nm: float | None) -> Spectra:
    try:
        return read_spectra(path)
    except WavelengthError:
        if pump_nm is None:
            raise
        return read_spectra(path, pump_nm)
