"""The real builder of TensorRT-RTX, which needs no GPU: half precision, networks, what a plan is made of."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import AXIS, spectra_of
from numpy.typing import NDArray
from onnx import helper
from recipes import ADA, CAMERA, DOUBLE, PRODUCT, RTX_THERE, TURING, Phases, small, small_recipe

from cars_rt.engines import EngineError, Graph, compose, load_model, shipped_models
from cars_rt.engines.base import FLOAT16, FLOAT32, batch_sizes
from cars_rt.engines.half import HALF, PHASE, halve
from cars_rt.engines.tensorrt.builder import Percent
from cars_rt.engines.tensorrt.gpu import Gpu
from cars_rt.engines.tensorrt.layers import parse_layers, read_layers
from cars_rt.engines.tensorrt.product import RTX
from cars_rt.engines.tensorrt.recipe import Key, profile_of, profiles, recipe

NOT_SHIPPED = ("specnet", "cnn-gru")
WIDER = {"cnn-large"}  # than one that is shipped, with the same graph


def untrained(name: str) -> Graph:
    """A network of the registry for the camera's axis."""
    made = pytest.importorskip("networks", reason="networks are made with torch")
    return compose(made.untrained(name), CAMERA)


def shipped(name: str) -> Graph:
    return compose(load_model(name), CAMERA)


def test_all_networks_of_the_registry_are_here() -> None:
    made = pytest.importorskip("networks", reason="networks are made with torch")
    assert set(made.NAMES) <= {*shipped_models(), *NOT_SHIPPED, *WIDER}


# -- half precision, computed by ONNX Runtime as the graph says -----------------------------------------


def computed(serialized: bytes, graph: Graph, counts: NDArray[Any]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    dark = np.full(counts.shape[1], 100, np.float32)
    given = {"counts": counts.astype(np.float32), "dark": dark, **graph.parameters}
    found: list[NDArray[np.float32]] = session.run(None, given)
    return found


def check_half(graph: Graph, *, recurrent: bool) -> None:
    counts = spectra_of(3, graph.raman_shift)
    serialized, nodes = halve(graph.onnx)
    expected, found = computed(graph.onnx, graph, counts), computed(serialized, graph, counts)
    for values, wanted in zip(found, expected, strict=True):
        assert values.dtype == np.float32
        error = np.abs(values - wanted).max() / np.abs(wanted).max()
        assert 0 < error < 5e-3  # half has 11 bits; 0 would be float32
    assert nodes > 0 and len(serialized) < 0.75 * len(graph.onnx)
    model = onnx.load_model_from_string(serialized)
    made_half = {node.op_type for node in model.graph.node if node.output[0].endswith(HALF)}
    assert "Conv" in made_half and ("GRU" in made_half) == recurrent


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_model_in_half_is_close_to_itself(name: str) -> None:
    check_half(shipped(name), recurrent=name.startswith("rnn"))


@pytest.mark.parametrize("name", NOT_SHIPPED)
def test_network_in_half_is_close_to_itself(name: str) -> None:
    check_half(untrained(name), recurrent=name == "cnn-gru")


def test_phases_and_counts_stay_float32() -> None:
    model = onnx.load_model_from_string(halve(shipped("cnn").onnx)[0])
    made_by = {name: node for node in model.graph.node for name in node.output}
    waiting = [node for node in model.graph.node if node.op_type in PHASE]
    assert {node.op_type for node in waiting} == set(PHASE)
    seen: set[str] = set()
    while waiting:
        node = waiting.pop()
        for name in node.input:
            assert not name.endswith(HALF), f"{node.op_type} reads {name}"
            if name in made_by and name not in seen:
                seen.add(name)
                waiting.append(made_by[name])
    assert "signal" in seen and "network/spectrum" in seen


def test_graph_without_layers_stays_as_it_is() -> None:
    assert halve(DOUBLE)[1] == 0
    assert halve(PRODUCT)[1] == 0  # a product, but not the network's: it has no prefix


# -- the real builder -------------------------------------------------------------------------------


def check_builds(graph: Graph, precision: str, max_batch: int, other: Graph | None = None) -> None:
    """other: a graph that shares the plan."""
    made = recipe(graph, RTX, None, max_batch)
    assert made.key.precision == precision
    assert other is None or recipe(other, RTX, None, max_batch).key == made.key
    from cars_rt.engines.tensorrt.builder import build

    assert len(build(made, None).plan) > 10_000


@RTX_THERE
@pytest.mark.parametrize("name", shipped_models())
def test_shipped_model_builds(name: str) -> None:
    other = compose(load_model(name), 700 + 0.7 * CAMERA[::-1])
    check_builds(shipped(name), FLOAT16, 256 if name == "cnn" else 16, other)  # many take the builder long


@RTX_THERE
def test_retrieval_without_training_builds_in_float32() -> None:
    """Amplitudes and phases throughout: nothing in it is a network."""
    check_builds(shipped("kk"), FLOAT32, 256, compose(load_model("kk"), 1.001 * CAMERA - 4))


@RTX_THERE
@pytest.mark.parametrize("name", NOT_SHIPPED)
def test_network_builds(name: str) -> None:
    check_builds(untrained(name), FLOAT16, 16)


@RTX_THERE
@pytest.mark.parametrize("name", ["cnn-kk", "rnn-kk"])  # in which all is that the other graphs have
def test_shipped_model_builds_for_turing_in_half(name: str) -> None:
    """Turing has no product of float32 matrices in TensorRT-RTX, so there must be none in the graph."""
    from cars_rt.engines.tensorrt.builder import build

    made = recipe(shipped(name), RTX, TURING, 16)
    assert made.key.target == str(TURING)
    assert len(build(made, TURING).plan) > 10_000


@RTX_THERE
@pytest.mark.parametrize(
    ("make", "name", "steps"), [(shipped, "rnn", 84), (shipped, "rnn-kk", 84), (untrained, "cnn-gru", 1000)]
)
def test_recurrent_layers_see_a_fixed_length(make: Callable[[str], Graph], name: str, steps: int) -> None:
    """Else each step would be a matrix product of its own; only the batch varies."""
    layers = read_layers(recipe(make(name), RTX, None, 16))
    loops = [layer for layer in layers if layer.kind == "loop output"]
    lengths = [layer.output for layer in loops if layer.output.startswith(f"half ({steps}, ")]
    assert len(lengths) >= 2 * 2  # two layers, two directions
    assert all(re.match(r"half \(\d+, (1, )?-1, \d+\)", layer.output) for layer in loops)


@RTX_THERE
@pytest.mark.parametrize("kept", [0, 40, 0.5])
def test_damaged_graph_is_refused(kept: float) -> None:
    graph = compose(load_model(), AXIS)
    size = int(kept * len(graph.onnx)) if kept < 1 else int(kept)
    with pytest.raises(EngineError, match="the graph of cnn is no sound ONNX"):
        recipe(replace(graph, onnx=graph.onnx[:size]), RTX, None, 2)


@RTX_THERE
@pytest.mark.parametrize(
    ("serialized", "gpu", "reason"),
    [
        (
            small(helper.make_node("Bernoulli", ["signal"], ["raman"], "coin")),
            None,
            "at Bernoulli coin .unsupp",
        ),
        (b"this is no ONNX file", None, "TensorRT-RTX cannot read small at the file"),
        (DOUBLE[: len(DOUBLE) // 2], None, "cannot read small at the file"),
        (
            PRODUCT,
            TURING,
            "cannot build small in float32: .*'product' for Turing .*FP32 GEMM is not supported",
        ),
    ],
)
def test_what_cannot_be_built_is_said_with_the_node(serialized: bytes, gpu: Gpu | None, reason: str) -> None:
    from cars_rt.engines.tensorrt.builder import build

    with pytest.raises(EngineError, match=reason):
        build(small_recipe(serialized), gpu)


@RTX_THERE
def test_builder_tells_its_phases() -> None:
    from cars_rt.engines.tensorrt.builder import build

    told = Phases()
    build(small_recipe(), None, progress=told)
    assert not told.open and len(told.all) > 3
    assert told.all["Building engine"] > 1


@RTX_THERE
def test_builder_can_be_stopped() -> None:
    from cars_rt.engines.tensorrt.builder import build

    with pytest.raises(KeyboardInterrupt):
        build(small_recipe(), None, progress=Phases(fails_at="Building engine"))


@RTX_THERE
def test_layers_are_listed_without_constants() -> None:
    layers = read_layers(small_recipe(PRODUCT))
    assert [layer.kind for layer in layers if "product" in layer.name] == ["matrix multiply"]
    assert layers[-1].output == "float (-1, 4)"
    assert not any(layer.kind == "constant" for layer in layers)


def test_layers_of_an_engine_inspector_are_read() -> None:
    up_to_10 = [{"Format/Datatype": "Half", "Dimensions": [1, 4]}]
    since_11 = [{"Format": "Row major linear", "Datatype": "Half", "Dimensions": [1, 4]}]
    for outputs in (up_to_10, since_11):
        described = {"Layers": [{"Name": "a", "LayerType": "conv", "Outputs": outputs}, "b"]}
        first, second = parse_layers(json.dumps(described))
        assert (first.name, first.kind, first.output) == ("a", "conv", "Half [1, 4]")
        assert second.name == "b"


# -- what a plan is made of ---------------------------------------------------------------------------


@pytest.mark.parametrize("max_batch", [1, 2, 7, 16, 17, 256])
def test_every_batch_has_a_profile(max_batch: int) -> None:
    ranges = profiles(max_batch)
    assert ranges[0] == (1, 1, 1) and ranges[-1][2] == max_batch
    for size in batch_sizes(max_batch):
        smallest, usual, largest = ranges[profile_of(size, ranges)]
        assert smallest <= size <= largest and smallest <= usual <= largest
    with pytest.raises(EngineError, match=f"batches up to {max_batch}, not {max_batch + 1}"):
        profile_of(max_batch + 1, ranges)


def test_all_that_decides_a_plan_is_in_its_name() -> None:
    key = small_recipe().key
    others = {
        "model": "other", "onnx_sha256": "1", "product": "tensorrt", "version": "2", "target": "another GPU",
        "precision": FLOAT16, "profiles": profiles(4), "workspace_mb": 65, "user_allocation": True,
        "detailed": True,
    }  # fmt: skip
    names = {replace(key, **{field: value}).name for field, value in others.items()} | {key.name}
    assert len(names) == len(others) + 1 == len(Key.__dataclass_fields__) + 1
    assert replace(key, model="../my model\u00b5").name.startswith("---my-model--")
    assert key.timings == replace(key, model="other", precision=FLOAT16).timings
    assert key.timings != replace(key, version="2").timings


@RTX_THERE
def test_recipe_is_the_same_each_time() -> None:
    graph = compose(load_model(), AXIS)
    names = {recipe(graph, RTX, gpu, 8).key.name for gpu in (None, None, ADA)}
    assert len(names) == 1  # what is built ahead, without a GPU, is what the daemon looks for
    assert recipe(graph, RTX, TURING, 8).key.name not in names


def test_percent_counts_the_phases_within_and_never_falls() -> None:
    said: list[int] = []
    percent = Percent(said.append)
    percent.start("engine", None, 2)
    for phase in ("graph", "graph"):
        percent.start(phase, "engine", 4)
        percent.step(phase, 1)
        percent.step(phase, 3)
        percent.finish(phase)
    percent.step("never begun", 1)
    percent.step("engine", 1)
    percent.start("of itself", "of itself", 0)  # whatever the builder says, it ends
    percent.step("of itself", 3)
    assert said == [12, 37, 50, 100]
