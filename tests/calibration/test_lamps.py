"""Wavelengths of pixels from the spectrum of a lamp, whatever the grating was set to."""

import numpy as np
import pytest

from calibration.simulated import lamp_spectrum
from cars_rt.calibration.errors import CalibrationError, UnmatchedError
from cars_rt.calibration.lamp_fit import fit_lamp
from cars_rt.calibration.lamps import LAMPS, lamp
from cars_rt.calibrator.wrapped import wrapped_at
from cars_rt.physics.air import in_vacuum, refractive_index
from cars_rt.physics.microscope import Microscope, Simulator
from cars_rt.physics.substances import SUBSTANCES


def test_air_and_vacuum_are_those_of_the_literature() -> None:
    # Pairs of NIST ASD, nm: Hg 546.0750, Ne 585.2488, Ar 763.5106, Kr 587.0914, Ne 837.7608.
    air = np.array([546.0750, 585.2488, 763.5106, 587.0914, 837.7608])
    vacuum = np.array([546.2268, 585.4110, 763.7208, 587.2543, 837.9909])
    assert np.abs(in_vacuum(air) - vacuum).max() < 2e-4
    found = in_vacuum(air)
    assert np.abs(found / refractive_index(found) - air).max() < 1e-9
    assert refractive_index(633.0) == pytest.approx(1.00027653, abs=2e-8)


@pytest.mark.parametrize(
    ("name", "first", "last", "off", "stretch"),
    [
        ("neon", 575, 770, 0.2, 1.2),
        ("neon", 830, 600, -0.18, 0.84),
        ("argon", 690, 860, 0.2, 0.84),
        ("krypton", 740, 900, -0.15, 1.2),
        ("mercury-argon", 540, 860, 0.1, 1.2),
        ("neon", 610, 700, None, None),
    ],
)
def test_a_lamp_calibrates_a_grating_that_is_set_wrongly(
    name: str, first: float, last: float, off: float | None, stretch: float | None
) -> None:
    wavelength, counts = lamp_spectrum(name, first, last)
    near = None
    if off is not None and stretch is not None:
        middle, half = (first + last) / 2 * (1 + off), (last - first) / 2 * stretch
        near = (middle - half, middle + half)
    fit = fit_lamp(counts, lamp(name), near=near)
    assert fit.residual < 0.3 and fit.used.sum() >= 10
    found = fit.wavelength(np.linspace(-1, 1, len(counts)))
    lines = slice(int(fit.peaks.place[fit.peak].min()), int(fit.peaks.place[fit.peak].max()))
    assert np.abs(1e7 / found - 1e7 / wavelength)[lines].max() < 0.3


@pytest.mark.parametrize("seed", [1, 4])
def test_a_stray_line_beyond_the_others_does_not_bend_the_axis(seed: int) -> None:
    wavelength, counts = lamp_spectrum("neon", 800, 940, seed=seed, bend=0.005)
    fit = fit_lamp(counts, lamp("neon"), near=(740.0, 880.0))
    found = fit.wavelength(np.linspace(-1, 1, len(counts)))
    assert np.abs(1e7 / found - 1e7 / wavelength)[80:1300].max() < 0.3


@pytest.mark.parametrize(
    ("line", "wrapped"),
    [
        ([0.9], None),
        ([0.2, 0.9, 0.2], None),
        ([0.13, 0.9, 0.4, 0.02], None),  # between two pixels
        ([0.3, 0.95, 0.26, 0.35, 0.26, 0.95, 0.3], 7),  # counter's end in the middle
        ([0.3, 0.98, 0.45, 0.98, 0.3], 6),
        ([0.95, 0.7, 0.95], 5),
        ([0.26, 0.5, 0.95, 0.3], 8),
        ([0.3, 0.9, 0.02, 0.02, 0.8, 0.1], None),  # a pair of lines, as mercury's yellow ones
        ([0.9, 0.02, 0.85], None),
    ],
)
def test_a_sharp_line_is_no_counter_that_began_again(line: list[float], wrapped: int | None) -> None:
    counts = np.full(40, 300.0)
    counts[6 : 6 + len(line)] += 65_000 * np.array(line)
    assert wrapped_at(counts, 65_535.0) == wrapped
    for edge in (counts[6:], counts[: 6 + len(line)]):  # of the spectrum
        assert (wrapped_at(edge, 65_535.0) is None) is (wrapped is None)


def test_another_lamp_and_no_lines_are_refused() -> None:
    _, counts = lamp_spectrum("argon", 690, 860)
    for near in (None, (690.0, 860.0)):
        with pytest.raises(UnmatchedError, match="not those of krypton") as caught:
            fit_lamp(counts, lamp("Kr"), near=near)
        assert caught.value.attempt[0] is counts
    with pytest.raises(UnmatchedError, match="lines stand out, and 5 are needed"):
        fit_lamp(np.random.default_rng(1).normal(100, 5, 1024), lamp("Ne"))
    with pytest.raises(UnmatchedError, match="0 lines stand out"):
        fit_lamp(np.array([1.0, 2.0]), lamp("Ne"))
    sample = Simulator(Microscope()).measure([[0.1] * len(SUBSTANCES)])[0]  # bands too broad for any lamp
    with pytest.raises(UnmatchedError, match="not those of neon"):
        fit_lamp(sample.astype(float), lamp("Ne"))
    with pytest.raises(CalibrationError, match="no lamp is called 'xenon'; there are neon"):
        lamp("xenon")
    assert [lamp(short).name for short in ("Ne", "Ar", "Kr", "Hg-Ar")] == list(LAMPS)
