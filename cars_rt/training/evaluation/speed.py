"""How fast a model is, in its deployment graph, without a daemon around it."""

import time
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from cars_rt.training.data.batch import Batch
from cars_rt.training.evaluation.scores import Retrieve

BATCHES = (1, 128)
LEAST_S = 0.7  # of each measurement, seconds


class Speed(NamedTuple):
    """The median of the runs that fit into LEAST_S; one at least."""

    threads: int
    batch: int
    length: int  # pixels of a spectrum
    spectra_per_s: float


def speed(model: Retrieve, threads: int, shift: Tensor, batch: int) -> Speed:
    """Time a model that is on `threads` threads, with spectra that are ones on an axis (p,), cm-1; after a
    run to warm up."""
    ones = torch.ones(batch, len(shift))
    spectra = Batch(shift, ones, ones, ones)
    model(spectra)
    runs: list[float] = []
    spent = 0.0
    while spent < LEAST_S:
        begin = time.perf_counter()
        model(spectra)
        runs.append(time.perf_counter() - begin)
        spent += runs[-1]
    return Speed(threads, batch, len(shift), round(batch / median(runs), 1))
