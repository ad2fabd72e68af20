"""Training: the distribution's physics, the trainer's promises, and the exported model."""

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'cars-rt[train]'")

from cars_rt.physics.cars import cars_intensity, lorentzians  # noqa: E402
from cars_rt.training import envelopes, export, trainer  # noqa: E402
from cars_rt.training.distribution import FULL_SCALE, GRID_STEP, Batch, Bcars  # noqa: E402
from cars_rt.training.networks import Cnn  # noqa: E402
from cars_rt.training.settings import TrainingError, TrainSettings  # noqa: E402

STRIDE = Cnn.stride


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Some 64 spectra; drawing them takes a second."""
    return Bcars(seed=5, batch=64, stride=STRIDE)[3]


def test_distribution_follows_from_seed_and_index_alone(batch: Batch) -> None:
    data = Bcars(seed=5, batch=64, stride=STRIDE)
    data[0], data[70]  # neither the order nor another pool in between may matter
    again = data[3]
    assert again.start == batch.start
    assert torch.equal(again.counts, batch.counts)
    assert torch.equal(again.raman, batch.raman)
    assert not torch.equal(data[4].counts[:, :64], batch.counts[:, :64])


def test_distribution_resembles_spectra(batch: Batch) -> None:
    assert batch.counts.shape == batch.raman.shape == batch.noise.shape
    assert batch.counts.shape[1] % STRIDE == 0
    assert 200 <= batch.start <= 3400 - GRID_STEP * (batch.counts.shape[1] - 1)
    for values in (batch.counts, batch.raman, batch.noise):
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
    assert batch.counts.max() <= FULL_SCALE + 300  # the offset is subtracted after the camera clips
    assert (batch.noise > 0).all()
    assert batch.raman.min() > -1e-3  # Im chi_R of a sample that is not pumped is never negative
    strongest = batch.raman.amax(1)
    assert (strongest < 0.1).any() and (strongest > 1).any() and strongest.max() < 8


def test_spectrum_does_not_depend_on_the_scale(batch: Batch) -> None:
    brighter = Batch(batch.start, 7 * batch.counts, batch.raman, batch.noise)
    assert torch.allclose(brighter.spectrum, batch.spectrum, rtol=1e-5)
    assert torch.allclose(batch.spectrum.mean(1), torch.ones(64), atol=1e-4)


def test_envelopes_are_positive_and_reach_one() -> None:
    shift = torch.arange(400.0, 3240.0)
    drawn = envelopes.draw(shift, 100, torch.Generator().manual_seed(0))
    assert drawn.shape == (100, len(shift))
    assert (drawn > 0).all() and torch.isfinite(drawn).all()
    assert ((drawn.amax(1) >= 1) & (drawn.amax(1) < 1.1)).all()
    assert (drawn.amin(1) < 0.01).any()  # two hundred to one, as measured


def test_untrained_network_is_kramers_kronig_retrieval() -> None:
    """So signs, the Hilbert kernel and the space-to-depth order are right."""
    shift = 600 + GRID_STEP * torch.arange(32 * STRIDE)
    chi_r = lorentzians(shift, *(torch.tensor(v) for v in ([1000.0, 1450.0], [6.0, 4.0], [8.0, 10.0])))
    intensity = cars_intensity(3 * torch.ones(1, 1), chi_r[None], torch.ones(1, 1))
    with torch.no_grad():
        found = Cnn()(intensity / intensity.mean())[0]
    peak = int(chi_r.imag.argmax())
    assert abs(int(found.argmax()) - peak) <= 1
    assert float(found[peak]) == pytest.approx(float(chi_r.imag[peak]), rel=0.15)
    assert float((found - chi_r.imag).abs().mean()) < 0.03


def settings(folder: Path, **changes: Any) -> TrainSettings:
    small: dict[str, Any] = {
        "out": folder, "steps": 6, "batch": 4, "workers": 0, "threads": 1,
        "warmup": 2, "log_every": 1, "bfloat16": False,
    }  # fmt: skip
    return TrainSettings(**(small | changes))


def quiet(step: int, loss: float) -> None:
    """Takes the place of the progress bar."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of six steps without interruption."""
    return trainer.train(settings(tmp_path_factory.mktemp("whole")), quiet)


def test_resumed_training_equals_uninterrupted(trained: Path, tmp_path: Path) -> None:
    def interrupt(step: int, loss: float) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.train(settings(tmp_path), interrupt)
    assert trainer.load(tmp_path / trainer.CHECKPOINT)["step"] == 3
    resumed, whole = (
        trainer.load(trainer.train(settings(tmp_path, resume=True), quiet)),
        trainer.load(trained),
    )
    assert resumed["step"] == whole["step"] == 6
    assert resumed["history"] == whole["history"]
    for part in ("model", "average"):
        for name, weights in whole[part].items():
            assert torch.equal(resumed[part][name], weights), name
    lines = (tmp_path / trainer.LOG).read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2", "3", "4", "5", "6"]
    assert (tmp_path / trainer.CURVE).exists()


def test_batches_do_not_depend_on_workers(trained: Path, tmp_path: Path) -> None:
    beside = trainer.load(trainer.train(settings(tmp_path, workers=1, steps=6), quiet))
    assert beside["history"] == trainer.load(trained)["history"]


def test_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, calls = trainer.loss_function, iter(range(100))

    def breaks(predicted: Any, batch: Batch) -> Any:
        return true(predicted, batch) * (float("nan") if next(calls) == 2 else 1.0)

    monkeypatch.setattr(trainer, "loss_function", breaks)
    with pytest.raises(TrainingError, match="the loss became nan at step 2"):
        trainer.train(settings(tmp_path, checkpoint_minutes=0), quiet)
    content = trainer.load(tmp_path / trainer.CHECKPOINT)
    assert content["step"] == 2
    assert all(torch.isfinite(weights).all() for weights in content["model"].values())


def test_refuses_what_it_cannot_do(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no network is called 'transformer'"):
        trainer.train(settings(tmp_path, network="transformer"))
    with pytest.raises(TrainingError, match="no data is called 'real'"):
        trainer.train(settings(tmp_path, data="real"))
    with pytest.raises(TrainingError, match="already holds a training"):
        trainer.train(settings(trained.parent))
    content = trainer.load(trained)
    path = tmp_path / trainer.CHECKPOINT
    torch.save(content | {"network": "unet"}, path)
    with pytest.raises(TrainingError, match="is of network 'unet', not 'cnn'"):
        trainer.train(settings(tmp_path, resume=True), quiet)
    torch.save(content | {"model": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(TrainingError, match="of another architecture"):
        trainer.train(settings(tmp_path, resume=True), quiet)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        trainer.train(settings(tmp_path, resume=True), quiet)
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        export.export(tmp_path / "nothing.pt", tmp_path / "model.onnx", "nothing")


def test_export_gives_the_same_raman_and_carries_its_card(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "evaluate", lambda *_: {"median_pearson": 0.5})
    path = tmp_path / "tiny.onnx"
    card = export.export(trained, path, "tiny")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map[export.CARD_KEY]) == card
    assert card["stride"] == STRIDE and card["target"] == "ratio" and card["scaling"] == "mean"
    assert card["training"]["steps"] == 6 and card["training"]["spectra"] == 24
    for private in (str(tmp_path), str(trained.parent), str(Path(__file__).parent)):
        assert private.encode() not in path.read_bytes()

    model = Cnn()
    model.load_state_dict(trainer.load(trained)["average"])
    spectrum = np.random.default_rng(1).uniform(-0.1, 3, (5, 10 * STRIDE)).astype(np.float32)
    (found,) = session.run(["raman"], {"spectrum": spectrum})
    with torch.no_grad():
        expected = model(torch.from_numpy(spectrum)).numpy()
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
