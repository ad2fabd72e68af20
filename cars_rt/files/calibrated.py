"""Spectra of files with what a calibration says of the camera's pixels."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cars_rt import calibration
from cars_rt.calibration import Calibration, CalibrationError
from cars_rt.files.formats import any_axis, open_spectra
from cars_rt.files.spectra import Spectra, SpectraError, said_of

log = logging.getLogger("cars_rt.files")


@contextmanager
def open_calibrated(
    path: Path, pump_nm: float | None = None, axis: Path | None = None, calibrated: Path | None = None
) -> Iterator[Spectra]:
    """Spectra as `open_spectra` gives them. calibrated: a file of `cars-rt calibrate`. Its axis, if it has
    one, takes the place of the file's own. Its dark and saturation level count where the spectra have none.
    Raises SpectraError."""
    if calibrated is None:
        with open_spectra(path, pump_nm, axis) as spectra:
            yield spectra
        return
    known = _read(calibrated)
    if axis is not None and known.scale is not None:
        raise SpectraError("give --calibration or --axis, not both")
    opened = open_spectra(path, pump_nm, axis) if known.scale is None else open_spectra(path, given=any_axis)
    with opened as spectra:
        with said_of(path):
            spectra = _applied(spectra, known, calibrated, None if known.scale is None else pump_nm)
        yield spectra


def _read(path: Path) -> Calibration:
    try:
        return calibration.read(path)
    except CalibrationError as error:
        raise SpectraError(str(error)) from None


def _applied(spectra: Spectra, known: Calibration, path: Path, pump_nm: float | None) -> Spectra:
    try:
        found = known.applied(
            spectra.counts.shape[1],
            source=spectra.source or "",
            settings=spectra.instrument or {},
            exposure_s=spectra.exposure_s,
            probe_nm=pump_nm,
        )
    except CalibrationError as error:
        raise SpectraError(f"{error} ({path})") from None
    for doubt in found.doubts:
        if spectra.dark is None or doubt not in found.of_dark:
            log.warning("the calibration %s: %s", path, doubt)
    if old := known.old(spectra.time_ns or time.time_ns()):
        log.warning("the calibration %s: %s", path, old)
    dark = spectra.dark
    if dark is None and found.dark is not None:  # of pixels as the camera sends them
        dark = found.dark[::-1] if spectra.turned else found.dark
    spectra = replace(spectra, dark=dark, full_scale=spectra.full_scale or found.full_scale)
    if found.raman_shift is None:
        return spectra
    of_axis = f"of the calibration {known.id}"
    return replace(spectra, raman_shift=found.raman_shift, of_axis=of_axis, calibration=found.facts)
