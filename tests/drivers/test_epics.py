"""Detectors by EPICS: a real PVAccess server in the same test, which can lose images and go away."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from socket import AF_INET, SOCK_DGRAM, socket
from subprocess import DEVNULL, PIPE, Popen, run
from typing import Any

import numpy as np
import pytest
from helpers import PATIENCE_S

pytest.importorskip("p4p", reason="PVAccess is not installed: p4p")

from cars_rt.drivers import Block, InstrumentError, Waiting
from cars_rt.drivers.axis import AxisSettings
from cars_rt.drivers.conformance import TRIALS, Subject, attempt
from cars_rt.drivers.epics import Epics, EpicsSettings
from cars_rt.drivers.images import ImageSettings
from cars_rt.drivers.scan import ScanSettings
from cars_rt.drivers.trial import driven
from cars_rt.protocol import Reason
from drivers.detector import COLUMNS, ROWS, Detector

SIMULATOR = "pvapy.cli.adSimServer"
SETTINGS = EpicsSettings(acquire="cam:Acquire", connect_s=10)


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


def epics(settings: EpicsSettings = SETTINGS, spectra: int | None = 60, **images: Any) -> partial[Epics]:
    axis = AxisSettings(axis="500:3100")
    return partial(Epics, "cam:Image", settings, ImageSettings(**images), ScanSettings(spectra=spectra), axis)


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


def test_exposure_and_colour_are_found_however_many_attributes_there_are(detector: Any) -> None:
    class Talkative(Detector):
        colour = 0

        def value(self, number: int) -> Any:
            value = super().value(number)
            told = {f"Motor{axis}": float(axis) for axis in range(40)}
            told |= {"AcquireTime": 0.25, "ColorMode": self.colour}
            value["attribute"] = [{"name": name, "value": what} for name, what in told.items()]
            return value

    one = Talkative()
    detector.here(one)
    instrument = epics()()
    about = instrument.acquisition()
    assert about.exposure_s == 0.25 and len(about.instrument) == 23 and "Motor19" in about.instrument
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
    with pytest.raises(InstrumentError, match=reason):
        instrument.acquisition()
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
        for number, _ in enumerate(instrument.frames()):
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
        instrument.close()


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
from drivers.test_epics import Block, epics
detector = Detector(rate=20_000)
os.environ |= detector.server.conf()
instrument = epics(spectra=3)()
instrument.acquisition()
for _ in range(1000):
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
