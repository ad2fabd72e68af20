"""Evaluation: metrics against cases made by hand, models of every kind, and the command."""

import io
import json
import shutil
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from packages import a_model_of_nothing

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'cars-rt[train]'")

from cars_rt.cli import main  # noqa: E402
from cars_rt.console import log  # noqa: E402
from cars_rt.engines import EngineError, load_model  # noqa: E402
from cars_rt.engines.model import CARD_KEY, Model  # noqa: E402
from cars_rt.files.spectra import SpectraError  # noqa: E402
from cars_rt.physics.microscope import Simulator  # noqa: E402
from cars_rt.physics.substances import SUBSTANCES, TOLUENE  # noqa: E402
from cars_rt.training import export  # noqa: E402
from cars_rt.training.data import bcars  # noqa: E402
from cars_rt.training.data.batch import Batch  # noqa: E402
from cars_rt.training.data.protocols import Crimson2024  # noqa: E402
from cars_rt.training.evaluation import metrics, scores, speed  # noqa: E402
from cars_rt.training.evaluation.candidates import Candidate, candidate, of_model  # noqa: E402
from cars_rt.training.evaluation.comparison import compare  # noqa: E402
from cars_rt.training.evaluation.linearity import linearity  # noqa: E402
from cars_rt.training.evaluation.measured import (  # noqa: E402
    EXPECTED,
    draw_measured,
    judged,
    retrieve_measured,
    spectra_in,
)
from cars_rt.training.evaluation.pictures import draw  # noqa: E402
from cars_rt.training.evaluation.report import Table, tables  # noqa: E402
from cars_rt.training.evaluation.scores import Scores, evaluate, judge  # noqa: E402
from cars_rt.training.networks import Cnn, SpecNet  # noqa: E402
from cars_rt.training.settings import TrainingError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:Cyclopts application invoked without tokens")


def test_determination_and_correlation_by_hand() -> None:
    truth = np.array([[0.0, 1, 2, 3]] * 4)
    predicted = np.array([[0.0, 1, 2, 3], [1.5] * 4, [0, 1, 2, 4], [3, 5, 7, 9]])
    # Squared deviation from the mean: 5. Errors: none; 5; 1; 3, 4, 5 and 6.
    assert metrics.determination(predicted, truth) == pytest.approx([1, 0, 0.8, 1 - 86 / 5])
    assert metrics.pearson(predicted, truth) == pytest.approx([1, 0, 6.5 / np.sqrt(5 * 8.75), 1])


def test_peaks_are_those_prominent_enough() -> None:
    shift = np.arange(500.0, 900.0, 2)
    lines = [(600, 1.0), (700, 0.02), (800, 0.01)]
    raman = sum(height * np.exp(-(((shift - at) / 8) ** 2)) for at, height in lines)
    assert list(metrics.peaks(np.asarray(raman), shift)) == [600, 700]  # 0.015 of the maximum
    assert len(metrics.peaks(-np.abs(raman), shift)) == 0


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [
        ([100, 103], [102], (1, 0, 1)),  # one peak cannot be two
        ([102], [100, 103], (1, 1, 0)),
        ([100], [104], (1, 0, 0)),
        ([100], [104.1], (0, 1, 1)),
        ([100, 104], [97, 102], (2, 0, 0)),  # as many pairs as there can be, not the nearest first
        ([], [1, 2], (0, 2, 0)),
        ([1, 2], [], (0, 0, 2)),
    ],
)
def test_peaks_are_matched_one_to_one(
    predicted: list[float], true: list[float], expected: tuple[int, int, int]
) -> None:
    assert metrics.match(np.array(predicted, float), np.array(true, float)) == expected


def test_coverage_counts_by_decade() -> None:
    signal = np.repeat([0.005, -0.05, 5.0], [1000, 2000, 10])
    error = np.concatenate([np.full(1000, 1.0), np.tile([0.5, -2.0], 1000), np.zeros(10)])
    coverage = metrics.Coverage.of(error, np.ones_like(error), signal)
    assert list(coverage.points) == [0, 1000, 2000, 0, 10]
    assert list(coverage.within) == [0, 1000, 1000, 0, 10]
    assert coverage.shares == {"0.001 to 0.01": 1.0, "0.01 to 0.1": 0.5}  # ten points are no share
    assert (coverage + coverage).share == coverage.share == pytest.approx(2010 / 3010)


def test_line_through_points() -> None:
    fit = metrics.line(np.array([0.0, 1, 2]), np.array([1.0, 3, 5]))
    assert fit == pytest.approx((2, 1))
    assert metrics.line(np.array([0.0, 1, 2]), np.array([0.0, 3, 0])).r2 == pytest.approx(0)


def test_a_perfect_model_is_perfect_and_a_weak_one_is_not() -> None:
    batch = Crimson2024(1, 16)[0]
    sigma = 0.01
    noise = sigma * torch.randn(batch.raman.shape, generator=torch.Generator().manual_seed(1))
    perfect = judge(lambda _: (batch.raman,), batch).summary()
    assert perfect["median_r2"] == 1 and perfect["mean_square_error"] == 0
    assert perfect["peaks"]["found"] > 16 and perfect["peaks"]["missed"] == perfect["peaks"]["false"] == 0
    assert "within_deviation" not in perfect
    noisy = judge(lambda _: (batch.raman + noise, torch.full_like(noise, sigma)), batch).summary()
    assert noisy["mean_square_error"] == pytest.approx(sigma**2, rel=0.05)
    assert noisy["mean_absolute_error"] == pytest.approx(sigma * np.sqrt(2 / np.pi), rel=0.05)
    assert noisy["within_deviation"] == pytest.approx(0.683, abs=0.02)
    assert noisy["within_deviation_by_true"]["0.001 to 0.01"] == pytest.approx(0.683, abs=0.03)
    assert noisy["peaks"]["false"] > 10
    nothing = judge(lambda given: (torch.zeros_like(given.counts),), batch).summary()
    assert nothing["peaks"]["missed"] == perfect["peaks"]["found"]


def test_spectra_below_their_noise_count_only_in_the_errors() -> None:
    batch = Crimson2024(1, 4)[0]
    hidden = type(batch)(batch.shift, batch.counts, batch.raman, torch.zeros_like(batch.raman), True)
    hidden.noise[0] = batch.raman[0].max()  # five times it would be needed
    half = judge(lambda _: (batch.raman * torch.tensor([[0.0], [1], [1], [1]]),), hidden)
    assert list(half.visible) == [False, True, True, True]
    summary = half.summary()
    assert summary["visible"] == 3 and summary["quartiles_r2"] == [1, 1] and summary["peaks"]["missed"] == 0
    assert summary["mean_square_error"] > 0


def test_parts_together_are_the_whole() -> None:
    data = Crimson2024(3, 8)

    def model(batch: Batch) -> tuple[torch.Tensor, ...]:
        return batch.counts, 0.1 + 0 * batch.counts

    parts = [judge(model, data[i]) for i in range(2)]
    together = Scores.together(parts).summary()
    assert together == evaluate(model, data, 2)
    assert together["spectra"] == 16
    assert together["mean_square_error"] == pytest.approx(
        np.mean([part.summary()["mean_square_error"] for part in parts]), rel=1e-3
    )


# -- models --------------------------------------------------------------------------------------------


def a_card(**changes: Any) -> dict[str, Any]:
    card = {
        "name": "identity", "version": "1", "grid_step_cm1": 2.0, "stride": 64, "min_length": 64,
        "scaling": "minmax", "target": "chi3", "training": {"data": "crimson2024"},
    }  # fmt: skip
    return card | changes


def identity(path: Path, **card: Any) -> Path:
    """A model that gives its input as raman, and half of it as deviation."""
    shape = ["batch", card.get("fixed_length") or "length"]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["spectrum", "half"], ["deviation"]),
            helper.make_node("Identity", ["spectrum"], ["raman"]),
        ],
        "identity",
        [helper.make_tensor_value_info("spectrum", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("deviation", "raman")],
        [helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    model.metadata_props.add(key=CARD_KEY, value=json.dumps(a_card(**card)))
    onnx.save(model, path)
    return path


def spectra_on(counts: torch.Tensor) -> Batch:
    """On an axis in steps of 2 cm-1."""
    return Batch(600 + 2 * torch.arange(counts.shape[1]).float(), counts, counts, counts)


def test_models_are_measured_through_their_deployment_graph(tmp_path: Path) -> None:
    path = identity(tmp_path / "any.onnx", stride=1)
    counts = 500 + 100 * torch.rand(3, 1000)
    raman, deviation = candidate(str(path)).on(1)(spectra_on(counts))  # outputs go by name, not by order
    low, high = counts.amin(1, keepdim=True), counts.amax(1, keepdim=True)
    assert torch.allclose(raman, (counts - low) / (high - low), atol=1e-4)
    assert torch.allclose(deviation, raman / 2, atol=1e-4)

    fixed = candidate(str(identity(tmp_path / "fixed.onnx", fixed_length=640, stride=640))).on(1)
    slow = 2 + torch.sin(torch.linspace(0, 6, 1000))[None]
    raman, deviation = fixed(spectra_on(slow))
    assert raman.shape == (1, 1000)
    wanted = (slow - slow.min()) / (slow.max() - slow.min())
    assert (raman - wanted).abs().max() < 1e-3 and (deviation - wanted / 2).abs().max() < 1e-3


def test_a_model_whose_results_are_not_finite_is_of_no_use(tmp_path: Path) -> None:
    wrong = candidate(str(a_model_of_nothing(tmp_path)))
    with pytest.raises(EngineError, match=r"^cnn on onnxruntime: its raman is not finite on a probe batch$"):
        wrong.on(1)(spectra_on(torch.ones(1, 1000)))


def test_a_model_that_the_daemon_refuses_is_not_measured(tmp_path: Path) -> None:
    path = identity(tmp_path / "mean.onnx", name="mean", stride=1)
    model = onnx.load(path)
    model.graph.node[1].input[0] = "among others"
    mean = helper.make_node("ReduceMean", ["spectrum"], ["mean"], axes=[0])
    less = helper.make_node("Sub", ["spectrum", "mean"], ["among others"])
    for node in (less, mean):
        model.graph.node.insert(0, node)
    onnx.save(model, path)
    with pytest.raises(EngineError, match=r"^mean on onnxruntime: the raman of a spectrum depends on those"):
        candidate(str(path)).on(1)(spectra_on(torch.ones(2, 1000)))


def logarithm(path: Path) -> Path:
    """A model without a finite result of counts that are negative or 0."""
    identity(path, target="ratio", scaling="mean", stride=1)
    model = onnx.load(path)
    next(node for node in model.graph.node if node.output == ["raman"]).op_type = "Log"
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("what", ["spectra of bcars", "dilutions", "repeated spectra"])
def test_results_that_are_not_finite_for_some_spectra_are_no_numbers_of_a_report(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bcars, "POOL_SIZE", 64)
    monkeypatch.setattr(speed, "LEAST_S", 1e-9)

    def run(batch: Batch) -> tuple[torch.Tensor, ...]:
        many, diluted = len(batch.raman) > 8, batch.raman is batch.counts
        wrong = {"dilutions": diluted, "repeated spectra": many}.get(what, not diluted)
        return (torch.full_like(batch.raman, torch.nan) if wrong else batch.raman,)

    some = Candidate("some", "ratio", "", lambda threads: run)
    with pytest.raises(TrainingError, match=f"some gave values that are not finite for {what}: it is of no"):
        compare([some], "bcars", 1, threads=1)


def test_one_of_several_models_that_is_no_good_is_left_out_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(speed, "LEAST_S", 1e-9)
    wrong, shift = load_model(str(a_model_of_nothing(tmp_path))), np.linspace(500, 3200, 900)
    bad = of_model(replace(wrong, card=replace(wrong.card, target="chi3", name="bad")))
    good = candidate(str(identity(tmp_path / "good.onnx")))
    found = compare([good, bad], "crimson2024", 2, 7, 1)
    assert [each.model for each in found] == ["identity"]
    found = compare([bad, good], "crimson2024", 2, 7, 1)
    assert [each.model for each in found] == ["identity"]
    said = [text for text in caplog.messages if text.startswith("bad is left out: bad on onnxruntime: its ")]
    assert len(said) == 2
    np.savez(tmp_path / "some.npz", raman_shift=shift, spectra=1000 + np.cos(shift / 20)[None])
    told: list[str] = []
    models, files = {"bad": wrong, "kk": load_model("kk")}, 2 * [tmp_path / "some.npz"]
    assert [each.model for each in retrieve_measured(models, files, told.append)] == ["kk", "kk"]
    said = "bad is left out from here on: onnxruntime: its raman is not finite on a probe batch"
    assert told == [f"some.npz: {said}"]


def test_all_models_of_a_comparison_get_the_same_spectra(tmp_path: Path) -> None:
    models = [
        candidate(
            str(
                identity(
                    tmp_path / f"{stride}.onnx", stride=stride, name=f"stride {stride}", pitch_cm1=[1, 3]
                )
            )
        )
        for stride in (1, 64)
    ]
    seen: list[tuple[str, int, int]] = []
    one, other = compare(models, "crimson2024", 40, 7, 1, lambda *each: seen.append(each))
    assert one.accuracy == other.accuracy and one.accuracy["spectra"] == 40
    assert seen[-1] == ("stride 64", 120, 120)
    assert [each[1] for each in seen] == sorted(each[1] for each in seen)
    assert all(each.spectra_per_s > 0 for each in one.speed)
    assert one.linearity is None
    assert len(set(one.scores.r2)) == 40  # all of them others
    fewer = compare(models[:1], "crimson2024", 20, 7, 1)[0]
    assert np.array_equal(fewer.scores.r2, one.scores.r2[:20])


def test_vector2022_is_measured_case_by_case(tmp_path: Path) -> None:
    model = candidate(str(identity(tmp_path / "a.onnx")))
    found = compare([model], "vector2022", 8, 7, 1)[0]
    assert list(found.cases) == ["1a", "1b", "1c", "2a", "2b", "2c", "3a", "3b", "3c"]
    assert found.accuracy["spectra"] == 72
    mean = np.mean([case["mean_absolute_error"] for case in found.cases.values()])
    assert found.accuracy["mean_absolute_error"] == pytest.approx(mean, rel=1e-3)
    assert found.cases["3c"] != found.cases["1a"]


def test_refuses_what_cannot_be_compared(tmp_path: Path) -> None:
    chi3 = candidate(str(identity(tmp_path / "chi3.onnx")))
    with pytest.raises(
        TrainingError, match="no protocol is called 'raman'; there are: bcars, bcars-pairs, crimson2024"
    ):
        compare([chi3], "raman")
    with pytest.raises(TrainingError, match=r"gives Im chi_R scaled to 1.*evaluate it on: crimson2024"):
        compare([chi3], "bcars")
    with pytest.raises(
        TrainingError, match=r"gives Im\{chi_R\} / chi_NR.*evaluate it on: bcars, bcars-pairs$"
    ):
        compare([candidate("cnn")], "crimson2024")
    with pytest.raises(TrainingError, match="cnn was trained on bcars with seed 1: choose another --seed"):
        compare([candidate("kk"), candidate("cnn")], "bcars", seed=1)
    with pytest.raises(TrainingError, match="--spectra must be positive"):
        compare([chi3], "crimson2024", 0)
    with pytest.raises(TrainingError, match="no model whose result is what bcars asks for"):
        compare([], "bcars")
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        candidate(str(tmp_path / "no.pt"))


def test_dilution_of_a_model_that_sees_nothing() -> None:
    found = linearity(lambda batch: (torch.full_like(batch.counts, 0.5),), 8)
    assert [dilution.slope for dilution in found.dilutions] == [0, 0, 0]
    toluene = found.dilutions[0]
    assert toluene.shift == pytest.approx(3057.1, abs=3)  # the strongest line through this microscope
    assert toluene.true[0] / toluene.true[-1] > 80  # nearly as diluted: toluene's chi_NR is not water's
    assert found.largest_change == 0
    assert {dilution.r2 for dilution in found.dilutions} == {None}  # nothing is in proportion


@pytest.mark.filterwarnings("error")
def test_where_nothing_is_retrieved_or_visible_a_cell_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was a change of 0, and R2 of spectra that are nothing but noise."""
    monkeypatch.setattr(speed, "LEAST_S", 1e-9)
    assert linearity(lambda batch: (torch.zeros_like(batch.counts),), 1).largest_change is None
    monkeypatch.setattr(scores, "VISIBLE", np.inf)
    found = compare([candidate(str(identity(tmp_path / "a.onnx")))], "crimson2024", 2, 7, 1)
    accuracy = found[0].accuracy
    assert accuracy["median_r2"] is accuracy["median_pearson"] is None
    assert accuracy["visible"] == 0 and set(accuracy["peaks"].values()) == {0}
    row = tables(found)[0].rows[0]
    assert [row[2], row[3], row[6]] == ["", "", ""] and float(row[4]) > 0
    draw(found, tmp_path / "a.png")


def test_measured_lines_by_hand() -> None:
    shift = np.linspace(400, 3200, 1400)
    at = [521.7, 786.5, 1003.6, 1030.6, 1217.4, 1605.1, 3057.1, 1800.0, 2400.0]
    raman = sum(np.exp(-(((shift - line) / 6) ** 2)) for line in at) + 0.1 * ((shift > 2000) & (shift < 2010))
    counts = np.ones_like(raman)
    found = judged("toluene_010", "m", shift, counts, np.asarray(raman, np.float32))
    assert [line for line, peak in found.lines.items() if peak is None] == [1211.4]  # 6 cm-1 too high
    assert found.lines[1003.6] == pytest.approx(1003.6, abs=2)
    assert found.false == pytest.approx([1217.4, 1800, 2005], abs=5)  # at 2400 it is the instrument
    assert found.silent == pytest.approx(0.1, abs=0.01)
    turned = judged("toluene_010", "m", shift[::-1], counts[::-1], np.asarray(raman, np.float32)[::-1])
    assert (turned.lines, turned.false, turned.silent) == (found.lines, found.false, found.silent)
    unknown = judged("glass", "m", shift[:500], counts[:500], np.asarray(raman, np.float32)[:500])
    assert unknown.lines == {} and unknown.false is None and unknown.silent is None
    assert set(EXPECTED["toluene"].lines) <= set(TOLUENE.position)


# -- the command ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network as it starts: Kramers-Kronig retrieval without a reference."""
    torch.manual_seed(0)
    network = Cnn(widths=(8, 8, 8, 8)).eval()
    card = a_card(name="tiny", scaling="mean", target="ratio", min_length=256, training={"data": "bcars"})
    path = tmp_path_factory.mktemp("models") / "tiny.onnx"
    path.write_bytes(export.to_onnx(network, card))
    return path


def cars_rt(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command, in this process: each other one would import torch again."""
    out, said, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(said):
        patch.setattr(sys, "argv", ["cars-rt", *map(str, arguments)])
        for name in ("handlers", "propagate"):  # put back afterwards, for other tests
            patch.setattr(log, name, getattr(log, name))
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return code, out.getvalue(), said.getvalue()


def test_evaluate_writes_tables_numbers_and_a_picture(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two pools of the full size, for few spectra, took nearly half of the time.
    monkeypatch.setattr(bcars, "POOL_SIZE", 64)
    numbers, picture = tmp_path / "a.json", tmp_path / "a.png"
    code, out, said = cars_rt(
        "evaluate", tiny, "cnn", "--spectra", 12, "--threads", 1,
        "--json", numbers, "--png", picture,
    )  # fmt: skip
    assert code == 0, said
    for words in ("median R2", "Points within their deviation", "Dilution", "1 thread, 128 at once"):
        assert words in out
    tiny_, shipped = json.loads(numbers.read_text(encoding="utf-8"))
    assert (tiny_["model"], shipped["model"]) == ("tiny", "cnn")
    assert tiny_["accuracy"]["spectra"] == 12 and "within_deviation" in tiny_["accuracy"]
    assert shipped["accuracy"]["median_r2"] > tiny_["accuracy"]["median_r2"]  # training was of use
    assert shipped["linearity"]["largest_change"] < 1e-3
    assert [each["batch"] for each in shipped["speed"]] == [1, 128]
    assert picture.read_bytes().startswith(b"\x89PNG") and not list(tmp_path.glob(".*"))


def test_a_table_of_a_page_has_its_title_above_it() -> None:
    made = Table("Lines", ["model", "found"], [["cnn", "7"]]).markdown()
    assert made == "**Lines**\n\n| model | found |\n| --- | ---: |\n| cnn | 7 |\n"


def test_evaluate_takes_a_checkpoint(tmp_path: Path) -> None:
    network = SpecNet(640)
    checkpoint = tmp_path / "mine" / "checkpoint.pt"
    checkpoint.parent.mkdir()
    content = {"network": "specnet", "settings": {"data": "specnet2020"}, "step": 3}
    torch.save(content | {"average": network.state_dict()}, checkpoint)
    found = candidate(str(checkpoint))
    assert (found.name, found.target, found.trained_on) == ("mine (3 steps)", "chi3", "specnet2020")
    spectra = spectra_on(torch.rand(2, 1000) + 1)
    assert found.on(1)(spectra)[0].shape == (2, 1000)  # resampled to 640 and back
    code, out, said = cars_rt("evaluate", checkpoint, "--protocol", "lut2022", "--spectra", 8, "--threads", 1)
    assert code == 0 and "mine (3 steps)" in out, said
    torch.save(content | {"average": {"weight": torch.zeros(3)}}, checkpoint)
    with pytest.raises(TrainingError, match="of another architecture"):
        candidate(str(checkpoint))
    torch.save(content | {"average": {}, "settings": {"data": "real"}}, checkpoint)
    with pytest.raises(TrainingError, match="was trained on 'real', which is not known here"):
        candidate(str(checkpoint))


def test_files_that_differ_in_their_ending_are_two(tmp_path: Path) -> None:
    """On axes of different length the picture of both as one failed."""
    shift, model = np.linspace(500, 3200, 900), load_model("kk")
    counts = 1000 + 500 * np.exp(-(((shift - 1003.6) / 10) ** 2))
    np.savetxt(tmp_path / "toluene.csv", np.column_stack([shift, counts]), delimiter=",")
    np.savez(tmp_path / "toluene.npz", raman_shift=shift[:800], spectra=counts[None, :800])
    results = retrieve_measured({"kk": model}, spectra_in(tmp_path), pytest.fail)
    assert [(each.file, len(each.raman)) for each in results] == [("toluene.csv", 900), ("toluene.npz", 800)]
    assert all(len(each.lines) == 7 for each in results)
    draw_measured(results, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_measured_file_that_cannot_be_read_is_left_out_of_a_folder(tmp_path: Path) -> None:
    shift = np.linspace(500, 3200, 900)
    (tmp_path / "notes.txt").write_text("what was done that day\n", encoding="utf-8")
    np.savez(tmp_path / "some.npz", raman_shift=shift, spectra=1000 + np.cos(shift / 20)[None])
    said: list[str] = []
    results = retrieve_measured({"kk": load_model("kk")}, spectra_in(tmp_path), said.append)
    assert [each.file for each in results] == ["some.npz"]
    assert len(said) == 1 and "notes.txt" in said[0]
    with pytest.raises(SpectraError, match=r"notes\.txt"):
        retrieve_measured({"kk": load_model("kk")}, [tmp_path / "notes.txt"], said.append)


def test_a_models_name_is_no_formula_in_a_picture(tmp_path: Path) -> None:
    name = r"mine $\foo$"
    model = candidate(str(identity(tmp_path / "a.onnx", name=name)))
    draw(compare([model], "crimson2024", 8, 7, 1), tmp_path / "simulated.png")
    shift = np.linspace(500, 3200, 300)
    raman = np.cos(shift / 20).astype(np.float32)
    draw_measured([judged("glass.npz", name, shift, raman, raman)], tmp_path / "measured.png")


def test_evaluate_measured_spectra(tiny: Path, tmp_path: Path) -> None:
    simulator = Simulator()
    neat = np.array([[float(each is TOLUENE) for each in SUBSTANCES]])
    shift, counts = simulator.raman_shift, simulator.measure(neat)[0] - simulator.dark
    folder = tmp_path / "spectra"
    folder.mkdir()
    np.savetxt(folder / "toluene.csv", np.column_stack([shift, counts]), delimiter=",")
    short = np.column_stack([shift[:50], counts[:50]])  # so narrow that its unit has to be said
    np.savetxt(folder / "short.csv", short, delimiter=",", header="raman shift,counts", comments="")
    numbers, picture = tmp_path / "a.json", tmp_path / "a.png"
    code, out, said = cars_rt(
        "evaluate", tiny, "cnn", "--measured", folder, "--json", numbers, "--png", picture
    )
    assert code == 0, said
    assert "short.csv: the axis spans" in said and "of 7" in out
    tiny_, shipped = json.loads(numbers.read_text(encoding="utf-8"))
    assert (tiny_["model"], shipped["model"], shipped["file"]) == ("tiny", "cnn", "toluene.csv")
    for found in (tiny_, shipped):
        assert found["lines"]["1003.6"] == pytest.approx(1003.6, abs=4)
    assert shipped["silent"] < 0.1
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_model_without_a_finite_result_of_a_measured_spectrum_is_left_out_and_twins_are_told_apart(
    tiny: Path, tmp_path: Path
) -> None:
    shift, picture = np.linspace(500, 3200, 900), tmp_path / "a.png"
    counts = 1000 + 500 * np.exp(-(((shift - 1003.6) / 10) ** 2))
    counts[5:15] = -50
    np.savetxt(tmp_path / "toluene.csv", np.column_stack([shift, counts]), delimiter=",")
    wrong, spectra = logarithm(tmp_path / "log.onnx"), tmp_path / "toluene.csv"
    twin = tmp_path / "twin.onnx"  # whose card says the same name
    shutil.copy(tiny, twin)
    numbers = tmp_path / "a.json"
    code, out, said = cars_rt(
        "evaluate", wrong, tiny, twin, "--measured", spectra, "--png", picture, "--json", numbers
    )
    assert code == 0 and "toluene.csv: the result of identity is not finite" in said
    assert "identity" not in out and picture.is_file()
    found = json.loads(numbers.read_text(encoding="utf-8"))
    assert [each["model"] for each in found] == [f"tiny ({tiny})", f"tiny ({twin})"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "name the models to evaluate"),
        (["cnn", "--protocol", "x"], "no protocol is called 'x'; there are: bcars, bcars-pairs, crimson2024"),
        (["cnn", "--protocol", "lut2022"], "the model cnn gives Im{chi_R} / chi_NR"),
        (["nothing"], "no model is called 'nothing'; there are"),
        (["cnn", "--measured", "nowhere.csv"], "there is no file nowhere.csv"),
        (["my.pt", "--measured", "toluene.csv"], "my.pt is a checkpoint; measured spectra need a model"),
        (
            ["cnn", "--measured", "toluene.csv", "--seed", "2"],
            "--seed is for simulated spectra; --measured has",
        ),
        (["cnn", "--json", "no/where.json"], "--json: there is no folder no"),
        (["cnn", "--png", "."], "--png: . is a folder; name a file"),
    ],
)
def test_evaluate_says_what_is_wrong(arguments: list[str], reason: str) -> None:
    code, _, said = cars_rt("evaluate", *arguments)
    assert code == 1 and reason in said and "Traceback" not in said


def test_a_model_in_memory_is_a_candidate_too(tmp_path: Path) -> None:
    """For models that are made and not stored, such as one for each length."""
    stored = load_model(str(identity(tmp_path / "a.onnx")))
    made = of_model(Model(stored.onnx, stored.card, stored.sha256))
    assert made.on(1)(spectra_on(torch.ones(1, 70)))[0].shape == (1, 70)
