"""How good a network is on spectra it has not seen, for its card."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cars_rt.training.distribution import Distribution

HELD_OUT_SEED = 2_000_003  # far from the seeds anybody trains with
VISIBLE = 5.0  # a spectrum counts as visible if its strongest line exceeds this times the noise


def evaluate(
    model: Callable[[Tensor], tuple[Tensor, ...]], data: Distribution, batches: int = 16
) -> dict[str, float]:
    """Accuracy of a model on the first batches of a distribution (of `HELD_OUT_SEED`, if it is to be
    honest).

    model: scaled spectra (b, length) float32 to its outputs, each (b, length). Returns the number of
    spectra; median Pearson correlation and median R2 of those whose strongest line exceeds five
    times the noise at its place (in units of raman), and how many these are; the
    tenth percentile of their correlation; the mean square error and the mean absolute error over all, in
    units of raman; and of a model that gives its deviation, the share of points within it.
    """
    correlation, determination, square, error, visible, covered = [], [], [], [], [], []
    for index in range(batches):
        batch = data[index]
        found = model(batch.spectrum)
        predicted, truth = found[0].double(), batch.raman.double()
        if len(found) > 1:
            covered.append(((predicted - truth).abs() <= found[1]).double().mean())
        deviation = truth - truth.mean(1, keepdim=True)
        spread = predicted - predicted.mean(1, keepdim=True)
        norm = (deviation.norm(dim=1) * spread.norm(dim=1)).clamp(min=1e-12)
        correlation.append((deviation * spread).sum(1) / norm)
        variance = deviation.square().sum(1).clamp(min=1e-12)
        determination.append(1 - (predicted - truth).square().sum(1) / variance)
        square.append((predicted - truth).square().mean(1))
        error.append((predicted - truth).abs().mean(1))
        strongest, place = truth.max(1, keepdim=True)
        visible.append((strongest > VISIBLE * batch.noise.gather(1, place))[:, 0])
    seen = torch.cat(visible).numpy()
    pearson = torch.cat(correlation).numpy()[seen]
    result = {
        "spectra": float(len(seen)),
        "visible": float(seen.sum()),
        "median_pearson": round(float(np.median(pearson)), 5),
        "tenth_percentile_pearson": round(float(np.quantile(pearson, 0.1)), 5),
        "median_r2": round(float(np.median(torch.cat(determination).numpy()[seen])), 5),
        "mean_square_error": float(f"{float(torch.cat(square).mean()):.4g}"),
        "mean_absolute_error": round(float(torch.cat(error).mean()), 6),
    }
    if covered:
        result["within_deviation"] = round(float(torch.stack(covered).mean()), 4)
    return result
