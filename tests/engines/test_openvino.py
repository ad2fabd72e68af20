"""OpenVINO in bfloat16: phases stay float32, and nothing else changes."""

import io

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")

from cars_rt.engines import compose, load_model  # noqa: E402
from cars_rt.engines.agreement import check, difference, probe  # noqa: E402
from cars_rt.engines.base import BFLOAT16, FLOAT32  # noqa: E402
from cars_rt.engines.onnxruntime import OnnxRuntime  # noqa: E402
from cars_rt.engines.openvino import OpenVinoBf16, exact, marked  # noqa: E402

AXIS = np.linspace(400, 3400, 1340)
BARE = {"Constant", "Parameter", "Result"}


@pytest.mark.parametrize("name", ["cnn", "rnn"])
def test_all_that_a_phase_is_made_of_is_kept_and_no_layer_of_the_trunk(name: str) -> None:
    model = openvino.Core().read_model(io.BytesIO(compose(load_model(name), AXIS).onnx))
    kept = exact(model)
    varying: set[str] = set()  # but for what constants alone decide, which is computed once
    for node in model.get_ordered_ops():
        sources = {value.get_node().get_friendly_name() for value in node.input_values()}
        if node.get_type_name() == "Parameter" or sources & varying:
            varying.add(node.get_friendly_name())
    names = {
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() not in BARE and node.get_friendly_name() in varying
    }
    features = {each for each in names if each.startswith("network//features/")}
    layers = {each for each in names if "/trunk/" in each or "/mix/" in each or "/head/" in each}
    assert len(features) > 20 and features <= kept
    assert len(layers) > 20 and not layers & kept
    assert {"signal", "scaled", "mean", "level", "light", "raman/pixels", "raman"} <= kept


def test_the_model_computes_what_it_did() -> None:
    graph = compose(load_model("cnn"), AXIS)
    core = openvino.Core()
    model = core.read_model(io.BytesIO(graph.onnx))
    model = marked(core, model, exact(model))
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    counts = probe(graph)
    dark = np.zeros(graph.pixels, np.float32)
    found = compiled({"counts": counts, "dark": dark, **graph.parameters})
    with OnnxRuntime(graph, len(counts), slabs=1) as reference:
        for output, expected in reference.retrieve(counts).items():
            assert difference(found[output], expected) < 1e-4


@pytest.mark.skipif(OpenVinoBf16.unavailable() is not None, reason=str(OpenVinoBf16.unavailable()))
def test_the_trunk_is_computed_in_bfloat16() -> None:
    with OpenVinoBf16(compose(load_model("cnn"), AXIS), 4, threads=1) as engine:
        engine.run(probe(engine.graph))
        found = {}
        for node in engine._compiled.get_runtime_model().get_ordered_ops():
            about = node.get_rt_info()
            if about["layerType"].astype(str) == "Convolution":
                found[about["originalLayersNames"].astype(str)] = about["runtimePrecision"].astype(str)
    phases = {name: precision for name, precision in found.items() if "/features/" in name}
    assert set(phases.values()) == {"f32"} and len(phases) == 3
    assert {precision for name, precision in found.items() if name not in phases} == {"bf16"}


@pytest.mark.skipif(OpenVinoBf16.unavailable() is not None, reason=str(OpenVinoBf16.unavailable()))
@pytest.mark.parametrize(("name", "precision"), [("cnn", BFLOAT16), ("cnn-kk", FLOAT32), ("rnn-kk", FLOAT32)])
def test_networks_that_give_a_phase_stay_in_float32(name: str, precision: str) -> None:
    with OpenVinoBf16(compose(load_model(name), AXIS), 4, threads=1) as engine:
        check(engine)
        assert engine.precision == precision and engine.describe().endswith(precision)
