"""Cameras by Micro-Manager: its core with its own demonstration camera and sequence tester, no mock."""

import threading
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("pymmcore", reason="Micro-Manager's core is not installed: pymmcore")
pytest.importorskip("mm_test_adapters", reason="its demonstration camera is not installed: mm-test-adapters")

from cars_rt.drivers import Block, InstrumentError, Waiting, micromanager
from cars_rt.drivers.apart import InProcess, placed
from cars_rt.drivers.axis import AxisSettings
from cars_rt.drivers.conformance import TRIALS, Subject, attempt
from cars_rt.drivers.images import ImageSettings, Rows
from cars_rt.drivers.micromanager import MicroManager, MicroManagerSettings
from cars_rt.drivers.scan import ScanSettings

AXIS = AxisSettings(axis="500:3100")
DEMO = MicroManagerSettings(
    device="DemoCamera/DCam", exposure_ms=1, region="0,100,512,4", property=("Camera.PixelType=16bit",)
)


class Watched(MicroManager):
    """Its core can be reached from elsewhere, to unplug the camera."""

    core: ClassVar[Any] = None

    def __init__(self, *settings: Any) -> None:
        super().__init__(*settings)
        Watched.core = self._core


def camera(
    settings: MicroManagerSettings = DEMO, images: Any = None, scan: Any = None
) -> partial[MicroManager]:
    return partial(Watched, settings, images or ImageSettings(), scan or ScanSettings(spectra=60), AXIS)


def unplug() -> None:
    core = Watched.core
    core.stopSequenceAcquisition()
    core.unloadDevice("Camera")


@pytest.mark.parametrize("trial", TRIALS)
def test_demonstration_camera_conforms(trial: str) -> None:
    wrong = {"a gain of 200": camera(replace(DEMO, property=("Camera.Gain=200",)))}
    subject = Subject(make=camera(), wrong=wrong, rate=1, spectra=40)
    if trial == "unplugging":
        endless = camera(scan=ScanSettings())
        subject = replace(subject, make=endless, unplug=unplug, replug=lambda: None)
    verdict = attempt(trial, subject)
    verdict.check()
    assert verdict.outcome == "passed" or trial in ("numbers", "gaps")


def blocks(make: partial[MicroManager]) -> tuple[Any, list[Block]]:
    instrument = make()
    try:
        about = instrument.acquisition()
        given = [each for each in instrument.frames() if not isinstance(each, Waiting)]
        return about, [replace(each, counts=each.counts.copy()) for each in given if isinstance(each, Block)]
    finally:
        instrument.close()


def test_rows_of_an_image_are_summed_and_settings_told() -> None:
    settings = replace(DEMO, property=("Camera.PixelType=16bit", "Camera.Gain=2", "Camera.BitDepth=12"))
    about, given = blocks(camera(settings, scan=ScanSettings(scan="2x3")))
    assert (about.dtype, about.scan, about.spectra, about.full_scale) == ("uint32", (2, 3), 6, 4 * 4095)
    assert about.exposure_s == 0.001 and len(about.raman_shift) == 512
    assert about.instrument["Camera.Gain"] == "2" and about.instrument["gain"] == 2.0
    assert about.instrument["region"] == [0, 100, 512, 4] and about.instrument["model"] == "DCam"
    assert about.instrument["rows_per_spectrum"] == 4
    assert [each.number for each in given] == [*range(6)] and given[0].counts.shape == (1, 512)
    assert given[0].counts.max() > 0
    about, given = blocks(camera(settings, ImageSettings(rows="1:3", tracks=0)))
    assert (about.dtype, about.block, len(given)) == ("uint16", 2, 30)
    assert given[0].counts.shape == (2, 512) and about.numbers.spectra == 2


def test_a_property_in_words_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some cameras call their gain 1-Full well; here, the type of the pixels has words."""
    monkeypatch.setattr(micromanager, "TOLD", {"PixelType": "gain", "ScanMode": "binning"})
    about, _ = blocks(camera())
    assert about.instrument["gain"] == "16bit" and about.instrument["region"] == [0, 100, 512, 4]
    monkeypatch.setattr(micromanager, "TOLD", {"PixelType": "binning"})
    about, _ = blocks(camera())
    assert about.instrument["binning"] == "16bit" and "region" not in about.instrument


def test_sequence_tester_gives_its_images_in_order_until_its_buffer_is_full() -> None:
    """It yields images as fast as it can; a megabyte of memory is full at once, and the camera stops."""
    settings = MicroManagerSettings(device="SequenceTester/TCamera-0", exposure_ms=1, ring_mb=1)
    instrument = camera(settings, scan=ScanSettings(spectra=4))()
    instrument.acquisition()
    given = [each for each in instrument.frames() if isinstance(each, Block)]
    assert [each.number for each in given] == [0, 1, 2, 3]
    instrument.close()
    with pytest.raises(InstrumentError, match=r"buffer was full after \d+ images, and the camera stopped"):
        blocks(camera(settings, scan=ScanSettings(spectra=5000)))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (
            {"property": ("Camera.Gian=2",)},
            r"Camera\.Gian=2: Camera has no Gian; did you mean Gain",
        ),
        ({"property": ("Camera.Gain=200",)}, r"the nearest offered is 8 \(from -5 to 8\)"),
        ({"property": ("Camera.Binning=3",)}, "the nearest offered is [24]"),
        ({"property": ("Camera.PixelType=16 bits",)}, "not possible: did you mean 16bit"),
        ({"property": ("Kamera.Gain=2",)}, "no device Kamera; did you mean Camera"),
        ({"property": ("Camera.CameraName=x",)}, "CameraName can be read only"),
        ({"property": ("Gain",)}, r"give Device\.Property=Value"),
        ({"property": ("Camera.PixelType=32bitRGB",)}, r"in colour \(4 components, 32 bits a pixel\)"),
        ({"property": ("Camera.PixelType=32bit",)}, r"32 bits a pixel, .* choose .*PixelType=16bit"),
        ({"property": ("Camera.Exposure=5",)}, r"Camera\.Exposure=5: give --exposure-ms 5"),
        ({"exposure_ms": 1e6}, "an exposure of 1e.06 ms is not possible: the nearest offered is 10000 ms"),
        ({"exposure_ms": float("nan")}, "must be 0 or more, not nan"),
        ({"region": "0,0,9999,4"}, "not within the sensor's 512 x 512 pixels"),
        ({"region": "all"}, "give x,y,width,height"),
        ({"device": "DemoCamera/DCan"}, "has no device DCan: did you mean DCam"),
        ({"device": "DemoCam/DCam"}, "no adapter DemoCam: did you mean DemoCamera"),
        ({"device": None}, "give --system FILE.cfg"),
        ({"adapters": "nowhere"}, "adapters are not found in nowhere"),
    ],
)
def test_what_cannot_be_is_told_with_the_nearest_that_can(changed: dict[str, Any], reason: str) -> None:
    from pathlib import Path

    changed = {name: Path(value) if name == "adapters" else value for name, value in changed.items()}
    with pytest.raises(InstrumentError, match=reason):
        camera(replace(DEMO, **changed))()


@pytest.mark.parametrize(
    ("wanted", "got", "limits", "said"),
    [
        (1.0, 0.99792, (0.00924, 30_000), "an exposure of 1 ms is one of 0.99792 ms"),
        (0.001, 0.00924, (0.00924, 30_000), "the nearest offered is 0.00924 ms"),
        (10, 9.2512, (0.00924, 30_000), "the nearest offered is 9.2512 ms"),
        (10, 9.2512, None, "the nearest offered is 9.2512 ms"),
    ],
)
def test_exposure_that_a_camera_rounds_is_taken_if_it_is_near(
    wanted: float, got: float, limits: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An sCMOS camera exposes for whole rows."""
    instrument = camera()()
    core = instrument._core
    instrument._core = SimpleNamespace(
        setExposure=lambda ms: None,
        getExposure=lambda: got,
        hasProperty=lambda camera, name: True,
        hasPropertyLimits=lambda camera, name: limits is not None,
        getPropertyLowerLimit=lambda camera, name: limits[0],
        getPropertyUpperLimit=lambda camera, name: limits[1],
    )
    try:
        instrument._set_exposure(wanted)
    except InstrumentError as error:
        assert said in str(error)
    else:
        assert said in caplog.text
    instrument._core = core
    instrument.close()


def test_system_configuration_is_loaded(tmp_path: Any) -> None:
    system = tmp_path / "demo.cfg"
    system.write_text("Device,Cam,DemoCamera,DCam\nProperty,Core,Initialize,1\nProperty,Core,Camera,Cam\n")
    settings = replace(DEMO, device=None, system=system, property=("Cam.PixelType=16bit",))
    about, given = blocks(camera(settings))
    assert len(given) == 60 and about.source == "Demo camera (Micro-Manager)"
    with pytest.raises(InstrumentError, match="no camera is called Can: did you mean Cam"):
        camera(replace(settings, camera="Can"))()


def test_device_that_a_property_moves_has_arrived_before_the_first_image(tmp_path: Any) -> None:
    system = tmp_path / "wheel.cfg"
    lines = ["Device,Camera,DemoCamera,DCam", "Device,Wheel,DemoCamera,DWheel", "Property,Core,Initialize,1"]
    system.write_text("\n".join([*lines, "Property,Core,Camera,Camera", "Delay,Wheel,300", ""]))
    moved = (*DEMO.property, "Wheel.State=5")
    instrument = camera(replace(DEMO, device=None, system=system, property=moved))()
    assert not instrument._core.deviceBusy("Wheel")
    instrument.close()


class Busy(MicroManager):
    """One of its devices is busy, whatever it does, and does not matter."""

    def _load(self) -> None:
        super()._load()
        self._core.setDeviceDelayMs("Wheel", 30_000)
        self._core.setProperty("Wheel", "State", "5")


def test_device_that_no_property_names_may_be_busy(tmp_path: Any) -> None:
    system = tmp_path / "wheel.cfg"
    lines = ["Device,Camera,DemoCamera,DCam", "Device,Wheel,DemoCamera,DWheel", "Property,Core,Initialize,1"]
    system.write_text("\n".join([*lines, "Property,Core,Camera,Camera", ""]))
    moved = (*DEMO.property, "Core.AutoShutter=0")
    instrument = Busy(
        replace(DEMO, device=None, system=system, property=moved), ImageSettings(), ScanSettings(), AXIS
    )
    assert instrument._core.deviceBusy("Wheel") and instrument._core.getTimeoutMs() < 30_000
    instrument._core.setDeviceDelayMs("Wheel", 0)
    instrument.close()


class Fragile(MicroManager):
    lives = "process"

    def frames(self) -> Any:
        for number, given in enumerate(super().frames()):
            if number == 20:  # what a broken adapter does
                self._core.setProperty("Camera", "SimulateCrash", "Dereference Null Pointer")
            yield given


@pytest.mark.skipif(not hasattr(threading, "get_native_id"), reason="no processes")
def test_adapter_that_crashes_takes_only_its_process_along() -> None:
    instrument = placed(partial(Fragile, DEMO, ImageSettings(), ScanSettings(), AXIS))
    assert isinstance(instrument, InProcess)
    instrument.acquisition()
    with pytest.raises(InstrumentError, match=r"the process of the instrument died .*: its library crashed"):
        list(instrument.frames())
    instrument.close()


def test_rows_are_summed_without_running_over() -> None:
    image = np.full((4, 3), 65535, np.uint16)
    assert Rows(ImageSettings(), 4, image.dtype)(image).tolist() == [[4 * 65535] * 3]
    signed = np.array([[-1, 5]], np.int16)
    assert Rows(ImageSettings(), 1, signed.dtype)(signed).dtype == np.float32
    for rows in ("2", "3:2", "0:5", "a:b"):
        with pytest.raises(InstrumentError, match=r"from 0:1 to 0:4|such as 100:140"):
            Rows(ImageSettings(rows=rows), 4, image.dtype)
    with pytest.raises(InstrumentError, match="4 rows cannot be parted into --tracks 3"):
        Rows(ImageSettings(tracks=3), 4, image.dtype)
