"""TensorRT as far as it goes without a GPU: with the real builder of TensorRT-RTX. With one: tests/gpu."""

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from helpers import AXIS, Command, spectra_of
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cars_rt.engines import EngineError, Graph, compose, engine_class, load_model, open_engine, shipped_models
from cars_rt.engines.base import BFLOAT16, FLOAT16, FLOAT32, batch_sizes
from cars_rt.engines.tensorrt import device, gpu, plans, product
from cars_rt.engines.tensorrt.engine import fit, plan_of
from cars_rt.engines.tensorrt.gpu import Gpu, find_gpu
from cars_rt.engines.tensorrt.half import HALF, PHASE, halve
from cars_rt.engines.tensorrt.layers import parse_layers, read_layers
from cars_rt.engines.tensorrt.messages import Messages, OutOfMemoryError
from cars_rt.engines.tensorrt.plans import Plans
from cars_rt.engines.tensorrt.product import ANY_RTX, LEAN, RTX, TENSORRT, choose
from cars_rt.engines.tensorrt.recipe import PRECISIONS, Key, Recipe, profile_of, profiles, recipe
from cars_rt.engines.tensorrt.session import parts
from cars_rt.physics.microscope import Microscope

CAMERA = Microscope().raman_shift
PACKAGE = Path(device.__file__).parent
TURING, ADA, HOPPER = Gpu("RTX 2080", (7, 5)), Gpu("RTX 4090", (8, 9)), Gpu("H100", (9, 0))
RTX_THERE = pytest.mark.skipif(not RTX.installed, reason=f"TensorRT-RTX is not installed: {RTX.install}")


def driver() -> str | None:
    """Why there is no GPU, or None."""
    try:
        find_gpu()
    except EngineError as error:
        return str(error)
    return None


NO_GPU = pytest.mark.skipif(driver() is None, reason="there is a GPU here")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """Every network of the registry for the camera's axis, untrained but without zeros for weights."""
    torch = pytest.importorskip("torch", reason="training is an extra: pip install 'cars-rt[train]'")
    from cars_rt.training.export import to_onnx
    from cars_rt.training.networks import NETWORKS, build

    torch.manual_seed(0)
    folder, found = tmp_path_factory.mktemp("networks"), {}
    for name in NETWORKS:
        network = build(name, [1000]).eval()
        for weights in network.parameters():
            if weights.ndim > 1 and not weights.any():
                torch.nn.init.normal_(weights, std=0.02)
        fixed = network.fixed_length
        card = {
            "name": name, "version": "0", "grid_step_cm1": 2.0, "stride": network.stride,
            "min_length": network.min_length, "fixed_length": fixed,
            "scaling": "minmax" if fixed else "mean", "target": "chi3" if fixed else "ratio",
        }  # fmt: skip
        path = folder / f"{name}.onnx"
        path.write_bytes(to_onnx(network, card))
        found[name] = compose(load_model(str(path)), CAMERA)
    return found


NETWORKS = ("cnn", "rnn", "specnet", "cnn-gru")


def test_all_networks_of_the_registry_are_here(networks: dict[str, Graph]) -> None:
    assert set(networks) == set(NETWORKS)


def small(*nodes: onnx.NodeProto, **constants: NDArray[Any]) -> bytes:
    """A graph with the deployment graph's inputs and output, 4 pixels."""
    graph = helper.make_graph(
        [helper.make_node("Sub", ["counts", "dark"], ["signal"], "subtract"), *nodes],
        "small",
        [
            helper.make_tensor_value_info("counts", TensorProto.FLOAT, ["batch", 4]),
            helper.make_tensor_value_info("dark", TensorProto.FLOAT, [4]),
        ],
        [helper.make_tensor_value_info("raman", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(made.SerializeToString())


IDENTITY = np.eye(4, dtype=np.float32)
DOUBLE = small(helper.make_node("Add", ["signal", "signal"], ["raman"], "double"))
PRODUCT = small(helper.make_node("MatMul", ["signal", "weights"], ["raman"], "product"), weights=IDENTITY)


def small_recipe(serialized: bytes = DOUBLE, **fields: Any) -> Recipe:
    key = Key("small", "0", "tensorrt_rtx", "1", ANY_RTX, FLOAT32, profiles(8), 64)
    return Recipe(serialized, 4, RTX, replace(key, **fields))


# -- half precision, computed by ONNX Runtime as the graph says -----------------------------------------


def computed(serialized: bytes, counts: NDArray[Any]) -> list[NDArray[np.float32]]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    dark = np.full(counts.shape[1], 100, np.float32)
    found: list[NDArray[np.float32]] = session.run(None, {"counts": counts.astype(np.float32), "dark": dark})
    return found


def check_half(graph: Graph) -> onnx.ModelProto:
    counts = spectra_of(3, graph.raman_shift)
    serialized, nodes = halve(graph.onnx)
    expected, found = computed(graph.onnx, counts), computed(serialized, counts)
    for values, wanted in zip(found, expected, strict=True):
        assert values.dtype == np.float32
        error = np.abs(values - wanted).max() / np.abs(wanted).max()
        assert 0 < error < 5e-3  # half has 11 bits; 0 would be float32
    assert nodes > 0 and len(serialized) < 0.65 * len(graph.onnx)
    return onnx.load_model_from_string(serialized)


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_model_in_half_is_close_to_itself(name: str) -> None:
    check_half(compose(load_model(name), CAMERA))


@pytest.mark.parametrize("name", NETWORKS)
def test_network_in_half_is_close_to_itself(name: str, networks: dict[str, Graph]) -> None:
    model = check_half(networks[name])
    made_half = {node.op_type for node in model.graph.node if node.output[0].endswith(HALF)}
    assert "Conv" in made_half
    assert ("GRU" in made_half) == (name in ("rnn", "cnn-gru"))


def test_phases_and_counts_stay_float32(networks: dict[str, Graph]) -> None:
    model = onnx.load_model_from_string(halve(networks["cnn"].onnx)[0])
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


def check_builds(graph: Graph, precision: str, max_batch: int) -> None:
    made = recipe(graph, RTX, None, precision, max_batch)
    assert made.key.precision == precision
    from cars_rt.engines.tensorrt.builder import build

    assert len(build(made, None).plan) > 10_000


@RTX_THERE
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", shipped_models())
def test_shipped_model_builds(name: str, precision: str) -> None:
    check_builds(compose(load_model(name), CAMERA), precision, 256)


@RTX_THERE
def test_retrieval_without_training_builds_in_float32() -> None:
    """Amplitudes and phases throughout: nothing in it is a network."""
    graph = compose(load_model("kk"), CAMERA)
    assert recipe(graph, RTX, None, FLOAT16, 256).key.precision == FLOAT32
    check_builds(graph, FLOAT32, 256)


@RTX_THERE
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", NETWORKS)
def test_network_builds(name: str, precision: str, networks: dict[str, Graph]) -> None:
    check_builds(networks[name], precision, 16)


@RTX_THERE
@pytest.mark.parametrize("name", shipped_models())
def test_shipped_model_builds_for_turing_in_half(name: str) -> None:
    """Turing has no product of float32 matrices in TensorRT-RTX, so there must be none in the graph."""
    from cars_rt.engines.tensorrt.builder import build

    made = recipe(compose(load_model(name), CAMERA), RTX, TURING, FLOAT16, 16)
    assert made.key.target == str(TURING)
    assert len(build(made, TURING).plan) > 10_000


@RTX_THERE
@pytest.mark.parametrize(("name", "steps"), [("rnn", 89), ("cnn-gru", 1000)])
def test_recurrent_layers_see_a_fixed_length(name: str, steps: int, networks: dict[str, Graph]) -> None:
    """Else each step would be a matrix product of its own; only the batch varies."""
    loops = [
        layer
        for layer in read_layers(recipe(networks[name], RTX, None, FLOAT16, 16))
        if layer.kind == "loop output"
    ]
    lengths = [layer.output for layer in loops if layer.output.startswith(f"half ({steps}, ")]
    assert len(lengths) >= 2 * 2  # two layers, two directions
    assert all(re.match(r"half \(\d+, (1, )?-1, \d+\)", layer.output) for layer in loops)


@RTX_THERE
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kept", [0, 40, 0.5])
def test_damaged_graph_is_refused(precision: str, kept: float) -> None:
    from cars_rt.engines.tensorrt.builder import build

    graph = compose(load_model(), AXIS)
    size = int(kept * len(graph.onnx)) if kept < 1 else int(kept)
    with pytest.raises(EngineError, match=r"cannot read cnn at the file|the graph of cnn is no sound ONNX"):
        build(recipe(replace(graph, onnx=graph.onnx[:size]), RTX, None, precision, 2), None)


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


class Phases:
    """Keeps what it is told; fails at a phase if it is to."""

    def __init__(self, fails_at: str = "") -> None:
        self.open: list[str] = []
        self.all: dict[str, int] = {}
        self.fails_at = fails_at

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        assert parent is None or parent in self.open
        self.open.append(phase)
        self.all[phase] = 0

    def step(self, phase: str, done: int) -> None:
        self.all[phase] = done
        if phase == self.fails_at:
            raise KeyboardInterrupt

    def finish(self, phase: str) -> None:
        self.open.remove(phase)


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
    outputs = [{"Format/Datatype": "Half", "Dimensions": [1, 4]}]
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
        "precision": FLOAT16, "profiles": profiles(4), "workspace_mb": 65,
    }  # fmt: skip
    names = {replace(key, **{field: value}).name for field, value in others.items()} | {key.name}
    assert len(names) == len(others) + 1 == len(Key.__dataclass_fields__) + 1
    assert replace(key, model="../my model\u00b5").name.startswith("---my-model--")
    assert key.timings == replace(key, model="other", precision=FLOAT16).timings
    assert key.timings != replace(key, version="2").timings


@RTX_THERE
def test_recipe_is_the_same_each_time() -> None:
    graph = compose(load_model(), AXIS)
    names = {recipe(graph, RTX, gpu, FLOAT16, 8).key.name for gpu in (None, None, ADA)}
    assert len(names) == 1  # what is built ahead, without a GPU, is what the daemon looks for
    assert recipe(graph, RTX, TURING, FLOAT16, 8).key.name not in names


@RTX_THERE
def test_other_precision_is_refused() -> None:
    with pytest.raises(EngineError, match="computes networks in float32 or float16, not in 'bfloat16'"):
        recipe(compose(load_model(), AXIS), RTX, None, BFLOAT16, 8)


# -- plans on disk ------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Plans:
    return Plans(tmp_path / "cache" / "plans", tmp_path / "data" / "secret")


def never() -> bytes:
    raise AssertionError("it is there already")


def test_plan_is_built_once(cache: Plans) -> None:
    assert cache.fetch("a", lambda: b"plan") == b"plan"
    assert cache.fetch("a", never) == b"plan"
    assert cache.fetch("b", lambda: b"other") == b"other"


@pytest.mark.skipif(os.name != "posix", reason="Windows: files inherit the folder's permissions")
def test_plans_are_readable_by_their_owner_alone(cache: Plans, tmp_path: Path) -> None:
    cache.store("a", b"plan")
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert cache.path("a") in found and tmp_path / "data" / "secret" in found
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in found)


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        damage,
        lambda path: os.truncate(path, 40),
        lambda path: os.truncate(path, 3),
        lambda path: os.truncate(path, 0),
    ],
)
def test_damaged_plan_is_built_again(spoil: Any, cache: Plans, caplog: pytest.LogCaptureFixture) -> None:
    cache.store("a", b"plan" * 10)
    spoil(cache.path("a"))
    assert cache.load("a") is None
    assert cache.fetch("a", lambda: b"new") == b"new"
    assert cache.fetch("a", never) == b"new"
    assert "is damaged or was not written here" in caplog.text


def test_plan_of_somebody_else_is_not_loaded(cache: Plans, tmp_path: Path) -> None:
    other = Plans(cache.folder, tmp_path / "other secret")
    other.store("a", b"harmful")
    assert cache.load("a") is None
    cache.store("b", b"of b")
    cache.path("b").replace(cache.path("a"))
    assert cache.load("a") is None  # renamed


def test_plan_that_cannot_be_built_leaves_nothing(cache: Plans) -> None:
    def fails() -> bytes:
        raise EngineError("no")

    with pytest.raises(EngineError, match="no"):
        cache.fetch("a", fails)
    assert not list(cache.folder.glob("*.plan")) and not list(cache.folder.glob(".*"))


def test_folder_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(
        EngineError, match=r"cannot keep plans in .*file.plans: .*; name a folder in CARS_RT_CACHE"
    ):
        Plans(tmp_path / "file" / "plans", tmp_path / "secret")


def test_folder_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plans.CACHE, str(tmp_path / "here"))
    assert Plans(secret=tmp_path / "secret").folder == tmp_path / "here"


@RTX_THERE
def test_plan_of_a_recipe_is_kept(cache: Plans) -> None:
    plan = plan_of(small_recipe(), None, cache)
    told = Phases()
    assert plan_of(small_recipe(), None, cache, told) == plan
    assert not told.all
    damage(cache.path(small_recipe().key.name))
    assert len(plan_of(small_recipe(), None, cache, told)) > 1000
    assert told.all


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    return {
        "CARS_RT_CACHE": str(tmp_path / "cache"),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "LOCALAPPDATA": str(tmp_path / "data"),
    }


@NO_GPU
@RTX_THERE
def test_two_processes_at_once_build_once(folders: dict[str, str]) -> None:
    arguments = ("build", "cnn", "--axis", "800:1500:160", "--max-batch", "4")
    with Command(*arguments, **folders) as one, Command(*arguments, **folders) as other:
        assert one.end() == other.end() == 0, one.said + other.said
        said = one.said + other.said
    assert said.count("building cnn") == 1
    assert said.count("cnn for 160 pixels, float16, batches up to 4, TensorRT-RTX") == 2
    assert len(list(Path(folders["CARS_RT_CACHE"]).glob("cnn-*.plan"))) == 1


@NO_GPU
@RTX_THERE
def test_build_takes_the_axis_of_a_file_and_shows_layers(folders: dict[str, str], tmp_path: Path) -> None:
    np.savez(tmp_path / "like.npz", spectra=spectra_of(2), raman_shift=AXIS)
    command = [sys.executable, "-m", "cars_rt", "build", "cnn", "--like", str(tmp_path / "like.npz")]
    options = ["--precision", "float32", "--max-batch", "2", "--inspect"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, env=os.environ | folders)
    assert done.returncode == 0, done.stderr
    assert "cnn for 160 pixels, float32, batches up to 2" in done.stderr
    assert re.search(r"network/+head/Conv +convolution +float \(-1, \d+, 1, \d+\)", done.stdout)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "give the instrument's axis: --like FILE, or --axis LOW:HIGH:PIXELS"),
        (("--axis", "1:2"), "--axis takes LOW:HIGH:PIXELS"),
        (("--axis", "800:1500:160", "--max-batch", "0"), "--max-batch and --workspace-mb must be 1 or more"),
    ],
)
def test_build_says_what_it_lacks(arguments: tuple[str, ...], reason: str, folders: dict[str, str]) -> None:
    with Command("build", "cnn", *arguments, **folders) as command:
        assert command.end() == 1
        assert reason in command.said


# -- products, GPUs, packages -------------------------------------------------------------------------


def test_rtx_refuses_cards_that_it_does_not_run_on() -> None:
    assert RTX.refuses(TURING) is RTX.refuses(ADA) is RTX.refuses(Gpu("RTX 5090", (12, 0))) is None
    refused = RTX.refuses(HOPPER)
    assert refused is not None and refused.startswith(
        "TensorRT-RTX does not run on the H100 (compute capability 9.0), only on 7.5, 8.0, 8.6, 8.9 "
        'and 12.x; TensorRT does: pip install "cars-rt[tensorrt]"'
    )
    assert TENSORRT.refuses(HOPPER) is None
    for each in (RTX, TENSORRT):
        assert "needs 7.5 or newer" in str(each.refuses(Gpu("GTX 1080", (6, 1))))


def test_plans_of_tensorrt_are_for_one_gpu() -> None:
    assert TENSORRT.target(ADA) == "RTX 4090 (compute capability 8.9)" != TENSORRT.target(HOPPER)
    with pytest.raises(
        EngineError, match="TensorRT builds on the GPU that the plan is for, and there is none"
    ):
        TENSORRT.target(None)


@RTX_THERE
def test_product_is_chosen_by_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "PRODUCTS", (RTX,))
    assert choose(ADA) is choose(None) is RTX
    with pytest.raises(EngineError, match=r"TensorRT-RTX does not run on the H100"):
        choose(HOPPER)
    runtime_only = replace(LEAN, module=RTX.module)
    monkeypatch.setattr(product, "PRODUCTS", (runtime_only,))
    with pytest.raises(EngineError, match=r"the lean runtime of TensorRT alone cannot build: pip install"):
        choose(ADA)


def test_nothing_installed_is_said_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product, "PRODUCTS", (replace(TENSORRT, module="not_there"),))
    with pytest.raises(EngineError, match=r'TensorRT is not installed: pip install "cars-rt\[rtx\]"'):
        choose(ADA)
    with pytest.raises(EngineError, match=r'TensorRT is not installed: pip install "cars-rt\[tensorrt\]"'):
        choose(HOPPER)


def test_product_that_cannot_be_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_trt.py").write_text("raise OSError('libnvinfer.so.10: cannot open')")
    (tmp_path / "old_trt.py").write_text("__version__ = '8.6.1'")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(EngineError, match=r"cannot be loaded \(libnvinfer.*\); install it again"):
        replace(TENSORRT, module="broken_trt").load()
    with pytest.raises(EngineError, match=r"TensorRT 8\.6\.1 is too old; 10\.3 or newer"):
        replace(TENSORRT, module="old_trt").load()


@NO_GPU
def test_engine_says_why_it_cannot_run_here() -> None:
    reason = engine_class("tensorrt").unavailable()
    assert reason is not None and "NVIDIA" in reason
    graph = compose(load_model(), AXIS)
    with pytest.raises(EngineError, match="NVIDIA"):
        open_engine("tensorrt", graph, 2)
    with pytest.raises(EngineError, match="NVIDIA"):
        engine_class("tensorrt")(graph, 2)


def test_no_driver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "DRIVER", "libnotthere.so.1")
    with pytest.raises(
        EngineError, match=r"no NVIDIA driver here \(libnotthere.so.1 is not found\); install"
    ):
        find_gpu()


def test_no_package_for_the_device_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        device, "ADAPTERS", {"not_there.driver": ("", "", "this"), "nor.this": ("", "", "that")}
    )
    with pytest.raises(EngineError, match="neither this nor that is installed: pip install cuda-bindings"):
        device.device_class()


def test_slabs_begin_at_a_page() -> None:
    for shape in ((1, 1), (3, 1340), (256, 1000)):
        array = device.page_aligned(*shape)
        assert array.shape == shape and array.dtype == np.float32
        assert array.ctypes.data % device.PAGE == 0
        assert array.flags.c_contiguous and array.flags.writeable and not array.any()


def test_batch_is_halved_until_it_fits() -> None:
    tried: list[int] = []

    def attempt(batch: int) -> None:
        tried.append(batch)
        if batch > 50:
            raise OutOfMemoryError("too much")

    assert fit(256, attempt) == 32 and tried == [256, 128, 64, 32]

    def hopeless(batch: int) -> None:
        raise OutOfMemoryError("the memory does not suffice")

    with pytest.raises(EngineError, match="does not suffice; one spectrum is too much: end other programs"):
        fit(3, hopeless)

    def broken(batch: int) -> None:
        raise EngineError("not the memory")

    with pytest.raises(EngineError, match="not the memory"):
        fit(256, broken)


@pytest.mark.parametrize(("rows", "batch"), [(1, 1), (5, 2), (256, 256), (256, 100)])
def test_parts_are_all_rows_in_order(rows: int, batch: int) -> None:
    found = parts(rows, batch)
    assert [row for part in found for row in range(rows)[part]] == list(range(rows))
    assert all(0 < part.stop - part.start <= batch for part in found)


@RTX_THERE
def test_messages_tell_memory_from_other_errors() -> None:
    trt = RTX.load()
    messages = Messages(trt)
    messages.logger.log(trt.ILogger.WARNING, "hm")
    assert str(messages.error("no")) == "no: it does not say why"
    messages.logger.log(trt.ILogger.ERROR, "a layer\n is odd")
    error = messages.error("no")
    assert str(error) == "no: a layer is odd" and not isinstance(error, OutOfMemoryError)
    messages.clear()
    messages.logger.log(trt.ILogger.INTERNAL_ERROR, "Cuda Runtime (out of memory)")
    assert isinstance(messages.error("no"), OutOfMemoryError)


# -- every name that we use of other people's packages --------------------------------------------------

#: What `session`, `layers` and `messages` use: in every runtime.
RUNTIME = """
    ILogger.ERROR ILogger.INTERNAL_ERROR ILogger.log
    Runtime.deserialize_cuda_engine
    ICudaEngine.num_io_tensors ICudaEngine.get_tensor_name ICudaEngine.get_tensor_shape
    ICudaEngine.get_tensor_dtype
    ICudaEngine.device_memory_size_v2 ICudaEngine.create_execution_context
    ExecutionContextAllocationStrategy.USER_MANAGED DataType.FLOAT DataType.HALF
    IExecutionContext.set_device_memory IExecutionContext.set_optimization_profile_async
    IExecutionContext.set_input_shape IExecutionContext.infer_shapes IExecutionContext.set_tensor_address
    IExecutionContext.execute_async_v3
"""
#: What `builder` and `layers` use besides.
BUILDER = """
    Builder.create_network Builder.create_builder_config Builder.create_optimization_profile
    Builder.build_serialized_network
    NetworkDefinitionCreationFlag.STRONGLY_TYPED BuilderFlag.TF32
    OnnxParser.parse OnnxParser.num_errors OnnxParser.get_error
    ParserError.node_operator ParserError.node_name ParserError.code ParserError.desc
    IBuilderConfig.set_memory_pool_limit IBuilderConfig.profiling_verbosity IBuilderConfig.clear_flag
    IBuilderConfig.add_optimization_profile IBuilderConfig.progress_monitor
    MemoryPoolType.WORKSPACE ProfilingVerbosity.DETAILED IOptimizationProfile.set_shape
    IProgressMonitor.phase_start IProgressMonitor.step_complete IProgressMonitor.phase_finish
    INetworkDefinition.num_outputs INetworkDefinition.num_layers
    INetworkDefinition.get_layer
    ILayer.name ILayer.type ILayer.num_outputs ILayer.get_output ITensor.shape ITensor.dtype
    LayerType.CONSTANT
    ICudaEngine.create_engine_inspector EngineInspector.get_engine_information LayerInformationFormat.JSON
    IHostMemory.nbytes
"""
#: What is asked of TensorRT-RTX alone, and of TensorRT alone.
ONLY_RTX = """
    IBuilderConfig.num_compute_capabilities IBuilderConfig.set_compute_capability ComputeCapability.SM75
    ICudaEngine.create_runtime_config IRuntimeConfig.set_execution_context_allocation_strategy
    IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy
    DynamicShapesKernelSpecializationStrategy.EAGER
    IRuntimeConfig.create_runtime_cache IRuntimeConfig.set_runtime_cache
    IRuntimeCache.deserialize IRuntimeCache.serialize
"""
ONLY_TENSORRT = "IBuilderConfig.create_timing_cache IBuilderConfig.set_timing_cache ITimingCache.serialize"
TABLE = {
    "tensorrt": RUNTIME + BUILDER + ONLY_TENSORRT,
    "tensorrt_rtx": RUNTIME + BUILDER + ONLY_RTX + ONLY_TENSORRT,  # there, too, if only in name
    "tensorrt_lean": RUNTIME,
}


def missing(module: Any, names: str) -> list[str]:
    found = []
    for name in names.split():
        place = module
        for part in name.split("."):
            place = getattr(place, part, None)
        if place is None:
            found.append(name)
    return found


@pytest.mark.parametrize("module", TABLE)
def test_every_name_that_we_use_exists(module: str) -> None:
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    assert not missing(import_module(module), TABLE[module])


def test_table_has_every_name_that_is_used() -> None:
    """Names of the module itself; methods cannot be told from others by their spelling."""
    used = set()
    for path in PACKAGE.glob("*.py"):
        used |= set(re.findall(r"\btrt\.([A-Z]\w+(?:\.[A-Z]\w+)?)", path.read_text(encoding="utf-8")))
    listed = {name for names in TABLE.values() for name in names.split()}
    listed |= {name.partition(".")[0] for name in listed}
    assert len(used) > 15
    assert used <= listed


@pytest.mark.parametrize(
    ("module", "adapter"), [(module, entry[0]) for module, entry in device.ADAPTERS.items()]
)
def test_adapter_uses_names_that_exist(module: str, adapter: str) -> None:
    try:
        bindings = import_module(module)
    except ImportError as error:
        pytest.skip(str(error))
    source = (PACKAGE / f"{adapter.rpartition('.')[2]}.py").read_text(encoding="utf-8")
    names = " ".join(sorted(set(re.findall(r"\bcuda\.([\w.]+\w)", source)) - {"bindings"}))
    assert len(names.split()) > 10
    assert not missing(bindings, names)


@pytest.fixture(autouse=True)
def own_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test touches the user's own plans."""
    monkeypatch.setenv(plans.CACHE, str(tmp_path / "plans"))
    monkeypatch.setattr(plans, "default_secret", lambda: tmp_path / "plans.secret")
    yield
