"""Models, the deployment graph, and the contract that every engine keeps."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from cars_rt.engines import (
    Engine,
    EngineError,
    ModelError,
    check,
    compose,
    engine_class,
    load_model,
    model,
    reason_against,
    retrieving,
    shipped_models,
)
from cars_rt.engines.agreement import TOLERANCES, difference, probe
from cars_rt.engines.base import EVEN, FLOAT16, FLOAT32, Slab, batch_sizes
from cars_rt.engines.conformance import CHECKS, failures, subjects
from cars_rt.engines.model import CARD_KEY, MAX_MODEL_BYTES, SHIPPED
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.engines.steady import steady

MODEL = load_model()
SUBJECTS = subjects(MODEL)
AVAILABLE = [name for name in retrieving() if reason_against(name) is None]

# -- models -----------------------------------------------------------------------------------------


def test_shipped_models_are_those_and_small() -> None:
    assert set(shipped_models()) == {"cnn", "rnn", "cnn-crimson2024", "rnn-crimson2024", "cnn-kk", "rnn-kk"}
    for name, digest in shipped_models().items():
        content = (SHIPPED / f"{name}.onnx").read_bytes()
        loaded = load_model(name)
        said = loaded.provenance(retrieves=True)["sha256"]
        assert hashlib.sha256(content).hexdigest() == digest == loaded.sha256 == said
        assert loaded.card.name == name and len(content) < 8e6


def test_tampered_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(SHIPPED, tmp_path / "models")
    with (tmp_path / "models" / "cnn.onnx").open("ab") as file:
        file.write(b"\0")
    monkeypatch.setattr(model, "SHIPPED", tmp_path / "models")
    with pytest.raises(ModelError, match="differs from the file that was shipped; install CARS-RT again"):
        load_model("cnn")


def test_model_can_be_given_by_its_path() -> None:
    assert load_model(str(SHIPPED / "cnn.onnx")).card == MODEL.card


def test_unknown_model_lists_the_known() -> None:
    with pytest.raises(ModelError, match=r"no model is called 'nonsense'; there are .*cnn"):
        load_model("nonsense")


def test_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    with pytest.raises(ModelError, match=r"cannot read the model .*bad\.onnx: No such file"):
        load_model(str(path))
    path.write_bytes(b"this is no ONNX file")
    with pytest.raises(ModelError, match="is not an ONNX file"):
        load_model(str(path))
    path.write_bytes(b"")
    with pytest.raises(ModelError, match="is empty; a model is"):
        load_model(str(path))
    with pytest.raises(ModelError, match="cannot read the model"):
        load_model("a\0.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelError, match="is no file"):
        load_model(str(tmp_path / "folder.onnx"))
    if hasattr(os, "mkfifo"):  # nobody writes to it, and nobody waits for that
        os.mkfifo(tmp_path / "pipe.onnx")
        with pytest.raises(ModelError, match="is no file"):
            load_model(str(tmp_path / "pipe.onnx"))
    os.truncate(path, MAX_MODEL_BYTES + 1)
    with pytest.raises(ModelError, match="is larger than 512 MB"):
        load_model(str(path))


def a_card(**changes: Any) -> str:
    return json.dumps(dataclasses.asdict(MODEL.card) | changes, ensure_ascii=False)


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (None, "has no model card; docs/engines.md, 'A model of your own', gives it one"),
        ("{", "the card of .* cannot be read"),
        ("[]", "the card of .* cannot be read"),
        ('{"name": "x"}', "the card of .* does not say its 'version'"),
        ('{"name": "x", "version": "1", "grid_step_cm1": 0}', "the card of .* does not say its 'stride'"),
        (
            '{"name": "x", "training": ' + "[" * 7000 + "]" * 7000 + "}",
            "cannot be read|not say",
        ),  # as deep as Python reads
        (a_card(stride=float("inf")), "the card of .* cannot be read: Infinity is no number"),
        (a_card().replace('"stride": 64', '"stride": 1e999'), "the card of .* cannot be read"),
        (
            a_card(accuracy={"bcars": 7}).replace(": 7}", ": 1e999}"),
            "cannot be read: Out of range float values",
        ),
        (a_card()[:-1] + ', "stride": 1}', "cannot be read: it says the same thing twice"),
        (a_card(stride=2.7), "cannot be read: its stride is not a whole number"),
        (a_card(stride=True), "its stride is not a whole number"),
        (a_card(grid_step_cm1="2"), "its grid_step_cm1 is not a number"),
        (a_card(pitch_cm1="15"), "its pitch_cm1 is not a list of numbers"),
        (a_card(pitch_cm1=["1", 5]), "its pitch_cm1 is not a list of numbers"),
        (a_card(pitch_cm=[1, 5]), "'pitch_cm' is no entry of a card; there are name, version,"),
        (a_card(description=None), "its description is not text"),
        (a_card(training=[["a", "b"]]), "its training is not an object"),
        (a_card(name="kk"), "has the name kk, which is not a network's; choose another"),
        (a_card(grid_step_cm1=1e9), "impossible grid step or stride"),
        (a_card(min_length=10**9), "the min_length 1000000000; 1 to 65536 is possible"),
        (a_card(name="cnn\n2026-01-01 CRITICAL forged \x1b[31m"), "cannot be printed in one line"),
        (a_card(description="\u4e2d" * 7000), "is longer than 16384 characters"),
    ],
)
def test_model_without_a_sound_card_is_refused(card: str | None, reason: str, tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(MODEL.onnx)
    del proto.metadata_props[:]
    if card is not None:
        proto.metadata_props.add(key=CARD_KEY, value=card)
    path = tmp_path / "other.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=reason):
        load_model(str(path))


def test_the_documented_program_makes_a_model_of_a_network_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = Path(__file__).parents[2].joinpath("docs/engines.md").read_text(encoding="utf-8")
    section = document.split("## A model of your own\n")[1].split("\n## ")[0]
    table = re.findall(r"^\| (`.+?`) \| (.*) \|$", section, re.MULTILINE)
    named = {field: "left out" in rest for fields, rest in table for field in re.findall(r"`(\w+)`", fields)}
    assert named.keys() == {each.name for each in dataclasses.fields(MODEL.card)}
    (program,) = re.findall(r"```python\n(.+?)```", section, re.DOTALL)
    values = [onnx.helper.make_tensor_value_info(each, 1, ["batch", "n"]) for each in ("counts", "raman")]
    identity = onnx.helper.make_node("Identity", ["counts"], ["raman"])
    graph = onnx.helper.make_graph([identity], "own", values[:1], values[1:])
    opset = onnx.helper.make_opsetid("", 17)
    monkeypatch.chdir(tmp_path)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset]), "own.onnx")
    exec(program)
    mine = load_model("mine.onnx")
    counts = np.random.default_rng(1).uniform(100, 200, (3, 700)).astype(np.float32)
    with OnnxRuntime(compose(mine, np.linspace(3000, 500, 700)), 3, threads=1) as engine:
        found = engine.retrieve(counts)["raman"]
    np.testing.assert_allclose(found, counts / counts.mean(1, keepdims=True), rtol=1e-5)
    card = json.loads(onnx.load("mine.onnx").metadata_props[0].value)
    for field, optional in named.items():
        left = json.dumps({key: value for key, value in card.items() if key != field})
        proto = onnx.load("own.onnx")
        onnx.helper.set_model_props(proto, {CARD_KEY: left})
        onnx.save(proto, "left.onnx")
        if optional:
            load_model("left.onnx")
        else:
            with pytest.raises(ModelError, match=f"does not say its '{field}'"):
                load_model("left.onnx")


# -- the contract, for every engine that can run here -------------------------------------------------


@pytest.fixture(scope="module", params=[(name, graph) for name in AVAILABLE for graph in SUBJECTS])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    name, graph = request.param
    with engine_class(name)(SUBJECTS[graph], 8, threads=1) as opened:
        yield opened


@pytest.mark.parametrize("each", CHECKS, ids=lambda each: each.__name__)
def test_engine_keeps_the_contract(each: Callable[[Engine], None], engine: Engine) -> None:
    each(engine)


@pytest.mark.parametrize("name", ["specnet", "cnn-gru"])
@pytest.mark.parametrize("kind", [name for name in AVAILABLE if name != "onnxruntime"])
def test_published_networks_run_on_every_engine(name: str, kind: str) -> None:
    networks = pytest.importorskip("networks", reason="networks are made with torch")
    if (name, kind) == ("cnn-gru", "openvino-bf16"):
        pytest.skip("its 1000 recurrent steps add up what bfloat16 leaves out; `check` refuses it")
    graph = compose(networks.untrained(name), np.linspace(400, 3400, 1340))
    with engine_class(kind)(graph, 4, threads=1) as engine:
        check(engine)


@pytest.mark.parametrize("name", [*shipped_models(), "kk"])
@pytest.mark.parametrize("kind", [name for name in AVAILABLE if name != "onnxruntime"])
def test_every_model_runs_on_every_engine(name: str, kind: str) -> None:
    graph = compose(load_model(name), np.linspace(400, 3400, 1340))
    with engine_class(kind)(graph, 4, threads=1) as engine:
        check(engine)


@pytest.mark.parametrize("name", [*shipped_models(), "kk"])
def test_a_few_lit_pixels_are_no_light_and_take_none(name: str) -> None:
    """One photon, or a hot pixel with the shutter closed and counts that end at 0, a cosmic ray, noise
    that is cut at 0; and a hot pixel that has more than all others together."""
    graph = compose(load_model(name), np.linspace(497, 3118, 1340))
    counts = 50 * np.eye(1340, dtype=np.float32)[::20]
    counts[0, :9] = 20, 900, 4000, 300, 0, 0, 0, 0, 0
    counts[1] = probe(graph, 1)[0] / 1000
    counts[1, 700] += 2 * counts[1].sum()
    counts[2:6] = np.maximum(np.random.default_rng(12).normal(0, 5, (4, 1340)), 0)
    with OnnxRuntime(graph, len(counts), threads=1) as engine:
        found = engine.retrieve(counts)
    assert all(np.isfinite(result).all() for result in found.values())
    assert np.array_equal(found["raman"].any(axis=1), np.arange(len(counts)) == 1)


def test_sizes_are_enough_for_any_batch() -> None:
    assert batch_sizes(1) == (1,) and batch_sizes(2) == (1, 2)
    assert batch_sizes(128) == (1, 4, 16, 64, 128) and batch_sizes(100)[-2:] == (64, 100)
    assert batch_sizes(1000) == (1, 4, 16, 64, 256, 512, 1000)
    for rows in range(1, 1001):
        least = min(size for size in batch_sizes(1000) if size >= rows)
        assert least < (4 if rows <= EVEN else 2) * rows


# -- engines that break it ------------------------------------------------------------------------------


class Off(OnnxRuntime):
    """Gives a little more than it should."""

    def wait(self, slab: int) -> None:
        self.outputs[slab] += 0.05 * np.abs(self.outputs[slab]).max()


class WrongDeviation(OnnxRuntime):
    def wait(self, slab: int) -> None:
        for result in self.deviations[slab : slab + 1]:
            result *= -1


class Greedy(OnnxRuntime):
    """Computes the whole slab whatever was asked for."""

    def launch(self, slab: int, rows: int) -> None:
        super().launch(slab, self.max_batch)


class WithoutDark(OnnxRuntime):
    def set_dark(self, dark: Slab) -> None:
        """Forgets it."""


class OneSlab(OnnxRuntime):
    """All slabs are the same memory."""

    def _allocate(self, slabs: int) -> list[Slab]:
        return super()._allocate(1) * slabs


class Forgetful(OnnxRuntime):
    """Computes only when waited for, and only the last one."""

    def launch(self, slab: int, rows: int) -> None:
        self._last = slab, rows

    def wait(self, slab: int) -> None:
        super().launch(*self._last)


class OfOneThread(OnnxRuntime):
    """Says that it may be used from any thread, and cannot."""

    def _compile(self, threads: int) -> None:
        self._thread = threading.get_ident()
        super()._compile(threads)

    def launch(self, slab: int, rows: int) -> None:
        if threading.get_ident() == self._thread:
            super().launch(slab, rows)


class Crashing(OnnxRuntime):
    def _compile(self, threads: int) -> None:
        try:
            onnx.load_model_from_string(self.graph.onnx)
        except Exception:
            raise ValueError("half a graph") from None
        super()._compile(threads)


@pytest.mark.parametrize(
    ("cls", "broken"),
    [
        (Off, "equals_the_reference (raman): its raman differs from onnxruntime by"),
        (WrongDeviation, "deviation_is_positive (raman and deviation)"),
        (Greedy, "partial_batch_leaves_other_rows_alone (raman)"),
        (WithoutDark, "dark_is_subtracted (raman)"),
        (OneSlab, "slabs_are_alike (raman): slabs share memory"),
        (Forgetful, "slabs_may_be_under_way_together (raman)"),
        (OfOneThread, "slabs_compute_at_once (raman): raman of slabs that are under way at once"),
        (Crashing, "another_one_comes_and_goes (raman): half a graph raises ValueError"),
    ],
)
def test_suite_finds_what_an_engine_breaks(cls: type[OnnxRuntime], broken: str) -> None:
    cls.name = "test"
    assert [each for each in failures(cls) if each.startswith(broken)]


def test_engine_that_conforms_fails_nothing() -> None:
    assert failures(OnnxRuntime) == []


class Missing(OnnxRuntime):
    name: ClassVar[str] = "missing"

    @classmethod
    def unavailable(cls) -> str | None:
        return "needs the package missing: pip install missing"


def test_engine_that_cannot_run_here_says_why() -> None:
    with pytest.raises(EngineError, match="missing: needs the package missing: pip install missing"):
        failures(Missing)


# -- engines of this package ------------------------------------------------------------------------------


def test_torch_in_half_precision_agrees() -> None:
    torch = pytest.importorskip("torch")
    networks = pytest.importorskip("networks")
    from cars_rt.engines.half import halve
    from cars_rt.engines.program import Program

    # Without oneDNN: its float16 kernels do not end on some processors that announce AVX-512 for it.
    with torch.backends.mkldnn.flags(enabled=False), torch.inference_mode():
        for name in ("cnn", "rnn"):
            graph = compose(networks.untrained(name), np.linspace(400, 3400, 700))
            counts = probe(graph)
            given = {"counts": torch.from_numpy(counts), "dark": torch.zeros(700)}
            given |= {name: torch.from_numpy(value) for name, value in graph.parameters.items()}
            found = Program(halve(graph.onnx)[0], torch.device("cpu"))(given)
            with OnnxRuntime(graph, 3, slabs=1) as reference:
                for output, expected in reference.retrieve(counts).items():
                    off = difference(found[output].numpy(), expected)
                    assert 1e-6 < off < TOLERANCES["float16"]


def test_torch_names_the_node_that_it_cannot_run() -> None:
    pytest.importorskip("torch")
    proto = onnx.load_model_from_string(MODEL.onnx)
    for node in proto.graph.node:
        if node.op_type == "Sin":
            node.op_type, node.name = "Sinh", "that one"
    other = model.Model(proto.SerializeToString(), MODEL.card, "0" * 64)
    with pytest.raises(EngineError, match=r"torch cannot run the operator Sinh.*that one"):
        engine_class("torch")(compose(other, np.linspace(800, 1500, 160)), 2)


def test_torch_refuses_what_older_files_say_by_attributes() -> None:
    """It would leave out the bounds of such a Clip, and go on."""
    torch = pytest.importorskip("torch")
    from cars_rt.engines.operators import UnsupportedError, operator

    assert operator("Clip", {}, [])(torch.tensor([1.0, 9.0]), None, torch.tensor(5.0)).tolist() == [1, 5]
    with pytest.raises(UnsupportedError, match="the operator Clip with max, min"):
        operator("Clip", {"max": 5.0, "min": 0.0}, [])


def test_torch_gathers_from_the_end_as_the_reference_does() -> None:
    torch = pytest.importorskip("torch")
    from cars_rt.engines.operators import operator

    x, last = torch.arange(6.0).reshape(2, 3), torch.tensor([-1, 0])
    for constant in (last, None):  # indices of the graph, and computed ones
        found = operator("Gather", {"axis": 1}, [None, constant])(x, last)
        assert found.tolist() == [[2, 0], [5, 3]]
    assert operator("Gather", {}, [None, torch.tensor(-1)])(x, torch.tensor(-1)).tolist() == [3, 4, 5]


def test_torch_divides_integers_and_reduces_nothing_as_the_reference_does() -> None:
    torch = pytest.importorskip("torch")
    from cars_rt.engines.operators import operator

    divide, sum_of = operator("Div", {}, []), operator("ReduceSum", {"noop_with_empty_axes": 1}, [])
    found = divide(torch.tensor([7, -7, 6]), torch.tensor(2))
    assert found.tolist() == [3, -3, 3] and found.dtype == torch.int64
    assert divide(torch.tensor(7.0), torch.tensor(2.0)) == 3.5
    x = torch.ones(2, 3)
    assert sum_of(x).shape == sum_of(x, torch.tensor([], dtype=torch.int64)).shape == (2, 3)
    assert sum_of(x, torch.tensor([1])).tolist() == [[3], [3]]


@pytest.mark.parametrize(("axis", "shape"), [(-1, (6, 4)), (-3, (1, 24)), (1, (2, 12)), (3, (24, 1))])
def test_torch_flattens_from_the_end_as_the_reference_does(axis: int, shape: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    from cars_rt.engines.operators import operator

    assert operator("Flatten", {"axis": axis}, [])(torch.zeros(2, 3, 4)).shape == shape


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        *((name, 160) for name in ("cnn", "rnn", "cnn-kk", "rnn-kk", "kk")),
        *((name, pixels) for name in ("cnn", "kk") for pixels in (401, 1339, 1340, 1341, 1342)),
        ("cnn-kk", 401),
    ],
)
def test_a_spectrum_has_the_same_result_to_the_last_bit_however_it_is_computed(
    name: str, pixels: int
) -> None:
    """Alone and among others, by one core or by several. So what the daemon computes at any rate is what
    `process` computes of the recorded counts, also where rows are no whole number of packets of four."""
    axis = np.linspace(800, 1500, pixels) if pixels == 160 else np.linspace(500, 3400, pixels)
    counts = np.random.default_rng(3).poisson(4000 * np.exp(-((axis - 1000) ** 2) / 9e4) + 500, (13, pixels))
    graph = compose(load_model(name), axis)
    with OnnxRuntime(graph, 16, slabs=1, threads=1) as engine:
        together = engine.retrieve(counts)
    for threads, sizes in ((1, (1, 5)), (2, (13, 1)), (3, (13, 2))):
        with OnnxRuntime(graph, 16, slabs=1, threads=threads) as engine:
            for size in sizes:
                for first in range(0, len(counts), size):
                    rows = slice(first, first + size)
                    for output, found in engine.retrieve(counts[rows]).items():
                        assert np.array_equal(found, together[output][rows]), (threads, size, output)


@pytest.mark.parametrize("curve", ["Atan", "Mish", "Softplus", "ReduceMean"])
def test_so_has_a_network_of_ones_own(curve: str) -> None:
    """With curves that ours lack, or a mean over channels as `x.mean(1)` is exported."""
    node, rng = onnx.helper.make_node, np.random.default_rng(5)
    nodes = [node(curve, ["x"], ["raman"])]
    weights = {"w": rng.normal(size=(8, 1, 5)).astype(np.float32), "axis": np.array([1])}
    if curve == "ReduceMean":
        nodes = [
            node("Unsqueeze", ["x", "axis"], ["u"]),
            node("Conv", ["u", "w"], ["c"], pads=[2, 2]),
            node(curve, ["c", "axis"], ["raman"], keepdims=0),
        ]
    x, raman = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", "length"])
        for name in ("x", "raman")
    )
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(nodes, "own", [x], [raman], constants),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
    )
    own = model.Model(proto.SerializeToString(), dataclasses.replace(MODEL.card, stride=1), "0" * 64)
    graph = compose(own, np.linspace(400, 3400, 1342))
    counts = rng.uniform(100, 30_000, (13, 1342)).astype(np.float32)
    with OnnxRuntime(graph, 13, slabs=1, threads=1) as engine:
        together = engine.run(counts).copy()
        for size in (1, 2, 3, 5):
            for first in range(0, 13, size):
                rows = slice(first, first + size)
                assert np.array_equal(engine.run(counts[rows]), together[rows]), (size, first)


def a_mean(axis: int, makes: dict[str, Any], renamed: bool = False) -> bytes:
    """Over an axis that the model has, or a `Constant` with these attributes, perhaps under another name."""
    make, node, floats = onnx.helper.make_tensor_value_info, onnx.helper.make_node, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            *([node("Constant", [], ["given"], **makes)] if makes else []),
            *([node("Identity", ["given"], ["axes"])] if renamed else []),
            node("ReduceMean", ["x", "axes" if renamed else "given"], ["y"]),
        ],
        "mean over channels",
        [make("x", floats, ["b", 8, 12])],
        [make("y", floats, ["b", 1, 12])],
        [] if makes else [onnx.numpy_helper.from_array(np.array([axis]), "given")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    return bytes(model.SerializeToString())


MEANS = {
    "of the model": a_mean(1, {}),
    "from the end": a_mean(-2, {}),
    "made as an array": a_mean(1, {"value": onnx.numpy_helper.from_array(np.array([1]))}),
    "made as integers": a_mean(1, {"value_ints": [1]}),
    "by another name": a_mean(-2, {"value_ints": [-2]}, renamed=True),
}


@pytest.mark.parametrize("axes", MEANS)
def test_axes_are_known_whichever_way_the_model_has_them(axes: str) -> None:
    written = onnx.load_model_from_string(steady(MEANS[axes])[0])
    assert written.graph.node[-1].op_type == "Conv"


@pytest.mark.parametrize("axes", MEANS)
def test_torch_knows_constants_whichever_way_the_model_has_them(axes: str) -> None:
    torch = pytest.importorskip("torch")
    from cars_rt.engines.program import Program

    given = torch.rand(2, 8, 12)
    (found,) = Program(MEANS[axes], torch.device("cpu"))({"x": given}).values()
    assert torch.allclose(found, given.mean(1, keepdim=True))


def test_torch_says_which_numbers_it_does_not_have() -> None:
    torch = pytest.importorskip("torch")
    from cars_rt.engines.operators import UnsupportedError
    from cars_rt.engines.program import Program

    proto = onnx.load_model_from_string(MEANS["of the model"])
    proto.graph.node.insert(0, onnx.helper.make_node("Cast", ["x"], ["z"], to=onnx.TensorProto.UINT64))
    proto.graph.node[1].input[0] = "z"
    with pytest.raises(UnsupportedError, match=r"^numbers of the type uint64 \(operator Cast\)$"):
        Program(proto.SerializeToString(), torch.device("cpu"))


def test_means_that_a_model_takes_in_half_precision_stay_so() -> None:
    proto = onnx.load_model_from_string(MODEL.onnx)
    nodes = []
    for number, node in enumerate(proto.graph.node):
        if node.op_type != "ReduceMean":
            nodes.append(node)
            continue
        source, result, half = node.input[0], node.output[0], f"half{number}"
        node.input[0], node.output[0] = half, f"{half}/mean"
        cast = onnx.helper.make_node("Cast", [source], [half], to=onnx.TensorProto.FLOAT16)
        back = onnx.helper.make_node("Cast", [node.output[0]], [result], to=onnx.TensorProto.FLOAT)
        nodes += [cast, node, back]
    assert len(nodes) > len(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    other = model.Model(proto.SerializeToString(), MODEL.card, "0" * 64)
    axis = np.linspace(800, 1500, 401)
    counts = np.random.default_rng(4).poisson(900, (3, 401))
    with (
        OnnxRuntime(compose(other, axis), 4, slabs=1) as engine,
        OnnxRuntime(compose(MODEL, axis), 4, slabs=1) as usual,
    ):
        assert 0 < difference(engine.run(counts), usual.run(counts)) < 0.02


def test_a_model_of_half_precision_may_differ_by_as_much_as_that_is() -> None:
    """On an engine of float32, too."""
    half, graph = onnx.load_model_from_string(MODEL.onnx), compose(MODEL, np.linspace(800, 1500, 160))
    half.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(1, np.float16), "one"))
    half.graph.node.append(onnx.helper.make_node("Identity", ["one"], ["half"]))
    other = compose(model.Model(half.SerializeToString(), MODEL.card, "0" * 64), graph.raman_shift)

    class Near(OnnxRuntime):
        name = "near"

        def wait(self, slab: int) -> None:
            self.outputs[slab] *= 1.005

    with Near(other, 4) as engine:
        assert 1e-3 < check(engine) < TOLERANCES[FLOAT16]
    with Near(graph, 4) as engine, pytest.raises(EngineError, match=f"is allowed in {FLOAT32}"):
        check(engine)
