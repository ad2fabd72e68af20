"""A reference stays with the axis that it was measured on: after the grating was moved it is left out."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.simulated import lamp_spectrum
from calibration.test_program import NOW, text
from cars_rt.calibration import Calibration, CalibrationError, Mean, Region, Scale, read, write
from cars_rt.calibrator.moved import without_moved_reference
from cars_rt.cli import calibrate
from cars_rt.cli.calibrate import CalibrateSettings
from cars_rt.reference import read_reference

NM = Scale(kind="lamp", of="neon", quantity="wavelength", coefficients=(610.0, 0.18), region=Region(500),
           residual_cm1=0.1, time_ns=NOW, probe_nm=771.25)  # fmt: skip
SHIFT = replace(NM, kind="standard", quantity="raman_shift", coefficients=(1000.0, 3.0), probe_nm=None)
FLAT = np.ones(500, np.float32)


def made(scale: Scale | None, of_axis: dict[str, Any], of_reference: dict[str, Any]) -> Calibration:
    reference = Mean(FLAT, 9, NOW, None, of_reference)
    return Calibration(region=Region(500), scale=scale, settings=of_axis, reference=reference)


def off(scale: Scale, by: float) -> Scale:
    return replace(scale, coefficients=(scale.coefficients[0] + by, *scale.coefficients[1:]))


COARSE = {"grating": 600, "gain": 1, "RingCurrent": 101.9}
FINE = {"grating": 1200, "gain": 4, "RingCurrent": 99.8}


@pytest.mark.parametrize(
    ("before", "after", "of_before", "of_reference", "of_after", "kept"),
    [
        (NM, off(NM, 0.1), {}, {}, {}, True),
        (NM, off(NM, 0.3), {}, {}, {}, False),
        (NM, replace(NM, probe_nm=760.0), {}, {}, {}, True),  # another probe moves no grating
        (NM, off(NM, 0.3), COARSE, COARSE, COARSE, False),
        (NM, off(NM, 0.3), COARSE, FINE, FINE, True),  # measured at the new grating, before its axis
        (None, NM, COARSE, COARSE, FINE, False),
        (None, NM, {}, {}, {}, True),
        # What a driver tells beside moves no grating, such as a ring's current, which varies.
        (NM, off(NM, 0.1), *({"RingCurrent": each, "slit_um": each} for each in (100, 101, 102)), True),
        (NM, off(NM, 0.3), *({"RingCurrent": each} for each in (100, 101, 100.99)), False),
        (None, NM, {"RingCurrent": 100}, {"RingCurrent": 101}, {"RingCurrent": 102}, True),
        (NM, off(NM, 0.1), COARSE, COARSE, FINE, True),
        (NM, off(NM, 0.1), COARSE, FINE, COARSE, False),
        (SHIFT, off(SHIFT, 4.0), {}, {}, {}, True),  # by another standard
        (SHIFT, off(SHIFT, 6.0), {}, {}, {}, False),
        (SHIFT, replace(NM, probe_nm=None), {}, {}, {}, False),
        (NM, replace(SHIFT, coefficients=tuple(np.polynomial.Polynomial.fit(
            np.arange(500), NM.axis(NM.region) + 2, 5).convert().coef)), {}, {}, {}, True),
    ],
)  # fmt: skip
def test_a_reference_is_left_out_where_the_grating_was_moved(
    before: Scale | None,
    after: Scale,
    of_before: dict[str, Any],
    of_reference: dict[str, Any],
    of_after: dict[str, Any],
    kept: bool,
) -> None:
    known = made(before, of_before, of_reference)
    found = without_moved_reference(known, replace(known, scale=after, settings=of_after))
    assert (found.reference is known.reference) is kept and found.scale is after


@pytest.mark.parametrize(
    ("name", "then", "now", "said"),
    [
        ("CentreWavelength", 800.0, 800.7, "800, and now it is 800.7"),
        ("CentreWavelength", 800.0, 799.9, "800, and now it is 799.9"),
        ("centre_um", 0.8, 0.8001, "0.8, and now it is 0.8001"),
        ("CentreWavelength", 500.0, 500.01, None),  # as it is read back
        ("CentreWavelength", 0.0, 0.001, None),
        ("GratingTemperature", 24.0, 25.0, None),
        ("gain", 1.0, 1.0004, None),
    ],
)
def test_a_spectrograph_that_moved_by_a_pixel_is_told(
    name: str, then: float, now: float, said: str | None
) -> None:
    doubts = made(NM, {name: then}, {}).applied(500, settings={name: now}).doubts
    assert doubts == (() if said is None else (f"it was made at {name} {said}",))


def test_a_lamp_that_is_measured_anew_says_that_the_reference_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "start_logging", lambda logs: None)
    monkeypatch.setattr(calibrate, "find_spec", lambda name: None)  # pictures take longer than the rest
    output = tmp_path / "lab.json"
    settings = CalibrateSettings(output=output)

    def lamp(first: float, seed: int) -> None:
        _, counts = lamp_spectrum("neon", first, first + 90, 500, seed=seed)
        neon = str(text(tmp_path / "neon.csv", np.arange(500), counts, names="pixel,counts"))
        calibrate.lamp(
            neon, lamp="neon", from_nm=first, to_nm=first + 90, unsure=0.02, pump_nm=785.0, settings=settings
        )

    for unsure in (math.nan, 0.0):
        with pytest.raises(CalibrationError, match="--unsure must be more than 0, not"):
            calibrate.lamp("none.csv", lamp="neon", unsure=unsure, settings=settings)
    glass = str(text(tmp_path / "glass.csv", np.arange(500), 500 + np.arange(500), names="pixel,counts"))
    lamp(610, 1)
    calibrate.reference(glass, settings=settings)
    lamp(610, 2)
    assert read(output).reference is not None and "reference is left out" not in caplog.text
    lamp(613, 1)
    assert read(output).reference is None
    assert f"{output}: its reference is left out, as it was measured on another axis: measure" in caplog.text


def test_a_reference_of_another_grating_than_the_axis_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known, path = made(NM, COARSE, FINE), tmp_path / "lab.json"
    for now, said in (
        (COARSE, "its reference was made at grating 1200"),
        (FINE, "it was made at grating 600"),
    ):
        assert [each.split(", and")[0] for each in known.applied(500, settings=now).doubts] == [said]
    assert made(NM, COARSE, COARSE).applied(500, settings=COARSE).doubts == ()
    for of_reference, said in (
        (COARSE, ""),
        (FINE, "its reference was made at grating 1200, and its axis at 600"),
    ):
        write(path, made(NM, COARSE, of_reference))
        read_reference(path)
        assert said in caplog.text and bool(caplog.text) is bool(said)
