"""Ocean spectrometers: python-seabreeze and PyUSB as they are, above a stand-in for the USB device itself."""

import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import wait_until

pytest.importorskip("seabreeze", reason="the library of Ocean spectrometers is not installed: seabreeze")
pytest.importorskip("usb", reason="PyUSB is not installed: seabreeze[pyseabreeze]")

from cars_rt.calibration import Calibration, Mean, Region, Scale, write
from cars_rt.drivers import Instrument, InstrumentError, Waiting
from cars_rt.drivers.apart import InProcess, placed
from cars_rt.drivers.axis import AxisSettings
from cars_rt.drivers.conformance import TRIALS, Subject, attempt
from cars_rt.drivers.scan import ScanSettings
from cars_rt.drivers.seabreeze import Seabreeze, SeabreezeSettings
from cars_rt.physics.axis import from_wavelength
from drivers.usb_standin import COEFFICIENTS, PIXELS, install, note, noted, spectrum, wavelengths

#: It looks for spectrometers on the network, too, and leaves a socket open; it is chosen again by each test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:seabreeze.use has to be called"),
]
SETTINGS = SeabreezeSettings(exposure_ms=3, pyusb_backend="standin")
AXIS = AxisSettings(pump_nm=1064.0)


class StandIn(Seabreeze):
    """In the process of the spectrometer: with the stand-in below PyUSB."""

    silent_s = 3.0

    def __init__(self, state: Path, *settings: Any) -> None:
        install(state)
        super().__init__(*settings)


class Nearby(StandIn):
    """Without the seconds that a process of its own takes."""

    lives = "thread"


def at(folder: Path, fault: str = "") -> Path:
    state = folder / "state.jsonl"
    note(state, fault=fault)
    return state


def spectrometer(
    made: type[StandIn], state: Path, settings: SeabreezeSettings = SETTINGS, spectra: int | None = 40
) -> partial[StandIn]:
    return partial(made, state, settings, ScanSettings(spectra=spectra), AXIS)


def here(state: Path, settings: SeabreezeSettings = SETTINGS, **more: Any) -> Instrument:
    """Without a process of its own, to see its words at once."""
    return spectrometer(StandIn, state, settings, **more)()


@pytest.mark.parametrize("trial", TRIALS)
def test_spectrometer_conforms(trial: str, tmp_path: Path) -> None:
    state = at(tmp_path)
    made = StandIn if trial in ("run", "two runs", "unplugging") else Nearby
    ocean = partial(spectrometer, made)
    subject = Subject(
        make=ocean(state), truth=lambda index: np.array([spectrum(number) for number in index], np.float32),
        wrong={"an exposure of 1 ms": ocean(state, replace(SETTINGS, exposure_ms=1))}, spectra=30, rate=5,
    )  # fmt: skip
    if trial == "unplugging":
        subject = replace(
            subject, make=ocean(state, spectra=None), unplug=lambda: at(tmp_path, "unplugged"),
            replug=lambda: at(tmp_path),
        )  # fmt: skip
    verdict = attempt(trial, subject)
    verdict.check()
    assert verdict.outcome == "passed" or trial == "gaps"
    assert trial != "unplugging" or "the spectrometer is gone" in verdict.said


def test_its_own_wavelengths_are_the_axis_and_the_first_spectrum_is_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    instrument = here(at(tmp_path), spectra=2)
    about = instrument.acquisition()
    given = list(instrument.frames())
    instrument.close()
    assert (
        np.array_equal(about.raman_shift, from_wavelength(wavelengths(), 1064.0)) and len(COEFFICIENTS) == 4
    )
    assert (about.source, about.full_scale) == ("Ocean USB2000 USB2E1234 (seabreeze)", 4095)
    assert about.instrument == {"model": "USB2000", "serial": "USB2E1234", "trigger": "none"}
    assert np.array_equal(np.concatenate(given), [spectrum(0), spectrum(1)])
    known = noted(tmp_path / "state.jsonl")
    assert (known["micros"], known["trigger"]) == (3000, 0) and "exposure" not in caplog.text


def test_exposure_between_two_steps_of_its_clock_is_that_of_the_nearest(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A USB2000 counts milliseconds."""
    instrument = here(at(tmp_path), replace(SETTINGS, exposure_ms=10.9))
    about = instrument.acquisition()
    instrument.close()
    assert about.exposure_s == 0.011 and noted(tmp_path / "state.jsonl")["micros"] == 11_000
    assert "an exposure of 10.9 ms is one of 11 ms with this spectrometer" in caplog.text


def test_what_lies_next_to_the_laser_or_beyond_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    state, nm = at(tmp_path), wavelengths()
    shift = 1e7 / nm - 1e7 / 850
    last = int((shift >= 100).sum())

    def made(axis: AxisSettings, columns: str | None = None) -> tuple[Any, Any]:
        caplog.clear()
        settings = replace(SETTINGS, columns=columns)
        instrument = StandIn(state, settings, ScanSettings(spectra=1), axis)
        about = instrument.acquisition()
        counts = next(instrument.frames())
        instrument.close()
        return about, counts

    about, counts = made(AxisSettings(pump_nm=850.0))
    assert about.raman_shift.shape == counts.shape[1:] == (last,) and np.allclose(
        about.raman_shift, shift[:last]
    )
    assert about.instrument["region"] == [0, 0, last, 1]
    assert f"of 2048 pixels 0 to {last - 1} are used" in caplog.text
    about, counts = made(AxisSettings(pump_nm=850.0), "100:300")
    assert np.allclose(about.raman_shift, shift[100:300]) and about.instrument["region"] == [100, 0, 200, 1]
    assert (counts[0] - counts[0, 0])[:3].tolist() == [0, 7, 14] and not caplog.text
    with pytest.raises(InstrumentError, match=r"--columns 3000:3100: .* from 0:1 to 0:2048"):
        made(AxisSettings(pump_nm=850.0), "3000:3100")
    region = Region(PIXELS - 20, 1, 20)  # as it was calibrated, on both sides of the laser
    scale = Scale(kind="lamp", of="neon", quantity="wavelength", coefficients=(800.5, 0.11, -2e-6),
                  region=region, residual_cm1=0.1, time_ns=time.time_ns())  # fmt: skip
    dark = Mean(np.arange(20, PIXELS, dtype=np.float32), 9, time.time_ns(), 0.003)
    write(tmp_path / "lab.json", Calibration(region=region, scale=scale, darks=(dark,)))
    about, counts = made(AxisSettings(calibration=tmp_path / "lab.json", pump_nm=850.0))
    assert np.allclose(about.raman_shift, shift[20:last]) and counts.shape == (1, last - 20)
    assert np.array_equal(about.dark, np.arange(20, last)) and f"20 to {last - 1} are used" in caplog.text


@pytest.mark.parametrize(
    ("fault", "changed", "reason"),
    [
        ("absent", {}, "no spectrometer is there: .* udev rule is installed by `seabreeze_os_setup`"),
        ("permission", {}, "may not open the spectrometer .*: `seabreeze_os_setup` installs its udev rule"),
        ("busy", {}, "no spectrometer is there|another program has"),
        ("", {"serial": "USB2E1235"}, "no spectrometer USB2E1235 is there: did you mean USB2E1234"),
        ("", {"exposure_ms": 1.0}, "an exposure of 1 ms is not possible: the nearest offered is 3 ms"),
        ("", {"exposure_ms": float("nan")}, "must be more than 0, not nan"),
        ("", {"trigger": "synchronization"}, "--trigger synchronization is not possible: Only supports"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    fault: str, changed: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(InstrumentError, match=reason):
        here(at(tmp_path, fault), replace(SETTINGS, **changed))


def test_trigger_that_does_not_come_is_waited_for(tmp_path: Path) -> None:
    instrument = here(at(tmp_path, "no trigger"), replace(SETTINGS, trigger="hardware"))
    frames = instrument.frames()
    assert [next(frames), next(frames)] == [Waiting("the trigger")] * 2
    at(tmp_path)
    assert not isinstance(next(frames), Waiting)
    instrument.close()
    instrument = here(at(tmp_path, "no trigger"))
    with pytest.raises(InstrumentError, match=r"timed out\), after [\d.]+ s without a spectrum"):
        next(instrument.frames())
    instrument.close()


@pytest.mark.skipif(sys.platform == "win32", reason="a crash is another one there")
@pytest.mark.parametrize(
    ("fault", "reason"),
    [("hang", "has given no sign for 3 s: its library hangs"), ("crash", r"died \(signal SIGSEGV\)")],
)
def test_library_that_hangs_or_crashes_is_ended(fault: str, reason: str, tmp_path: Path) -> None:
    instrument = placed(spectrometer(StandIn, at(tmp_path, fault)))
    assert isinstance(instrument, InProcess)
    instrument.acquisition()
    with pytest.raises(InstrumentError, match=reason):
        list(instrument.frames())
    instrument.close()
    wait_until(lambda: not instrument._process.is_alive())
    assert PIXELS == 2048


def test_wavelengths_without_a_pump_are_no_axis(tmp_path: Path) -> None:
    instrument = StandIn(at(tmp_path), SETTINGS, ScanSettings(spectra=1), AxisSettings())
    with pytest.raises(
        InstrumentError, match="knows wavelengths: say with --pump-nm where shifts count from"
    ):
        instrument.acquisition()
    instrument.close()
