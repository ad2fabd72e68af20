"""How good a model is on spectra it has not seen."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cars_rt.training.data.batch import Batch, cropped
from cars_rt.training.data.distribution import Distribution
from cars_rt.training.evaluation.metrics import (
    Coverage,
    Floats,
    Matches,
    determination,
    match,
    peaks,
    pearson,
)
from cars_rt.training.networks import Published, Retrieval, inputs

VISIBLE = 5.0  # a spectrum counts as visible if its strongest line exceeds this times the noise

#: Counts on a camera's pixels to raman and, of a model that gives it, its deviation, each (b, length).
Retrieve: TypeAlias = Callable[[Batch], tuple[Tensor, ...]]


def retrieve(network: Retrieval | Published) -> Retrieve:
    """A network while it is trained, on the pixels, without gradients; the results are on the CPU."""
    device = next(network.parameters()).device

    def outputs(batch: Batch) -> tuple[Tensor, ...]:
        with torch.no_grad():
            found = network(*(each.to(device) for each in inputs(network, batch.spectrum, batch.pitch)))
        return tuple(cropped(values, batch.counts.shape[1]).cpu() for values in found)

    return outputs


class Sample(NamedTuple):
    """One spectrum and what a model made of it, all (length,) float32."""

    shift: NDArray[np.float32]  # cm-1
    spectrum: NDArray[np.float32]  # as the model saw it
    truth: NDArray[np.float32]
    predicted: NDArray[np.float32]
    deviation: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Scores:
    """n spectra, judged one by one."""

    r2: Floats  # (n,)
    pearson: Floats  # (n,)
    square: Floats  # (n,), mean square error
    absolute: Floats  # (n,), mean absolute error
    visible: NDArray[np.bool_]  # (n,), whether the strongest line is above the noise
    peaks: list[Matches]  # n
    by_reported: Coverage | None  # by decade of the predicted signal; None of a model without deviation
    by_true: Coverage | None  # by decade of the true signal
    samples: list[Sample]  # n

    @classmethod
    def together(cls, parts: Iterable["Scores"]) -> "Scores":
        """Several of one model as one; one part at least."""
        every = list(parts)

        def joined(name: str) -> Any:
            return np.concatenate([getattr(part, name) for part in every])

        def covered(name: str) -> Coverage | None:
            counted = [getattr(part, name) for part in every]
            return None if None in counted else reduce(add, counted)

        return cls(
            joined("r2"),
            joined("pearson"),
            joined("square"),
            joined("absolute"),
            joined("visible"),
            [each for part in every for each in part.peaks],
            covered("by_reported"),
            covered("by_true"),
            [each for part in every for each in part.samples],
        )

    def summary(self) -> dict[str, Any]:
        """Numbers, by name. R2, correlation (None where none is visible) and peaks are of the visible
        spectra, errors of all; errors are in units of the target, coverage is the share of points within the
        deviation."""
        seen = self.visible
        counted = [each for each, good in zip(self.peaks, seen, strict=True) if good]
        found = Matches(*np.sum([Matches(0, 0, 0), *counted], axis=0))

        def quantile(values: Floats, share: float) -> float | None:
            return round(float(np.quantile(values[seen], share)), 5) if seen.any() else None

        result: dict[str, Any] = {
            "spectra": len(self.r2),
            "visible": int(self.visible.sum()),
            "median_r2": quantile(self.r2, 0.5),
            "quartiles_r2": [quantile(self.r2, 0.25), quantile(self.r2, 0.75)],
            "median_pearson": quantile(self.pearson, 0.5),
            "tenth_percentile_pearson": quantile(self.pearson, 0.1),
            "mean_square_error": float(f"{self.square.mean():.4g}"),
            "mean_absolute_error": float(f"{self.absolute.mean():.4g}"),
            "peaks": {name: int(value) for name, value in found._asdict().items()},
        }
        if self.by_reported is not None and self.by_true is not None:
            result["within_deviation"] = round(self.by_reported.share, 4)
            result["within_deviation_by_reported"] = self.by_reported.shares
            result["within_deviation_by_true"] = self.by_true.shares
        return result


def judge(model: Retrieve, batch: Batch) -> Scores:
    """A model on one batch of spectra."""
    found = model(batch)
    raman, truth = found[0].double().numpy(), batch.raman.double().numpy()
    deviation = found[1].double().numpy() if len(found) > 1 else None
    shift = batch.shift.numpy()
    strongest, place = batch.raman.max(1, keepdim=True)
    visible = (strongest > VISIBLE * batch.noise.gather(1, place))[:, 0].numpy()
    error = raman - truth
    by_reported, by_true = (
        None if deviation is None else Coverage.of(error, deviation, signal) for signal in (raman, truth)
    )
    shown = None if deviation is None else deviation.astype(np.float32)
    return Scores(
        determination(raman, truth),
        pearson(raman, truth),
        np.square(error).mean(1),
        np.abs(error).mean(1),
        visible,
        [match(peaks(r, shift), peaks(t, shift)) for r, t in zip(raman, truth, strict=True)],
        by_reported,
        by_true,
        [
            Sample(
                shift.astype(np.float32),
                batch.spectrum[row].numpy(),
                truth[row].astype(np.float32),
                raman[row].astype(np.float32),
                None if shown is None else shown[row],
            )
            for row in range(len(truth))
        ],
    )


def evaluate(model: Retrieve, data: Distribution, batches: int = 16) -> dict[str, Any]:
    """`Scores.summary` of a model on the first batches of a distribution (of `HELD_OUT_SEED`, if it is to
    be honest), for its card and for a training's log."""
    return Scores.together(judge(model, data[index]) for index in range(batches)).summary()
