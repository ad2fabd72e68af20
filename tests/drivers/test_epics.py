"""Detectors by EPICS: a real PVAccess server in the same test, which can lose images and go away."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket
from subprocess import DEVNULL, PIPE, Popen, run
from typing import Any, ClassVar

import numpy as np
import pytest
from helpers import PATIENCE_S

pytest.importorskip("p4p", reason="PVAccess is not installed: p4p")

from p4p.nt import NTNDArray

from cars_rt.drivers import Acquisition, Block, InstrumentError, Waiting
from cars_rt.drivers import epics as module
from cars_rt.drivers.axis import AxisSettings
from cars_rt.drivers.conformance import TRIALS, Subject, attempt
from cars_rt.drivers.epics import Epics, EpicsSettings
from cars_rt.drivers.images import ImageSettings
from cars_rt.drivers.ndarray import Setting
from cars_rt.drivers.scan import ScanSettings
from cars_rt.drivers.trial import driven
from cars_rt.protocol import Reason
from drivers.detector import COLUMNS, ROWS, Detector
from drivers.test_axis import calibrated

SIMULATOR = "pvapy.cli.adSimServer"
AXIS = AxisSettings(axis="500:3100")
SETTINGS = EpicsSettings(acquire="cam:Acquire", connect_s=10)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """This detector has no queue: it rests at once."""
    monkeypatch.setattr(module, "QUIET_S", 0.01)
    monkeypatch.setattr(module, "LATE_S", 0.01)


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    made: list[Detector] = []

    def make(**image: Any) -> Detector:
        made.append(Detector(**image))
        here(made[-1])
        return made[-1]

    def here(one: Detector) -> None:
        for name, value in one.server.conf().items():  # type: ignore[attr-defined]
            monkeypatch.setenv(name, value)

    make.here = here  # type: ignore[attr-defined]
    yield make
    for one in made:
        one.unplug()


def epics(
    settings: EpicsSettings = SETTINGS,
    spectra: int | None = 60,
    axis: AxisSettings = AXIS,
) -> partial[Epics]:
    return partial(Epics, "cam:Image", settings, ImageSettings(), ScanSettings(spectra=spectra), axis)


def truth(index: Any) -> Any:
    return np.repeat((index * ROWS).astype(np.uint32)[:, None], COLUMNS, axis=1)


@pytest.mark.parametrize("trial", TRIALS)
def test_detector_conforms(trial: str, detector: Any) -> None:
    one = detector()

    def replug() -> None:
        one.plug()
        detector.here(one)

    wrong = {"another PV to start it": epics(replace(SETTINGS, acquire="cam:Acquir", connect_s=1))}
    subject = Subject(
        make=epics(),
        truth=truth,
        wrong=wrong,
        lose=one.lose,
        unplug=one.unplug,
        replug=replug,
        spectra=50,
        rate=50,
    )
    if trial == "unplugging":
        subject = replace(subject, make=epics(spectra=None))
    verdict = attempt(trial, subject)
    assert verdict.outcome == "passed", verdict.said
    assert trial != "gaps" or verdict.said == "lost: 5 camera"


def test_every_image_of_a_thousand_a_second_arrives(detector: Any) -> None:
    """Of a monitor's usual queue of four, some would be overwritten."""
    detector()
    instrument = epics(spectra=2000)()
    try:
        about = instrument.acquisition()
        assert (about.dtype, about.block, about.instrument["region"]) == ("uint32", 1, [0, 0, COLUMNS, ROWS])
        assert about.instrument["rows_per_spectrum"] == ROWS
        begin = time.monotonic()
        given = []
        for each in instrument.frames():
            assert time.monotonic() < begin + PATIENCE_S
            given += [each] if isinstance(each, Block) else []
        numbers = np.array([each.number for each in given])
        assert len(given) == 2000 and (np.diff(numbers) == 1).all()
        assert abs(given[-1].time_ns - time.time_ns()) < PATIENCE_S * 1e9
    finally:
        instrument.close()


def test_mirrored_images_are_turned_to_the_columns_of_the_detector(detector: Any) -> None:
    class Mirrored(Detector):
        def value(self, number: int) -> Any:
            value = super().value(number)
            value["dimension"][0]["reverse"] = number % 2  # also in mid-run
            value["value"] = np.tile(np.arange(COLUMNS, dtype=np.uint16)[:: -1 if number % 2 else 1], ROWS)
            return value

    one = Mirrored()
    detector.here(one)
    instrument = epics(spectra=4)()
    instrument.acquisition()
    given = [each for each in instrument.frames() if isinstance(each, Block)]
    instrument.close()
    one.unplug()
    assert [each.counts.tolist() for each in given] == [[list(range(0, ROWS * COLUMNS, ROWS))]] * 4


class Told(Detector):
    """Set as `changed` says once it is started, after so many images. told: its attributes."""

    changed: ClassVar[dict[str, float]] = {}
    after = 0
    told: ClassVar[dict[str, Any]] = {}

    def value(self, number: int) -> Any:
        value = super().value(number)
        now = {"AcquireTime": 0.001, "offset": 0, "binning": 1}
        if self.goes.is_set() and number >= self.after:
            now |= self.changed
        for name in ("offset", "binning"):
            value["dimension"][0][name] = now.pop(name)
        told = self.told | now
        value["attribute"] = [{"name": name, "value": what} for name, what in told.items()]
        return value


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"AcquireTime": 0.1}, "changed their exposure from 1 to 100 ms"),
        ({"offset": 500}, "changed their offset from 0 x 0 to 500 x 0"),
        ({"binning": 2}, "changed their binning from 1 x 1 to 2 x 1"),
        ({"Gain": 4.0}, "changed their gain from 2 to 4"),
        (
            {"CentreWavelength": 700.0},
            "changed their CentreWavelength from 800 to 700 (if that changes neither",
        ),
        ({"CentreWavelength": 800.7}, ""),
        ({"CentreWavelength": 800.01, "GratingTemperature": 24.5}, ""),
    ],
)
def test_run_is_as_its_first_image_says_and_ends_when_another_one_says_otherwise(
    changed: dict[str, float], said: str, detector: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The image that stands before a run is of how the detector was set then. Where only a name says that an
    image is another one, its run goes on."""

    class Varying(Told):
        @property
        def told(self) -> dict[str, Any]:  # type: ignore[override]
            varies = {"RingCurrent": float(self.unique), "Temperature": -60.0 + self.unique % 3}
            return varies | {"Gain": 2.0, "CentreWavelength": 800.0, "GratingTemperature": 24.0}

    one = Varying()
    one.changed = changed
    detector.here(one)
    made = driven(Subject(make=epics(spectra=20), spectra=20))
    [start] = made.starts
    assert (start.exposure_s, made.closed[0].end.reason) == (changed.get("AcquireTime", 0.001), "complete")
    told = start.instrument or {}
    assert told["gain"] == changed.get("Gain", 2)
    assert told["CentreWavelength"] == changed.get("CentreWavelength", 800)
    assert told["region"][0] == changed.get("offset", 0)
    assert told["binning"] == [changed.get("binning", 1), 1]
    one.after = 10
    made = driven(Subject(make=epics(spectra=20), spectra=20))
    one.unplug()
    sent = 20 if not said else 12 if "Wavelength" in said else 10  # by a name alone, three images say so
    assert (made.error is None, made.totals[0].sent) == (not said, sent)
    assert said in str(made.error)
    warned = "images of cam:Image say CentreWavelength 800.7 in place of 800: axis and dark are those of"
    assert sum(warned in each for each in caplog.messages) == (changed.get("CentreWavelength") == 800.7)


@pytest.mark.parametrize(
    ("name", "then", "now", "ends", "warned"),
    [
        ("Turret", 1, 2, True, True),
        ("Grating", "600/500", "300/750", True, True),
        ("SpectrographCentre", 800.0, 801.0, True, True),
        ("CentreWavelength", 0.0, 0.004, False, True),  # at zero order
        ("PreAmpGain", 1.0, 2.0, True, True),
        ("ADCSpeed", 100, 50, True, True),
        ("SampleCentreX", 1.0, 2.0, False, True),  # of a stage
        ("IonChamberGain", 1.0, 10.0, False, True),
        ("SensorReadoutTime", 0.0123, 0.0135, False, False),
        ("ReadoutStatus", "idle", "busy", False, False),
        ("GratingTemperature", 20.0, 30.0, False, False),
        ("RingCurrent", 101.0, 98.0, False, False),
        ("GratingTemp", 21.2, 21.3, False, False),
        ("GratingMoving", 0, 1, False, False),
        ("PumpWavelength_Actual", 785.1, 0.0, False, False),
        ("IntegratingSphereCurrent", 12.1, 12.2, False, False),
        ("ObjectiveTurret", 1, 2, False, False),
    ],
)
def test_what_ends_a_run_and_what_is_warned_of(
    name: str, then: Any, now: Any, ends: bool, warned: bool
) -> None:
    """A grating that moved gave a run that was complete."""
    image = np.zeros((ROWS, COLUMNS), np.uint16)

    def setting(known: Any) -> Setting:
        value = NTNDArray().wrap(image)
        value["attribute"] = [{"name": name, "value": known}]
        return Setting.of(value, image)

    one, other = setting(then), setting(now)
    assert (bool(one.moved(other)), bool(one.others(other))) == (ends, warned)
    assert not one.change(other) and not one.moved(one) and not one.others(one)


def test_another_size_before_the_run_is_that_of_the_run(detector: Any) -> None:
    one = detector()
    instrument = epics(spectra=4)()
    assert instrument.acquisition().dtype == "uint32"
    one.image["shape"] = 1, 32
    about, *given = [each for each in instrument.frames() if not isinstance(each, Waiting)]
    instrument.close()
    assert isinstance(about, Acquisition) and (about.dtype, len(about.raman_shift)) == ("uint16", 32)
    assert [each.counts.shape for each in given] == [(1, 32)] * 4


@pytest.mark.parametrize("before", [{"shape": (ROWS, 32)}, {"shape": (2, 8, 3)}, {"codec": "blosc"}])
def test_the_image_that_stands_refuses_no_run_that_brings_its_own(
    before: dict[str, Any], detector: Any, tmp_path: Path
) -> None:
    axis = tmp_path / "axis.txt"
    np.savetxt(axis, np.linspace(500, 3100, COLUMNS))
    settings = AxisSettings(axis=str(axis))
    one = detector(**before)
    instrument = epics(replace(SETTINGS, acquire=None), axis=settings)()
    with pytest.raises(InstrumentError):  # how the detector is set: nobody sets it otherwise
        instrument.acquisition()
    instrument.close()
    one.image = {"dtype": np.uint16, "shape": (ROWS, COLUMNS), "codec": ""}
    made = driven(Subject(make=epics(spectra=4, axis=settings), spectra=4))
    assert (made.error, made.closed[0].end.reason, made.starts[0].pixels) == (None, "complete", COLUMNS)


def test_what_a_calibration_doubts_is_said_of_the_run_and_not_of_the_image_before(
    detector: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = Told()
    one.told = {"SerialNumber": "18"}
    one.images.post(one.value(0))
    one.told = {"SerialNumber": "17"}
    detector.here(one)
    instrument = epics(spectra=4, axis=AxisSettings(calibration=calibrated(tmp_path / "lab.json")))()
    instrument.acquisition()
    assert "made with" not in caplog.text
    about, *given = [each for each in instrument.frames() if not isinstance(each, Waiting)]
    instrument.close()
    one.unplug()
    assert isinstance(about, Acquisition) and len(about.raman_shift) == COLUMNS and len(given) == 4
    assert caplog.text.count("it was made with 'a camera', this is 'cam:Image (EPICS)'") == 1


@pytest.mark.parametrize(
    ("rests_s", "images", "after_s", "exposure_ms"),
    [(0.25, 10, 0.01, None), (0.01, 1, 0.1, 400)],  # out of queues; the one that was under way
)
def test_images_that_come_late_of_the_run_before_are_of_no_run(
    rests_s: float,
    images: int,
    after_s: float,
    exposure_ms: float | None,
    detector: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Plugins of areaDetector have queues, and an image under way may be finished."""

    class Late(Detector):
        def put(self, pv: Any, operation: Any) -> None:
            stops = self.goes.is_set() and not int(operation.value())
            super().put(pv, operation)
            if stops:
                self.late = threading.Thread(target=self.more)
                self.late.start()

        def more(self) -> None:
            for number in range(1000, 1000 + images):
                self.goes.wait(after_s)  # a run that begins before has it
                self.unique += 1
                self.images.post(self.value(number))

    monkeypatch.setattr(module, "QUIET_S", rests_s)
    monkeypatch.setattr(module, "LATE_S", rests_s)
    one = Late()
    detector.here(one)
    settings = replace(SETTINGS, exposure_ms=exposure_ms)
    made = driven(Subject(make=epics(settings, spectra=20), truth=truth), runs=2)
    one.late.join()
    one.unplug()
    assert len(made.starts) == 2
    for start in made.starts:
        frames = [frame for frame in made.frames if frame.run == start.run]
        assert [int(frame.counts[0, 0]) // ROWS for frame in frames] == [*range(20)]


class Short(Detector):
    """It takes fewer images than are planned, or the last ones are lost, and rests."""

    takes, says = 18, True

    def post(self) -> None:
        for number in range(self.takes):
            self.unique += 1
            self.images.post(self.value(number))
        if self.says:
            self.acquire.post(0)


def test_images_that_are_lost_at_the_end_end_the_run_when_the_detector_rests(
    detector: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = Short()
    detector.here(one)
    made = driven(Subject(make=epics(spectra=20)), forever=True)  # until it ends by itself
    one.unplug()
    assert (made.closed[0].end.reason, made.totals[0].sent) == ("complete", 18)
    assert made.closed[0].end.lost == {"camera": 2}
    assert "cam:Acquire is 0 again, and 18 of 20 spectra have come" in caplog.text


@pytest.mark.parametrize("planned", [20, None])
def test_a_detector_that_rests_before_its_first_image_has_failed(planned: int | None, detector: Any) -> None:
    one = Short()
    one.takes = 0
    detector.here(one)
    instrument = epics(spectra=planned)()
    instrument.acquisition()
    with pytest.raises(InstrumentError, match="cam:Acquire is 0 again, and no image of cam:Image has come"):
        [*instrument.frames()]
    instrument.close()
    one.unplug()


def test_images_that_come_with_pauses_when_the_detector_rests_already_are_of_the_run(
    detector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As out of the queue of a plugin that is slower than the detector."""

    class Slow(Short):
        def post(self) -> None:
            self.acquire.post(0)
            for number in range(3):
                time.sleep(0.15)  # longer than the driver waits before it looks
                self.unique += 1
                self.images.post(self.value(number))

    monkeypatch.setattr(module, "LATE_S", 2.0)
    one = Slow()
    detector.here(one)
    instrument = epics(spectra=3)()
    instrument.acquisition()
    assert sum(isinstance(each, Block) for each in instrument.frames()) == 3
    instrument.close()
    one.unplug()


def test_a_run_of_no_planned_length_ends_when_the_detector_rests(
    detector: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one = Short()
    detector.here(one)
    made = driven(Subject(make=epics(spectra=None)), forever=True)
    one.unplug()
    assert (made.closed[0].end.reason, made.totals[0].sent) == ("complete", one.takes)
    assert not made.closed[0].end.lost
    assert "cam:Acquire is 0 again, which ends the run: 18 spectra have come" in caplog.text


@pytest.mark.parametrize(("planned", "come"), [(20, "18 of 20"), (None, "18")])
@pytest.mark.parametrize("acquire", [None, "cam:Acquire"])
def test_that_no_image_comes_any_more_is_told_once(
    acquire: str | None,
    planned: int | None,
    come: str,
    detector: Any,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HOPES_S", 0.0)
    one = Short()
    one.says = False
    detector.here(one)
    instrument = epics(replace(SETTINGS, acquire=acquire), spectra=planned)()
    instrument.acquisition()
    frames = instrument.frames()
    if acquire is None:
        assert next(frames) == Waiting("the detector")
        one.post()
    waits = 0
    while waits < 3:
        waits += next(frames) == Waiting("")
    instrument.close()
    one.unplug()
    said = [each.getMessage() for each in caplog.records if "no image of cam:Image has come" in each.message]
    assert len(said) == 1 and f"and {come} spectra have: if the detector rests, Ctrl-C ends" in said[0]
    assert ("with --acquire" in said[0]) is (acquire is None)


def test_settings_have_the_names_of_all_drivers_and_what_passes_is_none(detector: Any) -> None:
    one = Told()
    one.told = {"ArrayCounter": 17.0, "AcquirePeriod": 0.1, "Temperature": -60.0, "TemperatureActual": -59.9}
    one.told |= {"Model": "iXon", "SerialNumber": "X-1", "Gain": 2.0, "Grating": 600.0}
    one.images.post(one.value(0))
    detector.here(one)
    instrument = epics()()
    told = instrument.acquisition().instrument
    assert told == {
        "model": "iXon", "serial": "X-1", "gain": 2.0, "temperature_c": -59.9, "Grating": 600.0,
        "rows_per_spectrum": ROWS, "binning": [1, 1], "region": [0, 0, COLUMNS, ROWS],
    }  # fmt: skip
    one.told = one.told | {"TemperatureActual": -59.5, "ArrayCounter": 18.0}
    one.told = one.told | {"Grating": 600.1}  # less than a thousandth
    about = next(each for each in instrument.frames() if isinstance(each, Acquisition))
    assert about.instrument["Grating"] == 600.1 and about.instrument["temperature_c"] == -59.5
    instrument.close()
    one.unplug()


@pytest.mark.parametrize(
    ("told", "exposure_ms", "exposure_s", "warned"),
    [
        ({"ExposureTime": 10_000.0}, 10.0, 0.01, ""),  # of GenICam, in us
        (
            {"ExposureTime": 10_000.0},
            None,
            None,
            "say ExposureTime 10000, and nobody says whether that is s, ms",
        ),
        (
            {"ExposureTime": 0.4},
            10.0,
            0.01,
            "--exposure-ms 10 is taken: the images of cam:Image say Exposure",
        ),
        ({"ExposureTime": 0.4, "AcquireTime": 0.01}, None, 0.01, ""),
        ({"AcquireTime": True, "ExposureTime": True}, None, None, ""),
    ],
)
def test_only_an_exposure_in_seconds_is_believed(
    told: dict[str, Any],
    exposure_ms: float | None,
    exposure_s: float | None,
    warned: str,
    detector: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By one in microseconds the detector was awaited for hours."""

    class Saying(Detector):
        def value(self, number: int) -> Any:
            value = super().value(number)
            value["attribute"] = [{"name": name, "value": what} for name, what in told.items()]
            return value

    one = Saying()
    detector.here(one)
    made = driven(Subject(make=epics(replace(SETTINGS, exposure_ms=exposure_ms), spectra=4), spectra=4))
    one.unplug()
    assert [each.exposure_s for each in made.starts] == [exposure_s] and made.totals[0].sent == 4
    said = [each for each in caplog.messages if "images of cam:Image" in each]
    assert len(said) == bool(warned) and warned in "".join(said)


@pytest.mark.parametrize("exposure_ms", [400.0, 1.0004])
def test_exposure_that_images_say_goes_before_the_flag(
    exposure_ms: float, detector: Any, caplog: pytest.LogCaptureFixture
) -> None:
    one = Told()
    detector.here(one)
    instrument = epics(replace(SETTINGS, exposure_ms=exposure_ms), spectra=4)()
    said = [instrument.acquisition(), *instrument.frames()]
    instrument.close()
    one.unplug()
    assert {each.exposure_s for each in said if isinstance(each, Acquisition)} == {0.001}
    warned = "--exposure-ms 400: the images of cam:Image say 1 ms, which is taken"
    assert caplog.messages == [warned] * (exposure_ms == 400)


def test_exposure_and_colour_are_found_however_many_attributes_there_are(
    detector: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the twentieth, a grating was left out, and that was not said."""
    caplog.set_level("INFO")

    class Talkative(Detector):
        colour = 0

        def value(self, number: int) -> Any:
            value = super().value(number)
            told = {f"Motor{axis}": float(axis) for axis in range(40)}
            told |= {"AcquireTime": 1, "ColorMode": self.colour, "Temperature2": 20.0, "Grating": 600.0}
            value["attribute"] = [{"name": name, "value": what} for name, what in told.items()]
            return value

    one = Talkative()
    detector.here(one)
    instrument = epics(replace(SETTINGS, acquire=None))()
    about = instrument.acquisition()
    assert about.exposure_s == 1.0 and len(about.instrument) == 23  # AcquireTime has no point
    assert [*about.instrument][:4] == ["Grating", "Temperature2", "Motor0", "Motor1"]
    frames = instrument.frames()
    assert next(frames) == Waiting("the detector")
    one.images.post(one.value(1))
    assert any(isinstance(each, Acquisition) for each in frames)
    frames.close()
    assert "of the 42 attributes of images of cam:Image, a run says 20: those of axis and" in caplog.text
    one.colour = 2
    one.images.post(one.value(1))
    with pytest.raises(InstrumentError, match="in colour"):
        instrument.acquisition()
    instrument.close()
    one.unplug()


def test_copies_of_images_do_not_count_as_planned(detector: Any) -> None:
    class Repeating(Detector):
        def value(self, number: int) -> Any:
            value = super().value(number)
            value["uniqueId"] = self.unique // 2  # each image comes twice
            return value

    one = Repeating()
    detector.here(one)
    instrument = epics()()
    instrument.acquisition()
    numbers = [each.number for each in instrument.frames() if isinstance(each, Block)]
    instrument.close()
    one.unplug()
    assert len(numbers) > len(set(numbers)) == 60


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"shape": (2, 8, 3)}, r"in colour \(3 x 8 x 2\), .* choose the colour mode Mono"),
        ({"codec": "blosc"}, r"are compressed \(blosc\): switch its codec plugin off"),
    ],
)
def test_image_that_is_no_spectrum_is_refused(image: dict[str, Any], reason: str, detector: Any) -> None:
    detector(**image)
    instrument = epics()()
    instrument.acquisition()
    with pytest.raises(InstrumentError, match=reason):
        [*instrument.frames()]
    instrument.close()


def test_server_that_does_not_number_its_images_is_refused(detector: Any) -> None:
    class Unnumbered(Detector):
        def value(self, number: int) -> Any:
            value = super().value(number)
            value["uniqueId"] = 0  # as NTNDArray().wrap leaves it
            return value

    one = Unnumbered()
    detector.here(one)
    made = driven(Subject(make=epics(), spectra=60))
    one.unplug()
    assert "5 images in a row have the number 0, so nobody could tell" in str(made.error)
    assert made.closed[0].end.reason is Reason.FAILED


def test_image_of_another_size_ends_the_run(detector: Any) -> None:
    one = detector()
    instrument = epics(spectra=None)()
    instrument.acquisition()
    with pytest.raises(InstrumentError, match="changed from 2 x 64 uint16 to 2 x 32 uint16"):
        blocks = (each for each in instrument.frames() if isinstance(each, Block))
        for number, _ in enumerate(blocks):
            if number == 10:
                one.image["shape"] = (2, 32)
    instrument.close()


def test_absent_pv_and_one_that_is_no_image_are_told(detector: Any) -> None:
    detector()
    axis = AxisSettings(axis="500:3100")
    for pv, connect_s, reason in (
        ("cam:Imag", 0.5, "there is no PV cam:Imag within 0.5 s"),
        ("cam:Acquire", PATIENCE_S, "is no NTNDArray"),
    ):
        settings = replace(SETTINGS, connect_s=connect_s)
        instrument = Epics(pv, settings, ImageSettings(), ScanSettings(), axis)
        with pytest.raises(InstrumentError, match=reason):
            instrument.acquisition()
        assert instrument.silent_s > connect_s + 10  # else its thread would be said to hang before
        instrument.close()


def test_a_run_without_any_axis_is_refused_before_the_detector_is_asked() -> None:
    """Subscribers were awaited, and the detector started, for a run that no image could mend."""
    with pytest.raises(InstrumentError, match="which raman shift the detector's pixels have is not known"):
        epics(axis=AxisSettings(pump_nm=785.0))()


def test_detector_that_sends_nothing_is_waited_for(detector: Any) -> None:
    detector()
    instrument = epics(replace(SETTINGS, acquire=None))()
    instrument.acquisition()
    assert next(instrument.frames()) == Waiting("the detector")
    instrument.close()


def test_runs_that_are_stopped_while_images_arrive_end_and_the_next_begins() -> None:
    """In a process of its own: p4p's own subscription stops all threads of it within some hundred runs."""
    program = """
import os
from drivers.detector import Detector
from drivers.test_epics import Block, epics, module
module.QUIET_S = 0.001
detector = Detector(rate=20_000)
os.environ |= detector.server.conf()
instrument = epics(spectra=3)()
instrument.acquisition()
for _ in range(600):
    assert sum(isinstance(each, Block) for each in instrument.frames()) == 3
instrument.close()
detector.unplug()
"""
    tests = Path(__file__).parents[1]
    ended = run(
        [sys.executable, "-c", program], cwd=tests, stderr=PIPE, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.skipif(find_spec("pvapy") is None, reason="the simulator of areaDetector is absent: pvapy")
def test_simulator_of_area_detector_is_driven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server, of another library, as a process of its own; pvapy-ad-sim-server."""
    with socket(AF_INET, SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    address = {"ADDR_LIST": "127.0.0.1", "AUTO_ADDR_LIST": "NO", "BROADCAST_PORT": port}
    for name, value in address.items():
        monkeypatch.setenv(f"EPICS_PVA_{name}", value)
    server = {"EPICS_PVAS_INTF_ADDR_LIST": "127.0.0.1", "EPICS_PVAS_SERVER_PORT": "0"}
    server |= {"EPICS_PVAS_BROADCAST_PORT": port}
    flags = ["-cn", "cam:Image", "-dc", "-nx", "64", "-ny", "2", "-dt", "uint16", "-fps", "200", "-rt", "60"]
    with Popen(
        [sys.executable, "-m", SIMULATOR, *flags], env=os.environ | server, stdout=DEVNULL, stderr=DEVNULL
    ) as program:
        try:
            instrument = epics(EpicsSettings(connect_s=PATIENCE_S), 100)()
            about = instrument.acquisition()
            given = [each for each in instrument.frames() if isinstance(each, Block)]
            instrument.close()
        finally:
            program.kill()
    numbers = np.array([each.number for each in given])
    assert (about.dtype, len(about.raman_shift), len(given)) == ("uint32", 64, 100)
    assert (np.diff(numbers) == 1).all() and len({each.counts.tobytes() for each in given}) > 50
