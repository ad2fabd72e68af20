"""Losses: what training minimises, of raman and of its deviation."""

import torch
from torch import Tensor, nn

from cars_rt.training.data.batch import Batch

BETA = 0.2  # below it errors count squared: the mean of what noise leaves open, not the likelier nothing
SMALL_CHI3 = 0.05  # an error worth mending, of targets scaled to 1: what the deviation is weighed against
LEAST_LINE = 0.02  # in units of chi_NR: weaker lines, and none, count as this
OUTLIER = 3.0  # larger errors, in units of half the strongest line, count as this
SCALES = (1, 4, 16, 64)  # points that errors are averaged over
GAIN = 0.5  # weight of what is missing of the lines
NOISE = 0.001  # weight of the noise's square: so much bias is worth it to smooth what noise hides
LEVEL = 0.02  # the same before it is smoothed, for what a base line brings
LIKELIEST = 0.5  # weight of the likeliest spectrum's own loss
OWN = 0.1  # weight of the square of what differs between two retrievals, beside the noise that is passed on
COVERED = 0.683  # of the errors are to be smaller than the deviation, as for a normal distribution


def loss(predicted: tuple[Tensor, ...], batch: Batch) -> Tensor:
    """Scalar, for a network's outputs (each (b, length)): of raman, and of its deviation if there is one."""
    raman = predicted[0]
    if batch.scaled:
        total = _chi3(raman, batch.raman)
    else:
        total = _ratio(raman, batch) if batch.passed is None else _unbiased(predicted, batch)
    if len(predicted) > 1:
        total = total + 0.01 * deviation_loss(predicted[1], batch.raman - raman.detach())
    return total


def deviation_loss(deviation: Tensor, error: Tensor) -> Tensor:
    """Scalar: the negative logarithm of the asymmetric Laplace likelihood of ln|error| around
    ln(deviation), least where the deviation is the 68.3 % quantile of |error| (Koenker & Machado,
    J. Am. Stat. Assoc. 94, 1296 (1999)). The logarithm makes every decade of signal count the same.
    """
    excess = torch.log(error.abs() + 1e-5) - torch.log(deviation + 1e-5)
    return torch.maximum(COVERED * excess, (COVERED - 1) * excess).mean()


def _penalty(values: Tensor, weights: Tensor, beta: float) -> Tensor:
    each = nn.functional.smooth_l1_loss(values, torch.zeros_like(values), beta=beta, reduction="none")
    return (each * weights).sum() / weights.sum()


def _ratio(raman: Tensor, batch: Batch) -> Tensor:
    """Smooth L1 of the error, and of its change over 2 points (4 cm-1), per spectrum in units of its
    strongest line, so that weak spectra count as much as strong ones, but not below the noise; points
    where the excitation has died away count little."""
    noise = batch.noise
    typical = noise.median(1, keepdim=True).values
    scale = 0.01 + typical + 0.5 * batch.raman.abs().amax(1, keepdim=True)
    weight = 1 / (1 + (noise / (0.2 * scale + typical)) ** 2)
    error = (raman - batch.raman) / scale
    change = 2 * (error[:, 2:] - error[:, :-2])
    return _penalty(error, weight, BETA) + 0.5 * _penalty(change, weight[:, 1:-1], BETA)


def _unbiased(predicted: tuple[Tensor, ...], batch: Batch) -> Tensor:
    """Of pairs: the product of both errors, whose mean is the square of the bias, and a little of their
    variance. Errors are in units of the strongest line, but not below what a base line may be off, and their
    averages over 4, 16 and 64 points count as much as points.

    Of Kramers-Kronig retrieval as it is: what it errs besides the noise that retrieval passes on. Of the
    same less its base line, and of that smoothed: errors, noise and all. Of the likeliest: as `_ratio`."""
    smooth, _, level, plain, likeliest = predicted
    assert batch.passed is not None
    noise = batch.noise
    typical = noise.median(1, keepdim=True).values
    scale = LEAST_LINE + 0.5 * typical + 0.5 * batch.raman.abs().amax(1, keepdim=True)
    weight = 1 / (1 + (noise / (0.2 * scale + typical)) ** 2)
    total = LIKELIEST * _ratio(likeliest, batch)
    for result, truth, variance in (
        (plain, batch.passed, OWN), (level, batch.raman, LEVEL), (smooth, batch.raman, NOISE)
    ):  # fmt: skip
        error = ((result - truth) / scale).clamp(-OUTLIER, OUTLIER)
        total = total + GAIN * _gain(result - truth, batch.raman, weight)
        for points in SCALES if result is not smooth else (1,):
            of_mean = nn.functional.avg_pool1d(weight, points, ceil_mode=True)
            mean = nn.functional.avg_pool1d(error * weight, points, ceil_mode=True) / of_mean
            total = total + _bias(mean, of_mean, variance)
    return total


def _gain(error: Tensor, raman: Tensor, weight: Tensor) -> Tensor:
    """The mean square of the share of the lines that is missing, or too much, of pairs; however weak they
    are, down to a thirtieth of what a base line may be off."""
    known = (raman.square() * weight).sum(1) + (LEAST_LINE / 30) ** 2 * weight.sum(1)
    first, second = ((error * raman * weight).sum(1) / known).clamp(-OUTLIER, OUTLIER).chunk(2)
    return (first * second).mean()


def _bias(error: Tensor, weight: Tensor, variance: float) -> Tensor:
    """The mean square of what both errors of a pair share, and `variance` times that of what they do not."""
    (first, second), (both, _) = error.chunk(2), weight.chunk(2)
    return ((first * second + variance * (first - second).square()) * both).sum() / both.sum()


def _chi3(raman: Tensor, truth: Tensor) -> Tensor:
    """Half the mean square error, which the papers report, in units of SMALL_CHI3."""
    return 0.5 * ((raman - truth) / SMALL_CHI3).square().mean()
