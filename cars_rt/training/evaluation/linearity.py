"""Whether half of a substance gives half of a line: dilutions in the simulated microscope.

For models whose target is Im{chi_R} / chi_NR; one that scales every spectrum to 1 cannot know.
"""

from typing import NamedTuple

import numpy as np
import torch

from cars_rt.physics.microscope import Simulator
from cars_rt.physics.substances import SUBSTANCES
from cars_rt.training.data.batch import Batch
from cars_rt.training.evaluation.metrics import Floats, line
from cars_rt.training.evaluation.scores import Retrieve

DILUTED = ("toluene", "DMSO", "acetonitrile")  # each with one line well above all others
CONCENTRATIONS = np.geomspace(1, 0.01, 9)  # volume fractions
FACTORS = (0.1, 10.0)  # of the counts


class Dilution(NamedTuple):
    """The strongest line of a substance over nine concentrations from 1 to 0.01."""

    substance: str
    shift: float  # cm-1, of the line
    slope: float  # retrieved over true
    r2: float | None  # None where all that was retrieved is the same
    weakest: float  # retrieved over true at a concentration of 0.01
    true: list[float]
    retrieved: list[float]


class Linearity(NamedTuple):
    """Dilutions, and by how much of its maximum a result changes when all counts are multiplied."""

    dilutions: list[Dilution]
    largest_change: float | None  # for counts times 0.1 and 10; None where all results are 0


def linearity(model: Retrieve, spectra: int) -> Linearity:
    """Dilute some substances in the simulated microscope, noise included, and retrieve them.

    spectra: of each concentration, averaged after retrieval, so that noise is not what is judged."""
    simulator = Simulator()
    axis = simulator.raman_shift

    def raman(counts: Floats) -> Floats:
        given = torch.from_numpy(counts.astype(np.float32))
        return np.asarray(model(Batch(torch.from_numpy(axis), given, given, given))[0].double().numpy())

    dilutions, changes = [], []
    for name in DILUTED:
        fractions = np.zeros((len(CONCENTRATIONS), len(SUBSTANCES)))
        fractions[:, [each.name for each in SUBSTANCES].index(name)] = CONCENTRATIONS
        truth = simulator.raman(fractions)
        place = int(truth[0].argmax())
        counts = [simulator.measure(np.repeat(row[None], spectra, 0)) - simulator.dark for row in fractions]
        found = [raman(each) for each in counts]
        true, retrieved = truth[:, place], np.array([each[:, place].mean() for each in found])
        fit = line(true, retrieved)
        dilutions.append(
            Dilution(
                name,
                round(float(axis[place]), 1),
                round(fit.slope, 4),
                round(fit.r2, 5) if np.ptp(retrieved) > 0 else None,
                round(float(retrieved[-1] / true[-1]), 4),
                [round(float(value), 5) for value in true],
                [round(float(value), 5) for value in retrieved],
            )
        )
        if (largest := np.abs(found[0]).max()) > 0:
            changes += [np.abs(raman(factor * counts[0]) - found[0]).max() / largest for factor in FACTORS]
    return Linearity(dilutions, float(f"{max(changes):.2g}") if changes else None)
