"""Networks that are none: whatever an ONNX file holds, one sentence says what is against it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from helpers import AXIS, LOCAL, spectra_of
from onnx import TensorProto, helper, numpy_helper

from cars_rt.daemon.loop import Daemon
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.engines import (
    EngineError,
    ModelError,
    compose,
    load_model,
    open_engine,
    reason_against,
    retrieving,
)
from cars_rt.engines.model import CARD_KEY
from cars_rt.files.offline import process
from cars_rt.files.spectra import SpectraError

FLOAT, DOUBLE, ROWS = TensorProto.FLOAT, TensorProto.DOUBLE, ["batch", "length"]
CARD = {
    "name": "odd", "version": "1", "grid_step_cm1": 2.0, "stride": 4, "min_length": 64,
    "scaling": "mean", "target": "ratio",
}  # fmt: skip


def value(name: str, shape: list[Any] | None = None, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ROWS if shape is None else shape)


def proto(
    nodes: list[onnx.NodeProto] | None = None,
    inputs: list[onnx.ValueInfoProto] | None = None,
    outputs: list[onnx.ValueInfoProto] | None = None,
    arrays: dict[str, np.ndarray[Any, Any]] | None = None,
    **card: Any,
) -> onnx.ModelProto:
    """A network that gives its input as raman, but for what is said."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "one"], ["raman"])] if nodes is None else nodes,
        "odd",
        [value("x")] if inputs is None else inputs,
        [value("raman")] if outputs is None else outputs,
        [
            numpy_helper.from_array(a, n)
            for n, a in ({"one": np.ones(1, np.float32)} | (arrays or {})).items()
        ],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made.metadata_props.add(key=CARD_KEY, value=json.dumps(CARD | card))
    return made


def node(kind: str, *names: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(names[:-1]), [names[-1]], **attributes)


def shapeless(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    """With an operator of ONNX Runtime's own, of whose result ONNX tells no shape."""
    own = helper.make_node("QuickGelu", ["gelu"], ["raman"], domain="com.microsoft")
    model = proto([*nodes, own])
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return model


def sparse() -> onnx.ModelProto:
    model = proto([node("Mul", "x", "weight", "raman")])
    values = numpy_helper.from_array(np.ones(1, np.float32), "weight")
    place = numpy_helper.from_array(np.zeros(1, np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, place, [1]))
    return model


def elsewhere(
    model: onnx.ModelProto, place: Callable[[onnx.ModelProto], onnx.TensorProto]
) -> onnx.ModelProto:
    tensor = place(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../weights.bin")
    return model


def calling(depth: int) -> onnx.ModelProto:
    """Functions that call the one before twice: a checker that follows each call walks 2**depth of them."""
    model = proto([helper.make_node(f"f{depth}", ["x"], ["raman"], domain="own")])
    own = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for level in range(depth + 1):
        kind, domain = (f"f{level - 1}", "own") if level else ("Identity", "")
        nodes = [helper.make_node(kind, [a], [b], domain=domain) for a, b in (("a", "b"), ("b", "c"))]
        model.functions.append(helper.make_function("own", f"f{level}", ["a"], ["c"], nodes, own))
    model.opset_import.append(helper.make_opsetid("own", 1))
    return model


def looping(
    kind: str = "Loop",
    turns: str = "",
    *,
    inner: bool = False,
    mark: str = "",
    within: onnx.NodeProto | None = None,
) -> onnx.NodeProto:
    """For ever, unless `turns` is a constant: what it goes on by never changes. inner: with another one in
    it, whose names have a mark; within: with this node in it."""
    if kind == "Scan" and mark:  # it goes through the points of a spectrum that the one around it gives
        point = helper.make_tensor_value_info("point", FLOAT, [])
        body = helper.make_graph(
            [node("Identity", "point", "pointo")],
            "points",
            [point],
            [helper.make_tensor_value_info("pointo", FLOAT, [])],
        )
        return node("Scan", "v", f"{mark}raman", body=body, num_scan_inputs=1)
    of_loop = [("i", TensorProto.INT64, []), ("c", TensorProto.BOOL, [])] if kind == "Loop" else []
    given = [
        (mark + name, *rest) for name, *rest in (*of_loop, ("v", FLOAT, ROWS if of_loop else ["length"]))
    ]
    carried = given[1:] if of_loop else given
    nodes = [node("Identity", name, f"{name}o") for name, _, _ in carried]
    if within is not None:
        nodes.append(within)
    if inner:
        nodes.append(looping(kind, turns, mark="inner"))
    body = helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info(*each) for each in given],
        [helper.make_tensor_value_info(f"{name}o", *rest) for name, *rest in carried],
    )
    if kind == "Loop":
        return node("Loop", turns, "always", "x", f"{mark}raman", body=body)
    return node("Scan", "x", "raman", body=body, num_scan_inputs=1)


def branching(inner: onnx.NodeProto) -> onnx.NodeProto:
    branch = helper.make_graph([inner], "branch", [], [value("raman")])
    return node("If", "always", "raman", then_branch=branch, else_branch=branch)


def in_a_node(model: onnx.ModelProto) -> onnx.TensorProto:
    made = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(3, np.float32)))
    model.graph.node.insert(0, made)
    return model.graph.node[0].attribute[0].t


MUL = node("Mul", "x", "one", "raman")
ALWAYS = {"always": np.array(True)}
TWICE = np.concatenate([np.arange(64)] * 2).astype(np.int64)
ODD: dict[str, tuple[onnx.ModelProto, str]] = {
    "weights in another file": (
        elsewhere(proto(), lambda model: model.graph.initializer[0]),
        r"keeps its weights in another file \(\.\./weights\.bin\).*onnx\.save\(onnx\.load",
    ),
    "a constant in another file": (elsewhere(proto(), in_a_node), "keeps its weights in another file"),
    "sparse weights": (sparse(), r"has sparse weights \(sparse_initializer\), which are not taken; export"),
    "functions": (calling(1), r"functions of its own.*inline_local_functions"),
    "functions that call functions": (calling(60), "functions of its own"),
    "a loop": (proto([looping()], arrays=ALWAYS), "has a Loop, and no constant says that it ends"),
    "a long loop": (
        proto([looping(turns="turns")], arrays=ALWAYS | {"turns": np.array(10_001)}), "has a Loop, and no"
    ),
    "a loop in a branch": (proto([branching(looping())], arrays=ALWAYS), "has a Loop, and no constant"),
    "a loop in a loop": (
        proto([looping(turns="turns", inner=True)], arrays=ALWAYS | {"turns": np.array(101)}),
        "has a Loop, and no",
    ),
    "a scan in a scan": (
        proto([looping("Scan", inner=True)]), "has a Scan within another loop, and no constant says"
    ),
    "a recurrent layer in a loop": (
        proto([looping(turns="turns", within=node("GRU", "v", "w", "w", "y", hidden_size=1))],
              arrays=ALWAYS | {"turns": np.array(3), "w": np.ones((1, 3, 1), np.float32)}),
        "has a GRU within another loop",
    ),
    "two inputs": (proto([node("Add", "x", "y", "raman")], [value("x"), value("y")]), "has 2 inputs .x, y."),
    "no input": (proto([node("Identity", "one", "raman")], []), r"has 0 inputs \(none\)"),
    "input of rank 3": (proto(inputs=[value("x", ["batch", 1, "length"])]), "takes 3 dimensions as 'x'"),
    "input of rank 0": (proto(inputs=[value("x", [])]), "takes 0 dimensions as 'x'"),
    "input without a shape": (
        proto(inputs=[helper.make_tensor_value_info("x", FLOAT, None)]), "is no sound ONNX"
    ),
    "integers in": (
        proto([node("Cast", "x", "raman", to=FLOAT)], [value("x", kind=TensorProto.INT64)]), "type int64"
    ),
    "doubles out": (
        proto([node("Cast", "x", "raman", to=DOUBLE)], outputs=[value("raman", kind=DOUBLE)]),
        "gives numbers of type double as 'raman'",
    ),
    "output of rank 3": (
        proto([node("Unsqueeze", "x", "axes", "raman")], outputs=[value("raman", ["b", 1, "n"])],
              arrays={"axes": np.array([1])}),
        "gives 3 dimensions as 'raman'",
    ),
    "one spectrum at once": (proto(inputs=[value("x", [1, "length"])]), "takes batches of 1 only"),
    "a length of its own": (proto(inputs=[value("x", ["b", 800])]), "800 points only.*nothing of"),
    "another fixed length": (
        proto(inputs=[value("x", ["b", 800])], fixed_length=400), "800 points only.*fixed_length 400"
    ),
    "no output": (proto([], outputs=[]), "is no sound ONNX|has no output called 'raman'; it has none"),
    "unknown operator": (proto([node("Magic", "x", "raman")]), "No Op registered for Magic"),
    "made of nothing": (proto([node("Mul", "x", "nothing", "raman")]), "is no sound ONNX"),
    "operator of nobody": (
        proto([helper.make_node("Magic", ["x"], ["raman"], domain="nobody")]), "no sound|cannot compile"
    ),
    "more points than it was given": (
        proto([node("Concat", "x", "x", "raman", axis=1)]), "gives .* points of 'raman' for .*; by its"
    ),
    "more points of which nothing tells": (
        shapeless(node("Concat", "x", "x", "gelu", axis=1)), "'raman needs as many points as go in'"
    ),
    "fewer points": (
        proto([node("Gather", "x", "places", "raman", axis=1)], arrays={"places": TWICE}), "gives 128 points"
    ),
    "points that depend on the spectrum": (
        proto([node("Greater", "x", "one", "lit"), node("NonZero", "lit", "places"),
               node("Cast", "places", "raman", to=FLOAT)]),
        "onnxruntime|gives",
    ),
    "spectra that depend on each other": (
        proto([node("ReduceMean", "x", "mean", axes=[0]), node("Sub", "x", "mean", "raman")]),
        "the raman of a spectrum depends on those beside it",
    ),
    "spectra that depend on those before them": (  # as those of a recurrent layer without batch_first
        proto([node("CumSum", "x", "first", "raman")], arrays={"first": np.array(0)}),
        r"depends on those beside it in a batch: .*\(batch_first=True\)",
    ),
    "spectra that depend on each other in large batches": (
        proto([node("Slice", "x", "from", "to", "first", "others"),
               node("ReduceSum", "others", "first", "sum"), node("Add", "x", "sum", "raman")],
              arrays={"from": np.array([3]), "to": np.array([99]), "first": np.array([0])}),
        "the raman of a spectrum depends on those beside it",
    ),
    "a negative deviation": (
        proto([MUL, node("Neg", "x", "deviation")], outputs=[value("raman"), value("deviation")]),
        "its deviation is negative on a probe batch: export",
    ),
    "needs another stride": (
        proto([node("Reshape", "x", "shape", "blocks"), node("Reshape", "blocks", "back", "raman")],
              arrays={"shape": np.array([-1, 977]), "back": np.array([1, -1])}),
        "ONNX Runtime|cannot be composed|gives",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_a_file_that_is_no_such_network_is_refused_in_one_line(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, reason = ODD[kind]
    path = tmp_path / "odd.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises((ModelError, EngineError), match=reason) as raised:
        open_engine("onnxruntime", compose(load_model(str(path)), AXIS), 8)
    assert "\n" not in str(raised.value) and capfd.readouterr().err == ""


def test_an_engine_for_one_spectrum_alone_is_tried_with_several(tmp_path: Path) -> None:
    """A file of one spectrum would not show that its model takes away what all spectra have in common."""
    path = tmp_path / "mixes.onnx"
    path.write_bytes(ODD["spectra that depend on each other"][0].SerializeToString())
    with pytest.raises(EngineError, match="depends on those beside it in a batch"):
        open_engine("onnxruntime", compose(load_model(str(path)), AXIS), 1)


def test_what_is_sound_is_taken(tmp_path: Path) -> None:
    """Weights among the inputs, as files of old have them."""
    model = proto(inputs=[value("one", [1]), value("x")])
    model.ir_version = 3
    path = tmp_path / "odd.onnx"
    path.write_bytes(model.SerializeToString())
    with open_engine("onnxruntime", compose(load_model(str(path)), AXIS), 4) as engine:
        assert np.isfinite(engine.run(spectra_of(4))).all()


@pytest.mark.parametrize(
    "inner",
    [
        branching(node("Abs", "x", "raman")),  # exporters write them for shapes that they do not know
        looping("Scan"),
        looping(turns="turns"),
    ],
    ids=lambda each: each.op_type,
)
def test_branches_and_what_ends_are_sound(inner: onnx.NodeProto, tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    model = proto([inner], arrays=ALWAYS | {"turns": np.array(3)})
    path.write_bytes(model.SerializeToString())
    with open_engine("onnxruntime", compose(load_model(str(path)), AXIS), 4) as engine:
        assert np.isfinite(engine.run(spectra_of(4))).all()


def test_a_network_of_which_nothing_tells_how_many_points_it_gives_has_the_same_result_alone(
    tmp_path: Path,
) -> None:
    """To the last bit, as others have: the sums that splines take behind it are known."""
    path, axis = tmp_path / "odd.onnx", np.linspace(1000, 1300, 701)
    path.write_bytes(shapeless(node("Abs", "x", "gelu")).SerializeToString())
    counts = np.random.default_rng(1).poisson(900, (8, len(axis))).astype(np.float32)
    with open_engine("onnxruntime", compose(load_model(str(path)), axis), 8) as engine:
        together = engine.run(counts)
        assert all(np.array_equal(engine.run(counts[at : at + 1])[0], together[at]) for at in range(8))


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_a_network_of_an_older_opset_is_refused_with_that_which_it_needs(domain: str, tmp_path: Path) -> None:
    path, model = tmp_path / "odd.onnx", proto([node("Abs", "x", "raman")])
    model.opset_import[0].domain, model.opset_import[0].version = domain, 9
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"odd\.onnx has the opset 9 and needs 10 or newer; export it with"):
        load_model(str(path))
    model.opset_import[0].version = 10
    path.write_bytes(model.SerializeToString())
    with open_engine("onnxruntime", compose(load_model(str(path)), AXIS), 4) as engine:
        assert np.isfinite(engine.run(spectra_of(4))).all()


@pytest.mark.parametrize("version", [13, 18])
def test_the_usual_operators_may_be_called_by_their_full_domain(version: int, tmp_path: Path) -> None:
    model = proto([node("Abs", "x", "raman")])
    model.opset_import[0].domain, model.opset_import[0].version = "ai.onnx", version
    path = tmp_path / "odd.onnx"
    path.write_bytes(model.SerializeToString())
    with open_engine("onnxruntime", compose(load_model(str(path)), AXIS), 4) as engine:
        assert np.isfinite(engine.run(spectra_of(4))).all()


def test_spectra_may_be_called_pitch_where_they_are_all_that_is_taken(tmp_path: Path) -> None:
    path, counts = tmp_path / "odd.onnx", spectra_of(4)
    found = []
    for name in ("x", "pitch"):
        path.write_bytes(proto([node("Abs", name, "raman")], [value(name)]).SerializeToString())
        with open_engine("onnxruntime", compose(load_model(str(path)), AXIS), 4) as engine:
            found.append(engine.run(counts))
    assert np.array_equal(*found)


@pytest.mark.parametrize("name", [each for each in retrieving() if reason_against(each) is None])
def test_a_pitch_that_no_node_reads_is_taken(name: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.onnx"
    model = proto([node("Abs", "x", "raman")], [value("x"), value("pitch", [1, "length"])])
    path.write_bytes(model.SerializeToString())
    with open_engine(name, compose(load_model(str(path)), AXIS), 4) as engine:
        assert engine.run(spectra_of(4)).min() > 0
        assert engine.adopt(compose(load_model(str(path)), AXIS + 1))


def test_weights_beside_the_model_are_refused_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As exporters write large models; the folder one is in must not decide which weights are taken."""
    path = tmp_path / "big.onnx"
    model = proto([node("Mul", "x", "w", "raman")], arrays={"w": np.full((1, 1), 2, np.float32)})
    onnx.save(model, path, save_as_external_data=True, location="big.data", size_threshold=0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"another file \(big\.data\)"):
        load_model("big.onnx")
    onnx.save(onnx.load("big.onnx"), "one.onnx")  # what it says to do
    assert load_model("one.onnx").card.name == "odd"


def test_counts_that_a_model_has_no_result_of_are_not_said_to_be_too_large(tmp_path: Path) -> None:
    """The probe batch has a result; a spectrum with negative counts has none."""
    path, source = tmp_path / "odd.onnx", tmp_path / "in.npz"
    path.write_bytes(proto([node("Log", "x", "raman")]).SerializeToString())
    counts = spectra_of(4).astype(np.float32)
    counts[2, 5:15] = -50
    np.savez(source, spectra=counts, raman_shift=AXIS)
    with pytest.raises(
        SpectraError, match="spectrum 2 is not finite; odd cannot retrieve such counts; choose"
    ):
        process(source, tmp_path / "out.npz", model=str(path), engine="onnxruntime")


def test_a_model_that_fails_ends_the_daemon_and_loses_nothing_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No run has begun: there are no results that could be lost."""
    path = tmp_path / "odd.onnx"
    path.write_bytes(ODD["needs another stride"][0].SerializeToString())
    daemon = Daemon(
        DaemonSettings(publish=LOCAL, preview=LOCAL, control=LOCAL, model=str(path), engine="onnxruntime")
    )
    with pytest.raises(EngineError, match="onnxruntime: ONNX Runtime failed on"):
        daemon.serve()
    assert "lost" not in caplog.text


@pytest.mark.parametrize("kind", ["needs another stride", "more points than it was given", "no output"])
def test_evaluation_says_so_too(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="evaluation needs torch")
    from cars_rt.training.data.protocols import Crimson2024
    from cars_rt.training.evaluation.candidates import candidate

    path = tmp_path / "odd.onnx"
    path.write_bytes(ODD[kind][0].SerializeToString())
    with pytest.raises((ModelError, EngineError), match=r"failed on|gives \d+ points|has no output"):
        candidate(str(path)).on(1)(Crimson2024(1, 2)[0])
