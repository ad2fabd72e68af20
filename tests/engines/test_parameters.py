"""What depends on the axis or a reference are inputs: another axis of as many pixels takes no compiling."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import Collected, Published, daemon_in_thread, spectra_of
from numpy.typing import NDArray

from cars_rt.engines import (
    EngineError,
    Graph,
    Model,
    ModelError,
    axis_for,
    compose,
    engine_class,
    load_model,
    reason_against,
    shipped_models,
)
from cars_rt.engines.agreement import difference
from cars_rt.engines.onnxruntime import OnnxRuntime

CAMERA = np.linspace(600.0, 3200.0, 1340)
PLACE = np.linspace(0, 1, 1340)
SHORT = np.linspace(800.0, 1500.0, 200)
#: Another grating, bent; the same calibrated anew, from the other end; a notch, and that calibrated anew.
AXES = {
    "grating": (CAMERA, 450 + 2400 * (PLACE + 0.2 * PLACE * (1 - PLACE))),
    "direction": (CAMERA, (1.0007 * CAMERA - 3)[::-1]),
    "notch": (np.delete(CAMERA, range(700, 760)), 1.0007 * np.delete(CAMERA, range(690, 750)) - 3),
}


def retrieved(graph: Graph, counts: NDArray[np.float64], first: Graph | None = None) -> NDArray[np.float32]:
    """first: on which the engine is opened."""
    with OnnxRuntime(first or graph, len(counts), slabs=1) as engine:
        assert first is None or engine.adopt(graph)
        return engine.run(counts)


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("name", ["cnn", "rnn", "cnn-kk", "kk"])
def test_axes_of_one_length_share_their_graph(name: str, axes: str) -> None:
    if (name, axes) == ("kk", "grating"):
        pytest.skip("its splines are as many as the span asks for")
    model, (one, other) = load_model(name), AXES[axes]
    first, second = compose(model, one), compose(model, other)
    assert first.onnx == second.onnx and first.outputs == second.outputs
    counts = spectra_of(3, second.raman_shift)
    found = retrieved(second, counts, first)
    constant = replace(second, onnx=second.fixed, parameters={})  # as it would be for this axis alone
    assert difference(found, retrieved(constant, counts)) < 1e-6
    assert difference(found, retrieved(first, counts)) > 1e-3  # the parameters matter


def test_reference_is_a_parameter_too(tmp_path: Path) -> None:
    envelope = 1000 + 9000 * np.exp(-(((CAMERA - 1500) / 900) ** 2))
    np.savez(tmp_path / "glass.npz", spectra=envelope[None], raman_shift=CAMERA)
    plain, full = (compose(load_model("cnn", given), CAMERA) for given in (None, tmp_path / "glass.npz"))
    counts = spectra_of(3, CAMERA)
    assert plain.onnx == full.onnx
    assert np.array_equal(retrieved(full, counts, plain), retrieved(full, counts))
    assert difference(retrieved(full, counts), retrieved(plain, counts)) > 1e-3


def test_what_takes_compiling_changes_nothing() -> None:
    counts = spectra_of(2, SHORT)
    with OnnxRuntime(compose(load_model(), SHORT), 2, slabs=1) as engine:
        before, graph = engine.run(counts), engine.graph
        for other in (compose(load_model(), SHORT[:-1]), compose(load_model(), SHORT, deviation=False)):
            assert not engine.adopt(other)
        assert engine.graph is graph and np.array_equal(engine.run(counts), before)


@pytest.mark.parametrize("name", [*shipped_models(), "kk", "cnn with gaps"])
def test_number_of_pixels_stands_for_an_axis(name: str) -> None:
    if name == "kk":
        with pytest.raises(ModelError, match="the graph of kk depends on more of an axis than its number of"):
            axis_for(load_model(name), 1340)
        return
    model: Model = load_model(name.split()[0])
    axis = axis_for(model, 1340)
    assert len(axis) == 1340
    shared = (
        compose(model, axis).onnx == compose(model, AXES["notch" if "gaps" in name else "grating"][1]).onnx
    )
    assert shared == ("gaps" not in name)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_run_on_another_axis_opens_without_compiling(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := reason_against(name):
        pytest.skip(reason)
    cls, compiled = engine_class(name), []
    compile_it = cls._compile

    def counted(self: OnnxRuntime, threads: int) -> None:
        compiled.append(len(self.graph.raman_shift))
        compile_it(self, threads)

    runs = {
        "one": SHORT,
        "other": 40 + 1.02 * SHORT,
        "turned": SHORT[::-1],
        "more": np.linspace(800, 1500, 210),
    }
    with (
        Published() as source,
        daemon_in_thread(source.address, engine=name) as daemon,
        Collected(daemon.publisher.address) as results,
    ):
        monkeypatch.setattr(cls, "_compile", counted)
        source.wait()
        for run, axis in runs.items():
            source.run(run, spectra_of(20, axis), 5, axis=axis)
        results.ends(len(runs))
    assert [pixels for pixels in compiled if pixels != 1340] == [200, 210]  # before any run, one of 1340
    made_by = {start.model["made_by"] for start in results.starts if start.model}
    assert len(made_by) == 1 and name in made_by.pop()
    for run, axis in runs.items():
        expected = retrieved(compose(load_model(), axis), spectra_of(20, axis))
        assert difference(results.raman(run), expected) < 1e-4


@pytest.mark.parametrize("fault", [EngineError("the device is lost"), None])
def test_engine_that_cannot_take_another_axis_is_compiled_anew(
    fault: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails, or has all of it compiled in."""

    def fail(self: OnnxRuntime, parameters: object) -> bool:
        if fault is not None:
            raise fault
        return False

    monkeypatch.setattr(OnnxRuntime, "_set", fail)
    runs = {"one": SHORT, "other": 40 + 1.02 * SHORT}
    with (
        Published() as source,
        daemon_in_thread(source.address) as daemon,
        Collected(daemon.publisher.address) as results,
    ):
        source.wait()
        for run, axis in runs.items():
            source.run(run, spectra_of(4, axis), 2, axis=axis)
        results.ends(len(runs))
    for run, axis in runs.items():
        assert (
            difference(results.raman(run), retrieved(compose(load_model(), axis), spectra_of(4, axis))) < 1e-5
        )
