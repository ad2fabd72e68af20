"""Flags of spectra: each is raised for what it is there for, and not for spectra as they should be."""

import sys
from collections.abc import Callable
from types import FrameType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cars_rt.physics.cars import lorentzians
from cars_rt.physics.dispersion import dispersion_matrix
from cars_rt.physics.fitness import ROWS, Fitness, Flag, named, shares
from cars_rt.physics.microscope import SATURATION, Simulator
from cars_rt.physics.overlap import LIT_OVERLAP, Overlap

Counts = NDArray[np.float32]
SIMULATOR = Simulator()
AXIS = SIMULATOR.raman_shift
FITNESS = Fitness(AXIS)
GOOD, UNLIKE = 0, int(Flag.UNLIKE)


def mixtures(count: int = 3 * ROWS + 5) -> tuple[Counts, Counts]:
    """Counts above dark and the true raman of neat substances and dilutions."""
    rng = np.random.default_rng(3)
    substances = len(SIMULATOR.substances)
    fractions = rng.dirichlet(np.full(substances, 0.25), count) * rng.uniform(0, 1, (count, 1))
    fractions[:substances] = np.eye(substances)
    counts = SIMULATOR.measure(fractions).astype(np.float32) - SIMULATOR.dark
    return counts, SIMULATOR.raman(fractions)


COUNTS, RAMAN = mixtures()
NEAT = len(SIMULATOR.substances)


def flags(
    counts: NDArray[np.floating], raman: Counts | None = None, full_scale: float | None = None
) -> list[int]:
    return FITNESS.flags(np.asarray(counts, np.float32), raman, None, full_scale).tolist()


def noisy(light: NDArray[np.float64], rows: int = 20) -> Counts:
    """Counts of so much light (p,) with shot noise of 0.5 electrons per count and read noise of 20."""
    rng = np.random.default_rng(4)
    noise = np.sqrt(2 * light + 400) * rng.normal(size=(rows, len(light)))
    return np.asarray(light + noise, np.float32)


def test_dispersion_matrix_turns_the_imaginary_part_into_the_real_one() -> None:
    lines = np.array([900.0, 1600.0, 2900.0]), np.array([20.0, 30.0, 60.0]), np.array([8.0, 12.0, 15.0])
    chi = lorentzians(AXIS, *lines)
    real = chi.imag.astype(np.float32) @ dispersion_matrix(AXIS)
    inner = slice(20, -20)
    assert np.abs(real - chi.real)[inner].max() < 0.03 * np.abs(chi.real).max()
    backwards = chi.imag[::-1].astype(np.float32) @ dispersion_matrix(AXIS[::-1])
    assert np.allclose(backwards[::-1], real, atol=1e-4)


def test_spectra_with_their_true_raman_have_no_flag() -> None:
    assert flags(COUNTS, RAMAN, SATURATION) == [GOOD] * len(COUNTS)


def test_descending_axis_and_known_dark_change_nothing() -> None:
    found = Fitness(AXIS[::-1]).flags(
        COUNTS[:, ::-1] + SIMULATOR.dark[::-1], RAMAN[:, ::-1], SIMULATOR.dark[::-1], SATURATION
    )
    assert found.dtype == np.uint8 and not found.any()


def test_raman_that_the_counts_do_not_show_is_unlike() -> None:
    strong = RAMAN.max(axis=1) > 0.3
    assert strong.sum() > 20
    turned = np.ascontiguousarray(RAMAN[:, ::-1])
    assert set(flags(COUNTS[strong], turned[strong])) == {UNLIKE}
    assert set(flags(COUNTS, np.zeros_like(RAMAN))) == {GOOD}  # which claims nothing
    assert set(flags(COUNTS, np.full_like(RAMAN, np.nan))) == {UNLIKE}
    assert set(flags(COUNTS[strong])) == {GOOD}  # where raman is something else it is not looked at


@pytest.mark.parametrize("pixels", [3, 10, 200])
def test_pixels_at_full_scale_are_saturated(pixels: int) -> None:
    counts = COUNTS[:4].copy()
    counts[:, 300 : 300 + pixels] = 65535
    assert all(each & Flag.SATURATED for each in flags(counts, None, SATURATION))
    counts[:, 300 : 300 + pixels] = 65534 - np.arange(pixels) % 3
    assert pixels > 24 or not any(each & Flag.SATURATED for each in flags(counts, None, SATURATION))


@pytest.mark.parametrize("rounding", [0.0, 15.0])
def test_plateau_below_full_scale_is_saturated(rounding: float) -> None:
    """As toluene was measured: the noise vanishes where the camera saturates, but not quite."""
    limit = np.quantile(COUNTS, 0.95, axis=1, keepdims=True)
    noise = rounding * np.random.default_rng(0).normal(size=COUNTS.shape)
    clipped = np.minimum(COUNTS, limit + noise)
    assert all(each & Flag.SATURATED for each in flags(clipped, None, SATURATION))


def test_a_line_that_is_cut_is_saturated_though_the_full_scale_is_not_known() -> None:
    """A camera of 12 bits in uint16: its brightest line ends in a few pixels of 4095."""
    at = int(np.abs(AXIS - 1000).argmin())
    line = 6000 * np.exp(-(((np.arange(len(AXIS)) - at) / 4) ** 2))
    counts = noisy(1500 + line).round()
    assert not any(each & Flag.SATURATED for each in flags(counts, None, SATURATION))
    assert all(each & Flag.SATURATED for each in flags(np.minimum(counts, 4095), None, SATURATION))
    quiet = np.repeat((1500 + line / 100)[None], 4, axis=0).round()  # flat by its rounding alone
    assert not any(each & Flag.SATURATED for each in flags(quiet, None, SATURATION))


def test_no_light_is_empty_whatever_the_dark() -> None:
    nothing = noisy(np.zeros(len(AXIS)))
    for offset in (0, 600, -50):  # dark known, unknown, too high
        assert set(flags(nothing + offset, np.zeros_like(nothing))) == {int(Flag.EMPTY)}
    assert set(flags(np.zeros((3, len(AXIS))), np.zeros((3, len(AXIS)), np.float32))) == {int(Flag.EMPTY)}
    dim = COUNTS.copy()
    assert not any(each & Flag.EMPTY for each in flags(dim / 100, RAMAN))


def test_counts_that_single_pixels_carry_are_empty_and_a_hot_pixel_or_a_bright_line_takes_no_light() -> None:
    """Where a dark is subtracted without a sign, or photons are counted, no mean is near 0."""
    rng, pixels = np.random.default_rng(8), len(AXIS)
    cut = np.maximum(rng.normal(-10, 5, (20, pixels)), 0).round()
    hot, ray = cut.copy(), cut.copy()
    hot[:, 300] += 5000
    ray[:, 500:504] += [20, 900, 4000, 300]  # over some pixels
    right = np.maximum(rng.normal(0, 5, (20, pixels)), 0)  # of the right dark
    for unlit in (cut, right, hot, ray, np.eye(pixels)[::70], rng.poisson(0.1, (20, pixels))):
        assert all(each & Flag.EMPTY for each in flags(unlit, np.zeros(unlit.shape, np.float32)))
    dim = rng.poisson(20, (20, pixels)) + 20 * (AXIS > 1000)
    dim[:, 300] = 60_000  # more than all others together
    line = 20 + 20_000 / (1 + ((AXIS - 1000) / 4) ** 2)
    part = np.where(np.abs(AXIS - 1500) < 60, COUNTS, 0)
    for lit in (dim, rng.poisson(line, (20, pixels)), part):
        assert not any(each & Flag.EMPTY for each in flags(lit))


@pytest.mark.parametrize(
    ("pixels", "low", "high", "width"),
    [(64, 1200, 1600, 40), (128, 2600, 3200, 18), (256, 1300, 1700, 12), (256, 1800, 3200, 42)],
)
def test_light_on_a_few_pixels_is_light(pixels: int, low: float, high: float, width: float) -> None:
    axis, rng = np.linspace(low, high, pixels), np.random.default_rng(9)
    envelope = 20_000 * np.exp(-(((axis - (low + high) / 2 - width / 2) / width) ** 2) * 4 * np.log(2))
    counts = rng.poisson(envelope, (20, pixels)) + rng.normal(0, 3, (20, pixels))
    assert not (Fitness(axis).flags(np.asarray(counts, np.float32), None) & Flag.EMPTY).any()


def test_photons_that_are_spread_over_more_pixels_are_no_less() -> None:
    axis, rng = np.linspace(2600, 3100, 4096), np.random.default_rng(10)
    envelope = np.exp(-(((axis - 2850) / 300) ** 2))
    for counts in (rng.poisson(0.25 * envelope, (20, 4096)), rng.normal(0.4 * envelope, 1, (20, 4096))):
        binned = counts.reshape(20, 256, 16).sum(axis=2)
        for each, of in ((counts, axis), (binned, axis.reshape(256, 16).mean(axis=1))):
            assert Overlap.on(of).of(np.asarray(each, np.float32)).min() > LIT_OVERLAP


def test_counts_in_a_unit_that_the_deployment_graph_takes_for_zeros_are_empty() -> None:
    for unit, empty in ((1e-30, False), (1e-37, True)):
        found = flags(COUNTS * np.float64(unit), np.zeros_like(RAMAN))
        assert {bool(each & Flag.EMPTY) for each in found} == {empty}


def test_cosmic_rays_and_steps_are_spikes_and_lines_are_not() -> None:
    rng = np.random.default_rng(1)
    counts, rows = COUNTS.copy(), np.arange(len(COUNTS))
    counts[rows, rng.integers(5, len(AXIS) - 5, len(rows))] += 0.5 * counts.max(axis=1)
    assert all(each & Flag.SPIKE for each in flags(counts))
    step = noisy(np.where(np.arange(len(AXIS)) > 500, 15_000.0, 5_000.0))
    assert all(each & Flag.SPIKE for each in flags(step))


@pytest.mark.parametrize("light", [30.0, 0.0, -60.0])
def test_noise_that_is_cut_at_0_is_no_spike_and_hides_none(light: float) -> None:
    """Hardly any light, where an instrument subtracts its dark, also one that is too high, without a sign."""
    rng = np.random.default_rng(3)
    counts = np.maximum(rng.normal(light, 60, (200, len(AXIS))), 0).astype(np.float32)
    assert not any(each & Flag.SPIKE for each in flags(counts))
    counts[np.arange(200), rng.integers(5, len(AXIS) - 5, 200)] += 1500
    assert all(each & Flag.SPIKE for each in flags(counts))


@pytest.mark.parametrize("edge", [768, 776, 784])
def test_cosmic_rays_where_counts_are_exactly_0_are_spikes(edge: int) -> None:
    """Behind a filter's edge, where a dark was taken away: nothing but the ray is left there to judge by."""
    rng, pixel = np.random.default_rng(4), np.arange(len(AXIS))
    light = 3000 / (1 + np.exp((pixel - edge) / 3))
    counts = np.maximum(rng.poisson(light, (100, len(AXIS))) - 2, 0).astype(np.float32)
    assert sum(bool(each & Flag.SPIKE) for each in flags(counts)) <= 15  # so steep an edge is one
    counts[np.arange(100), rng.integers(edge + 50, len(AXIS) - 5, 100)] += 1500
    assert all(each & Flag.SPIKE for each in flags(counts))


@pytest.mark.parametrize("pixels", [127, len(AXIS)])
def test_cosmic_rays_are_spikes_up_to_the_third_pixel_from_an_end(pixels: int) -> None:
    light = np.linspace(20_000, 8000, pixels)
    counts = noisy(light, pixels) + 6000 * np.eye(pixels)
    found = Fitness(AXIS[:pixels]).flags(np.asarray(counts, np.float32), None)
    assert np.array_equal(np.flatnonzero(found & Flag.SPIKE == 0), [0, 1, 2, *range(pixels - 3, pixels)])
    assert not Fitness(AXIS[:pixels]).flags(noisy(light, 200), None).any()


def test_a_gap_or_a_seam_of_windows_is_no_fault_and_hides_none() -> None:
    """Whatever lies in the gap: a line's flank, a line, nothing."""
    kept = np.all(
        [np.abs(AXIS - at) > wide / 2 for at, wide in ((1116, 226), (1570, 260), (1925, 250))], axis=0
    )
    axis, raman = AXIS[kept], RAMAN[:, kept]
    seam = int(np.argmax(axis > 2000))
    strong = raman.max(axis=1) > 0.3
    for level in (1, np.where(np.arange(len(axis)) < seam, 1, 3)):  # another grating, exposed longer
        counts = COUNTS[:, kept] * np.float32(level)
        for way in (1, -1):
            fitness = Fitness(axis[::way])
            assert not fitness.flags(counts[:, ::way], raman[:, ::way]).any()
            found = fitness.flags(counts[strong][:, ::way], raman[strong][:, ::-way])
            assert ((found & UNLIKE) != 0).all()
        counts[:, seam + 3] += 0.5 * counts.max(axis=1)
        assert (Fitness(axis).flags(counts, None) & Flag.SPIKE).all()
    fall = noisy(np.where(axis < 2000, 20_000.0, 2000.0))  # by nearly all of their range
    assert not Fitness(axis).flags(fall, None).any()


def test_counts_that_wrapped_are_spikes() -> None:
    """Whatever the counter's width: 65,536 of a camera, 4096 of a converter, the sign of an int16."""
    bright = np.round(COUNTS / COUNTS.max(axis=1, keepdims=True) * 150_000)
    for wrapped in (bright % 65_536, np.round(bright / 20) % 4096, (bright + 32_768) % 65_536 - 32_768):
        assert all(each & Flag.SPIKE for each in flags(wrapped))
    assert not any(each & Flag.SPIKE for each in flags(bright))


@pytest.mark.parametrize("read", [0.0, 4.0])
def test_dim_light_is_neither_saturated_nor_a_spike(read: float) -> None:
    """Noise is much of its range, its top is flat by itself, a photon stands alone among pixels without."""
    rng = np.random.default_rng(5)
    for peak, width in ((4, 1200), (10, 1200), (10, 250)):
        light = peak * np.exp(-(((AXIS - 1900) / width) ** 2))
        counts = rng.poisson(light, (400, len(AXIS))) + rng.normal(0, read, (400, len(AXIS))).round()
        found = named(FITNESS.flags(np.asarray(counts, np.float32), None))
        assert found.get("saturated", 0) == 0 and found.get("spike", 0) <= 1


def test_no_counts_take_more_steps_than_others() -> None:
    """Two readouts with offsets of their own, single photons, noise: nothing is done for each jump."""

    def calls(counts: NDArray[np.floating]) -> int:
        seen = 0

        def count(frame: FrameType, event: str, argument: object) -> None:
            nonlocal seen
            seen += 1

        sys.setprofile(count)
        try:
            flags(counts[:ROWS], np.zeros((ROWS, len(AXIS)), np.float32))
        finally:
            sys.setprofile(None)
        return seen

    rng, pixel = np.random.default_rng(6), np.arange(len(AXIS))
    odd = 600 + 100 * (pixel % 2) + rng.normal(0, 3, (ROWS, len(pixel))).round()
    photons = np.minimum(rng.poisson(0.3, odd.shape), 1)
    spikes = COUNTS[:ROWS] + 0.5 * COUNTS[:ROWS].max() * (pixel % 32 == 16)
    usual = calls(COUNTS)
    for counts in (odd, photons, spikes, rng.integers(0, 65_536, odd.shape), COUNTS * 30 % 65_536):
        assert calls(np.asarray(counts, np.float32)) < 2 * usual


FAULTS: dict[str, Callable[[NDArray[np.float64], np.random.Generator], NDArray[np.float64]]] = {
    "none": lambda counts, rng: counts,
    "wrapped": lambda counts, rng: np.round(counts / counts.max() * rng.uniform(5e4, 3e5)) % 65_536,
    "cosmic ray": lambda counts, rng: (
        counts + 0.3 * counts.max() * (np.arange(len(AXIS)) == rng.integers(len(AXIS)))
    ),
    "clipped": lambda counts, rng: np.minimum(counts, rng.uniform(0.3, 1) * counts.max()),
    "dim": lambda counts, rng: counts * rng.uniform(0, 0.01) + rng.normal(0, 10, len(AXIS)),
    "dark too high": lambda counts, rng: counts - rng.uniform(0, 1.2) * counts.max(),
    "rounded": lambda counts, rng: np.round(counts / counts.max() * 100),
}


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(FAULTS)),
    st.integers(0, len(COUNTS) - 1),
    st.integers(0, 2**32 - 1),
    st.integers(len(AXIS) - 40, len(AXIS)),
)
def test_flags_depend_neither_on_the_direction_of_the_axis_nor_on_the_unit(
    fault: str, row: int, seed: int, pixels: int
) -> None:
    rng = np.random.default_rng(seed)
    counts = np.asarray(FAULTS[fault](COUNTS[row].astype(float), rng), np.float32)[None, :pixels]
    raman = RAMAN[[rng.choice([row, rng.integers(len(RAMAN))])], :pixels]
    up, down = Fitness(AXIS[:pixels]), Fitness(AXIS[:pixels][::-1])
    found = up.flags(counts, raman, None, SATURATION)
    assert down.flags(counts[:, ::-1], raman[:, ::-1], None, SATURATION) == found
    for unit in (2.0**-40, 2.0**40):  # about 1e-12 and 1e12; no digit is lost
        assert up.flags(counts * np.float32(unit), raman, None, SATURATION * unit) == found


def test_a_spectrum_below_its_dark_is_empty() -> None:
    """No result is made of it, even where it has lines: the same bound as in the deployment graph."""
    assert all(each & Flag.EMPTY for each in flags(COUNTS - COUNTS.mean(axis=1, keepdims=True)))
    assert not any(each & Flag.EMPTY for each in flags(COUNTS - 0.5 * COUNTS.min(axis=1, keepdims=True)))


def test_fluorescence_is_no_fault() -> None:
    smooth = noisy(20_000 * np.exp(-(((AXIS - 1500) / 900) ** 2)) + 200)
    assert set(flags(smooth, np.zeros_like(smooth), SATURATION)) == {GOOD}


def test_flags_of_a_spectrum_do_not_depend_on_its_neighbours() -> None:
    counts, raman = COUNTS.copy(), RAMAN.copy()
    counts[5], counts[40, 700] = 0, 1e5
    raman[7] = raman[7, ::-1]
    together = flags(counts, raman, SATURATION)
    assert together == [
        flags(counts[row : row + 1], raman[row : row + 1], SATURATION)[0] for row in range(len(counts))
    ]
    assert [row for row, each in enumerate(together) if each] == [5, 7, 40]


@pytest.mark.parametrize("pixels", [2, 10, 63, 64, 65, 96, 4096])
def test_axes_of_any_length(pixels: int) -> None:
    fitness = Fitness(np.linspace(500, 3000, pixels))
    counts = np.full((2, pixels), 100.0, np.float32)
    counts[1] = 255
    found = fitness.flags(counts, np.zeros_like(counts), None, 255.0)
    assert not found[0] & Flag.SATURATED and found[1] & Flag.SATURATED


def test_counts_of_any_size_raise_nothing() -> None:
    """Warnings are errors here: nothing overflows aloud."""
    with np.errstate(all="raise"):
        for value in (3e38, -3e38, 1e-38):
            FITNESS.flags(np.full((2, len(AXIS)), value, np.float32), RAMAN[:2], None, SATURATION)


def test_differences_of_spectra_are_unlike_and_a_dark_that_is_a_little_off_is_not() -> None:
    solvent = SIMULATOR.measure(np.zeros((200, NEAT))).mean(axis=0) - SIMULATOR.dark
    neat = COUNTS[:NEAT]
    strong = RAMAN[:NEAT].max(axis=1) > 1
    assert strong.sum() > 5
    assert (np.array(flags(neat - solvent))[strong] & (UNLIKE | Flag.EMPTY)).all()
    off = 0.01 * COUNTS.max(axis=1, keepdims=True)
    assert set(flags(COUNTS - off)) == set(flags(COUNTS)) == {GOOD}


def test_names_and_shares() -> None:
    found = np.array([0, 1, 9, 8, 128], np.uint8)
    assert named(found) == {"saturated": 2, "unlike": 2}
    assert named(np.zeros(3, np.uint8)) == {}
    assert shares({"saturated": 12, "unlike": 1}, 100) == "flags: 12 % saturated, 1 % unlike"
    assert shares({"empty": 1}, 3000) == "flags: 0.033 % empty"
    assert shares({}, 100) == ""
    assert shares({"empty": 100, "spike": 99}, 100) == "flags: 100 % empty, 99 % spike"
    assert shares({"empty": 9999}, 10_000) == "flags: 99.99 % empty"  # not all
