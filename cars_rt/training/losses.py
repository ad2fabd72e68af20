"""Losses: what training minimises, of raman and of its deviation."""

import torch
from torch import Tensor, nn

from cars_rt.training.data.batch import Batch

BETA = 0.2  # below it errors count squared: the mean of what noise leaves open, not the likelier nothing
SMALL_CHI3 = 0.05  # an error worth mending, of targets scaled to 1: what the deviation is weighed against
LEAST_LINE = 0.01  # in units of chi_NR: weaker lines, and none, count as this
LEAST_ADDED = 0.004  # the same of that by which a pair differs
LEAST_GAIN = 0.02 / 30  # the same of lines whose share is asked for
WEAK = 0.2  # in units of chi_NR: up to here all of what is added must be seen
SEEN = 8.0  # times the noise of most points: noisier ones count less, since no retrieval sees anything there
OUTLIER = 3.0  # larger errors, in units of half the strongest line, count as this
SCALES = (1, 4, 16, 64)  # points that errors are averaged over
GAIN = 1.0  # weight of what is missing of the lines
RESPONSE = 12.0  # weight of what is missing of that by which a pair differs
NOISE = 0.001  # weight of the noise's square: so much bias is worth it to smooth what noise hides
LEVEL = 0.1  # the same before it is smoothed, for what a base line brings besides
LIKELIEST = 0.5  # weight of the likeliest spectrum's own loss
OWN = 0.2  # weight of the square of what differs between two retrievals, beside the noise that is passed on
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


def deviation_loss(deviation: Tensor, error: Tensor, covered: float | Tensor = COVERED) -> Tensor:
    """Scalar: the negative logarithm of the asymmetric Laplace likelihood of ln|error| around
    ln(deviation), least where the deviation is the 68.3 % quantile of |error|, or another that is asked for
    (Koenker & Machado, J. Am. Stat. Assoc. 94, 1296 (1999)). The logarithm makes every decade of signal count
    the same.
    """
    excess = torch.log(error.abs() + 1e-5) - torch.log(deviation + 1e-5)
    return torch.maximum(covered * excess, (covered - 1) * excess).mean()


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
    """Of pairs, with several draws of the noise: the product of the errors of two draws, whose mean is the
    square of the bias, and a little of their variance. Errors are in units of the strongest line, but not
    below what a base line may be off, and their averages over 4, 16 and 64 points count as much as points.

    Of Kramers-Kronig retrieval as it is, and less its base line: what they err besides the noise that
    retrieval passes on, and what is missing of that by which a pair differs. Of that smoothed: errors, noise
    and all. Of the likeliest: as `_ratio`."""
    smooth, _, level, plain, likeliest = predicted
    assert batch.passed is not None
    noise = batch.noise
    typical = noise.median(1, keepdim=True).values
    strongest = batch.raman.abs().amax(1, keepdim=True)
    total = LIKELIEST * _ratio(likeliest, batch)
    for result, truth, variance, of_noise in (
        (plain, batch.passed, OWN, 0.1), (level, batch.passed, LEVEL, 0.1), (smooth, batch.raman, NOISE, 0.5)
    ):  # fmt: skip
        scale = LEAST_LINE + of_noise * typical + 0.5 * strongest
        weight = 1 / (1 + (noise / (0.2 * scale + SEEN * typical)) ** 2)
        error = ((result - truth) / scale).clamp(-OUTLIER, OUTLIER)
        total = total + GAIN * _gain(result - truth, batch, weight)
        for points in SCALES if result is not smooth else (1,):
            mean, of_mean = _averaged(error, weight, points)
            bias, spread = _shared(_by_draws(mean, batch))
            both = _by_draws(of_mean, batch)[:, 0]
            total = total + ((bias + variance * spread) * both).sum() / both.sum()
        if result is not smooth:
            total = total + RESPONSE * _response(result - truth, batch)
    return total


def _gain(error: Tensor, batch: Batch, weight: Tensor) -> Tensor:
    """The mean square of the share of the lines that is missing, or too much; however weak they are, down to
    LEAST_GAIN."""
    known = (batch.raman.square() * weight).sum(1) + LEAST_GAIN**2 * weight.sum(1)
    shares = ((error * batch.raman * weight).sum(1) / known).clamp(-OUTLIER, OUTLIER)
    return _shared(_by_draws(shares, batch))[0].mean()


def _response(error: Tensor, batch: Batch) -> Tensor:
    """The mean square of what is missing of that by which a pair differs, where the spectrum itself is weak.
    The noise is the same in both, so that even what each spectrum hides in it is seen here."""
    bare, more = _by_draws(error, batch)
    truth, truth_of_more = _by_draws(batch.raman, batch)[:, 0]
    scale = LEAST_ADDED + 0.5 * (truth_of_more - truth).abs().amax(1, keepdim=True)
    missing = ((more - bare).mean(0) / scale).clamp(-OUTLIER, OUTLIER)
    noise = _by_draws(batch.noise, batch)[0, 0]
    weight = 1 / (1 + (noise / (SEEN * noise.median(1, keepdim=True).values)) ** 2)
    weight = weight / (1 + (truth.abs().amax(1, keepdim=True) / WEAK) ** 2)
    total = error.new_zeros(())
    for points in (SCALES[0], SCALES[2]):
        mean, of_mean = _averaged(missing, weight, points)
        total = total + (mean.square() * of_mean).sum() / of_mean.sum()
    return total


def _averaged(values: Tensor, weight: Tensor, points: int) -> tuple[Tensor, Tensor]:
    """Weighted means over so many points, and their weights."""
    of_mean = nn.functional.avg_pool1d(weight, points, ceil_mode=True)
    return nn.functional.avg_pool1d(values * weight, points, ceil_mode=True) / of_mean, of_mean


def _by_draws(values: Tensor, batch: Batch) -> Tensor:
    """(b, ...) to (2, draws, pairs, ...): the halves of pairs, and the draws of the noise."""
    return values.reshape(2, batch.draws, -1, *values.shape[1:])


def _shared(error: Tensor) -> tuple[Tensor, Tensor]:
    """Of (2, draws, ...), without bias: the square of what all draws share, and the mean square of what two
    of them differ; (2, ...) each."""
    draws = error.shape[1]
    squares = error.square().sum(1)
    product = (error.sum(1).square() - squares) / (draws * (draws - 1))
    return product, 2 * (squares / draws - product)


def _chi3(raman: Tensor, truth: Tensor) -> Tensor:
    """Half the mean square error, which the papers report, in units of SMALL_CHI3."""
    return 0.5 * ((raman - truth) / SMALL_CHI3).square().mean()
