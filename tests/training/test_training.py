"""Training: the distribution's physics, the trainer's promises, and the exported model."""

import _thread
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from cyclopts.config import Dict
from onnx import numpy_helper
from scipy.signal import find_peaks

torch = pytest.importorskip("torch", reason="training is an extra: pip install 'cars-rt[train]'")

from helpers import Command, wait_until  # noqa: E402

from cars_rt.cli.train import export_model, given  # noqa: E402
from cars_rt.engines import load_model  # noqa: E402
from cars_rt.physics.cars import cars_intensity, lorentzians  # noqa: E402
from cars_rt.reference import Reference, read_reference  # noqa: E402
from cars_rt.training import checkpoint, export, progress, trainer  # noqa: E402
from cars_rt.training.calibration import calibrate  # noqa: E402
from cars_rt.training.checkpoint import finished  # noqa: E402
from cars_rt.training.data import bcars, envelopes  # noqa: E402
from cars_rt.training.data.batch import Batch, cropped, generator, padded  # noqa: E402
from cars_rt.training.data.bcars import (  # noqa: E402
    FULL_SCALE,
    LITTLE,
    PIXELS,
    Bcars,
    BcarsPairs,
    BcarsRepeated,
)
from cars_rt.training.data.distribution import background, distribution  # noqa: E402
from cars_rt.training.data.protocols import PROTOCOLS, Vector2022  # noqa: E402
from cars_rt.training.evaluation import scores  # noqa: E402
from cars_rt.training.evaluation.candidates import of_checkpoint  # noqa: E402
from cars_rt.training.losses import deviation_loss, loss  # noqa: E402
from cars_rt.training.networks import NETWORKS, Cnn, Rnn, build, inputs  # noqa: E402
from cars_rt.training.networks.cnn import CnnKk  # noqa: E402
from cars_rt.training.networks.layers import folded, unfolded  # noqa: E402
from cars_rt.training.networks.unbiased import GATES, LESS, MIDDLE, SHARE, Hilbert  # noqa: E402
from cars_rt.training.optimizer import orthogonal  # noqa: E402
from cars_rt.training.settings import TrainingError, TrainSettings  # noqa: E402
from cars_rt.training.weights import start_from  # noqa: E402

STRIDE = Cnn.stride


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Some 64 spectra; drawing them takes a second."""
    return Bcars(seed=5, batch=64, stride=STRIDE)[3]


def test_distribution_follows_from_seed_and_index_alone(batch: Batch) -> None:
    data = Bcars(seed=5, batch=64, stride=STRIDE)
    data[0], data[300]  # neither the order nor another pool in between may matter
    again = data[3]
    assert torch.equal(again.shift, batch.shift)
    assert torch.equal(again.counts, batch.counts)
    assert torch.equal(again.raman, batch.raman)
    assert not torch.equal(data[4].counts[:, :64], batch.counts[:, :64])


def test_distribution_resembles_spectra(batch: Batch) -> None:
    assert batch.counts.shape == batch.raman.shape == batch.noise.shape
    assert PIXELS[0] <= batch.counts.shape[1] <= PIXELS[1]
    assert 200 <= batch.shift[0] < batch.shift[-1] <= 3400
    for values in (batch.counts, batch.raman, batch.noise):
        assert values.dtype == torch.float32
        assert torch.isfinite(values).all()
    assert batch.counts.max() <= FULL_SCALE + 300  # the offset is subtracted after the camera clips
    assert (batch.noise > 0).all()
    assert batch.raman.min() > -5e-3  # Im chi_R of a sample that is not pumped is never negative
    strongest = batch.raman.amax(1)
    assert (strongest < 0.1).any() and (strongest > 1).any() and strongest.max() < 8


def test_spectrum_does_not_depend_on_the_scale(batch: Batch) -> None:
    brighter = Batch(batch.shift, 7 * batch.counts, batch.raman, batch.noise)
    assert torch.allclose(brighter.spectrum, batch.spectrum, rtol=1e-5)
    assert torch.allclose(batch.spectrum.mean(1), torch.ones(64), atol=1e-4)


@pytest.mark.parametrize("draw", [Bcars, PROTOCOLS["crimson2024-axes"]])
def test_axes_are_a_cameras_and_within_what_the_card_says(draw: Any) -> None:
    data = draw(11, 1)
    axes = [data._axis(generator(11, 3, k)) if draw is Bcars else data.axis(k) for k in range(60)]
    steps = [axis.diff() for axis in axes]
    least, most = data.pitch_cm1
    assert all(least < step.min() and step.max() < most for step in steps)
    assert len({len(axis) for axis in axes}) > 30
    changes = [float(step.max() / step.min()) for step in steps]
    assert max(changes) > 1.4 and min(changes) < 1.01  # some are uniform
    assert len(data[0].shift) == data[0].counts.shape[1] and torch.allclose(
        data[0].pitch.mean(), data[0].shift.diff().mean(), rtol=0.01
    )


def test_pairs_differ_by_a_little_and_have_the_same_draws_of_the_noise() -> None:
    batch = BcarsPairs(3, 64)[0]
    assert batch.draws == 4 and batch.passed is not None
    counts, raman = (each.reshape(2, 4, 8, -1) for each in (batch.counts, batch.raman))
    assert torch.equal(raman, raman[:, :1].expand_as(raman))
    added = (raman[1, 0] - raman[0, 0]).amax(1)
    assert added.min() > 0 and added.max() < 1.2 * LITTLE[1]
    # Draws differ by noise; what a pair differs by is hardly more than the light that is added.
    noise = (counts[:, 1] - counts[:, 0]).square().mean()
    assert (counts[1] - counts[0]).square().median() < 0.02 * noise
    # What retrieval passes on is noise about the truth, as large as the noise is said to be.
    quiet = (batch.noise < 0.1) & (batch.raman < 0.1)
    error = (batch.passed - batch.raman)[quiet] / batch.noise[quiet]
    assert abs(float(error.mean())) < 0.1 and 0.5 < float(error.square().mean().sqrt()) < 2
    many = BcarsRepeated(3, 64)[0]
    assert len(many.counts) == 64 and (many.raman == many.raman[:1]).all()


def test_the_loss_of_pairs_is_that_of_averages_and_of_what_is_missing_of_a_little() -> None:
    batch = BcarsPairs(4, 64)[0]
    assert batch.passed is not None
    draws = torch.randn(batch.raman.shape, generator=torch.Generator().manual_seed(1))

    def of(error: torch.Tensor) -> float:
        found = batch.passed + error
        return float(loss((found, 0 * found + 0.1, found, found, batch.raman), batch))

    right = of(0 * draws)
    noisy, biased = (of(0.01 * each) for each in (draws, draws[:1].expand_as(draws)))
    assert biased - right > 2 * (noisy - right) > 0
    bare, more = batch.raman.chunk(2)
    lack = 0.3 * (bare - more)
    missing, base = of(torch.cat([0 * lack, lack])), of(torch.cat([lack, lack]))
    assert missing - right > 0.6 * (base - right) > 0  # half of it, were only the error what counts


def test_hilbert_transform_of_the_network_is_that_of_the_pixels() -> None:
    points = 1024
    rows = torch.randn(2, points, generator=torch.Generator().manual_seed(2)).cumsum(1)
    rows = rows * torch.hann_window(points)  # nothing is beyond the ends
    found = unfolded(Hilbert()(folded(rows))).numpy()
    lag = np.arange(points)[None] - np.arange(points)[:, None]
    kernel = np.where(lag % 2 == 1, 2 / np.pi / np.where(lag == 0, 1, lag), 0)
    expected = rows.numpy() @ kernel.T
    # The sign of CARS; within two columns of an end what is far is felt less.
    assert np.abs(found + expected)[:, 16:-16].max() < 0.015 * np.abs(expected).max()


def test_envelopes_are_positive_and_reach_one() -> None:
    shift = torch.arange(400.0, 3240.0)
    drawn = envelopes.draw(shift, 100, torch.Generator().manual_seed(0))
    assert drawn.shape == (100, len(shift))
    assert (drawn > 0).all() and torch.isfinite(drawn).all()
    assert ((drawn.amax(1) >= 1) & (drawn.amax(1) < 1.1)).all()
    assert (drawn.amin(1) < 0.01).any()  # two hundred to one, as measured


@pytest.mark.parametrize("network", [Cnn, Rnn])
def test_untrained_network_is_kramers_kronig_retrieval(network: type[Cnn | Rnn]) -> None:
    """So signs, the Hilbert kernel and the space-to-depth order are right."""
    shift = 600 + 2.0 * torch.arange(1024)
    chi_r = lorentzians(shift, *(torch.tensor(v) for v in ([1000.0, 1450.0], [6.0, 4.0], [8.0, 10.0])))
    intensity = cars_intensity(3 * torch.ones(1, 1), chi_r[None], torch.ones(1, 1))
    with torch.no_grad():
        found = network()(intensity / intensity.mean(), torch.full((1, 1024), 2.0))[0][0]
    peak = int(chi_r.imag.argmax())
    assert abs(int(found.argmax()) - peak) <= 1
    assert float(found[peak]) == pytest.approx(float(chi_r.imag[peak]), rel=0.15)
    assert float((found - chi_r.imag).abs().mean()) < 0.03


def settings(folder: Path, **changes: Any) -> TrainSettings:
    small: dict[str, Any] = {
        "out": folder, "steps": 6, "batch": 4, "workers": 0, "threads": 1,
        "warmup": 2, "log_every": 1, "validate_every": 100,
    }  # fmt: skip
    return TrainSettings(**(small | changes))


def quiet(entry: checkpoint.Entry) -> None:
    """Takes the place of the progress bar."""


@pytest.fixture(scope="module", autouse=True)
def _few_held_out() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "HELD_OUT_BATCHES", 2)
        yield


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training begins with few substances and ends without a picture."""
    monkeypatch.setattr(bcars, "POOL_SIZE", 64)
    monkeypatch.setattr(trainer, "plot", lambda *_: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of six steps without interruption."""
    return trainer.train(settings(tmp_path_factory.mktemp("whole")), quiet)


def test_resumed_training_equals_uninterrupted(trained: Path, tmp_path: Path) -> None:
    def interrupt(entry: checkpoint.Entry) -> None:
        if entry.step == 3:
            # No signal of the system: OpenVINO, used in this thread before, may have left it a stack
            # for signals that is there no more (seen with AMX).
            _thread.interrupt_main(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.train(settings(tmp_path), interrupt)
    assert checkpoint.load(tmp_path / trainer.CHECKPOINT)["step"] == 3
    resumed, whole = (
        checkpoint.load(trainer.train(settings(tmp_path, resume=True), quiet)),
        checkpoint.load(trained),
    )
    assert resumed["step"] == whole["step"] == 6
    assert resumed["history"] == whole["history"]
    for part in ("model", "average"):
        for name, weights in whole[part].items():
            assert torch.equal(resumed[part][name], weights), name
    lines = (tmp_path / progress.LOG).read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["step", "1", "2", "3", "4", "5", "6"]
    assert (tmp_path / progress.CURVE).exists()


@pytest.mark.usefixtures("light")
def test_resumed_training_has_the_settings_that_it_began_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that are not given; a card would say what was not so."""
    caplog.set_level("INFO")
    began = {"weight_decay": 0.5, "learning_rate": 5e-4, "seed": 3, "checkpoint_minutes": 7.0}
    trainer.train(settings(tmp_path, steps=1, **began), quiet)
    path = tmp_path / trainer.CHECKPOINT
    trainer.train(settings(tmp_path, resume=True, steps=2, average=0.9), quiet)
    content = checkpoint.load(path)
    assert content["settings"] | began | {"average": 0.9} == content["settings"]
    said = "as it began: learning_rate 0.0005, weight_decay 0.5, seed 3, checkpoint_minutes 7.0"
    assert said in caplog.text
    trainer.train(settings(tmp_path, resume=True, steps=2, weight_decay=0.25), quiet)
    groups = [each["param_groups"][0] for each in checkpoint.load(path)["optimizers"]]
    assert [group["weight_decay"] for group in groups] == [0.25, 0.25]
    words = ["cars-rt", "train", "--resume", "--out", str(tmp_path)]
    table = Dict({"train": {"weight-decay": 0.01}, "run": {"learning_rate": 1e-3}})
    for as_by_default in (
        given([*words, "--weight-decay=0.01"], [], []),
        given(words, ["CARS_RT_TRAIN_WEIGHT_DECAY", "CARS_RT_RUN_LEARNING_RATE"], []),
        given(words, [], [table]),
    ):
        found = checkpoint.resumed(settings(tmp_path, resume=True), path, as_by_default)
        assert (found.weight_decay, found.learning_rate) == (0.01, 5e-4)
    torch.save(content | {"settings": content["settings"] | {"device": "cuda"}}, path)
    there = checkpoint.resumed(settings(tmp_path, resume=True), path).device == "cuda"
    assert there == torch.cuda.is_available()


@pytest.mark.usefixtures("light")
def test_training_goes_on_and_is_exported_with_the_reference_it_began_with_whatever_the_file_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glass = reference_file(tmp_path / "glass.npz")
    began = read_reference(glass).sha256
    given = {"reference": glass, "steps": 1, "batch": 2}
    mine = trainer.train(settings(tmp_path / "mine", **given), quiet)
    trainer.train(settings(tmp_path / "none", steps=1, batch=2), quiet)
    with np.load(glass) as arrays:
        changed = {name: arrays[name] for name in arrays}
    glass.rename(tmp_path / "moved.npz")
    np.savez(glass, **changed | {"spectra": changed["spectra"] ** 1.1})
    for folder in ("mine", "none"):
        with pytest.raises(TrainingError, match=r"glass.npz is another reference than the training in .* be"):
            trainer.train(settings(tmp_path / folder, resume=True, **given), quiet)
    moved = given | {"reference": tmp_path / "moved.npz"}
    trainer.train(settings(tmp_path / "mine", resume=True, **moved), quiet)
    glass.unlink()
    with pytest.raises(TrainingError, match=r"glass\.npz"):  # since then it is the other one
        trainer.train(settings(tmp_path / "mine", resume=True, **given), quiet)
    trainer.train(settings(tmp_path / "mine", resume=True, steps=2, batch=2), quiet)
    (tmp_path / "moved.npz").rename(tmp_path / "far.npz")
    trainer.train(settings(tmp_path / "mine", resume=True, **moved | {"steps": 2}), quiet)
    seen = []
    monkeypatch.setattr(export, "evaluate", lambda model, data, batches: seen.append(data) or {})
    monkeypatch.setattr(export, "calibrate", lambda model, data, progress: seen.append(data))
    card = export.export(mine, tmp_path / "mine.onnx", "mine")
    assert [data.reference.sha256 for data in seen] == [began] * 2
    assert card["training"]["reference"] == "moved.npz" and card["training"]["steps"] == 2
    assert of_checkpoint(mine).card.pitch_cm1 == tuple(card["pitch_cm1"]) != Bcars(0, 1).pitch_cm1
    torch.save(checkpoint.load(mine) | {"reference": began}, mine)
    with pytest.raises(TrainingError, match=r"does not hold its reference, .*moved\.npz: train it again"):
        export.export(mine, tmp_path / "other.onnx", "other")


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("resume", [False, True])
def test_one_training_at_a_time_is_in_a_folder(resume: bool, tmp_path: Path) -> None:
    refused = []

    def another(entry: checkpoint.Entry) -> None:
        with pytest.raises(TrainingError, match="another training is in it: wait for its end, or choose"):
            trainer.train(settings(tmp_path, steps=9, batch=2, resume=resume), quiet)
        refused.append(entry.step)

    if resume:
        trainer.train(settings(tmp_path, steps=1, batch=2), quiet)
    trainer.train(settings(tmp_path, steps=2, batch=2, resume=resume), another)
    assert refused and checkpoint.load(tmp_path / trainer.CHECKPOINT)["step"] == 2
    assert os.name == "nt" or {path.name for path in tmp_path.iterdir()} == {"checkpoint.pt", "log.csv"}


@pytest.mark.usefixtures("light")
def test_resumed_training_is_measured_at_its_end_and_takes_no_fewer_steps(tmp_path: Path) -> None:
    def interrupt(entry: checkpoint.Entry) -> None:
        if entry.step == 2:
            _thread.interrupt_main(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trainer.train(settings(tmp_path), interrupt)
    with pytest.raises(TrainingError, match="has taken 2 steps already: give --steps 2 or more"):
        trainer.train(settings(tmp_path, resume=True, steps=1), quiet)
    content = checkpoint.load(trainer.train(settings(tmp_path, resume=True, steps=2), quiet))
    step, _, accuracy, _ = content["history"][-1]
    assert step == content["step"] == 2 and accuracy is not None


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups here")
def test_training_with_workers_that_is_told_to_end_is_saved(tmp_path: Path) -> None:
    flags = ("--out", tmp_path, "--batch", 2, "--threads", 1, "--workers", 1, "--log-every", 1)
    with Command("train", *flags) as command:
        log = tmp_path / progress.LOG
        wait_until(lambda: command.process.poll() is not None or (log.exists() and "\n2," in log.read_text()))
        os.killpg(command.process.pid, signal.SIGTERM)  # as systemd and `timeout` do
        code = command.end()
    assert code == 130 and "Traceback" not in command.said, command.said
    assert checkpoint.load(tmp_path / trainer.CHECKPOINT)["step"] >= 2


def test_batches_do_not_depend_on_workers(trained: Path, tmp_path: Path) -> None:
    beside = checkpoint.load(trainer.train(settings(tmp_path, workers=1, steps=6), quiet))
    assert beside["history"] == checkpoint.load(trained)["history"]


@pytest.mark.usefixtures("light")
def test_training_for_some_time_is_measured_at_its_end(tmp_path: Path) -> None:
    content = checkpoint.load(trainer.train(settings(tmp_path, steps=1000, minutes=1e-6), quiet))
    assert content["step"] == 1 and content["history"][-1][0] == 1 and content["history"][-1][2] is not None


@pytest.mark.usefixtures("light")
@pytest.mark.parametrize("bad", [1, trainer.LEFT_OUT])
def test_losses_that_are_not_finite_are_left_out(
    bad: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """If they go on, the averaged weights do."""
    true, calls = trainer.loss_function, iter(range(100))

    def breaks(predicted: Any, batch: Batch) -> Any:
        return true(predicted, batch) * (float("nan") if next(calls) in range(2, 2 + bad) else 1.0)

    monkeypatch.setattr(trainer, "loss_function", breaks)
    content = checkpoint.load(trainer.train(settings(tmp_path, steps=3 + bad), quiet))
    assert content["step"] == 3 + bad
    assert ("the averaged weights take the place" in caplog.text) == (bad == trainer.LEFT_OUT)
    assert all(torch.isfinite(weights).all() for weights in content["model"].values())


@pytest.mark.usefixtures("light")
def test_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true, calls = trainer.loss_function, iter(range(100))

    def breaks(predicted: Any, batch: Batch) -> Any:
        return true(predicted, batch) * (1.0 if next(calls) < 2 else float("nan"))

    monkeypatch.setattr(trainer, "loss_function", breaks)
    with pytest.raises(TrainingError, match="the loss became nan at step 41"):
        trainer.train(settings(tmp_path, steps=50, checkpoint_minutes=0), quiet)
    content = checkpoint.load(tmp_path / trainer.CHECKPOINT)
    assert content["step"] == 41
    assert all(torch.isfinite(weights).all() for weights in content["model"].values())


@pytest.mark.usefixtures("light")
def test_step_whose_gradient_overflows_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    true, calls = trainer.loss_function, iter(range(100))

    def steep(predicted: Any, batch: Batch) -> Any:
        overflows = next(calls) in range(1, 1 + trainer.LEFT_OUT)
        return true(predicted, batch) + ((0 * predicted[0].sum()).sqrt() if overflows else 0.0)

    monkeypatch.setattr(trainer, "loss_function", steep)
    content = checkpoint.load(trainer.train(settings(tmp_path, steps=2 + trainer.LEFT_OUT), quiet))
    assert "step 2 is left out: its gradient overflowed" in caplog.text
    assert "the averaged weights take the place" in caplog.text
    assert all(torch.isfinite(weights).all() for weights in content["model"].values())


def test_refuses_what_it_cannot_do(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no network is called 'transformer'"):
        trainer.train(settings(tmp_path, network="transformer"))
    with pytest.raises(TrainingError, match="no data is called 'real'"):
        trainer.train(settings(tmp_path, data="real"))
    with pytest.raises(TrainingError, match="already holds a training"):
        trainer.train(settings(trained.parent))
    content = checkpoint.load(trained)
    path = tmp_path / trainer.CHECKPOINT
    torch.save(content, path)
    for change in ({"network": "rnn"}, {"seed": 9}, {"batch": 8}, {"start": "rnn"}):
        ((name, value),) = change.items()
        with pytest.raises(TrainingError, match=rf"began with {name} .*, not {value}$"):
            trainer.train(settings(tmp_path, resume=True, **change), quiet)
    torch.save(content | {"model": {"weight": torch.zeros(3)}}, path)
    with pytest.raises(TrainingError, match="of another architecture"):
        trainer.train(settings(tmp_path, resume=True), quiet)
    torch.save(content | {"settings": [1]}, path)
    with pytest.raises(TrainingError, match="is not a checkpoint of this program"):
        trainer.train(settings(tmp_path, resume=True), quiet)
    for part, value in (("average", {"x": 1}), ("optimizers", [{}, {}]), ("history", 3)):
        torch.save(content | {part: value}, path)
        with pytest.raises(TrainingError, match=r"another architecture|cannot be resumed"):
            trainer.train(settings(tmp_path, resume=True), quiet)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="not a readable checkpoint"):
        trainer.train(settings(tmp_path, resume=True), quiet)
    with pytest.raises(TrainingError, match="holds no training that could be resumed"):
        trainer.train(settings(tmp_path / "elsewhere", resume=True), quiet)
    with pytest.raises(TrainingError, match="there is no checkpoint"):
        export.export(tmp_path / "nothing.pt", tmp_path / "model.onnx", "nothing")


def test_export_replaces_a_model_only_when_asked_and_says_so_at_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(export, "evaluate", lambda *_: {"median_r2": 0.987654, "visible": 12})
    monkeypatch.setattr(export, "calibrate", lambda network, data, progress: progress(1, 1500))
    path = tmp_path / "tiny.onnx"
    path.write_text("older")
    with pytest.raises(TrainingError, match=r"tiny\.onnx exists already; .+ give --overwrite"):
        export.export(tmp_path / "not-even-read.pt", path, "tiny")
    assert path.read_text() == "older"
    caplog.set_level("INFO", "cars_rt")
    export_model(trained, path, "tiny", overwrite=True)
    begun, done = caplog.messages
    assert begun == "the deviation is calibrated first, on 1500 batches, which takes minutes"
    assert done.startswith(f"{path}: on held-out spectra of ") and "R2 is 0.9877 (12 spectra)" in done
    assert path.stat().st_size > 1000


@pytest.mark.parametrize("name", ["n" * 90, "two\nlines", "", "bad\udcff", "kk", "mem"])
def test_export_refuses_a_name_that_nothing_can_load_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no name of a model: give one of 1 to 80 characters"):
        export.export(tmp_path / "not-even-read.pt", tmp_path / "tiny.onnx", name)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"log_every": 0}, "log_every must be 1 or more, not 0"),
        ({"batch": 0}, "batch must be 1 or more"),
        ({"batch": 12289}, "batch must be 12288 or less, not 12289: so many spectra share their substances"),
        ({"warmup": -1}, "warmup must be 0 or more, not -1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0, not 0.0"),
        ({"learning_rate": np.inf}, "learning_rate must be above 0, not inf"),
        ({"weight_decay": np.nan}, "weight_decay must be 0 or more, not nan"),
        ({"decay": 1.5}, "decay must be from 0 to 1, not 1.5"),
        ({"average": 1.0}, "average must be 0 or more and below 1, not 1.0"),
        ({"minutes": -5.0}, "minutes must be 0 or more, not -5.0"),
        ({"checkpoint_minutes": np.nan}, "checkpoint_minutes must be 0 or more, not nan"),
        ({"seed": 2**32}, "seed must be 2147483647 or less"),
        ({"seed": 2_000_003}, "draws the spectra that models are measured on"),
        ({"network": "cnn-kk"}, "cnn-kk learns only from bcars-pairs"),
        ({"data": "bcars-pairs", "batch": 8}, "cnn learns nothing from bcars-pairs"),
        (
            {"network": "cnn-kk", "data": "bcars-pairs"},
            "bcars-pairs takes batches of a multiple of 8 spectra",
        ),
    ],
)
def test_refuses_settings_that_nothing_comes_of(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=reason):
        trainer.train(settings(tmp_path, **changes), quiet)


def test_export_gives_the_same_raman_and_carries_its_card(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "evaluate", lambda *_: {"median_pearson": 0.5})
    monkeypatch.setattr(export, "calibrate", partial(calibrate, steps=20))
    path = tmp_path / "tiny.onnx"
    card = export.export(trained, path, "tiny")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map[export.CARD_KEY]) == card
    assert card["stride"] == STRIDE and card["target"] == "ratio" and card["scaling"] == "mean"
    assert card["training"]["steps"] == 6 and card["training"]["spectra"] == 24
    for private in (str(tmp_path), str(trained.parent), str(Path(__file__).parent)):
        assert private.encode() not in path.read_bytes()

    model = Cnn()
    model.load_state_dict(checkpoint.load(trained)["average"])
    spectrum = np.random.default_rng(1).uniform(-0.1, 3, (5, 10 * STRIDE)).astype(np.float32)
    pitch = np.full((1, 10 * STRIDE), 1.7, np.float32)
    raman, deviation = session.run(["raman", "deviation"], {"spectrum": spectrum, "pitch": pitch})
    with torch.no_grad():
        expected, before = (
            values.numpy() for values in model(torch.from_numpy(spectrum), torch.from_numpy(pitch))
        )
    assert np.abs(raman - expected).max() < 1e-4 * np.abs(expected).max()
    assert (deviation > 0).all() and np.abs(deviation - before).max() > 0.01  # it is calibrated on export


# -- networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_export_with_their_outputs(name: str) -> None:
    torch.manual_seed(3)
    model = build(name, [1000]).eval()
    for weight in model.parameters():  # none may stay zero, or a wrong layer would not show
        if weight.abs().max() == 0:
            torch.nn.init.normal_(weight, std=0.02)
    serialized = export.to_onnx(model, {"name": name, "version": "0"})
    export.compare(serialized, model)
    graph = onnx.load_model_from_string(serialized).graph
    assert [output.name for output in graph.output] == list(model.outputs)
    assert not {"Shape", "ConstantOfShape", "Expand", "Loop", "If"} & {node.op_type for node in graph.node}


def test_published_networks_take_one_length() -> None:
    assert build("specnet", [640])(torch.rand(2, 640))[0].shape == (2, 640)
    with pytest.raises(TrainingError, match="the network 'cnn-gru' takes spectra of one length"):
        build("cnn-gru", [640, 1000])
    # As published: 15 million parameters for 1000 points, 84 thousand.
    sizes = {n: sum(p.numel() for p in build(n, [1000]).parameters()) for n in ("specnet", "cnn-gru")}
    assert sizes == {"specnet": 15_077_770, "cnn-gru": 84_029}


@pytest.mark.parametrize("name", ["cnn", "rnn", "cnn-kk", "rnn-kk"])
def test_our_networks_take_any_length_and_see_all_of_it(name: str) -> None:
    torch.manual_seed(1)
    network = build(name, [1, 2])
    for weight in network.parameters():  # blocks start as nothing
        if weight.ndim > 1 and weight.abs().max() == 0:
            torch.nn.init.normal_(weight, std=0.05)
    for length in (5 * network.stride, 24 * network.stride):
        pitch = torch.full((1, length), 2.0)
        raman, deviation = network(torch.rand(2, length) + 0.5, pitch)[:2]
        assert raman.shape == deviation.shape == (2, length) and (deviation > 0).all()
    spectrum = torch.rand(1, 1024) + 0.5
    other = spectrum.clone()
    other[0, :8] *= 1.5
    pitch = torch.full((1, 1024), 2.0)
    change = (network(spectrum, pitch)[0] - network(other, pitch)[0]).abs()[0]
    assert change[-8:].max() > 0


def test_a_mixture_of_which_every_gate_is_closed_is_finite() -> None:
    """Of one lit pixel among thousands of dark ones the gates' logits are in the thousands."""
    network = CnnKk().eval()
    with torch.no_grad():
        network.head.bias[3 : 3 + GATES[3]] = -3000.0
        for result in network(torch.rand(2, 1024) + 0.5, torch.full((1, 1024), 2.0)):
            assert torch.isfinite(result).all()


@pytest.mark.usefixtures("light")
def test_weights_come_back_from_an_onnx_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "evaluate", lambda *_: {})
    monkeypatch.setattr(export, "calibrate", lambda *_: None)
    for name in ("cnn", "rnn"):
        path = trainer.train(settings(tmp_path / name, network=name, steps=2), quiet)
        export.export(path, tmp_path / f"{name}.onnx", name)
        fresh = build(name, [1, 2])
        start_from(fresh, str(tmp_path / f"{name}.onnx"))
        for key, value in checkpoint.load(path)["average"].items():
            assert torch.equal(fresh.state_dict()[key], value), key
    with pytest.raises(TrainingError, match="of another architecture"):
        start_from(build("rnn", [1, 2]), str(tmp_path / "cnn.onnx"))
    with pytest.raises(TrainingError, match="no model is called 'nothing'"):
        start_from(fresh, "nothing")


# -- the published distributions ----------------------------------------------------------------------


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_are_functions_of_seed_and_index(name: str) -> None:
    data = PROTOCOLS[name](7, 40)
    batch = data[5]
    data[0]
    again = PROTOCOLS[name](7, 40)[5]
    assert torch.equal(again.counts, batch.counts) and torch.equal(again.raman, batch.raman)
    assert not torch.equal(PROTOCOLS[name](8, 40)[5].counts, batch.counts)
    assert batch.counts.shape == batch.raman.shape == (40, len(batch.shift))
    assert batch.raman.min() > -1e-5 and 0.5 < batch.raman.max() <= 1.0
    # CARS rises below a line and dips above it: on the whole, the signal falls across the peaks.
    place = batch.raman[:, 20:-20].argmax(1) + 20
    rows = torch.arange(40)
    fall = torch.stack([batch.counts[rows, place - k] - batch.counts[rows, place + k] for k in (1, 2, 3)])
    assert (fall.sum(0) > 0).float().mean() > 0.9


def test_crimson2024_is_as_described() -> None:
    batch = PROTOCOLS["crimson2024"](1, 300)[0]
    peaks = torch.tensor([len(find_peaks(row, prominence=1e-3)[0]) for row in batch.raman.numpy()])
    assert peaks.min() >= 1 and peaks.max() <= 10 and peaks.float().mean() > 3
    # Normalised by the full spectrum's extremes, which peaks taken away may have been.
    assert (batch.counts.amin(1).abs() < 0.3).all() and ((batch.counts.amax(1) - 1).abs() < 0.6).all()
    assert ((batch.counts.amax(1) - 1).abs() < 0.05).float().mean() > 0.8
    inner = batch.raman[:, 40:-40].argmax(1) + 40
    assert (inner >= 49).all() and (inner <= 951).all()


def test_vector2022_has_nine_cases() -> None:
    widths = [float((Vector2022(3, 60, case=case)[0].raman > 0.05).float().mean()) for case in range(9)]
    assert len(Vector2022.cases) == 9
    assert widths[0] < widths[1] < widths[2] and widths[0] < widths[3] < widths[6]


def test_padding_repeats_the_edges_and_comes_off_again() -> None:
    spectra = torch.rand(3, 1000)
    wide = padded(spectra, 64)
    assert wide.shape == (3, 1024) and torch.equal(cropped(wide, 1000), spectra)
    assert torch.equal(wide[:, 0], spectra[:, 0]) and torch.equal(wide[:, -1], spectra[:, -1])


def test_dim_spectra_have_a_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one a spectrum becomes a thousand million, and a training's loss nan."""

    def narrow(shift: torch.Tensor, count: int, g: torch.Generator) -> torch.Tensor:
        peak = torch.exp(-((shift - shift.mean()) ** 2) / 8)
        return (1e-5 + peak).expand(count, -1)

    monkeypatch.setattr("cars_rt.training.data.bcars.envelopes.draw", narrow)
    batch = Bcars(1, 256)[1]
    assert batch.spectrum.abs().max() < 1e5
    nothing = replace(batch, counts=torch.stack([batch.counts[0] * 0, -batch.counts[0]]))
    assert nothing.spectrum.abs().max() < 1e5


# -- optimiser, deviation, reference ------------------------------------------------------------------


def test_orthogonal_brings_singular_values_near_one() -> None:
    for shape in ((40, 120), (120, 40), (64, 64)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(2, *shape, generator=torch.manual_seed(1))))
        assert values.min() > 0.5 and values.max() < 1.3


def test_deviation_loss_is_least_where_68_percent_are_within() -> None:
    g = torch.Generator().manual_seed(0)
    for errors in (torch.randn(20_000, generator=g), torch.randn(20_000, generator=g) ** 3 * 1e-3):
        guesses = errors.abs().quantile(torch.linspace(0.55, 0.8, 26))
        losses = [float(deviation_loss(guess, errors)) for guess in guesses]
        best = guesses[int(np.argmin(losses))]
        assert float((errors.abs() < best).float().mean()) == pytest.approx(0.683, abs=0.02)


def test_calibrated_deviation_covers_two_thirds_of_the_points() -> None:
    network = Cnn()
    data = PROTOCOLS["crimson2024"]
    others = [value.clone() for name, value in network.named_parameters() if not name.startswith("head.")]

    def covered() -> float:
        batch = data(9, 64)[0]
        raman, deviation = trainer.retrieve(network)(batch)
        return float(((raman - batch.raman).abs() <= deviation).float().mean())

    assert not 0.6 < covered() < 0.76
    calibrate(network, data(8, 32), steps=120)
    assert 0.6 < covered() < 0.76
    same = [value for name, value in network.named_parameters() if not name.startswith("head.")]
    assert all(torch.equal(old, new) for old, new in zip(others, same, strict=True))


def reference_file(path: Path, scale: float = 1.0) -> Path:
    shift = np.linspace(3100, 500, 700)
    np.savez(path, raman_shift=shift, spectra=scale * (200 + 3000 * np.exp(-(((shift - 900) / 700) ** 2))))
    return path


def test_deviation_has_a_share_of_the_likeliest_line_where_noise_is_left_in() -> None:
    """And it is learnt with the rest when the deviation is calibrated."""
    network = CnnKk()
    batch = PROTOCOLS["crimson2024"](8, 4)[0]
    with torch.no_grad():
        _, deviation, _, _, likeliest = network(*inputs(network, batch.spectrum, batch.pitch))
        expected = 0.03 + SHARE * likeliest.clamp(min=0)
        torch.testing.assert_close(deviation, expected)
        assert float(likeliest.max()) > 0.3
        seen = network.eval()(*inputs(network, batch.spectrum, batch.pitch))
    torch.testing.assert_close(seen[1], expected)
    before = [each.clone() for each in network.deviation_head]
    calibrate(network, PROTOCOLS["crimson2024"](8, 2), steps=1)
    assert not network.training
    changed = [not torch.equal(*pair) for pair in zip(before, network.deviation_head, strict=True)]
    assert all(changed) and before[1][0].item() != network.deviation_head[1][0].item()


def test_checkpoint_is_judged_as_the_model_that_is_made_of_it() -> None:
    weights = CnnKk().state_dict()
    content = {"network": "cnn-kk", "average": weights}
    once = finished(content, [1, 2], Path("c.pt")).state_dict()["head.bias"]
    assert sorted((weights["head.bias"] - once).tolist())[-3:] == [0, MIDDLE, LESS]
    again = finished(content | {"average": weights, "calibrated": True}, [1, 2], Path("c.pt"))
    assert torch.equal(again.state_dict()["head.bias"], weights["head.bias"]) and not again.training


def test_what_is_set_for_averages_is_so_once_when_it_is_trained_further(tmp_path: Path) -> None:
    """A shipped model, and what shipping leaves, hold that already; it was taken away twice."""
    shipped, made = build("cnn-kk", [1, 2]), tmp_path / "made.pt"
    start_from(shipped, "cnn-kk")
    first = finished({"network": "cnn-kk", "average": shipped.state_dict()}, [1, 2], made).state_dict()
    (bias,) = (
        numpy_helper.to_array(each)
        for each in onnx.load_model_from_string(load_model("cnn-kk").onnx).graph.initializer
        if each.name == "head.bias"
    )
    assert np.abs(first["head.bias"].numpy() - bias).max() < 1e-6
    for calibrated in (True, False):
        content = {"network": "cnn-kk", "average": first, "calibrated": calibrated}
        torch.save(content | {"settings": {}, "step": 0}, made)
        start_from(shipped, str(made))
        again = finished({"network": "cnn-kk", "average": shipped.state_dict()}, [1, 2], made).state_dict()
        torch.testing.assert_close(again, finished(content, [1, 2], made).state_dict())


def test_a_reference_in_nm_is_refused_without_advice_that_is_of_no_use(tmp_path: Path) -> None:
    (tmp_path / "glass.csv").write_text("nm,counts\n" + "".join(f"{700 + n},{n + 9}\n" for n in range(99)))
    with pytest.raises(
        TrainingError, match=r"glass\.csv: the axis is in nm, or may be: write .* in cm-1"
    ) as found:
        background(tmp_path / "glass.csv")
    assert "--pump-nm" not in str(found.value)


def test_deviation_of_a_network_of_few_steps_can_be_calibrated() -> None:
    """Its logarithm may lie where exp overflows; then not a number would be exported."""
    torch.manual_seed(0)
    network = Cnn()
    with torch.no_grad():
        network.deviation_head[1].fill_(200.0)
    calibrate(network, PROTOCOLS["crimson2024"](8, 2), steps=2)
    assert all(bool(torch.isfinite(each).all()) for each in network.deviation_head)


def test_reference_narrows_the_data_to_its_instrument(tmp_path: Path) -> None:
    reference = read_reference(reference_file(tmp_path / "glass.npz"))
    data = Bcars(4, 32, STRIDE, reference)
    batch = data[0]
    assert batch.counts.shape == (32, 700) and batch.shift[0] == 500
    shape = reference.envelope(batch.shift.numpy())
    # Spectra with few resonances follow the reference's shape.
    weak = batch.raman.amax(1) < 0.1
    for row in batch.counts[weak].numpy():
        assert np.corrcoef(np.log(row.clip(1)), np.log(shape))[0, 1] > 0.9
    assert weak.any()
    # Whole spans are counted alike, however their ends are rounded.
    axis = np.linspace(400.7, 3400.7, 700)
    assert len(Bcars(4, 2, STRIDE, Reference(axis, reference.counts, "glass"))[0].shift) == 700
    with pytest.raises(TrainingError, match="a reference narrows 'bcars', not 'lut2022'"):
        distribution("lut2022", reference)


def test_reference_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="there is no file"):
        background(tmp_path / "nothing.npz")
    with pytest.raises(TrainingError, match=r"700 of 700 pixels in all not positive"):
        background(reference_file(tmp_path / "dark.npz", scale=0))
    np.savez(tmp_path / "short.npz", raman_shift=500 + np.arange(300.0), spectra=np.ones(300))
    with pytest.raises(TrainingError, match="spans 299 cm-1; 400 are needed"):
        background(tmp_path / "short.npz")


def test_fine_tuning_starts_where_the_weights_were(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    glass = reference_file(tmp_path / "glass.npz")
    seen: list[checkpoint.Entry] = []
    start = shutil.copy(trained, tmp_path / "start.pt")
    tuned = settings(tmp_path / "tuned", reference=glass, start=str(start), steps=2)
    content = checkpoint.load(trainer.train(tuned, seen.append))
    assert [entry.step for entry in seen] == [0, 1, 2]
    assert seen[0].median_r2 is not None and seen[-1].median_r2 is not None
    assert content["settings"]["reference"] == str(glass)
    start.unlink()  # where it goes on, the weights are those of its own checkpoint
    monkeypatch.setattr(scores, "VISIBLE", np.inf)
    seen.clear()
    again = checkpoint.load(trainer.train(replace(tuned, resume=True, steps=3), seen.append))
    assert again["settings"]["start"] == str(start)
    (last,) = seen  # once, even if there is no R2 since nothing is visible
    assert last.step == 3 and last.median_r2 is None and last.mean_absolute_error is not None
