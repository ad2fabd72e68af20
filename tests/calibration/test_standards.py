"""Standards recognised by their own retrieved lines, with an axis and without."""

import numpy as np
import pytest
from helpers import MEASURED

from calibration.simulated import cars_spectrum
from cars_rt.calibration.errors import CalibrationError, UnmatchedError
from cars_rt.calibration.recognise import Recognised, recognise
from cars_rt.calibration.standards import STANDARDS, TOLUENE_LINES
from cars_rt.physics import substances
from cars_rt.physics.substances import SUBSTANCES


def within_lines(found: Recognised) -> slice:
    """The pixels between the first and the last line that was matched."""
    places = found.peaks.place[found.match.peak]
    low, up = int(places.min()), int(places.max())
    return slice(len(found.raman) - up, len(found.raman) - low) if found.descending else slice(low, up)


@pytest.mark.parametrize("name", STANDARDS)
def test_a_standard_is_recognised_without_an_axis(name: str) -> None:
    truth, counts = cars_spectrum(STANDARDS[name].substance)
    if name == "cyclohexane":
        truth, counts = truth[::-1], counts[::-1]
    found = recognise(counts)
    assert found.match.standard.name == name and found.descending == (name == "cyclohexane")
    assert np.abs(found.axis - truth)[within_lines(found)].max() < 2.5


@pytest.mark.parametrize("name", ["toluene", "benzonitrile"])
def test_an_axis_that_is_off_is_corrected(name: str) -> None:
    truth, counts = cars_spectrum(STANDARDS[name].substance)
    found = recognise(counts, near=truth + 6 - 0.004 * (truth - 1500))
    assert found.match.standard.name == name
    assert np.abs(found.axis - truth)[within_lines(found)].max() < 2
    found = recognise(counts, wavenumber=truth + 1e7 / 785.25)
    assert np.abs(found.axis - truth).max() < 1 and found.tilt == 0 and found.residual < 0.5


@pytest.mark.parametrize(("name", "known"), [("DMSO", False), ("ethanol", False), ("protein", True)])
def test_what_is_no_standard_is_refused(name: str, known: bool) -> None:
    substance = next(each for each in SUBSTANCES if each.name == name)
    truth, counts = cars_spectrum(substance)
    with pytest.raises(UnmatchedError, match="its lines are those of none of toluene, cyclohexane"):
        recognise(counts, truth if known else None)
    with pytest.raises(CalibrationError, match="no standard is called 'sulfur'; there are toluene"):
        recognise(counts, name="sulfur")


def test_a_spectrum_without_lines_is_refused() -> None:
    counts = np.random.default_rng(1).normal(1000, 30, 500)
    with pytest.raises(UnmatchedError, match="lines stand out in the retrieved spectrum, and 4 are needed"):
        recognise(counts)


def test_as_many_lines_as_a_curve_goes_through_are_no_proof_of_an_unknown_axis() -> None:
    truth, counts = cars_spectrum(STANDARDS["cyclohexane"].substance, 900, 1700)  # four lines
    with pytest.raises(UnmatchedError, match="its lines are those of none of toluene"):
        recognise(counts)
    assert recognise(counts, truth + 5).match.standard.name == "cyclohexane"


def test_the_lines_are_those_of_astm_e1840() -> None:
    for standard in STANDARDS.values():
        assert set(standard.certain) <= set(standard.substance.position)
        assert standard.lines.certain.sum() == len(standard.certain)
    assert len(TOLUENE_LINES) == 7 and substances.TOLUENE not in (substances.BENZONITRILE,)


@pytest.mark.skipif(not MEASURED.is_dir(), reason="the measured spectra are not here")
@pytest.mark.parametrize("number", ["010", "025"])
def test_measured_toluene_without_its_axis(number: str) -> None:
    rows = np.genfromtxt(MEASURED / f"toluene_1ms_{number}.csv", delimiter=",")
    rows = rows[np.isfinite(rows).all(axis=1)]
    found = recognise(rows[:, 1])
    match, place = found.match, found.peaks.place[found.match.peak]
    assert match.standard.name == "toluene"
    here = match.axis(2 * place / (len(rows) - 1) - 1)
    off = dict(zip(match.lines.position[match.line], here - match.lines.position[match.line], strict=True))
    certain = {line: off[line] for line in TOLUENE_LINES if line in off}
    assert len(certain) >= 6 and 3057.1 in certain
    assert max(map(abs, certain.values())) < 2


@pytest.mark.skipif(not MEASURED.is_dir(), reason="the measured spectra are not here")
@pytest.mark.parametrize("name", ["hepg2_1ms_pixel_125_80.csv", "amdc.txt", "sucrose.txt"])
def test_measured_spectra_of_something_else_are_refused(name: str) -> None:
    rows = np.genfromtxt(MEASURED / name, delimiter=",")[:, :2]
    rows = rows[np.isfinite(rows).all(axis=1)]
    for near in (None, rows[:, 0]):
        with pytest.raises(UnmatchedError):
            recognise(rows[:, 1], near)
