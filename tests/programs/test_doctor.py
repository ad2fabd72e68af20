"""`cars-rt doctor`: this computer as it is, with engines and ports that are made to be wrong."""

import json
import socket
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from helpers import LOCAL, Command
from packages import wrong_engine

from cars_rt import doctor
from cars_rt.doctor import examine
from cars_rt.doctor.computer import read_cache, read_packages, read_ports
from cars_rt.doctor.engines import try_engines
from cars_rt.doctor.report import EngineState, Report, State, Trial, verdict
from cars_rt.engines import model as models
from cars_rt.engines import retrieving, shipped_models
from cars_rt.sockets.free import reason_against

MODELS = ("cnn", "kk")  # one with layers, one without; unless they are named, all are tried


def examined(path: Path, code: int, *flags: str, **environment: str) -> tuple[dict[str, Any], str]:
    """The JSON and the terminal's text of a doctor that ends with this code."""
    named = [part for name in MODELS for part in ("--model", name)]
    ended, text, said = Command.ran("doctor", "--json", path, *named, *flags, **environment)
    assert ended == code, said
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found, text


def test_this_computer_is_healthy(tmp_path: Path) -> None:
    found, text = examined(tmp_path / "doctor.json", 0, CARS_RT_CACHE=str(tmp_path / "none"))
    assert list(found) == [
        "healthy", "summary", "verdicts", "machine", "gpu", "products", "packages", "engines", "cache",
        "ports", "trials",
    ]  # fmt: skip
    assert found["healthy"] and found["summary"].startswith("HEALTHY") and found["summary"] in text
    assert found["machine"]["python"].endswith(".".join(map(str, sys.version_info[:3])))
    assert 1 <= found["machine"]["usable_cores"] <= found["machine"]["cores"]
    assert (found["gpu"]["name"] is None) != (found["gpu"]["reason"] is None)
    assert found["cache"]["folder"] == str(tmp_path / "none")
    assert [each["name"] for each in found["engines"]] == retrieving()
    usable = [each["name"] for each in found["engines"] if each["reason"] is None]
    assert "onnxruntime" in usable
    tried = {(each["model"], each["engine"]) for each in found["trials"]}
    assert tried == {(model, engine) for model in MODELS for engine in usable}
    for trial in found["trials"]:
        assert trial["open_s"] > 0 and (trial["again_s"] > 0) == (trial["engine"] == "tensorrt")
        assert trial["reason"] == "" and trial["rate"] > 0 and trial["about"].startswith(trial["engine"])
        assert (trial["difference"] == 0) == (trial["engine"] == "onnxruntime")
    for each in found["verdicts"]:
        assert each["state"] == ("works" if each["engine"] in usable else "not here")
        assert each["text"] in text.replace(sys.prefix, "PYTHON")  # the file names no folder of this computer
    tensorrt = next(line for line in text.splitlines() if line.startswith("TensorRT: "))
    assert tensorrt.startswith(("TensorRT: works, agrees (within", "TensorRT: not here: "))


def test_an_engine_that_disagrees_is_named_and_the_exit_code_is_1(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    found, text = examined(tmp_path / "doctor.json", 1, "--quick", PYTHONPATH=wrong_engine(site))
    assert not found["healthy"]
    assert "NOT HEALTHY: off cannot be trusted here" in text
    (off,) = (each for each in found["verdicts"] if each["engine"] == "off")
    assert off["state"] == "FAILS"
    for model in MODELS:
        assert f"on {model}: its raman differs from onnxruntime by 0.1 of the maximum" in off["text"]
    rest = [each for each in found["trials"] if each["engine"] != "off"]
    assert rest and all(each["reason"] == "" for each in rest)
    assert all(each["rate"] == 0 for each in found["trials"])


def test_all_models_are_tried_unless_some_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def tried(*models: str) -> set[str]:
        return {trial.model for trial in examine(models, rates=False).trials}

    monkeypatch.setattr(
        doctor, "try_engines", lambda model, engines, *_, rates: [Trial(model=model, engine=engines[0])]
    )
    assert tried() == {*shipped_models(), "kk"}
    assert tried("cnn") == {"cnn"}


def test_a_model_that_is_none_is_not_the_fault_of_the_computer(tmp_path: Path) -> None:
    code, text, said = Command.ran("doctor", "--model", "cnn", "--model", "cmm", "--json", tmp_path / "found")
    assert code == 1 and "no model is called 'cmm'" in said and "HEALTHY" not in text
    assert said.count("\n") == 1 and not (tmp_path / "found").exists()


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        uses = (("results", address, "run --publish"), ("preview", LOCAL.replace("*", "0"), "run --preview"))
        results, preview = read_ports(uses)
        assert results.reason and results.flag == "run --publish" and results.address == address
        assert preview.reason is None
    assert reason_against(address) is None


def test_default_ports_are_those_of_driver_daemon_and_recorder() -> None:
    numbers = [int(each.address.rpartition(":")[2]) for each in read_ports()]
    assert numbers == [5555, 5556, 5557, 5560, 5558, 5580, 5559]


def test_versions_are_those_installed() -> None:
    versions = {each.name: each.version for each in read_packages()}
    assert onnxruntime.__version__ in (versions.get("onnxruntime"), versions.get("onnxruntime-gpu"))


def test_cache_counts_plans_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.plan").write_bytes(b"12345")
    (tmp_path / "a.lock").touch()
    monkeypatch.setenv("CARS_RT_CACHE", str(tmp_path))
    found = read_cache()
    assert (found.plans, found.bytes, found.folder) == (1, 5, str(tmp_path))
    monkeypatch.setenv("CARS_RT_CACHE", str(tmp_path / "absent"))
    assert read_cache().plans == 0


def test_a_damaged_model_fails_on_every_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  cnn.onnx\n", encoding="ascii")
    (tmp_path / "cnn.onnx").write_bytes(b"not what was shipped")
    monkeypatch.setattr(models, "SHIPPED", tmp_path)
    trials = try_engines("cnn", ["onnxruntime", "other"], 4, rates=False)
    assert [trial.engine for trial in trials] == ["onnxruntime", "other"]
    assert all("differs from the file that was shipped" in trial.reason for trial in trials)


def test_verdict_of_tensorrt_cannot_be_mistaken() -> None:
    """One line for each of the three ends that it can come to."""
    here = EngineState(name="tensorrt", reason=None)
    fine = Trial(model="cnn", engine="tensorrt", difference=2.3e-4, rate=52_000.0, about="tensorrt (card)")
    kk = Trial(model="kk", engine="tensorrt", reason="its raman is not finite on a probe batch")
    works = verdict(here, [fine])
    assert works.state is State.WORKS
    assert works.text == (
        "TensorRT: works, agrees (within 0.0002 of the maximum), spectra/s: 52,000 with cnn; tensorrt (card)"
    )
    fails = verdict(here, [fine, kk])
    assert fails.state is State.FAILS
    assert fails.text == "TensorRT: FAILS on kk: its raman is not finite on a probe batch"
    absent = verdict(EngineState(name="tensorrt", reason="no NVIDIA driver"), [])
    assert absent.state is State.NOT_HERE and absent.text == "TensorRT: not here: no NVIDIA driver"


@pytest.mark.parametrize(
    ("tried", "said"),
    [
        ({"kk": 0.0}, "HEALTHY: the one engine here computes kk right"),
        ({"rnn": 9.0}, "HEALTHY: the one engine here computes rnn right; rnn is fastest on onnxruntime"),
        (
            {"kk": 9.0, "cnn": 8.0},
            "HEALTHY: the one engine here computes every model right; cnn is fastest on onnxruntime",
        ),
    ],
)
def test_summary_speaks_of_the_models_that_were_tried(tried: dict[str, float], said: str) -> None:
    trials = [Trial(model=model, engine="onnxruntime", rate=rate) for model, rate in tried.items()]
    report = reported([EngineState(name="onnxruntime", reason=None)], trials)
    assert report.summary == said and report.healthy


def test_a_model_that_the_reference_fails_on_is_no_fault_of_the_engines() -> None:
    here = [EngineState(name=name, reason=None) for name in ("onnxruntime", "torch")]
    trials = [Trial(model="nan.onnx", engine=each.name, reason="its raman is not finite") for each in here]
    fine = [Trial(model="cnn", engine=each.name, rate=9.0) for each in here]
    for tried in trials, [*trials, *fine]:
        report = reported(here, tried)
        assert not report.healthy
        assert report.summary.startswith("nan.onnx is of no use: its raman is not finite; ")
    report = reported(here, [*trials, Trial(model="cnn", engine="torch", reason="differs"), fine[0]])
    assert report.summary == "NOT HEALTHY: torch cannot be trusted here; nan.onnx is of no use"


def test_a_model_of_ones_own_that_fails_on_an_engine_speaks_against_neither(tmp_path: Path) -> None:
    """Whatever the reason: that it lacks an operator, is slow, or has another result than the reference."""
    pytest.importorskip("torch")
    path, model = tmp_path / "own.onnx", onnx.load(models.SHIPPED / "cnn.onnx")
    next(node for node in model.graph.node if node.op_type == "Sin").op_type = "Sinh"
    onnx.save(model, path)
    tried = try_engines(str(path), ["onnxruntime", "torch"], 4, rates=False)
    here = [EngineState(name=name, reason=None) for name in ("onnxruntime", "torch")]
    said = f"HEALTHY: the one engine here computes {path} right; torch fails on {path}"
    differs = Trial(model=str(path), engine="torch", reason="its raman differs from onnxruntime by 1")
    for trials in (tried, [tried[0], differs]):
        report = reported(here, trials)
        assert report.healthy and report.summary == said
        works, fails = report.verdicts
        assert (works.state, fails.state) == (State.WORKS, State.FAILS)
        assert fails.text == f"torch: FAILS on {path}: {trials[1].reason}"
    assert tried[1].reason.startswith("torch cannot run the operator Sinh; there are")
    wrong = Trial(model="cnn", engine="torch", reason="differs")
    assert reported(here, [*tried, wrong]).summary == "NOT HEALTHY: torch cannot be trusted here"


def test_a_computer_without_the_reference_is_not_healthy() -> None:
    absent = EngineState(name="onnxruntime", reason="DLL load failed")
    report = reported([absent], [])
    said = "NOT HEALTHY: onnxruntime, which all others are judged by, cannot run here"
    assert not report.healthy and report.summary == said
    other = EngineState(name="torch", reason=None)
    report = reported([absent, other], [Trial(model="cnn", engine="torch", rate=9.0)])
    assert not report.healthy and report.summary == said
    report = reported([absent, other], [Trial(model="cnn", engine="torch", reason="is not finite")])
    assert report.summary == f"{said}; torch cannot be trusted here"


def reported(engines: list[EngineState], trials: list[Trial]) -> Report:
    unused: Any = None
    return Report(
        machine=unused, gpu=unused, products=[], packages=[], engines=engines, cache=unused, ports=[],
        trials=trials,
    )  # fmt: skip
