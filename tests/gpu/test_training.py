"""Training on a GPU: it draws its own spectra there, and what it has learnt works everywhere."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("torch finds no CUDA device", allow_module_level=True)

from cars_rt.training.data.batch import Batch  # noqa: E402
from cars_rt.training.data.distribution import DISTRIBUTIONS  # noqa: E402
from cars_rt.training.export import export  # noqa: E402
from cars_rt.training.settings import TrainSettings  # noqa: E402
from cars_rt.training.trainer import train  # noqa: E402

GPU = torch.device("cuda")


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_spectra_drawn_there_are_of_the_same_distribution(name: str) -> None:
    here = DISTRIBUTIONS[name](1, 256, 8)
    with GPU:
        there = DISTRIBUTIONS[name](1, 256, 8)
    ours, theirs = [], []
    for index in range(0, 480, 40):  # windows and cameras change from batch to batch
        with GPU:
            drawn, again = there[index], there[index]
        assert drawn.counts.device.type == "cuda" and torch.equal(drawn.counts, again.counts)
        ours.append(summary(here[index]))
        theirs.append(summary(drawn.to(torch.device("cpu"))))
    quarters = torch.tensor([0.25, 0.5, 0.75])
    expected, found = (torch.cat(each).quantile(quarters, dim=0) for each in (ours, theirs))
    assert ((found - expected).abs() < 0.25 * (expected[2] - expected[0]) + 1e-6).all(), (expected, found)


def summary(batch: Batch) -> torch.Tensor:
    """(b, 3): how high the spectrum and the truth rise, and how rough the spectrum is."""
    assert torch.isfinite(batch.spectrum).all() and torch.isfinite(batch.raman).all()
    rough = batch.spectrum.diff(dim=1).abs().mean(1)
    return torch.stack([batch.spectrum.amax(1), batch.raman.amax(1) + batch.raman.mean(1), rough], 1)


@pytest.mark.parametrize("network", ["cnn", "rnn"])
def test_what_was_learnt_there_runs_here(network: str, tmp_path: Path) -> None:
    settings = TrainSettings(
        network=network,
        data="crimson2024",
        out=tmp_path,
        steps=60,
        batch=256,
        warmup=5,
        validate_every=30,
        log_every=20,
    )
    losses: list[float] = []
    checkpoint = train(settings, lambda entry: losses.append(entry.loss or 0.0))
    assert losses[-1] < losses[0]
    card = export(checkpoint, tmp_path / "learnt.onnx", "learnt")
    assert card["accuracy"]["crimson2024"]["median_r2"] > 0
