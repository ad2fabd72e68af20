"""The deployment graph: any axis, both scalings, one or two outputs, networks of a fixed length."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import AXIS, spectra_of
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cars_rt.engines import Graph, Model, ModelError, compose, load_model
from cars_rt.engines.graph import BY_LIGHT, RAMAN
from cars_rt.engines.model import CARD_KEY
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.physics.axis import AxisError
from cars_rt.physics.overlap import Overlap
from cars_rt.protocol import DEVIATION, FLAGS, NETWORK_OUTPUTS
from cars_rt.protocol.limits import MAX_PARTS
from cars_rt.protocol.messages import DELAYS

MODEL = load_model()
GRAPH = compose(MODEL, AXIS)
CAMERA = np.linspace(600, 3200, 1340)


def a_model(
    folder: Path, outputs: tuple[str, ...] = (RAMAN,), opset: int = 17, points: int | None = None, **card: Any
) -> Model:
    """A network that gives its input as raman, and half of its input and 0.1 as deviation.

    points: the only length that it takes; others make it fail.
    """
    shape: list[str | int] = ["batch", points or "length"]
    nodes = [helper.make_node("Mul", ["spectrum", "one"], [outputs[0]])]
    if len(outputs) > 1:
        nodes.append(helper.make_node("Mul", ["spectrum", "half"], ["halved"]))
        nodes.append(helper.make_node("Add", ["halved", "tenth"], [outputs[1]]))
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("spectrum", TensorProto.FLOAT, shape)],
        # The order of outputs in the file is not what tells them apart.
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in reversed(outputs)],
        [
            numpy_helper.from_array(np.full(points or 1, 1, np.float32), "one"),
            numpy_helper.from_array(np.array([0.5], np.float32), "half"),
            numpy_helper.from_array(np.array([0.1], np.float32), "tenth"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    given = {"name": "test", "version": "1", "grid_step_cm1": 2, "stride": 4, "min_length": 64}
    given |= {"scaling": "mean", "target": "ratio"}
    proto.metadata_props.add(key=CARD_KEY, value=json.dumps(given | card))
    path = folder / "test.onnx"
    path.write_bytes(proto.SerializeToString())
    return load_model(str(path))


def retrieved(graph: Graph, counts: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
    with OnnxRuntime(graph, len(counts), slabs=1) as engine:
        return engine.retrieve(counts)


@pytest.mark.parametrize("pixels", [512, 1340, 2048])
def test_model_runs_on_every_camera_and_gives_the_same_raman(pixels: int) -> None:
    axis = np.linspace(600, 3200, pixels)
    reference = np.linspace(600, 3200, 1300)
    with OnnxRuntime(compose(MODEL, axis), 4, slabs=1) as engine:
        result = engine.run(_smooth(axis))
    with OnnxRuntime(compose(MODEL, reference), 4, slabs=1) as engine:
        expected = engine.run(_smooth(reference))
    assert result.shape == (4, pixels)
    for row, wanted in zip(result, expected, strict=True):
        same = np.interp(reference, axis, row)
        assert np.corrcoef(same, wanted)[0, 1] > 0.98


def test_descending_axis_gives_the_same_spectrum_backwards() -> None:
    counts = spectra_of(4)
    with OnnxRuntime(GRAPH, 4) as up, OnnxRuntime(compose(MODEL, AXIS[::-1]), 4) as down:
        assert np.allclose(up.run(counts), down.run(counts[:, ::-1])[:, ::-1], atol=1e-4)


def test_axis_that_does_not_suit_the_model_is_refused() -> None:
    card = MODEL.card
    needed = (card.min_length - 1) * card.grid_step_cm1
    with pytest.raises(ModelError, match=r"the axis spans \d+ cm-1; the model cnn needs \d+ or more"):
        compose(MODEL, np.linspace(1000, 1000 + needed - 5, 300))
    with pytest.raises(ModelError, match=r"the axis has steps of .* cm-1; the model cnn works on"):
        compose(MODEL, np.linspace(500, 3500, 100))
    with pytest.raises(AxisError, match="not strictly monotonic"):
        compose(MODEL, [*AXIS, AXIS[-1]])


def _smooth(axis: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    lines = np.array([[800, 1004, 2930], [1100, 1450, 2850], [700, 1600, 3060], [900, 1210, 2960]])
    chi = (12 / (lines[:, :, None] - axis - 12j)).sum(axis=1)
    return 20_000 * np.exp(-(((axis - 600) / 2600) ** 2)) * np.abs(1 + chi) ** 2  # type: ignore[no-any-return]


def test_every_output_of_a_network_meets_the_light_and_has_room_in_a_frame() -> None:
    assert set(BY_LIGHT) == {RAMAN, *NETWORK_OUTPUTS}
    assert len({RAMAN, FLAGS, DELAYS, *NETWORK_OUTPUTS}) <= MAX_PARTS - 2  # beside topic and header


def test_a_further_output_goes_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_light = [helper.make_node("Mul", ["background/pixels", "light"], ["background"])]
    monkeypatch.setitem(BY_LIGHT, "background", by_light)
    found = retrieved(compose(a_model(tmp_path, (RAMAN, "background")), AXIS), spectra_of(5))
    assert set(found) == {RAMAN, "background"}
    np.testing.assert_allclose(found["background"], 0.5 * found[RAMAN] + 0.1, rtol=1e-4)


def test_graph_is_sound_onnx() -> None:
    assert GRAPH.pixels == len(AXIS) and GRAPH.outputs == (RAMAN, DEVIATION)
    onnx.checker.check_model(onnx.load_model_from_string(GRAPH.onnx), full_check=True)


# -- two outputs ----------------------------------------------------------------------------------------


def test_deviation_comes_back_onto_the_pixels(tmp_path: Path) -> None:
    graph = compose(a_model(tmp_path, (RAMAN, DEVIATION)), CAMERA)
    onnx.checker.check_model(onnx.load_model_from_string(graph.onnx), full_check=True)
    assert graph.outputs == (RAMAN, DEVIATION)
    found = retrieved(graph, _smooth(CAMERA))
    assert found[DEVIATION].shape == (4, len(CAMERA))
    # Straight lines in place of splines.
    assert np.allclose(found[DEVIATION], 0.5 * found[RAMAN] + 0.1, rtol=0.01)


def test_engine_has_a_slab_for_each_output(tmp_path: Path) -> None:
    with OnnxRuntime(compose(a_model(tmp_path), AXIS), 3, slabs=2) as engine:
        assert len(engine.outputs) == 2 and engine.deviations == []
        assert list(engine.retrieve(spectra_of(5))) == [RAMAN]
    with OnnxRuntime(compose(a_model(tmp_path, (RAMAN, DEVIATION)), AXIS), 3, slabs=2) as engine:
        assert len(engine.deviations) == 2
        assert np.array_equal(engine.run(spectra_of(5)), engine.retrieve(spectra_of(5))[RAMAN])
        engine.deviations[1][:] = engine.outputs[1][:] = -7
        engine.inputs[1][:2] = spectra_of(2)
        engine.launch(1, 2)
        engine.wait(1)
        for slab in (engine.deviations[1], engine.outputs[1]):
            assert (slab[:2] > 0).all() and (slab[2] == -7).all()


def test_deviation_is_left_out_where_nobody_reads_it(tmp_path: Path) -> None:
    model = a_model(tmp_path, (RAMAN, DEVIATION))
    whole, without = compose(model, AXIS), compose(model, AXIS, deviation=False)
    assert without.outputs == (RAMAN,) and len(without.onnx) < len(whole.onnx)
    found = retrieved(without, spectra_of(2))
    assert list(found) == [RAMAN] and np.array_equal(found[RAMAN], retrieved(whole, spectra_of(2))[RAMAN])


def test_model_without_an_output_called_raman_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the model test has no output called 'raman'; it has result"):
        compose(a_model(tmp_path, ("result",)), AXIS)


# -- scaling --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
def test_scaling_minmax_runs_from_0_to_1(opset: int, tmp_path: Path) -> None:
    grid = np.arange(800, 1500 + 1, 2.0)  # as the grid, so that nothing is resampled
    counts = spectra_of(3, grid)
    model = a_model(tmp_path, opset=opset, scaling="minmax", stride=1)
    found = retrieved(compose(model, grid), counts)[RAMAN]
    low, high = counts.min(axis=1, keepdims=True), counts.max(axis=1, keepdims=True)
    assert np.allclose(found, (counts - low) / (high - low), atol=1e-4)


@pytest.mark.parametrize("opset", [13, 17, 18, 20])
def test_scaling_mean_divides_by_the_mean(opset: int, tmp_path: Path) -> None:
    grid = np.arange(800, 1500 + 1, 2.0)
    counts = spectra_of(3, grid)
    found = retrieved(compose(a_model(tmp_path, opset=opset, stride=1), grid), counts)[RAMAN]
    assert np.allclose(found, counts / counts.mean(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.parametrize("scaling", ["mean", "minmax"])
@pytest.mark.parametrize("value", [0, 700, -3])
def test_flat_spectrum_stays_finite(scaling: str, value: float, tmp_path: Path) -> None:
    graph = compose(a_model(tmp_path, scaling=scaling), AXIS)
    assert np.isfinite(retrieved(graph, np.full((2, len(AXIS)), value))[RAMAN]).all()


def test_closed_shutter_gives_nothing_and_says_so(tmp_path: Path) -> None:
    """Measured as it happens: a dark of its own noise, taken from an image most of which is unlit."""
    rng = np.random.default_rng(5)
    counts = rng.normal(600, 5, (40, len(CAMERA)))
    counts[0] += _smooth(CAMERA)[0]
    dark = rng.normal(600, 5, (50, len(CAMERA))).mean(axis=0).astype(np.float32)
    graph = compose(a_model(tmp_path, (RAMAN, DEVIATION)), CAMERA)
    with OnnxRuntime(graph, len(counts), slabs=1) as engine:
        engine.set_dark(dark)
        found = engine.retrieve(counts)
    assert (found[RAMAN][1:] == 0).all() and found[DEVIATION][1:].min() > 10
    expected = retrieved(graph, counts[:1] - dark)
    assert all(np.allclose(found[name][0], expected[name][0]) for name in found)
    assert found[RAMAN][0].max() > 1 > 0.01 * found[DEVIATION][0].max()


@pytest.mark.parametrize("scaling", ["mean", "minmax"])
def test_unit_of_the_counts_does_not_matter(scaling: str, tmp_path: Path) -> None:
    graph = compose(a_model(tmp_path, scaling=scaling), CAMERA)
    expected = retrieved(graph, _smooth(CAMERA))[RAMAN]
    for unit in (1e-15, 1e-12, 1e12):
        assert np.allclose(retrieved(graph, _smooth(CAMERA) * unit)[RAMAN], expected, rtol=1e-4)


# -- a fixed length ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [CAMERA, CAMERA[::-1], np.linspace(1000, 1200, 300)])
def test_network_of_a_fixed_length_sees_the_whole_axis(axis: NDArray[np.float64], tmp_path: Path) -> None:
    model = a_model(tmp_path, points=1000, fixed_length=1000, stride=1000, min_length=1000)
    counts = _smooth(axis)
    found = retrieved(compose(model, axis), counts)[RAMAN]
    assert found.shape == counts.shape
    for row, given in zip(found, counts, strict=True):  # the network does nothing: only scaled and blurred
        assert np.corrcoef(row, given)[0, 1] > 0.999
        assert abs(row[0] / row[-1] - given[0] / given[-1]) < 0.02 * given[0] / given[-1]


def test_axis_too_coarse_for_a_fixed_length_is_refused(tmp_path: Path) -> None:
    model = a_model(tmp_path, points=1000, fixed_length=1000, stride=1000, min_length=1000)
    with pytest.raises(
        ModelError, match=r"works on 1000 points over all of it, steps of 3 cm-1, and at most 8"
    ):
        compose(model, np.linspace(500, 3500, 100))


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ({"scaling": "area"}, "unknown scaling 'area'; there are mean, minmax"),
        ({"target": "phase"}, "unknown target 'phase'; there are ratio, chi3"),
        ({"fixed_length": 1001}, "fixed length 1001: that must be a multiple of its stride, 4"),
        ({"fixed_length": -4}, "fixed length -4"),
        ({"fixed_length": 10**9}, "fixed length 1000000000"),
    ],
)
def test_card_that_cannot_be_right_is_refused(card: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=reason):
        a_model(tmp_path, **card)


@pytest.mark.parametrize(
    ("name", "axis"),
    [
        ("kk", CAMERA),
        ("kk", np.linspace(3100, 2600, 4096)),  # taken onto points
        ("kk", np.linspace(1800, 3200, 1500)),  # two pixels count as one
        ("kk", np.linspace(1800, 3200, 256)),
        ("cnn", np.linspace(3200, 1800, 2000)),  # the same
    ],
)
def test_the_graph_and_the_flag_see_the_same_light(name: str, axis: NDArray[np.float64]) -> None:
    counts = np.random.default_rng(11).normal(np.linspace(0, 1, 40)[:, None], 1, (40, len(axis)))
    counts[::2] = np.maximum(counts[::2], 0)
    counts[::5, 70] += 1000
    graph = compose(load_model(name), axis)
    proto = onnx.load_model_from_string(graph.fixed)
    proto.graph.output.append(helper.make_tensor_value_info("overlap", 1, None))
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    given = {"counts": np.asarray(counts, np.float32), "dark": np.zeros(len(axis), np.float32)}
    (found,) = session.run(["overlap"], given)
    assert np.allclose(found[:, 0], Overlap.on(axis).of(given["counts"]), atol=1e-5)
