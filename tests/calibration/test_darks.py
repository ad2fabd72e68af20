"""Which dark is taken from lamps, standards and references, and of what it is kept."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.simulated import cars_spectrum, lamp_spectrum
from calibration.test_program import NOW, text
from cars_rt.calibration import Mean, Region, read
from cars_rt.calibration.calibration import Calibration
from cars_rt.calibration.lamps import lamp
from cars_rt.calibrator import program
from cars_rt.calibrator.measured import Measured, doubts_of_dark
from cars_rt.calibrator.summary import described
from cars_rt.cli import calibrate
from cars_rt.cli.calibrate import CalibrateSettings
from cars_rt.physics.substances import TOLUENE


def test_the_dark_of_the_calibration_is_taken_from_a_standard_and_a_lamp() -> None:
    shift, counts = cars_spectrum(TOLUENE)
    region, dark = Region(len(shift)), np.full(len(shift), counts.mean() / 2, np.float32)
    made = Calibration(region=region, darks=(Mean(dark, 100, NOW, 0.001),))
    sums = {"frames_per_point": 4}
    given = Measured(counts=counts + 4 * dark, spectra=1, where="x", exposure_s=0.004, time_ns=NOW,
                     settings=sums, full_scale=4 * 60_000.0)  # fmt: skip
    known, _, _ = program.with_standard(made, given)
    assert known.full_scale == 60_000 == known.applied(len(shift)).full_scale
    assert known.applied(len(shift), settings=sums).full_scale == 4 * 60_000
    lines = (shift > 520) & (shift < 3060)
    assert np.abs(known.axis() - shift)[lines].max() < 1.6
    nm, neon = lamp_spectrum("neon", 610, 700, 500)
    hot = np.where(np.arange(500) % 10 < 2, 5_000, 0).astype(np.float32)  # as bright as lines
    made = Calibration(region=Region(500), darks=(Mean(hot, 100, NOW, 0.001),))
    given = replace(given, counts=neon + 4 * hot)
    known, fit = program.with_lamp(made, given, lamp("Ne"), near=(610, 700))
    assert known.full_scale == 60_000
    assert np.abs(fit.wavelength(np.linspace(-1, 1, 500)) - nm).max() < 0.05


@pytest.mark.parametrize(
    ("where", "exposure_s", "left", "doubt"),
    [
        (
            "toluene.csv",
            None,
            300,
            "not subtracted from toluene.csv: the exposure is not known .* give --exposure-ms",
        ),
        ("toluene.csv", 0.001, 200, None),
        ("toluene.csv", 0.009, 300, "it has no dark for this exposure"),
        ("toluene.csv", 0.001_000_9, 200, None),  # as a camera rounds it
        ("toluene.csv", 0.001_002, 300, "it has no dark for this exposure"),
        (  # counts as the camera gives them
            "tcp://127.0.0.1:5555",
            None,
            200,
            "its dark of 1 ms is subtracted, and nothing says these spectra's exposure",
        ),
    ],
)
def test_a_file_whose_exposure_nobody_knows_may_be_above_its_dark_already(
    where: str, exposure_s: float | None, left: float, doubt: str | None
) -> None:
    made = Calibration(region=Region(64), darks=(Mean(np.full(64, 100, np.float32), 100, NOW, 0.001),))
    given = Measured(counts=np.full(64, 300.0), spectra=1, where=where, exposure_s=exposure_s, time_ns=NOW)
    reference = program.with_reference(made, given).reference
    assert reference is not None and reference.counts[0] == left
    said = list(doubts_of_dark(made, given))
    assert len(said) == (doubt is not None) and re.search(doubt or "", "".join(said))
    assert not list(doubts_of_dark(made, replace(given, dark=np.zeros(64))))
    assert not list(doubts_of_dark(replace(made, darks=()), given))


def test_the_exposure_of_a_file_can_be_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "start_logging", lambda logs: None)
    glass = str(text(tmp_path / "glass.csv", np.arange(64), np.full(64, 300), names="pixel,counts"))
    dark = str(text(tmp_path / "dark.csv", np.arange(64), np.full(64, 100), names="pixel,counts"))

    def settings(exposure_ms: float | None) -> CalibrateSettings:
        return CalibrateSettings(output=tmp_path / "lab.json", exposure_ms=exposure_ms)

    calibrate.dark(dark, settings=settings(1.0))
    for exposure_ms, left in ((None, 300), (1.0, 200)):
        calibrate.reference(glass, settings=settings(exposure_ms))
        reference = read(tmp_path / "lab.json").reference
        assert reference is not None and reference.counts[0] == left
        assert ("the exposure is not known" in caplog.text) is (left == 300)
        caplog.clear()
    for full_scale in (4_095.0, 65_535.0, None, 65_535.0):
        calibrate.dark(dark, full_scale=full_scale, settings=settings(1.0))
    said = [each for each in caplog.messages if "saturated at" in each]
    assert said == [f"{tmp_path / 'lab.json'}: it saturated at 4095 counts, and now at 65535"]


def test_a_dark_is_kept_of_one_frame_and_for_each_number_of_rows() -> None:
    region = Region(64)
    given = Measured(counts=np.full(64, 400.0), spectra=9, where="x", exposure_s=0.004, time_ns=NOW,
                     full_scale=4 * 4_095.0)  # fmt: skip
    sums, wide, dim = (
        replace(given, counts=counts, settings=settings)
        for counts, settings in (
            (given.counts, {"rows_per_spectrum": 20, "frames_per_point": 4}),
            (5 * given.counts, {"rows_per_spectrum": 100, "frames_per_point": 4}),
            (given.counts / 2, {"rows_per_spectrum": 20, "frames_per_point": 4}),
        )
    )
    made = Calibration(region=region)
    for each in (sums, wide, dim):
        made = program.with_dark(made, each)
    assert [(dark.exposure_s, dark.counts[0]) for dark in made.darks] == [(0.001, 500), (0.001, 50)]
    assert made.full_scale == 4_095
    assert "darks: 1 ms of 100 rows, 1 ms of 20 rows" in list(described(made, NOW))
    glass = replace(sums, counts=given.counts + 1000)
    assert program.with_reference(made, glass).reference.counts[0] == 1200
    alone = replace(glass, settings={"rows_per_spectrum": 20}, exposure_s=0.001)
    assert program.with_reference(made, alone).reference.counts[0] == 1350


def test_a_dark_of_another_gain_takes_the_place_of_none() -> None:
    made = Calibration(region=Region(64))

    def add(counts: float, spectra: int, **settings: object) -> None:
        nonlocal made
        made = program.with_dark(
            made,
            Measured(counts=np.full(64, counts), spectra=spectra, where="x", exposure_s=0.001, time_ns=NOW,
                     settings=settings),
        )  # fmt: skip

    add(100, 9, gain=1, temperature_c=-60.0, SensorReadoutTime=0.0123)
    add(400, 9, gain=4, temperature_c=-60.0, SensorReadoutTime=0.0123)
    add(110, 9, gain=1, temperature_c=-50.0, SensorReadoutTime=0.01235)  # as it is read
    assert [dark.counts[0] for dark in made.darks] == [400, 110]
    assert "darks: 1 ms at gain 4, 1 ms at gain 1" in list(described(made, NOW))
    # Nor does one that does not say its gain, as of a file.
    for counts in (200, 210):
        add(counts, 1)
    add(220, 1, rows_per_spectrum=20)
    assert [dark.counts[0] for dark in made.darks] == [400, 110, 210, 220]
    for now, counts in (
        ({"gain": 1}, 110),
        ({"gain": 4, "rows_per_spectrum": 40}, 400),
        ({"gain": 8, "rows_per_spectrum": 20}, 220),
        ({"gain": 8, "rows_per_spectrum": 40}, 210),
    ):
        dark = made.dark(0.001, None, now)
        assert dark is not None and dark[0] == counts
