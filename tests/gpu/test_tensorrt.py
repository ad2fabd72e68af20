"""TensorRT on a GPU: agrees with the reference, in parts too, and fails in sentences."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import spectra_of

from cars_rt.engines import EngineError, Graph, compose, load_model, shipped_models
from cars_rt.engines.base import FLOAT16, FLOAT32
from cars_rt.engines.onnxruntime import OnnxRuntime
from cars_rt.engines.tensorrt.engine import TensorRT
from cars_rt.engines.tensorrt.layers import fused_layers
from cars_rt.engines.tensorrt.plans import Plans
from cars_rt.physics.microscope import Microscope

CAMERA = Microscope().raman_shift
MAX_BATCH = 24
TOLERANCES = {FLOAT32: 1e-4, FLOAT16: 2e-2}  # of the spectrum's maximum

pytestmark = pytest.mark.skipif(TensorRT.unavailable() is not None, reason=str(TensorRT.unavailable()))


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Plans:
    folder = tmp_path_factory.mktemp("plans")
    return Plans(folder, folder / "secret")


@pytest.fixture(scope="module", params=shipped_models())
def graph(request: pytest.FixtureRequest) -> Graph:
    return compose(load_model(request.param), CAMERA)


@pytest.fixture(scope="module")
def engine(graph: Graph, plans: Plans) -> Iterator[TensorRT]:
    with TensorRT(graph, MAX_BATCH, plans=plans) as opened:
        yield opened


def check_parity(engine: TensorRT, rows: int) -> None:
    counts = spectra_of(rows, CAMERA)
    with OnnxRuntime(engine.graph, rows, slabs=1) as reference:
        expected = reference.retrieve(counts)
    for name, found in engine.retrieve(counts).items():
        error = np.abs(found - expected[name]).max(1) / np.abs(expected[name]).max(1)
        assert error.max() < TOLERANCES[engine.precision], name


@pytest.mark.parametrize("rows", [1, 2, 17, MAX_BATCH, 2 * MAX_BATCH + 5])
def test_agrees_with_the_reference(engine: TensorRT, rows: int) -> None:
    check_parity(engine, rows)


def test_batches_larger_than_the_plan_are_computed_in_parts(engine: TensorRT, plans: Plans) -> None:
    engine._give_back()
    engine._open(plans, 5)
    check_parity(engine, MAX_BATCH)
    engine._give_back()
    engine._open(plans, MAX_BATCH)


def test_results_of_all_slabs_under_way(engine: TensorRT) -> None:
    counts = spectra_of(3 * MAX_BATCH, CAMERA).reshape(3, MAX_BATCH, -1)
    expected = [engine.run(part) for part in counts]
    for _ in range(20):
        for slab, part in enumerate(counts):
            engine.inputs[slab][:] = part
            engine.launch(slab, MAX_BATCH)
        for slab, wanted in enumerate(expected):
            engine.wait(slab)
            assert np.allclose(engine.outputs[slab], wanted, atol=1e-3 * np.abs(wanted).max())


def test_says_what_it_is_and_what_it_takes(engine: TensorRT) -> None:
    assert engine.precision in engine.describe() and "TensorRT" in engine.describe()
    assert (engine.gpu_memory_bytes() or 0) > 2**20


def test_layers_of_the_plan_are_listed(engine: TensorRT, plans: Plans) -> None:
    (path, *_) = plans.folder.glob(f"{engine.graph.model.card.name}-*.plan")
    assert len(fused_layers(engine._product, plans.load(path.stem) or b"")) > 0


def test_plan_that_is_none_is_said(graph: Graph, plans: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_another_gpu(*_: Any) -> bytes:
        return b"no plan at all" * 100

    monkeypatch.setattr("cars_rt.engines.tensorrt.engine.plan_of", of_another_gpu)
    with pytest.raises(EngineError, match=r"cannot load the plan of .* on this GPU: "):
        TensorRT(graph, 2, plans=plans)


def test_slabs_outlive_the_engine(graph: Graph, plans: Plans) -> None:
    engine = TensorRT(graph, 2, plans=plans)
    found = engine.run(spectra_of(2, CAMERA))
    output = engine.outputs[0]
    engine.close()
    assert np.array_equal(output, found)
    with pytest.raises(EngineError, match="the engine is closed"):
        engine.wait(0)


def test_second_engine_takes_the_plan_from_disk(graph: Graph, plans: Plans) -> None:
    with TensorRT(graph, 2, plans=plans):
        pass
    written = {path: path.stat().st_mtime_ns for path in Path(plans.folder).glob("*.plan")}
    with TensorRT(graph, 2, plans=plans):
        pass
    assert written == {path: path.stat().st_mtime_ns for path in Path(plans.folder).glob("*.plan")}
