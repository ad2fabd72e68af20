"""Ocean Optics spectrometers by python-seabreeze, in a process of their own, since the library may hang."""

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

import numpy as np

from cars_rt.drivers.axis import NEXT_CM1, Axis, AxisSettings
from cars_rt.drivers.base import Acquisition, Instrument, InstrumentError, Waiting, Yielded
from cars_rt.drivers.flags import MOST_SPAN, refuse_duration, span
from cars_rt.drivers.nearest import meant
from cars_rt.drivers.scan import ScanSettings
from cars_rt.installation import install_extra
from cars_rt.printable import one_line

log = logging.getLogger("cars_rt.drivers")

#: Trigger modes, as their numbers are with most models.
TRIGGERS = {"none": 0, "software": 1, "synchronization": 2, "hardware": 3}
TIMED_OUT = ("timeout", "timed out")


@dataclass(frozen=True, kw_only=True)
class SeabreezeSettings:
    """Settings of `cars-rt drive seabreeze`."""

    serial: str | None = None
    """Serial number of the spectrometer, if there are several."""

    exposure_ms: float = 10.0
    """Integration time of one spectrum."""

    columns: str | None = None
    """Pixels that are used, such as 300:1500, the last one not included; if not given, of those
    of the calibration those on whose side of the laser the light is."""

    trigger: Literal["none", "software", "synchronization", "hardware"] = "none"
    """What starts each spectrum; of hardware, each pulse of the trigger line is the next point."""

    pyusb_backend: Literal["libusb1", "libusb0", "openusb"] | None = None
    """Which USB library PyUSB uses; if not given, the first that works."""

    def __post_init__(self) -> None:
        refuse_duration("--exposure-ms", self.exposure_ms)
        span("--columns", self.columns, MOST_SPAN)


class Seabreeze(Instrument):
    """A spectrometer of Ocean Optics (USB), with the wavelengths that are stored in it.

    Example: cars-rt drive seabreeze --exposure-ms 20 --pump-nm 785
    """

    lives = "process"
    needs = ("seabreeze", "seabreeze")
    silent_s = 20.0

    def __init__(self, settings: SeabreezeSettings, scan: ScanSettings, axis: AxisSettings) -> None:
        """Raises InstrumentError if there is none, or it cannot be set so."""
        self._settings, self._about = settings, scan.about()
        self._axis = Axis(axis)
        self._used = slice(None)  # of its pixels
        self._spectrometer: Any = None
        self._exposure_s = settings.exposure_ms / 1e3
        try:
            seabreeze = import_module("seabreeze")
            more = {} if settings.pyusb_backend is None else {"pyusb_backend": settings.pyusb_backend}
            seabreeze.use("pyseabreeze", **more)  # its reads have time-outs
            self._library = import_module("seabreeze.spectrometers")
            import_module("seabreeze.pyseabreeze")
        except ImportError as error:
            raise InstrumentError(f"seabreeze is missing ({error}): {install_extra('seabreeze')}") from None
        try:
            self._open()
            self._set_up()
        except InstrumentError:
            self.close()
            raise
        except Exception as error:  # of three libraries
            self.close()
            raise InstrumentError(_reason(error)) from None

    def acquisition(self) -> Acquisition:
        device = self._spectrometer
        wavelength = np.asarray(device.wavelengths(), np.float64)
        first, last = self._columns(wavelength)
        region = {"region": [first, 0, last - first, 1]} if last - first < len(wavelength) else {}
        self._used, wavelength = slice(first, last), wavelength[first:last]
        return self._axis.acquisition(
            len(wavelength),
            source=f"Ocean {device.model} {device.serial_number} (seabreeze)",
            instrument={
                "model": device.model, "serial": device.serial_number, "trigger": self._settings.trigger,
            } | region,
            exposure_s=self._exposure_s,
            full_scale=float(device.max_intensity),
            wavelength_nm=wavelength,
            cut_at=first,
            dtype="float32",  # some models scale their counts
            **self._about,
        )  # fmt: skip

    def _columns(self, wavelength: "np.ndarray[Any, np.dtype[np.float64]]") -> tuple[int, int]:
        """First and one after the last pixel that is used."""
        pixels, said = len(wavelength), self._settings.columns
        if said is not None:
            return span("--columns", said, pixels)
        first, last = self._axis.columns(wavelength)
        if last - first < pixels:
            log.info(
                "of %d pixels %d to %d are used, which were calibrated and lie on the light's side of the "
                "laser, %g cm-1 from it or more, as far as that is known; --columns says others",
                pixels, first, last - 1, NEXT_CM1,
            )  # fmt: skip
        return first, last

    def frames(self) -> Iterator[Yielded]:
        planned, done = self._about["spectra"], 0
        if self._settings.trigger == "none":
            self._read()  # begun before this run, perhaps with other settings
        while planned is None or done < planned:
            counts = self._read()
            if counts is None:
                yield Waiting("the trigger")
                continue
            yield counts
            done += 1

    def close(self) -> None:
        if self._spectrometer is not None:
            with suppress(Exception):
                self._spectrometer.close()
        self._spectrometer = None

    def _read(self) -> "np.ndarray[Any, np.dtype[np.float32]] | None":
        """A spectrum (1, pixels), or None if no trigger came until the time-out."""
        begin = time.monotonic()
        try:
            counts = np.asarray(self._spectrometer.intensities(), np.float32)
        except Exception as error:
            waited = any(word in str(error).lower() for word in TIMED_OUT)
            if waited and self._settings.trigger != "none":
                return None
            spent = time.monotonic() - begin
            raise InstrumentError(f"{_reason(error)}, after {spent:.1f} s without a spectrum") from None
        return counts[None, self._used]

    def _open(self) -> None:
        devices = self._library.list_devices()
        if not devices:
            raise InstrumentError(
                "no spectrometer is there: is it plugged in, does another program have it, and may this user "
                "open it? Its udev rule is installed by `seabreeze_os_setup`"
            )
        serials = [each.serial_number for each in devices]
        wanted = self._settings.serial
        if wanted is not None and wanted not in serials:
            raise InstrumentError(f"no spectrometer {wanted} is there: {meant(wanted, serials)}")
        self._spectrometer = self._library.Spectrometer(
            devices[0 if wanted is None else serials.index(wanted)]
        )

    def _set_up(self) -> None:
        device, micros = self._spectrometer, self._settings.exposure_ms * 1e3
        low, high = device.integration_time_micros_limits
        if not low <= micros < high:
            nearest = min(max(micros, low), high - 1) if micros == micros else low
            raise InstrumentError(
                f"an exposure of {self._settings.exposure_ms:g} ms is not possible: the nearest offered is "
                f"{nearest / 1e3:g} ms"
            )
        try:
            device.trigger_mode(TRIGGERS[self._settings.trigger])
        except Exception as error:
            raise InstrumentError(
                f"--trigger {self._settings.trigger} is not possible: {one_line(error)}"
            ) from None
        step = self._step()
        steps = min(max(round(micros / step), -(-low // step)), (high - 1) // step)
        device.integration_time_micros(steps * step)
        self._exposure_s = steps * step / 1e6
        if abs(steps * step - micros) > 1e-3 * micros:
            log.warning(
                "an exposure of %g ms is one of %g ms with this spectrometer",
                self._settings.exposure_ms, steps * step / 1e3,
            )  # fmt: skip

    def _step(self) -> int:
        """Microseconds in which it counts: a thousand with older models, which seabreeze rounds down to and
        tells nobody."""
        features = self._spectrometer.features.get("spectrometer") or [None]
        return int(getattr(features[0], "_integration_time_base", 1))


def _reason(error: BaseException) -> str:
    """What to do about what went wrong with USB."""
    text, code = one_line(error), getattr(error, "errno", None)
    if "No pyusb backend" in text or "NoBackend" in type(error).__name__:
        return (
            "libusb is missing, by which USB is reached: install libusb-1.0 (on Windows, its driver by Zadig)"
        )
    if code == 13 or "denied" in text.lower():
        return (
            f"this user may not open the spectrometer ({text}): `seabreeze_os_setup` installs its udev rule"
        )
    if code == 16 or "used by another" in text:
        return f"another program has the spectrometer ({text}): close it"
    if code in (19, 5) or "no such device" in text.lower():
        return f"the spectrometer is gone ({text}): was it unplugged?"
    return f"the spectrometer failed ({text})"
