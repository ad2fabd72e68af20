"""Cameras by GenICam: GigE Vision, USB3 Vision, CoaXPress and others, by their maker's producer (.cti)."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from cars_rt.calibration.settings import ROWS, alike
from cars_rt.drivers.axis import Axis, AxisSettings
from cars_rt.drivers.base import WAIT_S, Acquisition, Block, Instrument, InstrumentError, Waiting, Yielded
from cars_rt.drivers.flags import refuse_duration, refuse_memory, refuse_region
from cars_rt.drivers.gentl import Buffers, said
from cars_rt.drivers.images import ImageSettings, Rows
from cars_rt.drivers.nearest import meant, offered
from cars_rt.drivers.numbering import Numbering
from cars_rt.drivers.pixels import bits
from cars_rt.drivers.scan import ScanSettings
from cars_rt.installation import install_extra
from cars_rt.printable import one_line

BUFFERS = 16, 1000  # of the producer, at least and at most, so that a pause of this computer costs no image
EXPOSURES = ("ExposureTime", "ExposureTimeAbs")  # us
TOLD = {"Gain": "gain", "DeviceTemperature": "temperature_c"}
BINNING = "BinningHorizontal", "BinningVertical"
REGION = ("OffsetX", "OffsetY", "Width", "Height")
AUTOMATIC = ("ExposureAuto", "GainAuto", "BlackLevelAuto")  # as many cameras are delivered
TRUTH = {"true": True, "false": False, "1": True, "0": False}
PATH = "GENICAM_GENTL64_PATH"  # where producers say they are


@dataclass(frozen=True, kw_only=True)
class GenicamSettings:
    """Settings of `cars-rt drive genicam`."""

    producer: Path | None = None
    """The camera maker's GenTL producer, a file .cti; if not given, those that GENICAM_GENTL64_PATH names."""

    camera: str | None = None
    """Serial number, name or model of the camera, if there are several."""

    exposure_ms: float | None = None
    """Exposure of one image; if not given, as the camera is set."""

    property: tuple[str, ...] = ()
    """A feature to set, such as Gain=2 or PixelFormat=Mono12; may be given several times, in order."""

    region: str | None = None
    """Part of the sensor: x,y,width,height."""

    ring_mb: int = 256
    """Memory for images that were not fetched yet."""

    def __post_init__(self) -> None:
        refuse_duration("--exposure-ms", self.exposure_ms)
        refuse_memory("--ring-mb", self.ring_mb)
        refuse_region(self.region)
        for each in self.property:
            if not each.partition("=")[1]:
                raise InstrumentError(f"--property {each}: give Feature=Value, such as Gain=2")

    def look(self) -> None:
        """Raises InstrumentError if there is no producer."""
        self.producers()

    def producers(self) -> list[Path]:
        """The files that are asked for cameras. Raises InstrumentError."""
        files = [self.producer] if self.producer else _installed()
        if not files:
            raise InstrumentError(
                f"no GenTL producer is known: give the camera maker's file .cti as --producer, or set {PATH} "
                "to its folder; makers ship it with their drivers"
            )
        for file in files:
            if not file.is_file():
                raise InstrumentError(f"there is no producer {file}")
        return files


class Genicam(Instrument):
    """A camera by GenICam; each image is summed to one spectrum, or to several.

    Example: cars-rt drive genicam --producer /opt/maker/producer.cti --property PixelFormat=Mono12
    """

    lives = "thread"
    needs = ("harvesters", "genicam")

    def __init__(
        self, settings: GenicamSettings, images: ImageSettings, scan: ScanSettings, axis: AxisSettings
    ) -> None:
        """Raises InstrumentError with the nearest that exists or is offered."""
        self._settings, self._about = settings, scan.about()
        self._axis, self._calibrated = Axis(axis), axis.calibration is not None
        self._acquirer: Any = None
        self._map: Any = None
        try:
            harvesters = import_module("harvesters.core")
        except ImportError as error:
            raise InstrumentError(f"GenICam is missing ({error}): {install_extra('genicam')}") from None
        logging.getLogger("harvesters").setLevel(logging.CRITICAL)  # it logs what it raises
        self._harvester = harvesters.Harvester()
        try:
            self._open()
            self._set_up()
            self._rows = self._image_rows(images)
        except InstrumentError:
            self.close()
            raise
        except Exception as error:  # of many libraries
            self.close()
            raise InstrumentError(f"GenICam: {one_line(error)}") from None

    def acquisition(self) -> Acquisition:
        facts: dict[str, Any] = {"model": self._info["model"], "serial": self._info["serial_number"]}
        facts |= {known: value for name, known in TOLD.items() if (value := self._number(name)) is not None}
        binned = [self._number(name) or 1.0 for name in BINNING]
        if self._number(BINNING[0]) is not None:
            facts["binning"] = binned
        if not self._leaves_out:  # in columns and rows of the sensor
            region = zip(REGION, 2 * binned, strict=True)
            facts["region"] = [(self._number(name) or 0.0) * by for name, by in region]
        facts |= {"pixel_format": self._format, ROWS: self._rows.summed}
        exposure = next((value for name in EXPOSURES if (value := self._number(name)) is not None), None)
        return self._axis.acquisition(
            self._columns,
            source=f"{self._info['vendor']} {self._info['model']} {self._info['serial_number']} (GenICam)",
            instrument=facts,
            exposure_s=exposure / 1e6 if exposure else None,
            full_scale=self._rows.full_scale,
            dtype=self._rows.dtype,
            block=self._rows.tracks,
            numbers=numbering(self._info["tl_type"], self._rows.tracks),
            **self._about,
        )

    def frames(self) -> Iterator[Yielded]:
        acquirer, planned, done, last = self._acquirer, self._about["spectra"], 0, None
        per_s = self._number("GevTimestampTickFrequency")
        buffers = Buffers(acquirer, self._format, self._columns, self._lines, per_s)
        try:
            acquirer.start()
            while planned is None or done < planned:
                buffer = buffers.next(WAIT_S)
                if buffer is None:
                    yield Waiting(_awaited(buffers.incomplete, done))
                    continue
                try:
                    counts = self._rows(buffers.image(buffer)).copy()  # the camera goes on writing there
                    number, time_ns = said(buffer, "frame_id"), buffers.time_ns(buffer)
                except ValueError as error:
                    raise InstrumentError(f"{self._info['model']}: {error}") from None
                finally:
                    buffer.parent.queue_buffer(buffer)
                yield Block(counts, None, time_ns, number)
                if number is None or number != last:  # no copy
                    done, last = done + self._rows.tracks, number
        except InstrumentError:
            raise
        except Exception as error:
            raise InstrumentError(
                f"{self._info['model']} gives no image any more: {one_line(error)}"
            ) from None
        finally:
            with suppress(Exception):
                acquirer.stop()

    def close(self) -> None:
        with suppress(Exception):
            if self._acquirer is not None:
                self._acquirer.destroy()
        self._acquirer = None
        with suppress(Exception):
            self._harvester.reset()

    # -- opening ----------------------------------------------------------------------------------------

    def _open(self) -> None:
        for file in self._settings.producers():
            self._harvester.add_file(str(file), check_validity=True)
        self._harvester.update()
        found = [each.property_dict for each in self._harvester.device_info_list]
        if not found:
            raise InstrumentError(
                "the producer finds no camera: is it plugged in and on, or does another program have it? "
                "For USB3 cameras their makers ship a udev rule, which lets other users than root open them"
            )
        wanted = self._settings.camera
        names = [
            [str(each.get(key)) for key in ("serial_number", "id_", "user_defined_name", "model")]
            for each in found
        ]
        number = 0 if wanted is None else next((n for n, each in enumerate(names) if wanted in each), None)
        if number is None:
            there = [name for each in names for name in each if name != "None"]
            raise InstrumentError(f"no camera {wanted} is there: {meant(str(wanted), dict.fromkeys(there))}")
        self._info = found[number]
        try:
            self._acquirer = self._harvester.create(number)
        except Exception as error:
            raise InstrumentError(
                f"{self._info['display_name']} cannot be opened ({one_line(error)}): does another program "
                "have it, or is this user not allowed to? For USB3 cameras their makers ship a udev rule"
            ) from None
        self._map = self._acquirer.remote_device.node_map

    def _set_up(self) -> None:
        # Another program may have left it at one image.
        with suppress(Exception):  # not there, or never another
            self._map.AcquisitionMode.value = "Continuous"
        for each in self._settings.property:
            name, _, value = each.partition("=")
            self._set(name, value, f"--property {each}")
        if self._settings.region is not None:  # after those, of which some change it, such as binning
            self._set_region(self._settings.region)
        self._refuse_automatic()  # before the exposure, which an automatic one lets nobody set
        if self._settings.exposure_ms is not None:
            exposure = next((name for name in EXPOSURES if self._has(name)), None)
            what = f"--exposure-ms {self._settings.exposure_ms:g}"
            if exposure is None:
                raise InstrumentError(f"{what}: this camera has no {EXPOSURES[0]} that could be set")
            self._set(exposure, str(self._settings.exposure_ms * 1e3), what, 1e-3)
        if self._number("ReverseX"):
            raise InstrumentError(
                "the camera mirrors its images (ReverseX), and neither calibration nor axis is of those: "
                "--property ReverseX=false"
            )
        if self._leaves_out and self._calibrated:
            raise InstrumentError(
                "the camera leaves out columns (DecimationHorizontal), and a calibration is of those side by "
                "side: --property DecimationHorizontal=1"
            )

    def _refuse_automatic(self) -> None:
        """Of what would change in mid-run, or bend the counts, neither dark nor `start` would be true."""
        for name in AUTOMATIC:
            if self._has(name) and said(getattr(self._map, name), "value") not in (None, "Off"):
                raise InstrumentError(
                    f"the camera changes its settings by itself ({name}), and darks are of those that stay: "
                    f"--property {name}=Off"
                )
        gamma, bends = self._number("Gamma"), self._number("GammaEnable")
        if gamma is not None and not alike(gamma, 1.0) and bends != 0:
            raise InstrumentError(
                f"the camera's counts are not in proportion to light (Gamma is {gamma:g}), and raman is of "
                "those that are: --property Gamma=1"
            )

    def _set_region(self, text: str) -> None:
        x, y, width, height = (part.strip() for part in text.split(","))
        for name in REGION[:2]:  # an old one leaves no room for the new width
            with suppress(Exception):  # not there, or never another
                getattr(self._map, name).value = 0
        wanted = {"Width": width, "Height": height, "OffsetX": x, "OffsetY": y}
        for name, value in wanted.items():
            if value != "0" or self._has(name):
                self._set(name, value, f"--region {text}")
        got = [int(self._number(name) or 0) for name in REGION]
        if got != [int(wanted[name]) for name in REGION]:
            raise InstrumentError(
                f"--region {text} is not possible: the nearest offered is {','.join(map(str, got))}"
            )

    @property
    def _leaves_out(self) -> bool:
        """Whether its pixels are no columns side by side."""
        return (self._number("DecimationHorizontal") or 1.0) > 1

    def _has(self, name: str) -> bool:
        try:
            return self._map.get_node(name) is not None
        except Exception:
            return False

    def _set(self, name: str, value: str, what: str, unit: float = 1.0) -> None:
        """what: the flag, for people; unit: of the feature, in those of the flag."""
        if not self._has(name):
            names = [each for each in dir(self._map) if each[:1].isupper()]
            raise InstrumentError(f"{what}: the camera has no {name}; {meant(name, names)}")
        node = getattr(self._map, name)
        symbols = getattr(node, "symbolics", ())
        try:
            kind = type(node.value)
            if kind is bool:
                symbols = "true", "false"
                node.value = TRUTH[value.lower()]
            else:
                node.value = value if symbols or kind is str else kind(float(value))
        except Exception as error:
            low, high, step = (said(node, each) for each in ("min", "max", "inc"))
            clause = ""
            if symbols:
                clause = offered(value, symbols)
            elif low is not None and high is not None:
                wanted = value if unit == 1 else f"{float(value) * unit}"
                clause = offered(wanted, (), low * unit, high * unit, (step or 0) * unit)
            raise InstrumentError(f"{what} is not possible: {clause or one_line(error)}") from None

    def _number(self, name: str) -> float | None:
        try:
            return float(getattr(self._map, name).value)
        except Exception:  # not there, or not readable now
            return None

    def _image_rows(self, images: ImageSettings) -> Rows:
        self._format = str(self._map.PixelFormat.value)
        self._columns, self._lines = int(self._map.Width.value), int(self._map.Height.value)
        depth = bits(self._format)
        if depth is None or depth > 16:
            greys = [each for each in self._map.PixelFormat.symbolics if bits(each)]
            remedy = f"--property PixelFormat={greys[-1]}" if greys else "it offers no grey one"
            raise InstrumentError(
                f"the camera's pixels are {self._format}, and a spectrum has one number a pixel: {remedy}"
            )
        size = (
            self._number("PayloadSize") or self._lines * self._columns * 2.0
        )  # as the producer allocates it
        wanted = min(max(int(self._settings.ring_mb * 1e6 / size), BUFFERS[0]), BUFFERS[1])
        self._acquirer.num_buffers = max(wanted, self._acquirer.min_num_buffers)
        return Rows(images, self._lines, np.uint8 if depth == 8 else np.uint16, depth)


def numbering(technology: str, spectra: int) -> Numbering:
    """How images are numbered, of so many spectra each; technology: as GenTL names how they are sent.

    GigE Vision has 16 bits, which leave 0 out (block_id), or 64 (extended ids): these are the same modulo
    65535. All others have 64.
    """
    if technology == "GEV":
        return Numbering(lowest=1, highest=65535, spectra=spectra)
    return Numbering(spectra=spectra)


def _awaited(incomplete: int, done: int) -> str:
    if incomplete:
        return f"complete images: {incomplete} came incomplete, as packets were lost (cable, network?)"
    return "" if done else "the trigger"


def _installed() -> list[Path]:
    folders = [Path(each) for each in os.environ.get(PATH, "").split(os.pathsep) if each]
    return [file for folder in folders for file in sorted(folder.glob("*.cti"))]
