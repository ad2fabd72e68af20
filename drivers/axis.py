"""Which raman shift belongs to the pixels of a camera: of a calibration, of a file, or as it is said."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt import calibration
from cars_rt.drivers.base import Acquisition, InstrumentError
from cars_rt.errors import CarsRtError
from cars_rt.files.formats import TEXT, endings, read_spectra
from cars_rt.files.readers.scale import Asked, read_axis, scale_of
from cars_rt.files.spectra import SpectraError, WavelengthError
from cars_rt.physics.axis import (
    LARGEST_CM1,
    AxisError,
    check_raman_shift,
    from_wavelength,
    is_numbering,
    judged_raman_shift,
    may_be_wavelengths,
)
from cars_rt.protocol import Facts, ProtocolError, check_facts
from cars_rt.protocol.limits import MAX_FACTS, MAX_NAME, MAX_TEXT
from cars_rt.storage import StorageError

LISTS = (*TEXT, ".npy")  # of numbers, by the names of their files
PIXELS = "pixels"  # in place of an axis: their numbers
SENSORS = (256, 512, 640, 1024, 1280, 1340, 1600, 1650, 2048, 2560, 4096)  # pixels across usual ones
NEXT_CM1 = 100.0  # to the laser: what is nearer is its own light
TRIED = 50  # pixels, of which ends are judged before the instrument says how many it has
UNKNOWN = (
    "which raman shift {} pixels have is not known: give --calibration FILE with an axis, --axis FILE or, "
    f"for a first look, --axis 500:3100; for `cars-rt calibrate` --axis {PIXELS} numbers them"
)
NUMBERS = "--axis 0:%g is taken as cm-1, for %d pixels: --axis %s numbers them, for `cars-rt calibrate`"

log = logging.getLogger("cars_rt.drivers")


@dataclass(frozen=True, kw_only=True)
class AxisSettings:
    """Where the axis comes from."""

    calibration: Path | None = None
    """A file of `cars-rt calibrate`: the axis, and if known the dark and where the camera saturates, unless
    the driver says that itself."""

    axis: str | None = None
    """Where no calibration has one: a file of spectra with this axis, or of one number for each pixel; or
    LOW:HIGH, such as 500:3100, evenly spaced; or the word pixels: their numbers, for `cars-rt calibrate`."""

    pump_nm: float | None = None
    """The axis is in nm: shifts count from this wavelength, that of the pump and probe beam."""

    def __post_init__(self) -> None:
        if self.pump_nm is not None and not 0 < self.pump_nm < np.inf:
            raise InstrumentError(f"--pump-nm must be a wavelength in nm, such as 785, not {self.pump_nm:g}")
        if self.axis is not None and (ends := _ends(self.axis)) is not None:
            _of_ends(ends, self.pump_nm, TRIED)

    def look(self) -> None:
        """Read the files, of an axis with which results can be computed. Raises InstrumentError."""
        axis = Axis(self)
        if not axis.known and self.pump_nm is None:  # which is for instruments that know wavelengths
            wavelengths = "; an instrument that knows wavelengths needs --pump-nm alone"
            raise InstrumentError(UNKNOWN.format("the camera's") + wavelengths)
        shift = axis.given
        if self.axis == PIXELS:
            shift = np.arange(TRIED, dtype=np.float64)
        if shift is not None:
            try:
                judged_raman_shift(shift)
            except AxisError as error:
                raise InstrumentError(f"--axis: {error}") from None


class Axis:
    """The axis that the settings say; files are read here. Raises InstrumentError."""

    def __init__(self, settings: AxisSettings) -> None:
        self._numbered = settings.axis == PIXELS
        self._pump_nm = None if self._numbered else settings.pump_nm
        self._calibration: calibration.Calibration | None = None
        self._shift: NDArray[np.float64] | None = None
        self._ends: tuple[float, float] | None = None
        try:
            if settings.calibration is not None:
                self._calibration = calibration.read(settings.calibration)
                if self._calibration.scale is not None and settings.axis is not None:
                    raise InstrumentError(
                        f"give --calibration or --axis, not both: {settings.calibration} has an axis"
                    )
                if old := self._calibration.old(time.time_ns()):
                    log.warning("the calibration %s: %s", settings.calibration, old)
            if settings.axis is not None and not self._numbered:
                self._ends = _ends(settings.axis)
                if self._ends is None:
                    self._shift = _judged(_of_file(Path(settings.axis), self._pump_nm), self._pump_nm)
        except CarsRtError as error:
            raise InstrumentError(f"the axis: {error}") from None

    @property
    def known(self) -> bool:
        """Whether there is one, whatever the instrument itself knows."""
        calibrated = self._calibration is not None and self._calibration.scale is not None
        return calibrated or self._numbered or self._ends is not None or self._shift is not None

    @property
    def given(self) -> NDArray[np.float64] | None:
        """Of the file that --axis names, (p,), cm-1."""
        return self._shift

    def columns(self, wavelength_nm: NDArray[np.float64]) -> tuple[int, int]:
        """First and one after the last of a spectrometer's pixels that are of use: of those that were
        calibrated, if any were, those on the light's side of the laser; all where that is not known.
        wavelength_nm: (pixels,), as the instrument itself knows it."""
        first, end, pump_nm = 0, len(wavelength_nm), self._pump_nm
        known = self._calibration
        if known is not None and known.scale is not None and known.region.binning == 1:
            first, end = known.region.first, known.region.end
            wavelength_nm = known.scale.at(known.region.columns)
            pump_nm = known.scale.probe_nm if pump_nm is None else pump_nm
            if known.scale.quantity == "raman_shift":
                pump_nm = None
        elif self._ends is not None or self._shift is not None:
            pump_nm = None
        if pump_nm is not None and (wavelength_nm > 0).all():
            shift = 1e7 / wavelength_nm - 1e7 / pump_nm
            there = np.flatnonzero((shift >= NEXT_CM1) & (shift <= LARGEST_CM1))
            if len(there) > 1:
                return first + int(there[0]), first + int(there[-1]) + 1
        return first, end

    def acquisition(
        self,
        pixels: int,
        *,
        source: str,
        instrument: Mapping[str, Any],
        exposure_s: float | None = None,
        full_scale: float | None = None,
        wavelength_nm: NDArray[np.float64] | None = None,
        cut_at: int | None = None,
        warns: bool = True,
        **more: Any,
    ) -> Acquisition:
        """The description of a run with this axis, and with what the calibration knows of the camera.

        wavelength_nm: (pixels,), as the instrument itself knows it; what was given goes before it. cut_at:
        the first of its pixels that are used, where all of them are read: a dark of all has that of these.
        warns: of what the calibration doubts.
        """
        instrument = told(instrument)
        about: dict[str, Any] = {"source": source, "instrument": instrument, "exposure_s": exposure_s} | more
        about["full_scale"] = full_scale
        shift: NDArray[np.float64] | None = None
        try:
            if (known := self._calibration) is not None:
                probe_nm = None if known.scale is None else self._pump_nm
                applied = _cut(known, cut_at, pixels).applied(
                    pixels, source=source, settings=instrument, exposure_s=exposure_s, probe_nm=probe_nm
                )
                for doubt in applied.doubts if warns else ():
                    log.warning("the calibration: %s", doubt)
                shift = applied.raman_shift
                about["dark"] = applied.dark
                if shift is not None:
                    about["calibration"] = {**applied.facts, "pixels": known.region.pixels}
                about["full_scale"] = full_scale or applied.full_scale
            if shift is None:
                shift = self._without_calibration(pixels, wavelength_nm, warns)
        except CarsRtError as error:
            raise InstrumentError(f"the axis of {source}: {error}") from None
        if shift is None and wavelength_nm is not None:
            raise InstrumentError(f"{source} knows wavelengths: say with --pump-nm where shifts count from")
        if shift is None:
            raise InstrumentError(UNKNOWN.format(f"its {pixels}"))
        if len(shift) != pixels:
            raise InstrumentError(
                f"the axis has {len(shift)} pixels, {source} has {pixels}: region, binning?"
            )
        return Acquisition(raman_shift=shift, **about)

    def _without_calibration(
        self, pixels: int, wavelength_nm: NDArray[np.float64] | None, warns: bool
    ) -> NDArray[np.float64] | None:
        """As --axis says it, or the instrument's own wavelengths do; None where neither is known."""
        if self._numbered:
            return _judged(np.arange(pixels, dtype=np.float64), None)
        if self._ends is not None:
            low, high = self._ends
            if warns and low == 0 and high + 1 in SENSORS and high + 1 != pixels and self._pump_nm is None:
                log.warning(NUMBERS, high, pixels, PIXELS)
            return _of_ends(self._ends, self._pump_nm, pixels)
        if self._shift is not None or wavelength_nm is None or self._pump_nm is None:
            return self._shift
        return judged_raman_shift(from_wavelength(wavelength_nm, self._pump_nm))


def told(known: Mapping[str, Any]) -> Facts:
    """As much of an instrument's settings as `start` takes: whatever else a camera says is left out."""
    facts: dict[str, Any] = {}
    for name, value in known.items():
        plain = name[-MAX_NAME:].encode("ascii", "replace").decode()
        if value in ("", None) or not plain.isprintable() or len(facts) == MAX_FACTS:
            continue
        facts[plain] = value[:MAX_TEXT] if isinstance(value, str) else value
        try:
            check_facts({plain: facts[plain]}, "instrument")
        except ProtocolError:
            del facts[plain]
    return facts


def _cut(known: calibration.Calibration, first: int | None, pixels: int) -> calibration.Calibration:
    """With the darks of so many pixels from the first, if they are among those that were calibrated."""
    there = known.region
    if first is None or there.binning != 1 or first < there.first or first + pixels > there.end:
        return known
    begin = first - there.first
    darks = tuple(replace(dark, counts=dark.counts[begin : begin + pixels]) for dark in known.darks)
    return replace(known, region=calibration.Region(pixels, 1, first), darks=darks, reference=None)


def _ends(text: str) -> tuple[float, float] | None:
    low, colon, high = text.partition(":")
    try:
        return (float(low), float(high)) if colon else None
    except ValueError:
        return None  # C:\axis.txt


def _of_ends(ends: tuple[float, float], pump_nm: float | None, pixels: int) -> NDArray[np.float64]:
    """Evenly spaced from one end to the other, in nm where there is a pump. Raises InstrumentError."""
    shift = np.linspace(*ends, pixels)
    if pump_nm is not None:
        try:
            shift = from_wavelength(shift, pump_nm)
        except AxisError as error:
            raise InstrumentError(f"--axis in nm, with --pump-nm: {error}") from None
    shift = _judged(shift, pump_nm)
    if pump_nm is None and may_be_wavelengths(shift):
        raise InstrumentError(
            f"--axis {ends[0]:g}:{ends[1]:g} may be nm or cm-1: for nm give --pump-nm, such as 785, for cm-1 "
            "a file of the numbers below a line: raman_shift"
        )
    return shift


def _judged(shift: NDArray[np.float64], pump_nm: float | None) -> NDArray[np.float64]:
    """As the daemon judges it, which would refuse the whole run; but pixel numbers are good for `cars-rt
    calibrate`. Raises InstrumentError."""
    try:
        if is_numbering(check_raman_shift(shift)):
            log.warning("the axis is pixel numbers: good for `cars-rt calibrate`, and the daemon refuses it")
            return shift
        return judged_raman_shift(shift)
    except AxisError as error:
        nm = "" if pump_nm is None else "; with --pump-nm it is in nm: leave that out where it is in cm-1"
        raise InstrumentError(f"--axis: {error}{nm}") from None


def _of_file(path: Path, pump_nm: float | None) -> NDArray[np.float64]:
    try:
        numbers, unit = read_axis(path)
    except (SpectraError, StorageError) as no_list:  # or larger than one is
        if not path.exists():
            raise
        ending = path.suffix.lower()
        try:
            spectra = read_spectra(path, pump_nm)
        except WavelengthError:
            raise
        except SpectraError as no_spectra:
            if ending in endings() and ending not in LISTS:
                raise
            raise SpectraError(f"{no_list}. Taken for spectra: {no_spectra}") from None
        return spectra.raman_shift[::-1] if spectra.turned else spectra.raman_shift
    except OSError as error:
        raise InstrumentError(f"{path} cannot be read: {error.strerror or error}") from None
    asked = Asked(pump_nm, numbers, unit)
    try:
        scale = scale_of(None, "", asked, str(path))
    except SpectraError as error:
        raise InstrumentError(f"{path} {error}") from None
    return scale.raman_shift[::-1] if scale.turned else scale.raman_shift
