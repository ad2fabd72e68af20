"""Any camera that Micro-Manager has an adapter for: Andor, Princeton, Hamamatsu, PCO, Thorlabs and others."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from cars_rt.calibration.settings import ROWS
from cars_rt.drivers.axis import Axis, AxisSettings
from cars_rt.drivers.base import WAIT_S, Acquisition, Block, Instrument, InstrumentError, Waiting, Yielded
from cars_rt.drivers.flags import refuse_duration, refuse_memory, refuse_region
from cars_rt.drivers.images import ImageSettings, Rows
from cars_rt.drivers.nearest import meant, offered
from cars_rt.drivers.numbering import Numbering
from cars_rt.drivers.scan import ScanSettings
from cars_rt.drivers.ticks import Ticks
from cars_rt.installation import install_extra
from cars_rt.printable import one_line

log = logging.getLogger("cars_rt.drivers")

UNBOUNDED = 2**31 - 1  # images of a sequence that goes on until it is stopped
ROUNDED = 0.05  # of an exposure, by which a camera may change it: some expose for whole rows
ARRIVES_S = 60.0  # within which what properties move is where it should be
SLEEP_S = 0.0005  # between two looks for images: the core tells nobody that one has come
PLACES = ("C:/Program Files/Micro-Manager-2.0", "/usr/local/lib/micro-manager", "/Applications/Micro-Manager")
TOLD = {
    "Gain": "gain",
    "CCDTemperature": "temperature_c",
    "Temperature": "temperature_c",
    "Binning": "binning",
}


@dataclass(frozen=True, kw_only=True)
class MicroManagerSettings:
    """Settings of `cars-rt drive micromanager`."""

    system: Path | None = None
    """System configuration of Micro-Manager (.cfg), as its wizard writes it."""

    device: str | None = None
    """Instead of a configuration: adapter and device of one camera, such as DemoCamera/DCam."""

    adapters: Path | None = None
    """Folder with Micro-Manager's device adapters; if not given, where it is usually installed."""

    camera: str | None = None
    """Label of the camera, if the configuration has several."""

    exposure_ms: float = 10.0
    """Exposure of one image."""

    property: tuple[str, ...] = ()
    """A property to set, such as Camera.Gain=2; may be given several times."""

    region: str | None = None
    """Part of the sensor: x,y,width,height."""

    ring_mb: int = 256
    """Memory of Micro-Manager for images that were not fetched yet."""

    def __post_init__(self) -> None:
        if self.device is not None and not all(self.device.partition("/")):
            raise InstrumentError(f"--device {self.device}: give adapter and device, such as DemoCamera/DCam")
        refuse_duration("--exposure-ms", self.exposure_ms, zero=True)
        refuse_memory("--ring-mb", self.ring_mb)
        refuse_region(self.region)
        for each in self.property:
            place, equals, _ = each.partition("=")
            if not (equals and "." in place):
                raise InstrumentError(f"--property {each}: give Device.Property=Value, as in Camera.Gain=2")

    def look(self) -> None:
        """Raises InstrumentError if there are no adapters, or no one configuration."""
        if (self.system is None) == (self.device is None):
            raise InstrumentError(
                "give --system FILE.cfg of Micro-Manager, or --device such as DemoCamera/DCam"
            )
        self.folder()
        if self.system is not None and not self.system.is_file():
            raise InstrumentError(f"there is no configuration {self.system}")

    def folder(self) -> Path:
        """Where the adapters are. Raises InstrumentError."""
        folder = self.adapters or _adapters()
        if folder is None or not folder.is_dir():
            where = f" in {folder}" if folder else ""
            raise InstrumentError(
                f"Micro-Manager's device adapters are not found{where}: install Micro-Manager "
                "(micro-manager.org) and give its folder as --adapters; those of its demonstration camera "
                "are in the package mm-test-adapters"
            )
        return folder


class MicroManager(Instrument):
    """A camera by Micro-Manager's device adapters; each image is summed to one spectrum, or to several.

    Example: cars-rt drive micromanager --system andor.cfg --exposure-ms 1 --calibration lab.json
    """

    silent_s = 120.0  # a whole microscope takes a while to be initialised
    lives = "thread"  # adapters want one thread, and their buffer must be emptied whatever happens behind it
    needs = ("pymmcore", "micromanager")

    def __init__(
        self, settings: MicroManagerSettings, images: ImageSettings, scan: ScanSettings, axis: AxisSettings
    ) -> None:
        """Raises InstrumentError with the nearest that exists or is offered."""
        self._settings, self._about = settings, scan.about()
        self._axis = Axis(axis)
        self._core = self._new_core()
        try:
            self._load()
            self._camera = self._find_camera()
            self._core.setCircularBufferMemoryFootprint(max(settings.ring_mb, 1))
            for each in settings.property:
                self._set(each)
            self._await({each.partition(".")[0] for each in settings.property})
            if settings.region is not None:
                self._set_region(settings.region)
            self._set_exposure(settings.exposure_ms)
            self._rows = self._image_rows(images)
        except RuntimeError as error:
            self.close()
            if isinstance(error, InstrumentError):
                raise
            raise InstrumentError(f"Micro-Manager: {one_line(error)}") from None

    def acquisition(self) -> Acquisition:
        core, camera = self._core, self._camera
        facts: dict[str, Any] = {
            "model": core.getDeviceName(camera),
            "library": core.getDeviceLibrary(camera),
            ROWS: self._rows.summed,
        }
        for name, known in TOLD.items():
            with suppress(RuntimeError):
                facts[known] = _told(core.getProperty(camera, name))
        for each in self._settings.property:
            facts[each.partition("=")[0]] = each.partition("=")[2]
        binned = facts.get("binning", 1.0)
        if isinstance(binned, float):  # else nobody knows which columns of the sensor they are
            facts["region"] = [each * binned for each in core.getROI(camera)]
        return self._axis.acquisition(
            core.getImageWidth(),
            source=f"{core.getDeviceDescription(camera) or camera} (Micro-Manager)",
            instrument=facts,
            exposure_s=core.getExposure() / 1e3 or None,
            full_scale=self._rows.full_scale,
            dtype=self._rows.dtype,
            block=self._rows.tracks,
            numbers=Numbering(first=0, spectra=self._rows.tracks),
            **self._about,
        )

    def frames(self) -> Iterator[Yielded]:
        core, planned = self._core, self._about["spectra"]
        images = UNBOUNDED if planned is None else -(-planned // self._rows.tracks)
        clock, ticks, waited = Ticks(1e6), -1, time.monotonic()
        about = self._module.Metadata()
        try:
            core.startSequenceAcquisition(images, 0.0, True)  # stops before it would lose one
            done = 0
            while done < images:
                if not core.getRemainingImageCount():
                    over = core.isBufferOverflowed() or not core.isSequenceRunning()
                    if over and not core.getRemainingImageCount():
                        raise InstrumentError(self._why_stopped(done))
                    if time.monotonic() - waited > WAIT_S:
                        waited = time.monotonic()
                        yield Waiting("the trigger" if not done else "")
                    time.sleep(SLEEP_S)
                    continue
                image = core.popNextImageMD(about)
                number, elapsed = _number(about, "ImageNumber"), _number(about, "ElapsedTime-ms")
                stamp = None
                if elapsed is not None and (now := int(elapsed * 1e3)) > ticks:
                    ticks, stamp = now, clock.time_ns(now)
                counts = self._rows(image)
                yield Block(counts, None, stamp, done if number is None else int(number))
                done, waited = done + 1, time.monotonic()
        except InstrumentError:
            raise
        except SystemError:  # of its Python wrapper, which has no words for an image of no camera
            raise InstrumentError("Micro-Manager gives no image any more: the camera is gone") from None
        except RuntimeError as error:
            raise InstrumentError(f"Micro-Manager: {one_line(error)}") from None
        finally:
            with suppress(RuntimeError):
                core.stopSequenceAcquisition()

    def close(self) -> None:
        with suppress(RuntimeError):
            self._core.reset()

    # -- opening ----------------------------------------------------------------------------------------

    def _new_core(self) -> Any:
        try:
            self._module = import_module("pymmcore")
        except ImportError as error:
            raise InstrumentError(
                f"Micro-Manager's core is missing ({error}): {install_extra('micromanager')}"
            ) from None
        core = self._module.CMMCore()
        folder = self._settings.folder()
        core.setDeviceAdapterSearchPaths([str(folder)])
        return core

    def _load(self) -> None:
        core, settings = self._core, self._settings
        settings.look()
        if settings.system is not None:
            core.loadSystemConfiguration(str(settings.system))
            return
        adapter, _, device = str(settings.device).partition("/")
        known = core.getDeviceAdapterNames()
        if adapter not in known:
            raise InstrumentError(f"Micro-Manager has no adapter {adapter}: {meant(adapter, known)}")
        devices = core.getAvailableDevices(adapter)
        hubs = [each for each in devices if "Hub" in each]
        if device not in devices and hubs:  # its devices are known to it alone
            core.loadDevice("Hub", adapter, hubs[0])
            core.initializeDevice("Hub")
            devices = (*devices, *core.getInstalledDevices("Hub"))
        if device not in devices:
            raise InstrumentError(f"the adapter {adapter} has no device {device}: {meant(device, devices)}")
        core.loadDevice("Camera", adapter, device)
        core.initializeDevice("Camera")
        core.setCameraDevice("Camera")

    def _find_camera(self) -> str:
        core, wanted = self._core, self._settings.camera
        cameras = core.getLoadedDevicesOfType(self._module.CameraDevice)
        if wanted is not None and wanted not in cameras:
            raise InstrumentError(f"no camera is called {wanted}: {meant(wanted, cameras)}")
        if wanted is not None:
            core.setCameraDevice(wanted)
        if not core.getCameraDevice():
            raise InstrumentError(f"the configuration names no camera: give --camera; {meant('', cameras)}")
        return str(core.getCameraDevice())

    def _set(self, assignment: str) -> None:
        core = self._core
        place, _, value = assignment.partition("=")
        device, _, name = place.partition(".")
        devices = core.getLoadedDevices()
        if device not in devices:
            raise InstrumentError(f"--property {assignment}: no device {device}; {meant(device, devices)}")
        names = core.getDevicePropertyNames(device)
        if name not in names:
            raise InstrumentError(f"--property {assignment}: {device} has no {name}; {meant(name, names)}")
        if core.isPropertyReadOnly(device, name):
            raise InstrumentError(f"--property {assignment}: {name} can be read only")
        if (device, name) == (self._camera, "Exposure"):
            raise InstrumentError(f"--property {assignment}: give --exposure-ms {value} instead")
        try:
            core.setProperty(device, name, value)
        except RuntimeError as error:
            allowed = core.getAllowedPropertyValues(device, name)
            limits: tuple[float, ...] = ()
            if core.hasPropertyLimits(device, name):
                limits = core.getPropertyLowerLimit(device, name), core.getPropertyUpperLimit(device, name)
            clause = offered(value, allowed, *limits) if allowed or limits else ""
            raise InstrumentError(
                f"--property {assignment} is not possible: {clause or one_line(error)}"
            ) from None

    def _await(self, devices: set[str]) -> None:
        core = self._core
        usual_ms = core.getTimeoutMs()  # for which closing waits for whatever is busy
        core.setTimeoutMs(int(ARRIVES_S * 1e3))
        try:
            for device in devices:
                core.waitForDevice(device)
        finally:
            core.setTimeoutMs(usual_ms)

    def _set_region(self, text: str) -> None:
        x, y, width, height = map(int, text.split(","))
        self._core.clearROI()
        full = self._core.getImageWidth(), self._core.getImageHeight()
        if x + width > full[0] or y + height > full[1]:
            raise InstrumentError(f"--region {text} is not within the sensor's {full[0]} x {full[1]} pixels")
        self._core.setROI(x, y, width, height)
        got = tuple(self._core.getROI(self._camera))
        if got != (x, y, width, height):
            raise InstrumentError(
                f"--region {text} is not possible: the nearest offered is {','.join(map(str, got))}"
            )

    def _set_exposure(self, wanted_ms: float) -> None:
        core = self._core
        with suppress(RuntimeError):
            core.setExposure(wanted_ms)
        got = core.getExposure()
        wrong = abs(got - wanted_ms)
        if wrong <= ROUNDED * wanted_ms:
            if wrong > 1e-3 * wanted_ms:
                log.warning("an exposure of %g ms is one of %.6g ms with this camera", wanted_ms, got)
            return
        nearest = got
        if core.hasProperty(self._camera, "Exposure") and core.hasPropertyLimits(self._camera, "Exposure"):
            low = core.getPropertyLowerLimit(self._camera, "Exposure")
            high = core.getPropertyUpperLimit(self._camera, "Exposure")
            nearest = got if low <= wanted_ms <= high else min(max(wanted_ms, low), high)
        raise InstrumentError(
            f"an exposure of {wanted_ms:g} ms is not possible: the nearest offered is {nearest:.6g} ms"
        )

    def _image_rows(self, images: ImageSettings) -> Rows:
        core = self._core
        parts, size = core.getNumberOfComponents(), core.getBytesPerPixel()
        if (parts, size) == (1, 4):
            raise InstrumentError(
                "the camera gives 32 bits a pixel, and Micro-Manager does not say whether these are integers "
                "or floats: choose fewer, as in --property Camera.PixelType=16bit"
            )
        dtype = {1: "uint8", 2: "uint16"}.get(size)
        if parts != 1 or dtype is None:
            raise InstrumentError(
                f"the camera gives images in colour ({parts} components, {8 * size} bits a pixel), and a "
                "spectrum has one number a pixel: choose a grey one, as in --property Camera.PixelType=16bit"
            )
        return Rows(images, core.getImageHeight(), dtype, core.getImageBitDepth())

    def _why_stopped(self, done: int) -> str:
        if self._core.isBufferOverflowed():
            return (
                f"Micro-Manager's buffer was full after {done} images, and the camera stopped: it is faster "
                "than this computer, or its buffer is too small for a pause of it (--ring-mb)"
            )
        return f"the camera stopped by itself after {done} images"


def _adapters() -> Path | None:
    """Where adapters usually are: of pymmcore-plus, of mm-test-adapters, or of Micro-Manager itself."""
    with suppress(ImportError):
        if found := import_module("pymmcore_plus").find_micromanager():
            return Path(found)
    for place in map(Path, PLACES):
        if place.is_dir():
            return place
    with suppress(ImportError):
        return Path(import_module("mm_test_adapters").device_adapter_path())
    return None


def _told(text: str) -> float | str:
    """A property's value: a number, also of 2x2, or words as they are, such as of a gain 1-Full well."""
    with suppress(ValueError):
        number = float(text.split("x")[0])
        return number if math.isfinite(number) else text
    return text


def _number(about: Any, name: str) -> float | None:
    try:
        return float(about.GetSingleTag(name).GetValue())
    except (RuntimeError, ValueError):
        return None
