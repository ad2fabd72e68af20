"""Whether results may be averaged: the mean of many retrievals of one spectrum, each with its own noise."""

from typing import NamedTuple

import numpy as np

from cars_rt.training.data.bcars import BcarsRepeated
from cars_rt.training.evaluation.metrics import DECADES, EDGES
from cars_rt.training.evaluation.scores import Retrieve

SPECTRA = 2  # of each camera
QUIET = 0.1  # in units of chi_NR: pixels with more noise than that say little of a network


class Bias(NamedTuple):
    """By decade of the true signal, named as in `metrics.DECADES`, of the pixels that are lit well."""

    draws: int  # of the noise, of each spectrum
    spectra: int
    retrieved: dict[str, float]  # the sum of the means over the sum of the truth
    root_mean_square: dict[str, float]  # of the difference between mean and truth, in units of chi_NR


def bias(model: Retrieve, seed: int, cameras: int) -> Bias:
    """Retrieve `SPECTRA` spectra of `bcars` on the axis of each of some cameras many times each."""
    data = BcarsRepeated(seed, SPECTRA * BcarsRepeated.draws)
    means, truths = [], []
    for index in range(cameras):
        batch = data[index]
        found = model(batch)[0].double().numpy()
        mean = found.reshape(BcarsRepeated.draws, SPECTRA, -1).mean(axis=0)
        quiet = batch.noise[:SPECTRA].numpy() < QUIET
        means.append(mean[quiet])
        truths.append(batch.raman[:SPECTRA].double().numpy()[quiet])
    mean, truth = np.concatenate(means), np.concatenate(truths)
    decade = np.digitize(truth, EDGES)
    retrieved, spread = {}, {}
    for number, name in enumerate(DECADES):
        if (chosen := decade == number).any():
            if number:  # of nothing there is no share
                retrieved[name] = round(float(mean[chosen].sum() / truth[chosen].sum()), 4)
            spread[name] = float(f"{np.sqrt(np.square(mean - truth)[chosen].mean()):.3g}")
    return Bias(BcarsRepeated.draws, cameras * SPECTRA, retrieved, spread)
