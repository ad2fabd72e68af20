"""The forward model, axes, substances, phantom and simulated microscope."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from cars_rt.physics.axis import AxisError, Grid, check_raman_shift, resampling_matrix
from cars_rt.physics.cars import cars_intensity, lorentzians, raman_ratio
from cars_rt.physics.microscope import SATURATION, Microscope, Simulator
from cars_rt.physics.phantom import phantom
from cars_rt.physics.substances import SUBSTANCES, TOLUENE, Substance, chi_r

NAMES = [substance.name for substance in SUBSTANCES]
ASTM_TOLUENE = (521.7, 786.5, 1003.6, 1030.6, 1211.4, 1605.1, 3057.1)


def neat(name: str, count: int = 1) -> np.ndarray:
    concentrations = np.zeros((count, len(SUBSTANCES)), dtype=np.float32)
    concentrations[:, NAMES.index(name)] = 1
    return concentrations


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator()


# cars.py


def test_one_lorentzian_peaks_at_its_position_with_amplitude_over_width() -> None:
    shift = np.arange(900.0, 1100.0, 0.5)
    chi = lorentzians(shift, np.array([1000.0]), np.array([6.0]), np.array([4.0]))
    assert chi.shape == shift.shape
    assert shift[chi.imag.argmax()] == 1000
    assert chi.imag.max() == pytest.approx(6 / 4)
    assert chi.imag[shift == 1004] == pytest.approx(6 / 4 / 2)
    assert chi.real[shift == 1000] == pytest.approx(0)


def test_the_signal_rises_below_a_line_and_dips_above_it() -> None:
    shift = np.arange(900.0, 1100.0)
    chi = lorentzians(shift, np.array([1000.0]), np.array([5.0]), np.array([5.0]))
    intensity = cars_intensity(np.ones_like(shift), chi, np.ones_like(shift))
    assert shift[intensity.argmax()] < 1000 < shift[intensity.argmin()]
    assert intensity.max() > 1 > intensity.min() >= 0


def test_lorentzians_broadcast_over_spectra() -> None:
    rng = np.random.default_rng(0)
    shift = np.linspace(400, 1800, 50)
    lines = rng.uniform(1, 10, (3, 2, 4))
    chi = lorentzians(shift, 100 * lines, lines, lines)
    assert chi.shape == (3, 2, 50)
    np.testing.assert_allclose(chi[2, 1], lorentzians(shift, 100 * lines[2, 1], lines[2, 1], lines[2, 1]))


def test_cars_intensity_and_raman_ratio_equal_a_naive_loop() -> None:
    rng = np.random.default_rng(1)
    shift, position = rng.uniform(400, 3200, 20), rng.uniform(400, 3200, 3)
    amplitude, width = rng.uniform(1, 9, 3), rng.uniform(1, 9, 3)
    envelope, chi_nr = rng.uniform(1, 2, 20), rng.uniform(1, 2, 20)
    chi = lorentzians(shift, position, amplitude, width)
    intensity, ratio = cars_intensity(envelope, chi, chi_nr), raman_ratio(chi, chi_nr)
    for pixel, w in enumerate(shift):
        total = sum(a / (p - w - 1j * g) for a, p, g in zip(amplitude, position, width, strict=True))
        assert intensity[pixel] == pytest.approx(envelope[pixel] * abs(total + chi_nr[pixel]) ** 2)
        assert ratio[pixel] == pytest.approx(total.imag / chi_nr[pixel])


# axis.py


@pytest.mark.parametrize(
    ("axis", "reason"),
    [
        ([1.0, 2.0, 2.0], "strictly monotonic"),
        ([1.0, 3.0, 2.0, 4.0], "strictly monotonic"),
        ([1.0, 2.0, 1.0], "strictly monotonic"),
        ([1.0, np.nan, 3.0], "not finite at pixel 1"),
        ([1.0, np.inf], "not finite at pixel 1"),
        ([1.0], "2 or more"),
        ([], "2 or more"),
        ([[1.0, 2.0]], "shape"),
        (["one", "two"], "numbers"),
    ],
)
def test_unusable_axes_are_refused_with_the_reason(axis: Any, reason: str) -> None:
    with pytest.raises(AxisError, match=reason):
        check_raman_shift(axis)


@pytest.mark.parametrize("axis", [[400, 402, 405], [3000.0, 2998.0, 400.0]])
def test_monotonic_axes_are_accepted(axis: list[float]) -> None:
    checked = check_raman_shift(axis)
    assert checked.dtype == np.float64
    np.testing.assert_array_equal(checked, axis)


@pytest.mark.parametrize("step", [1.0, 2.0, 2.5])
@pytest.mark.parametrize("multiple", [1, 32])
def test_a_covering_grid_covers_is_centred_and_smallest(step: float, multiple: int) -> None:
    axis = Microscope().raman_shift
    grid = Grid.covering(axis[::-1], step, multiple)
    points = grid.raman_shift
    assert len(points) == grid.length and grid.length % multiple == 0
    assert points[0] <= axis[0] and points[-1] >= axis[-1]
    assert points.mean() == pytest.approx((axis[0] + axis[-1]) / 2)
    assert (grid.length - multiple - 1) * step < axis[-1] - axis[0]
    np.testing.assert_allclose(np.diff(points), step)


def irregular_axis(points: int, seed: int = 0) -> np.ndarray:
    return 400 + np.cumsum(np.random.default_rng(seed).uniform(1, 3, points))


@pytest.mark.parametrize("step", [0.7, 2.0, 5.0])
def test_resampling_columns_sum_to_one(step: float) -> None:
    axis = irregular_axis(300)
    matrix = resampling_matrix(axis, Grid.covering(axis, step, 32).raman_shift)
    assert matrix.dtype == np.float32 and matrix.shape[0] == 300
    np.testing.assert_allclose(matrix.sum(axis=0), 1, atol=1e-6)
    assert (matrix != 0).sum(axis=0).max() <= 14 * max(1, step)


@pytest.mark.parametrize("axis", [Microscope().raman_shift, irregular_axis(200), irregular_axis(200)[::-1]])
def test_resampling_onto_the_same_axis_is_the_identity(axis: np.ndarray) -> None:
    np.testing.assert_array_equal(resampling_matrix(axis, axis), np.eye(len(axis)))


@pytest.mark.parametrize("step", [1.0, 2.0, 4.0])
def test_resampling_keeps_smooth_spectra_there_and_back(step: float) -> None:
    axis = Microscope().raman_shift
    points = Grid.covering(axis, step, 32).raman_shift
    spectrum = np.sin(axis / 60)
    inside = (points > axis[0] + step) & (points < axis[-1] - step)
    there = spectrum @ resampling_matrix(axis, points)
    np.testing.assert_allclose(there[inside], np.sin(points[inside] / 60), atol=1e-4 * step)
    back = there @ resampling_matrix(points, axis)
    np.testing.assert_allclose(back[5:-5], spectrum[5:-5], atol=2e-4 * step)


@pytest.mark.parametrize("step", [0.7, 2.0, 3.1])
def test_resampling_keeps_straight_lines_exact(step: float) -> None:
    axis = irregular_axis(100)
    points = np.arange(axis[0] + step, axis[-1] - step, step)
    np.testing.assert_allclose((axis - 500) @ resampling_matrix(axis, points), points - 500, atol=1e-4)


def test_resampling_onto_a_coarser_axis_lowers_white_noise() -> None:
    axis = np.arange(400.0, 1000.0)
    matrix = resampling_matrix(axis, np.arange(420.0, 980.0, 6.0))
    assert 0.25 < np.linalg.norm(matrix, axis=0).mean() < 0.4


def test_resampling_a_descending_axis_equals_the_ascending_one() -> None:
    axis = irregular_axis(100)
    points = Grid.covering(axis, 2.0, 8).raman_shift
    np.testing.assert_array_equal(
        resampling_matrix(axis[::-1], points), resampling_matrix(axis, points)[::-1]
    )
    np.testing.assert_array_equal(
        resampling_matrix(axis, points[::-1]), resampling_matrix(axis, points)[:, ::-1]
    )


@pytest.mark.parametrize("step", [0.5, 1.5, 4.0])
def test_resampling_repeats_the_edges_outside_the_source(step: float) -> None:
    axis = irregular_axis(100)
    points = np.arange(axis[0] - 50, axis[-1] + 50, step)
    out = axis @ resampling_matrix(axis, points)
    np.testing.assert_allclose(out[points < axis[0]], axis[0], rtol=1e-6)
    np.testing.assert_allclose(out[points > axis[-1]], axis[-1], rtol=1e-6)


# substances.py and phantom.py


def test_toluene_shows_its_astm_lines() -> None:
    shift = np.arange(450.0, 3200.0, 0.1)
    imaginary = chi_r(TOLUENE, shift).imag
    peaks = shift[1:-1][(imaginary[1:-1] > imaginary[:-2]) & (imaginary[1:-1] >= imaginary[2:])]
    for line in ASTM_TOLUENE:
        assert abs(peaks - line).min() < 0.3
    assert 1003 < shift[imaginary.argmax()] < 1004


@pytest.mark.parametrize("substance", SUBSTANCES, ids=NAMES)
def test_substances_are_complete_and_physical(substance: Substance) -> None:
    assert len(substance.position) == len(substance.width) == len(substance.strength) > 0
    assert min(substance.width) > 0 and min(substance.strength) > 0
    assert all(a < b for a, b in pairwise(substance.position))
    assert substance.source
    chi = chi_r(substance, [500.0, 3000.0])
    assert chi.dtype == np.complex128 and (chi.imag > 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (7, 3), (96, 64)])
def test_phantom_fractions_sum_to_one(shape: tuple[int, int]) -> None:
    maps = phantom(*shape, seed=4)
    assert maps.shape == (len(SUBSTANCES), *shape) and maps.dtype == np.float32
    assert maps.min() >= 0 and maps.max() <= 1
    np.testing.assert_allclose(maps.sum(axis=0), 1, atol=1e-5)


def test_phantom_is_seeded_and_holds_every_substance() -> None:
    np.testing.assert_array_equal(phantom(64, 64, 3), phantom(64, 64, 3))
    assert (phantom(64, 64, 3) != phantom(64, 64, 4)).any()
    assert (phantom(128, 128, 0).max(axis=(1, 2)) > 0.1).all()


def test_phantom_needs_a_pixel() -> None:
    with pytest.raises(ValueError, match="0x5"):
        phantom(0, 5)


# microscope.py


@pytest.mark.parametrize("pixels", [2, 640, 1340])
def test_the_camera_axis_spans_400_to_3240_with_growing_steps(pixels: int) -> None:
    axis = Microscope(pixels=pixels).raman_shift
    assert len(check_raman_shift(axis)) == pixels
    assert axis[0] == pytest.approx(400) and axis[-1] == pytest.approx(3240)
    if pixels == 1340:
        assert np.diff(axis)[0] == pytest.approx(1.50, abs=0.03)
        assert np.diff(axis)[-1] == pytest.approx(2.66, abs=0.03)


def test_the_envelope_falls_humps_and_ends() -> None:
    s = Microscope(ripple=0).envelope([400.0, 1200.0, 1900.0, 3240.0])
    assert 10 < s[0] / s[1] < 30
    assert s[2] > 2 * s[1]
    assert 100 < s[0] / s[3] < 300


@pytest.mark.parametrize(
    "settings", [{"pixels": 1}, {"exposure_ms": 0}, {"read_noise": -1}, {"resolution": np.nan}]
)
def test_settings_without_meaning_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings)).rstrip("s")):
        Microscope(**settings)


def test_the_same_seed_gives_the_same_counts() -> None:
    concentrations = phantom(5, 8).reshape(len(SUBSTANCES), -1).T
    first, again, other = (Simulator(Microscope(seed=seed)).measure(concentrations) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_counts_have_shape_and_dtype_and_go_into_a_given_array(simulator: Simulator) -> None:
    for count in (0, 1, 33, 70):
        counts = simulator.measure(neat("water", count))
        assert counts.shape == (count, 1340) and counts.dtype == np.uint16
    out = np.zeros((3, 1340), dtype=np.uint16)
    assert simulator.measure(neat("water", 3), out) is out
    assert out.all()


def test_wrong_shapes_are_refused(simulator: Simulator) -> None:
    with pytest.raises(ValueError, match="concentrations must be"):
        simulator.measure(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="out must be"):
        simulator.measure(neat("water"), np.zeros((1, 3), dtype=np.uint16))


def test_no_mixture_is_brighter_than_peak_counts(simulator: Simulator) -> None:
    assert simulator.signal(np.eye(len(SUBSTANCES))).max() == pytest.approx(45000, rel=1e-3)
    mixtures = np.random.default_rng(0).dirichlet(0.3 * np.ones(len(SUBSTANCES)), 200)
    assert simulator.signal(mixtures).max() < 45000 * 1.001


def test_long_exposures_saturate() -> None:
    counts = Simulator(Microscope(exposure_ms=3)).measure(neat("toluene", 4))
    assert (counts == SATURATION).any(axis=1).all()
    assert (Simulator().measure(neat("toluene", 4)) < SATURATION).all()


@pytest.mark.parametrize("electrons", [0.4, 1.0])
def test_shot_noise_has_a_variance_in_proportion_to_the_signal(electrons: float) -> None:
    settings = Microscope(pixels=300, electrons_per_count=electrons, read_noise=0, peak_counts=40000)
    simulator = Simulator(settings)
    counts = simulator.measure(neat("water", 2000)).astype(np.float64)
    light = simulator.signal(neat("water"))[0] + settings.dark_current
    np.testing.assert_allclose(counts.mean(axis=0), light + settings.offset, atol=30)
    assert np.mean(counts.var(axis=0) * electrons / light) == pytest.approx(1, abs=0.02)


def test_low_counts_follow_a_poisson_distribution() -> None:
    settings = Microscope(electrons_per_count=1, read_noise=0, offset=0, dark_current=2)
    counts = Simulator(settings).measure_dark(100)
    assert counts.mean() == pytest.approx(2, abs=0.05)
    assert counts.var() == pytest.approx(2, abs=0.05)
    assert (counts == 0).mean() == pytest.approx(np.exp(-2), abs=0.01)


def test_dark_counts_scatter_around_the_dark_spectrum_by_the_read_noise() -> None:
    simulator = Simulator(Microscope(read_noise=20))
    counts = simulator.measure_dark(500).astype(np.float64)
    assert simulator.dark.shape == (1340,) and simulator.dark.dtype == np.float32
    np.testing.assert_allclose(counts.mean(axis=0), simulator.dark, atol=6)
    assert counts.std(axis=0).mean() == pytest.approx(20, abs=1)


def test_signal_and_truth_follow_the_formulas_where_the_instrument_is_sharp() -> None:
    settings = Microscope(probe_width=0, resolution=0.5, ripple=0)
    glycerol_like = Substance("wide", (900.0, 1465.0, 2900.0), (25, 30, 40), (0.4, 0.3, 1.0), 1.2)
    simulator = Simulator(settings, [glycerol_like])
    shift = simulator.raman_shift
    chi_nr = settings.chi_nr(shift) * (0.7 * 1.2 + 0.3)
    chi = 0.7 * 1.2 * chi_r(glycerol_like, shift) * settings.chi_nr(shift)
    truth = simulator.raman([[0.7]])
    assert truth.shape == (1, 1340) and truth.dtype == np.float32
    np.testing.assert_allclose(truth[0], raman_ratio(chi, chi_nr), atol=2e-3)
    expected = cars_intensity(settings.envelope(shift), chi, chi_nr)
    signal = simulator.signal([[0.7]])[0]
    np.testing.assert_allclose(signal / signal[0], expected / expected[0], rtol=5e-3)


@pytest.mark.parametrize(("resolution", "tolerance"), [(0.5, 0.07), (5.0, 0.1)])
def test_the_truth_is_what_kramers_kronig_retrieves(resolution: float, tolerance: float) -> None:
    simulator = Simulator(Microscope(resolution=resolution))
    index, shift = NAMES.index("acetonitrile"), simulator.raman_shift
    ratio = simulator.signal(neat("acetonitrile")) / simulator.signal(np.zeros((1, len(SUBSTANCES))))
    grid = np.arange(400.0, 3240.0)
    log = 0.5 * np.log(np.interp(grid, shift, ratio[0] / SUBSTANCES[index].chi_nr ** 2))
    spectrum = np.fft.fft(np.pad(log, 15000))
    phase = np.fft.ifft(-1j * np.sign(np.fft.fftfreq(len(spectrum))) * spectrum).real[15000:-15000]
    retrieved, truth = np.exp(log) * np.sin(phase), simulator.raman(neat("acetonitrile"))[0]
    middle = (grid > 600) & (grid < 3050)
    np.testing.assert_allclose(retrieved[middle], np.interp(grid, shift, truth)[middle], atol=tolerance)


def test_raman_noise_is_what_kramers_kronig_makes_of_the_noise() -> None:
    simulator = Simulator(Microscope(seed=5))
    counts = simulator.measure(neat("water", 300)) - simulator.dark
    background = simulator.signal(np.zeros((1, len(SUBSTANCES))))
    log = 0.5 * np.log(np.maximum(counts, 1) / background)
    spectrum = np.fft.fft(np.pad(log, ((0, 0), (2000, 2000))))
    phase = np.fft.ifft(-1j * np.sign(np.fft.fftfreq(spectrum.shape[1])) * spectrum).real[:, 2000:-2000]
    scatter = (np.exp(log) * np.sin(phase)).std(axis=0)
    predicted = simulator.raman_noise(neat("water"))
    assert predicted.shape == (1, 1340) and predicted.dtype == np.float32
    assert np.median(scatter / predicted[0]) == pytest.approx(1, abs=0.03)


def test_strong_lines_stand_above_five_times_the_noise(simulator: Simulator) -> None:
    at = abs(simulator.raman_shift - 1003.6).argmin()
    raman, noise = simulator.raman(neat("toluene"))[0], simulator.raman_noise(neat("toluene"))[0]
    assert 1 < raman[at] < 2
    assert raman[at] > 5 * noise[at]
