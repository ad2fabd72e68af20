"""Engines from other packages, and how `auto` chooses."""

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers import PATIENCE_S, wait_until
from packages import a_model_of_nothing, a_package, found_by_processes

from cars_rt.engines import (
    Engine,
    EngineError,
    choice,
    compose,
    engine_class,
    engine_names,
    load_model,
    open_engine,
    reason_against,
    rehearsal,
    remembered,
    retrieving,
)
from cars_rt.engines.agreement import ALONE
from cars_rt.engines.conformance import failures
from cars_rt.engines.onnxruntime import OnnxRuntime

GRAPH = compose(load_model(), np.linspace(800, 1500, 160))

MODULE = """
import os, time
from cars_rt.engines.onnxruntime import OnnxRuntime

class Good(OnnxRuntime):
    name = "good"

class Slow(OnnxRuntime):
    name = "slow"
    def wait(self, slab):
        time.sleep(0.2)

class Off(OnnxRuntime):
    name = "off"
    def wait(self, slab):
        self.outputs[slab] *= 1.1

class Hangs(OnnxRuntime):
    name, patience_s = "hangs", 3.0
    def _compile(self, threads):
        while True:
            time.sleep(1)

class Crashes(OnnxRuntime):
    name = "crashes"
    def wait(self, slab):
        os._exit(11)

class Stuck(OnnxRuntime):
    # Is in time with five batches and not with the next one; before it, patience is long.
    name, batches = "stuck", 0
    def wait(self, slab):
        type(self).batches += 1
        if self.batches == 5:
            type(self).patience_s = 0.25
        if self.batches > 5:
            time.sleep(5)
            os._exit(12)

class Raises(OnnxRuntime):
    name = "raises"
    def _compile(self, threads):
        raise ZeroDivisionError("of the driver")

class Puzzled(OnnxRuntime):
    name = "puzzled"
    @classmethod
    def unavailable(cls):
        raise OSError("no such device")

class OtherName(OnnxRuntime):
    name = "other"

NotAnEngine = dict
"""
ENTRIES = {"good": "Good", "slow": "Slow", "off": "Off", "hangs": "Hangs", "crashes": "Crashes"}
ENTRIES |= {"raises": "Raises", "puzzled": "Puzzled", "misnamed": "OtherName", "nothing": "NotAnEngine"}
ENTRIES |= {"stuck": "Stuck"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with engines, good and bad ones, installed by pip."""
    place = tmp_path_factory.mktemp("foreign")
    entries = [f"{name} = foreign_engines:{cls}" for name, cls in ENTRIES.items()]
    entries += [
        "exits = foreign_exits:Any",
        "absent = foreign_absent:Any",
        "onnxruntime = foreign_engines:Off",
    ]
    modules = {"foreign_engines.py": MODULE, "foreign_exits.py": "raise SystemExit(3)"}
    return a_package(place, "foreign_engines", modules, "cars_rt.engines", entries)


@pytest.fixture(autouse=True)
def _own_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARS_RT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found_by_processes(folder, monkeypatch)
    monkeypatch.setattr(choice, "_rehearsed", {})


@pytest.mark.usefixtures("installed")
def test_engine_of_another_package_is_one_among_ours() -> None:
    assert {"onnxruntime", "good"} <= set(retrieving()) <= set(engine_names())
    assert reason_against("good") is None
    assert failures(engine_class("good")) == []
    with open_engine("good", GRAPH, 4) as engine:
        assert engine.name == "good"


@pytest.mark.usefixtures("installed")
def test_no_package_takes_the_place_of_the_reference() -> None:
    assert engine_class("onnxruntime").__module__ == "cars_rt.engines.onnxruntime"


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "exits",
            r"foreign_exits:Any does not load \(SystemExit: 3\); update or uninstall the package foreign",
        ),
        ("absent", r"foreign_absent:Any does not load \(ModuleNotFoundError"),
        ("nothing", "foreign_engines:NotAnEngine is no subclass of cars_rt.engines.Engine"),
        ("misnamed", "foreign_engines:OtherName has another name than its entry point"),
        ("puzzled", r"it cannot say whether it works here \(OSError: no such device\)"),
        ("raises", r"raises: cannot be opened \(ZeroDivisionError: of the driver\)"),
        (
            "off",
            r"off: its raman differs from onnxruntime by 0.1 of the maximum; 0.0001 is allowed in float32",
        ),
    ],
)
def test_broken_engine_is_a_reason_and_no_crash(name: str, reason: str) -> None:
    with pytest.raises(EngineError, match=reason):
        open_engine(name, GRAPH, 4)
    assert name in retrieving()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("asked", "by"), [("last_resort", lambda: 1 // 0), ("fragile", True)])
def test_an_engine_that_cannot_answer_what_it_is_asked_is_passed_over(
    asked: str, by: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended whoever asked."""
    monkeypatch.setattr(choice, "retrieving", lambda: ["good", "onnxruntime"])
    monkeypatch.setattr(engine_class("good"), asked, by)
    monkeypatch.setattr(engine_class("good"), "patience_s", 100.0)
    assert [each for each in failures(engine_class("good")) if f"{asked}() raises " in each]
    assert not choice.takes_long("good")
    with open_engine("auto", GRAPH, 4) as engine:
        assert engine.name == "onnxruntime"
    with pytest.raises(EngineError, match=r"^good: it cannot say whether it works here \("):
        open_engine("good", GRAPH, 4)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("max_batch", "rows"), [(16, 16), (100, 64)])
def test_engine_that_is_wrong_in_large_batches_is_refused(
    max_batch: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, launch = engine_class("good"), OnnxRuntime.launch

    def crowded(engine: OnnxRuntime, slab: int, count: int) -> None:
        launch(engine, slab, count)
        if count >= 16:
            engine.outputs[slab][count - 1] *= 1.1

    monkeypatch.setattr(good, "launch", crowded)
    open_engine("good", GRAPH, 15).close()
    with pytest.raises(EngineError, match=f"its raman in a batch of {rows} differs from onnxruntime by 0.1"):
        open_engine("good", GRAPH, max_batch)


@pytest.mark.usefixtures("installed")
def test_auto_takes_the_fastest_that_works_and_says_what_went_wrong_with_others(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "_said", set())
    monkeypatch.setattr(choice, "retrieving", lambda: [name for name in retrieving() if name != "stuck"])
    caplog.set_level(logging.INFO, "cars_rt.engines")
    with open_engine("auto", GRAPH, 4, threads=1) as engine:
        assert engine.name not in {*ENTRIES, "exits", "absent"} - {"good"}
    for _ in range(2):  # and once only
        open_engine("auto", GRAPH, 4, threads=1).close()
    (line,) = (record.getMessage() for record in caplog.records if record.name == "cars_rt.engines")
    assert line.startswith(f"engine {engine.describe()}, ") and "\n" not in line
    assert "hangs: hung when it was tried: no sign of it for 3 s" in line
    assert "crashes: crashed when it was tried (exit status 11)" in line
    assert "off: its raman differs from onnxruntime by" in line
    assert "raises: cannot be opened (ZeroDivisionError: of the driver)" in line
    assert "exits" not in line and "slow" not in line  # what cannot run here, or is slower, is no news
    caplog.set_level(logging.DEBUG, "cars_rt.engines")
    open_engine("auto", GRAPH, 4, threads=1).close()
    rest = next(text for text in reversed(caplog.messages) if text.startswith("other engines: "))
    assert "exits: foreign_exits:Any does not load" in rest
    slow = next(part for part in rest.split("; ") if part.startswith("slow: "))
    assert float(slow.split()[1].replace(",", "")) <= 4 / 0.2


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "there"), [("auto", ["hangs", "onnxruntime"]), ("auto", ["hangs"]), ("hangs", ["hangs"])]
)
def test_engine_that_is_being_tried_can_be_given_up(
    name: str, there: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, for good, and nothing is remembered of it; no other takes its place."""
    monkeypatch.setattr(choice, "retrieving", lambda: there)
    monkeypatch.setattr(engine_class("hangs"), "fragile", lambda: True)
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            open_engine(name, GRAPH, 4).close()
        except EngineError as error:
            failures.append(error)

    thread = threading.Thread(target=open_it)
    thread.start()
    children = rehearsal._children
    wait_until(lambda: children._running.get(thread.ident or 0) is not None)
    rehearsal.give_up(thread.ident)
    thread.join(PATIENCE_S)
    assert isinstance(failures[0], rehearsal.GivenUpError) and not remembered.records()
    rehearsal.give_up(thread.ident)  # it is over
    assert not children._running and not children._given_up


def test_what_python_prints_at_its_start_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a site's own sitecustomize may."""
    printing = 'print("welcome")\nprint("to the cluster: ", end="", flush=True)'
    (tmp_path / "sitecustomize.py").write_text(printing, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = rehearsal.rehearse(GRAPH, ["onnxruntime"], 1, 1, rates=False)
    assert list(found) == ["onnxruntime"] and not found["onnxruntime"].reason


@pytest.mark.usefixtures("installed")
def test_auto_tries_a_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "retrieving", lambda: ["good", "onnxruntime", "slow"])
    asked: list[list[str]] = []

    def rehearse(graph: object, names: list[str], *rest: int) -> dict[str, rehearsal.Tried]:
        asked.append(names)
        return {name: rehearsal.Tried(len(name), len(name)) for name in names}

    monkeypatch.setattr(choice, "rehearse", rehearse)
    for axis in (np.linspace(800, 1500, 160), np.linspace(1000, 1900, 300)):
        with open_engine("auto", compose(load_model(), axis), 4) as engine:
            assert engine.name == "onnxruntime"  # the longest name: here, the fastest
    assert asked == [["good", "onnxruntime", "slow"]]


@pytest.mark.usefixtures("installed")
def test_auto_opens_no_engine_that_crashed_when_it_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the reference, and none that is compared with it: this process would end."""

    def opened_here(engine: Engine, slab: int) -> None:
        raise EngineError("opened here")

    monkeypatch.setattr(choice, "REFERENCE", "crashes")
    monkeypatch.setattr(choice, "retrieving", lambda: ["slow", "raises", "crashes"])
    monkeypatch.setattr(engine_class("slow"), "last_resort", lambda: True)
    monkeypatch.setattr(engine_class("slow"), "wait", opened_here)
    monkeypatch.setattr(engine_class("crashes"), "wait", opened_here)
    with pytest.raises(EngineError, match=r"^crashes: crashed when it was tried \(exit status 11\)$"):
        open_engine("auto", GRAPH, 4)


@pytest.mark.usefixtures("installed")
def test_an_engine_that_is_only_slow_is_said_to_be_and_as_reference_is_opened_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Patience begins anew with each batch: the one that was long until the fifth is not waited for."""
    monkeypatch.setattr(choice, "REFERENCE", "stuck")
    monkeypatch.setattr(choice, "retrieving", lambda: ["raises", "stuck"])
    monkeypatch.setattr(engine_class("stuck"), "wait", OnnxRuntime.wait)  # here it is fast enough
    with open_engine("auto", GRAPH, 4) as engine:
        assert engine.name == "stuck"
    ((_, found),) = choice._rehearsed.values()
    said = "is too slow for this model: more than 30 s for batches of 4; `cars-rt run --max-batch` makes"
    assert found["stuck"].reason == f"{said} batches smaller"
    assert rehearsal._against("stuck", None, ALONE).endswith("more than 30 s for one spectrum alone")


def test_auto_says_of_a_model_that_is_at_fault_what_is_wrong_with_it_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "retrieving", lambda: ["absent", "onnxruntime"])
    model = load_model(str(a_model_of_nothing(tmp_path)))
    with pytest.raises(EngineError, match=r"^onnxruntime: its raman is not finite on a probe batch$"):
        open_engine("auto", compose(model, np.linspace(800, 1500, 160)), 4)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(("of_few", "taken"), [(500, "onnxruntime"), (1000, "good")])
def test_auto_looks_at_small_batches_too(of_few: float, taken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that is a little faster under load, and slow with one spectrum to a message, is no gain."""
    tried = {"good": rehearsal.Tried(1100, of_few), "onnxruntime": rehearsal.Tried(1000, 1000)}
    monkeypatch.setattr(choice, "_rehearsed", {})
    monkeypatch.setattr(choice, "retrieving", lambda: list(tried))
    monkeypatch.setattr(choice, "rehearse", lambda *_: tried)
    with open_engine("auto", GRAPH, 4) as engine:
        assert engine.name == taken


@pytest.mark.usefixtures("installed")
def test_what_runs_on_a_gpu_is_tried_in_a_process_of_its_own_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error there stays with this process, and an engine that computes in it would fail, too."""
    on_gpu = [name for name in ("tensorrt", "onnxruntime-cuda") if engine_class(name).fragile()]
    assert on_gpu == ["tensorrt", "onnxruntime-cuda"] and not engine_class("onnxruntime").fragile()
    torch = engine_class("torch")
    for driver in (True, False):
        monkeypatch.setattr(f"{torch.__module__}._nvidia_driver", lambda driver=driver: driver)
        assert torch.fragile() == driver
    monkeypatch.setattr(engine_class("crashes"), "fragile", lambda: True)
    with pytest.raises(EngineError, match=r"^crashes: crashed when it was tried \(exit status 11\)$"):
        open_engine("crashes", GRAPH, 4)


def test_auto_takes_a_last_resort_only_if_nothing_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    if not engine_class("torch").last_resort():
        pytest.skip("there is an NVIDIA driver here")
    monkeypatch.setattr(choice, "retrieving", lambda: ["torch", "onnxruntime"])
    with open_engine("auto", GRAPH, 4) as engine:
        assert engine.name == "onnxruntime"
    monkeypatch.setattr(choice, "retrieving", lambda: ["torch"])
    with open_engine("auto", GRAPH, 4) as engine:
        assert engine.name == "torch"


def test_auto_without_a_process_to_try_in_still_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_rehearsed", {})
    monkeypatch.setattr(choice, "retrieving", lambda: ["onnxruntime", "passthrough"])
    monkeypatch.setattr(rehearsal.sys, "executable", "/there/is/no/python")
    with open_engine("auto", GRAPH, 4) as engine:
        assert engine.name == "onnxruntime"


def test_unknown_engine_lists_the_known() -> None:
    with pytest.raises(EngineError, match=r"no engine is called 'nonsense'; there are auto, .*onnxruntime"):
        open_engine("nonsense", GRAPH, 1)
    assert issubclass(engine_class("onnxruntime"), Engine)


def test_line_about_the_choice_leaves_remedies_to_doctor() -> None:
    assert choice.without_remedy("finds no GPU; install its driver") == "finds no GPU"
    assert choice.without_remedy("needs the package x: pip install x") == "needs the package x"
    assert choice.without_remedy("") == ""
