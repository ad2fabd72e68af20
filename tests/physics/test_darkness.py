"""A dark that was measured with light in it is known by its shape; one with a camera's own faults is not."""

import numpy as np
import pytest
from calibration.simulated import lamp_spectrum

from cars_rt.physics.darkness import light_in, may_be_hot, noise_of, three_beside
from cars_rt.physics.microscope import Microscope, Simulator

RANDOM = np.random.default_rng(5)
PIXELS = np.arange(1340)
NOISE = RANDOM.normal(0, 6, (50, len(PIXELS)))
COLUMNS = RANDOM.normal(0, 15, len(PIXELS))  # the offsets of single pixels
HOT = np.where(PIXELS % 97 == 0, 20_000.0, 0.0)


@pytest.mark.parametrize(
    "offset",
    [
        np.full(len(PIXELS), 600.0),
        600.0 + COLUMNS,
        600.0 + HOT,
        600.0 + np.where(PIXELS % 700 < 4, 5_000, 0),  # two groups of hot pixels
        600 + 0.02 * PIXELS,  # an amplifier that warms up
        1500 + 90 * np.exp(-PIXELS / 200),  # a corner that glows
        0.0 * PIXELS,
    ],
)
@pytest.mark.parametrize("spectra", [1, 50])
def test_a_dark_of_a_camera_is_dark(offset: np.ndarray, spectra: int) -> None:  # type: ignore[type-arg]
    counts = np.round(offset + NOISE[:spectra])
    assert light_in(counts.mean(axis=0), noise_of(counts[:8])) is None


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
@pytest.mark.parametrize("peak", [45_000.0, 4_500.0])
def test_spectra_are_no_dark(peak: float, unit: float) -> None:
    camera = Simulator(Microscope(peak_counts=peak))
    mixtures = RANDOM.dirichlet(np.ones(len(camera.substances)), 20)
    for counts in (camera.measure(mixtures), camera.measure(mixtures[:1])):
        said = light_in(unit * counts.mean(axis=0), noise_of(unit * counts[:8]))
        assert said is not None and said.startswith("has light in it: it rises by ")
    dark = camera.measure_dark(20)
    assert light_in(unit * dark.mean(axis=0), noise_of(unit * dark[:8])) is None


@pytest.mark.parametrize("name", ["neon", "argon", "krypton", "mercury-argon"])
def test_a_lamp_that_burns_is_no_dark(name: str) -> None:
    """Its lines are narrow, and most of its pixels are dark."""
    _, counts = lamp_spectrum(name, 700, 800)
    assert "has light in it: it rises by " in str(light_in(counts, noise_of(counts)))


def test_of_a_few_pixels_nothing_is_said() -> None:
    assert light_in(np.linspace(0, 1e4, 40), noise_of(np.zeros((2, 40)))) is None


def test_warm_pixels_beside_hot_ones_keep_no_detector_from_its_dark() -> None:
    """Of twenty hot and eighty warm ones, a warm one is beside a hot one on nearly every detector."""
    random, beside = np.random.default_rng(7), 0
    for _ in range(400):
        dark = 600 + random.normal(0, 5, 1340)
        hot, warm = np.split(random.choice(1340, 100, replace=False), [20])
        dark[hot], dark[warm] = 65_535, random.uniform(14_000, 60_000, 80)
        full = dark >= 64_000
        beside += not may_be_hot(full, dark) and not three_beside(full)
    assert beside < 4


@pytest.mark.parametrize("width", [2.0, 2.6, 3.5])
@pytest.mark.parametrize("warm", [0, 20])
def test_a_narrow_line_at_full_scale_is_no_hot_pixel(width: float, warm: int) -> None:
    """It has light on both of its sides."""
    random = np.random.default_rng(7)
    for place in np.linspace(400, 401, 8):
        dark = 600 + random.normal(0, 5, 1340)
        dark[random.choice(300, warm, replace=False)] = 30_000
        dark += 80_000 * 0.5 ** (2 * (PIXELS - place) / width) ** 2
        dark = np.minimum(dark, 65_535)
        assert not may_be_hot(dark >= 64_000, dark)
