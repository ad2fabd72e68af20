"""What is dilute is right on average: `cnn-kk`, alone and with the solvent as reference, and `kk` with it."""

from pathlib import Path

import numpy as np
import pytest

from cars_rt.engines import compose, load_model, open_engine
from cars_rt.engines.registry import REFERENCE
from cars_rt.physics.microscope import Microscope, Simulator
from cars_rt.physics.substances import SUBSTANCES

SPECTRA = 256  # of each sample, averaged after retrieval


#: Smallest and largest share of the truth at 1:3 and 1:10, at 1:30 and at 1:100.
LIMITS = {
    ("cnn-kk", False): ((0.93, 1.1), (0.82, 1.18), (0.55, 1.45)),
    ("cnn-kk", True): ((0.95, 1.1), (0.82, 1.15), (0.55, 1.3)),
    ("kk", True): ((0.93, 1.1), (0.87, 1.1), (0.7, 1.35)),
}


@pytest.mark.parametrize(("model", "with_solvent"), LIMITS, ids=["cnn-kk", "cnn-kk solvent", "kk solvent"])
@pytest.mark.parametrize("name", ["toluene", "DMSO", "acetonitrile"])
def test_averages_of_a_dilution_are_right(name: str, model: str, with_solvent: bool, tmp_path: Path) -> None:
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
    loaded = load_model(model, solvent) if with_solvent else load_model(model)
    with open_engine(REFERENCE, compose(loaded, axis), 64) as engine:
        for dilution in (3, 10, 30, 100):
            truth = microscope.raman(fractions(1 / dilution))[0]
            line = int(truth.argmax())
            of_truth[dilution] = float(engine.run(counts(1 / dilution))[:, line].mean() / truth[line])
    for dilutions, (least, most) in zip(((3, 10), (30,), (100,)), LIMITS[model, with_solvent], strict=True):
        assert all(least <= of_truth[each] <= most for each in dilutions), of_truth
