"""What is dilute is right on average: `cnn-kk`, alone and with the solvent as its reference."""

from pathlib import Path

import numpy as np
import pytest

from cars_rt.engines import compose, load_model, open_engine
from cars_rt.engines.registry import REFERENCE
from cars_rt.physics.microscope import Microscope, Simulator
from cars_rt.physics.substances import SUBSTANCES

SPECTRA = 256  # of each sample, averaged after retrieval


@pytest.mark.parametrize("with_solvent", [False, True], ids=["alone", "solvent"])
@pytest.mark.parametrize("name", ["toluene", "DMSO", "acetonitrile"])
def test_averages_of_a_dilution_are_right(name: str, with_solvent: bool, tmp_path: Path) -> None:
    """Limits are those of eight seeds, which docs/retrieval.md has, and a little more."""
    microscope = Simulator(Microscope(seed=4))
    axis, which = microscope.raman_shift, [each.name for each in SUBSTANCES].index(name)

    def fractions(concentration: float) -> np.ndarray:
        mixture = np.zeros((1, len(SUBSTANCES)))
        mixture[0, which] = concentration
        return mixture

    def counts(concentration: float, spectra: int = SPECTRA) -> np.ndarray:
        mixture = np.repeat(fractions(concentration), spectra, axis=0)
        return microscope.measure(mixture).astype(np.float32) - microscope.dark

    solvent = tmp_path / "solvent.npz"
    np.savez(solvent, raman_shift=axis, spectra=counts(0, 400).mean(axis=0, keepdims=True))
    of_truth = {}
    model = load_model("cnn-kk", solvent) if with_solvent else load_model("cnn-kk")
    with open_engine(REFERENCE, compose(model, axis), 64) as engine:
        for dilution in (3, 10, 30, 100):
            truth = microscope.raman(fractions(1 / dilution))[0]
            line = int(truth.argmax())
            of_truth[dilution] = float(engine.run(counts(1 / dilution))[:, line].mean() / truth[line])
    assert all(0.95 <= of_truth[each] <= 1.1 for each in (3, 10)), of_truth
    assert 0.82 <= of_truth[30] <= 1.2, of_truth
    assert 0.55 <= of_truth[100] <= 1.65, of_truth
