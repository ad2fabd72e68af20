"""What training minimises."""

import torch
from torch import Tensor, nn

from cars_rt.training.data.batch import Batch

BETA = 0.2  # below it errors count squared: the mean of what noise leaves open, not the likelier nothing
SMALL_CHI3 = 0.05  # an error worth mending, of targets scaled to 1: what the deviation is weighed against
COVERED = 0.683  # of the errors are to be smaller than the deviation, as for a normal distribution


def loss(predicted: tuple[Tensor, ...], batch: Batch) -> Tensor:
    """Scalar, for a network's outputs (each (b, length)): of raman, and of its deviation if there is one."""
    raman = predicted[0]
    total = _chi3(raman, batch.raman) if batch.scaled else _ratio(raman, batch)
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


def _chi3(raman: Tensor, truth: Tensor) -> Tensor:
    """Half the mean square error, which the papers report, in units of SMALL_CHI3."""
    return 0.5 * ((raman - truth) / SMALL_CHI3).square().mean()
