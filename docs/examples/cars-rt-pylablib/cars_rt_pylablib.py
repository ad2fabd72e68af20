"""Andor's cameras with SDK3 (Zyla, Neo, Marana, iStar sCMOS) by pylablib. GPL-3.0-only, as pylablib is.

A template: the vendor's runtime (Andor SDK3) has to be installed, and it has not been tried with a camera.
What was tried is in CARS-RT's tests: that it installs, gives its flags, and makes its run with a stand-in for
pylablib.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cars_rt.drivers import Acquisition, Block, Instrument, InstrumentError, Numbering, Waiting
from cars_rt.drivers.axis import Axis, AxisSettings
from cars_rt.drivers.images import ImageSettings, Rows
from cars_rt.drivers.scan import ScanSettings

RING = 1000  # images that wait in the camera's memory
WAIT_S = 0.1


@dataclass(frozen=True, kw_only=True)
class AndorSdk3Settings:
    """Settings of `cars-rt drive andor-sdk3`."""

    camera: int = 0
    """Number of the camera, if there are several."""

    exposure_ms: float = 10.0
    """Exposure of one image."""


class AndorSdk3(Instrument):
    """A camera of Andor with SDK3, by pylablib."""

    lives = "thread"  # one thread owns the vendor's handle

    def __init__(
        self, settings: AndorSdk3Settings, images: ImageSettings, scan: ScanSettings, axis: AxisSettings
    ) -> None:
        try:
            self.library = import_module("pylablib.devices.Andor")
        except ImportError as error:
            raise InstrumentError(f"pylablib is missing ({error}): pip install pylablib") from None
        self.about, self.axis = scan.about(), Axis(axis)
        try:
            self.camera = self.library.AndorSDK3Camera(idx=settings.camera)
        except (self.library.AndorError, OSError) as error:  # OSError: the SDK itself is not installed
            why = " ".join(str(error).split())
            raise InstrumentError(f"camera {settings.camera} cannot be opened: {why}") from None
        got = self.camera.set_exposure(settings.exposure_ms / 1e3)
        if abs(got * 1e3 - settings.exposure_ms) > 0.01 * settings.exposure_ms:
            self.close()
            raise InstrumentError(
                f"an exposure of {settings.exposure_ms:g} ms is not possible: the nearest offered is "
                f"{got * 1e3:g} ms"
            )
        rows, self.columns = self.camera.get_data_dimensions()
        self.rows = Rows(images, rows, "uint16")
        self.exposure_s = got

    def acquisition(self) -> Acquisition:
        info = self.camera.get_device_info()
        return self.axis.acquisition(
            self.columns,
            source=f"Andor {info.camera_model} (pylablib)",
            instrument={"model": str(info.camera_model), "serial": str(info.serial_number)},
            exposure_s=self.exposure_s,
            dtype=self.rows.dtype,
            block=self.rows.tracks,
            numbers=Numbering(first=0, spectra=self.rows.tracks),
            **self.about,
        )

    def frames(self) -> Iterator[Any]:
        planned, done = self.about["spectra"], 0
        try:
            self.camera.setup_acquisition(mode="sequence", nframes=RING)
            self.camera.start_acquisition()  # once a run: snap() would start it again for each image
            while planned is None or done < planned:
                try:
                    self.camera.wait_for_frame(timeout=WAIT_S)
                except self.library.AndorTimeoutError:
                    yield Waiting("the trigger")
                    continue
                images, infos = self.camera.read_multiple_images(return_info=True)
                for image, info in zip(images, infos, strict=True):
                    yield Block(self.rows(image), number=int(info.frame_index))
                    done += self.rows.tracks
        except self.library.AndorError as error:
            raise InstrumentError(f"the camera failed: {error}") from None
        finally:
            self.camera.stop_acquisition()

    def close(self) -> None:
        self.camera.close()
