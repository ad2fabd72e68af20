"""What a network sees of a camera's axis: its own pixels, or a grid where they do not suit it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from cars_rt.engines import ModelError, compose, load_model
from cars_rt.engines.graph import NETWORK
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.engines.sampling import points_for
from cars_rt.physics.cars import cars_intensity, lorentzians
from cars_rt.physics.microscope import Microscope
from cars_rt.protocol import DEVIATION

MODEL, KK = load_model(), load_model("kk")


def camera(pixels: int, bend: float = 0.0, first: float = 500.0, last: float = 3200.0) -> NDArray[np.float64]:
    """An axis whose step changes by twice `bend` of its mean from one end to the other, cm-1."""
    place = np.linspace(0, 1, pixels)
    return first + (last - first) * (place + bend * place * (1 - place))


def spectrum(axis: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts (1, p) and their raman (p,)."""
    lines = (
        [800.0, 1004.0, 1450.0, 2850.0, 2930.0],
        [3.0, 2.5, 4.0, 12.0, 15.0],
        [8.0, 6.0, 9.0, 12.0, 14.0],
    )
    chi = lorentzians(axis, *map(np.array, lines))
    envelope = 20_000 * np.exp(-(((axis - 900) / 2000) ** 2))
    return cars_intensity(envelope, chi, 1.0)[None], chi.imag


def retrieved(axis: NDArray[np.float64], name: str = "cnn") -> NDArray[np.float64]:
    with OnnxRuntime(compose(load_model(name), axis), 1, slabs=1) as engine:
        return engine.run(spectrum(axis)[0])[0].astype(np.float64)


@pytest.mark.parametrize("pixels", [4100, 10_000])
def test_kk_takes_all_axes_up_to_8190_however_fine(pixels: int) -> None:
    assert len(points_for(KK.card, camera(pixels, first=100, last=8290), KK.most_points).raman_shift) == 4096


@pytest.mark.parametrize("bend", [0, 0.2, -0.2])
@pytest.mark.parametrize("pixels", [700, 1340, 2048])
def test_network_sees_the_pixels_of_a_camera(pixels: int, bend: float) -> None:
    axis = camera(pixels, bend)
    for given in (axis, axis[::-1]):
        points = points_for(MODEL.card, given)
        assert points.on_pixels and np.array_equal(points.raman_shift, axis)
    parameters = compose(MODEL, axis[::-1]).parameters
    pitch = parameters[NETWORK + "pitch"]
    assert pitch.shape[0] == 1 and pitch.shape[1] % MODEL.card.stride == 0
    left = (pitch.shape[1] - pixels) // 2
    assert np.allclose(pitch[0, left : left + pixels], np.gradient(axis), rtol=1e-5)
    assert "onto_points/weights" not in parameters  # nothing is interpolated


@pytest.mark.parametrize("name", ["cnn", "cnn-kk", "kk"])
@pytest.mark.parametrize(
    "axis",
    [
        camera(900, 0.2), camera(2048)[::-1], camera(5000), camera(400), camera(1340, last=2000.0),
        camera(180, first=700.0, last=1200.0), camera(5000, first=700.0, last=1700.0),
        camera(4200, last=4499.0), camera(7000, last=4700.0),
    ],
)  # fmt: skip
def test_raman_is_right_on_every_axis(axis: NDArray[np.float64], name: str) -> None:
    """Pixels, and grids where they are too fine or too coarse."""
    found, truth = retrieved(axis, name), spectrum(axis)[1]
    inside = slice(len(axis) // 20, -len(axis) // 20)
    assert np.corrcoef(found[inside], truth[inside])[0, 1] > (0.9 if name == "kk" else 0.97)
    assert found[inside].max() / truth[inside].max() == pytest.approx(1, abs=0.5 if name == "kk" else 0.25)


@pytest.mark.parametrize("name", ["cnn", "cnn-kk", "kk"])
@pytest.mark.parametrize("step", [4.0, 1.0])
def test_pixels_whose_length_jumps_go_by_a_grid(name: str, step: float) -> None:
    """Two windows, or two binnings, side by side: a Hilbert transform in pixels is wrong at the seam."""
    stitched, even = np.r_[np.arange(500, 1440, step), np.arange(1440, 3200, 2)], np.arange(500, 3200, 2.0)
    near = np.abs(stitched - 1450) < 150
    usual = np.interp(stitched[near], even, retrieved(even, name))
    assert np.abs(retrieved(stitched, name)[near] - usual).max() < 0.05 * usual.max()
    assert not points_for(load_model(name).card, stitched).on_pixels


def test_axes_of_spectrometers_are_no_jumps() -> None:
    """Neither a length that changes slowly, by almost a factor of two, nor one that is rounded."""
    for pixels in (256, 1340):
        for bend in (0.3, -0.3):
            axis = camera(pixels, bend, last=500 + 3 * min(pixels, 900))
            for given in (axis, axis[::-1], np.round(axis), np.round(axis, 1)):
                assert points_for(MODEL.card, given).on_pixels


@pytest.mark.parametrize("name", ["cnn", "cnn-kk", "kk"])
def test_gap_of_a_notch_is_bridged(name: str) -> None:
    axis = camera(1340)
    kept = (axis < 2250) | (axis > 2480)
    found, whole = retrieved(axis[kept], name), retrieved(axis, name)[kept]
    assert not points_for(load_model(name).card, axis[kept]).on_pixels
    taps = compose(load_model(name), axis[kept]).parameters["onto_pixels/places"].shape[0]
    assert taps <= 16  # a pixel at the gap's edge is no mean over the gap
    assert np.abs(found - whole).max() < 0.1 * whole.max()
    assert np.corrcoef(found, whole)[0, 1] > 0.995


@pytest.mark.parametrize("direction", [1, -1])
def test_deviation_is_not_negative_beside_a_hot_pixel_where_there_is_a_grid(direction: int) -> None:
    axis = np.arange(400, 3240, 6.0)[::direction]
    assert not points_for(MODEL.card, axis).on_pixels
    counts = np.repeat(spectrum(axis)[0], 3, axis=0)
    counts[1:, len(axis) // 3] += [60_000, 1e9]
    with OnnxRuntime(compose(MODEL, axis), 3, slabs=1) as engine:
        assert (engine.retrieve(counts)[DEVIATION].min(axis=1) > 0).all()


@pytest.mark.parametrize(
    ("axis", "reason"),
    [
        (camera(290), r"the axis has steps of 9\.3 cm-1; the model cnn works on pixels of at most 8 cm-1"),
        (camera(100, first=1000, last=1300), "the axis spans 300 cm-1; the model cnn needs 350 or more"),
        (camera(199, first=1000, last=1340), "the axis spans 340 cm-1; the model cnn needs 350 or more"),
        (np.r_[camera(300, last=1200), camera(500, first=1900)], "1 gap of up to 700 cm-1; .* bridges 3 of"),
        (np.delete(camera(1340), np.r_[100:120, 300:320, 500:520, 700:720]), "4 gaps of up to 42 cm-1"),
    ],
)
def test_axis_that_does_not_suit_is_refused_in_a_sentence(axis: NDArray[np.float64], reason: str) -> None:
    with pytest.raises(ModelError, match=reason) as raised:
        compose(MODEL, axis)
    assert "\n" not in str(raised.value)


def test_splines_lose_less_than_the_noise() -> None:
    """Of a kk graph on a grid: a camera of irregular pixels, which it does not see as they are."""
    axis = Microscope().raman_shift
    irregular = axis + 0.9 * np.random.default_rng(1).uniform(-1, 1, len(axis)) * np.gradient(axis) / 2
    assert np.abs(retrieved(irregular, "kk") - np.interp(irregular, axis, retrieved(axis, "kk"))).max() < 0.05
