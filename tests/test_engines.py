"""Models, the deployment graph, and the contract that every engine keeps."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from helpers import AXIS, spectra_of

from cars_rt.engines import (
    ENGINES,
    Engine,
    EngineError,
    ModelError,
    check,
    compose,
    engine_class,
    load_model,
    model,
    open_engine,
    retrieving,
)
from cars_rt.engines.model import CARD_KEY, MAX_MODEL_BYTES, SHIPPED
from cars_rt.engines.onnxruntime import OnnxRuntime

MODEL = load_model()
GRAPH = compose(MODEL, AXIS)
AVAILABLE = [name for name in retrieving() if engine_class(name).unavailable() is None]
MAX_BATCH = 8

# -- models -----------------------------------------------------------------------------------------


def test_shipped_model_has_the_hash_it_was_shipped_with() -> None:
    content = (SHIPPED / "cnn.onnx").read_bytes()
    assert hashlib.sha256(content).hexdigest() == MODEL.sha256 == model.shipped_models()["cnn"]
    assert MODEL.provenance["sha256"] == MODEL.sha256


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
    with pytest.raises(ModelError, match="has no model card"):
        load_model(str(path))
    os.truncate(path, MAX_MODEL_BYTES + 1)
    with pytest.raises(ModelError, match="is larger than 512 MB"):
        load_model(str(path))


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (None, "has no model card; export it with `cars-rt export`"),
        ("{", "the card of .* cannot be read"),
        ("[]", "the card of .* cannot be read"),
        ('{"name": "x"}', "the card of .* cannot be read"),
        ('{"name": "x", "version": "1", "grid_step_cm1": 0}', "the card of .* cannot be read"),
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


# -- the contract, for every engine that can run here -------------------------------------------------


@pytest.fixture(scope="module", params=AVAILABLE)
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engine_class(request.param)(GRAPH, MAX_BATCH) as opened:
        yield opened


def tolerance(engine: Engine) -> float:
    """What may differ, of the maximum: rounding in float32, more where an engine reduces precision."""
    return 1e-4 if "float32" in engine.describe() else 2e-2


def test_slabs_are_pairs_of_float32(engine: Engine) -> None:
    assert len(engine.inputs) == len(engine.outputs) >= 2
    for slab in (*engine.inputs, *engine.outputs):
        assert slab.shape == (MAX_BATCH, len(AXIS)) and slab.dtype == np.float32
        assert slab.flags.c_contiguous and slab.flags.writeable


def test_batch_equals_its_rows_one_by_one(engine: Engine) -> None:
    counts = spectra_of(2 * MAX_BATCH + 3)
    together = engine.run(counts)
    alone = np.concatenate([engine.run(row[None]) for row in counts])
    assert together.shape == counts.shape and together.dtype == np.float32
    assert np.abs(together - alone).max() < tolerance(engine) * np.abs(together).max()


def test_slabs_may_be_under_way_together(engine: Engine) -> None:
    counts = spectra_of(2 * MAX_BATCH).reshape(2, MAX_BATCH, -1)
    expected = [engine.run(part) for part in counts]
    for slab in (0, 1):
        engine.inputs[slab][:] = counts[slab]
    engine.launch(0, MAX_BATCH)
    engine.launch(1, MAX_BATCH)
    engine.wait(0)
    engine.wait(1)
    for slab in (0, 1):
        assert np.allclose(engine.outputs[slab], expected[slab], atol=1e-3)


def test_partial_batch_leaves_the_other_rows_alone(engine: Engine) -> None:
    engine.outputs[0][:] = -7
    engine.inputs[0][:3] = spectra_of(3)
    engine.launch(0, 3)
    engine.wait(0)
    assert (engine.outputs[0][:3] != -7).all()
    assert (engine.outputs[0][3:] == -7).all()


def test_dark_is_subtracted_in_the_graph(engine: Engine) -> None:
    counts, dark = spectra_of(5).astype(np.float32), np.linspace(900, 300, len(AXIS)).astype(np.float32)
    plain = engine.run(counts)
    engine.set_dark(dark)
    with_dark = engine.run(counts + dark)
    engine.set_dark(np.zeros_like(dark))
    assert np.abs(with_dark - plain).max() < 10 * tolerance(engine) * np.abs(plain).max()
    assert np.array_equal(engine.run(counts), plain)


@pytest.mark.parametrize("factor", [0.1, 10])
def test_result_does_not_depend_on_the_scale_of_the_counts(engine: Engine, factor: float) -> None:
    counts = spectra_of(MAX_BATCH).astype(np.float32)
    plain = engine.run(counts)
    allowed = max(1e-3, tolerance(engine))
    assert np.abs(engine.run(counts * np.float32(factor)) - plain).max() < allowed * np.abs(plain).max()


@pytest.mark.parametrize("value", [0, -1, -40_000, 4e9])
def test_odd_counts_stay_finite(engine: Engine, value: float) -> None:
    counts = spectra_of(3).astype(np.float32)
    counts[0], counts[1, ::2] = value, value
    assert np.isfinite(engine.run(counts)).all()


def test_result_equals_the_reference(engine: Engine) -> None:
    counts = spectra_of(20)
    with OnnxRuntime(GRAPH, 20, slabs=1) as reference:
        expected = reference.run(counts)
    assert np.abs(engine.run(counts) - expected).max() < tolerance(engine) * np.abs(expected).max()
    check(engine)


def test_engine_describes_itself(engine: Engine) -> None:
    assert engine.name in ENGINES and engine.name in engine.describe()


# -- choosing one -------------------------------------------------------------------------------------


def test_unknown_engine_lists_the_known() -> None:
    with pytest.raises(EngineError, match=r"no engine is called 'nonsense'; there are auto, .*onnxruntime"):
        open_engine("nonsense", GRAPH, 1)


class Off(OnnxRuntime):
    """Gives a little more than it should."""

    name: ClassVar[str] = "off"

    def wait(self, slab: int) -> None:
        self.outputs[slab] += 0.05 * np.abs(self.outputs[slab]).max()


class NotFinite(OnnxRuntime):
    name: ClassVar[str] = "not-finite"

    def wait(self, slab: int) -> None:
        self.outputs[slab][0, 3] = np.nan


class Missing(OnnxRuntime):
    name: ClassVar[str] = "missing"

    @classmethod
    def unavailable(cls) -> str | None:
        return "needs the package missing: pip install missing"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Off", "off differs from onnxruntime by .* of the maximum"),
        ("NotFinite", "not-finite gives values that are not finite on a probe batch"),
        ("Missing", "needs the package missing: pip install missing"),
    ],
)
def test_engine_that_is_wrong_or_missing_is_refused_and_auto_takes_the_next(
    name: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = dict(ENGINES)
    ENGINES_NOW: dict[str, tuple[str, str]] = {"tried": (__name__, name), **others}  # noqa: N806
    for known in list(ENGINES):
        monkeypatch.delitem(ENGINES, known)
    for known, where in ENGINES_NOW.items():
        monkeypatch.setitem(ENGINES, known, where)
    with pytest.raises(EngineError, match=f"tried: {reason}"):
        open_engine("tried", GRAPH, 4)
    with open_engine("auto", GRAPH, 4) as chosen:
        assert chosen.name in others
