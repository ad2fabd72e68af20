"""`cars-rt bench engines`, with rounds too short to mean anything: no assertion on speed."""

import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Command
from onnx import TensorProto, helper, numpy_helper
from packages import a_model_of_nothing, wrong_engine

from cars_rt.bench.engine_report import as_json, tables
from cars_rt.bench.engines import ANY, PUBLISHED, Cell, EngineReport, measure
from cars_rt.bench.floor import PRODUCT, SIDE, multiply_adds, product_graph
from cars_rt.bench.pipeline import BenchError
from cars_rt.bench.settings import EngineBenchSettings
from cars_rt.engines import EngineError, Graph, ModelError, compose, engine_class, load_model
from cars_rt.engines.agreement import check
from cars_rt.engines.registry import REFERENCE
from cars_rt.installation import install_extra

SHORT = ["--models", "kk", "--models", "cnn", "--engines", "onnxruntime", "--batches", "1", "--batches", "4"]
SHORT += ["--rounds", "2", "--seconds", "0.01", "--pixels", "320"]
MATRICES = {"a": (10, 6), "w": (2, 1, 3), "v": (2, 3, 5), "gru_w": (1, 12, 6), "gru_r": (1, 12, 4)}


def test_a_tiny_measurement_is_complete(tmp_path: Path) -> None:
    numbers, image = tmp_path / "engines.json", tmp_path / "engines.png"
    environment = {"PYTHONPATH": wrong_engine(tmp_path)}
    flags = [*SHORT, "--engines", "off", "--json", numbers, "--png", image]
    code, answer, said = Command.ran("bench", "engines", *flags, **environment)
    assert code == 0, said
    (report,) = json.loads(numbers.read_text(encoding="utf-8"))
    cells = report["cells"]
    assert [(each["model"], each["engine"], each["batch"]) for each in cells] == [
        (model, "onnxruntime", batch) for model in ("kk", "cnn") for batch in (1, 4)
    ]
    assert report["references"] == [{"model": "cnn", "engine": "onnxruntime"}]
    for each in cells:
        assert next(iter(each)) == "ratios" and each["about"].startswith("onnxruntime")
        assert len(each["rates"]) == 2 and min(each["rates"]) <= each["rate"] <= max(each["rates"])
        assert 0 < each["p50_ms"] <= each["p99_ms"] and each["batches"] >= 2
        assert each["ratios"]["cnn"] == 1 if each["model"] == "cnn" else each["ratios"]["cnn"] > 0
        assert each["share_of_floor"] > 0 and each["multiply_adds"] > 0
    # An engine that computes wrong is not measured, and said to be wrong: on the matrix product, too.
    assert {(each["model"], each["engine"]) for each in report["skipped"]} == {
        (model, "off") for model in ("kk", "cnn", PRODUCT)
    }
    assert all("differs from onnxruntime by 0.1" in each["reason"] for each in report["skipped"])
    assert "differs from onnxruntime" in answer and "of the floor" in answer
    assert "cores" in report["hardware"] and report["settings"]["pixels"] == 320
    assert image.read_bytes().startswith(b"\x89PNG")


def test_ratios_are_to_a_model_that_was_measured_and_many_pixels_are_short_ones(tmp_path: Path) -> None:
    wrong = a_model_of_nothing(tmp_path)
    settings = EngineBenchSettings(
        models=(str(wrong), "cnn", "kk"), engines=(REFERENCE,), batches=(1, 1), rounds=1, seconds=0.01,
        pixels=5000,
    )  # fmt: skip
    report = measure(settings)
    assert {(each.model, each.engine) for each in report.skipped} == {(str(wrong), REFERENCE), ("kk", ANY)}
    assert report.settings.batches == (1,) and len(report.cells) == 1
    assert report.references == ("cnn",) and report.ratios(report.cells[0]) == {"cnn": 1.0}
    assert len(tables(report)) == 2
    nothing = replace(report, cells=[], references=())
    assert "nothing" in str(tables(nothing)[0].title)


def test_nothing_to_measure_is_no_table_without_rows() -> None:
    settings = EngineBenchSettings(models=("kk",), engines=(REFERENCE,), batches=(1,), pixels=4200)
    with pytest.raises(BenchError, match=r"^no engine runs any of these models: kk on any: .* 4096"):
        measure(settings)


def test_ratios_are_medians_of_rounds_at_the_same_batch() -> None:
    def cell(model: str, batch: int, rates: list[float], engine: str = "onnxruntime") -> Cell:
        return Cell(model, engine, "", batch, 50, rates, [1.0, 2.0, 9.0])

    slow, fast = cell("cnn", 1, [100, 10, 100]), cell("kk", 1, [200, 40, 500], "other")
    product = Cell(PRODUCT, "other", "", 16, 200, [400, 40, 400], [0.5, 7.0])
    cells = [slow, fast, cell("cnn", 16, [1, 1, 1]), cell("cnn", 1, [1, 1, 1], "other")]
    settings = EngineBenchSettings(batches=(1, 16))
    report = EngineReport("this", None, settings, cells, {"other": product}, ("cnn",), [])
    assert report.ratios(fast) == {"cnn": 4.0}  # 2, 4 and 5: not the ratio of the medians
    assert report.ratios(cells[2]) == {"cnn": 1.0}
    assert report.share(fast) == (1 * 50 / 1.0) / (16 * 200 / 0.5)  # the fastest batches
    assert report.share(slow) is None
    assert fast.percentile(50) == 2.0
    first = as_json(report)["cells"][1]
    assert (
        first["ratios"] == {"cnn": 4.0}
        and first["share_of_floor"] == report.share(fast)
        and first["batches"] == 3
    )


def test_multiply_adds_are_counted_by_hand() -> None:
    """(counts, 10) @ a; one channel to two by w; back to three by v with stride 2; a recurrent layer."""
    arrays = {name: np.full(shape, 0.1, np.float32) for name, shape in MATRICES.items()}
    indices = {"one": np.array([1], np.int64), "flat": np.array([-1, 10], np.int64)}
    nodes = [
        helper.make_node("Sub", ["counts", "dark"], ["signal"]),
        helper.make_node("MatMul", ["signal", "a"], ["six"]),  # 10 x 6
        helper.make_node("Unsqueeze", ["six", "one"], ["channel"]),
        helper.make_node("Conv", ["channel", "w"], ["two"], pads=[1, 1]),  # 2 x 6 points x 3
        helper.make_node("ConvTranspose", ["two", "v"], ["three"], strides=[2]),  # 2 x 6 x 3 x 5
        helper.make_node("GRU", ["channel", "gru_w", "gru_r"], ["states"], hidden_size=4),  # 12 x (6 + 4)
        helper.make_node("ReduceSum", ["three"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["states"], ["other"], keepdims=0),
        helper.make_node("Add", ["sum", "other"], ["both"]),
        helper.make_node("Add", ["signal", "both"], ["raman"]),
    ]
    values = [helper.make_tensor_value_info("counts", TensorProto.FLOAT, ["batch", 10])]
    values += [helper.make_tensor_value_info("dark", TensorProto.FLOAT, [10])]
    out = [helper.make_tensor_value_info("raman", TensorProto.FLOAT, ["batch", 10])]
    constants = [numpy_helper.from_array(value, name) for name, value in (arrays | indices).items()]
    content = helper.make_model(
        helper.make_graph(nodes, "by hand", values, out, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    graph = Graph(content.SerializeToString(), np.arange(10.0), load_model())
    assert multiply_adds(graph) == 60 + 36 + 180 + 120


def test_the_floor_is_one_product_that_engines_agree_on() -> None:
    graph = product_graph()
    assert multiply_adds(graph) == SIDE**2
    for name in ("onnxruntime", "openvino", "torch"):
        cls = engine_class(name)
        if cls.unavailable() is None:
            with cls(graph, 4, slabs=1, threads=1) as engine:
                assert check(engine) < 1e-4


def test_published_networks_are_those_of_the_registry_and_cost_what_they_cost() -> None:
    networks = pytest.importorskip("networks", reason="networks are made with torch")
    assert set(PUBLISHED) < set(networks.NAMES)
    axis = 500 + 2.0 * np.arange(1000)
    counted = {name: multiply_adds(compose(networks.untrained(name), axis)) for name in PUBLISHED}
    assert all(count > multiply_adds(compose(load_model(), axis)) for count in counted.values())


def test_published_networks_need_torch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cars_rt.cli.bench import engines

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else find_spec(name, *rest)
    )
    with pytest.raises(SystemExit, match="1"):
        engines(settings=EngineBenchSettings(published=True))
    assert f"this needs torch, which is not installed: {install_extra('torch')}" in " ".join(
        capsys.readouterr().err.split()
    )


@pytest.mark.parametrize(
    ("wrong", "error", "reason"),
    [
        ({"batches": (0,)}, BenchError, "--batches"),
        ({"batches": ()}, BenchError, "--batches"),
        ({"pixels": 1}, BenchError, "--pixels"),
        ({"rounds": 0}, BenchError, "--rounds"),
        ({"seconds": math.nan}, BenchError, "--seconds"),
        ({"seconds": math.inf}, BenchError, "--seconds"),
        ({"threads": -1}, BenchError, "--threads"),
        ({"models": ("nonsense",)}, ModelError, "no model is called 'nonsense'; there are cnn"),
        ({"engines": ("auto",)}, BenchError, "auto is none that can be measured: without --engines all"),
        ({"engines": ("nonsense",)}, EngineError, "no engine is called 'nonsense'; there are auto"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    wrong: dict[str, Any], error: type[Exception], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        measure(EngineBenchSettings(**wrong))
