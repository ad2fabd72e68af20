"""Axes of cameras behind a spectrometer: as many steps as pixels, and their length changes slowly along."""

import torch
from torch import Tensor

BEND = 0.3  # the largest change of the step, of its mean, from the middle of the axis to an end


def camera_axis(first: float, last: float, pixels: int, g: torch.Generator) -> Tensor:
    """The pixels' raman shift, (pixels,) float32, ascending from `first` to `last`, cm-1.

    A quarter is uniform. Of the others the step grows or shrinks by up to `BEND`, as it does for a
    grating, which is uniform in wavelength, or a prism; a little of the change is not linear.
    """
    u = torch.rand(3, generator=g, device=g.device).tolist()
    place = torch.linspace(0, 1, pixels, dtype=torch.float64)
    if u[0] > 0.25:
        bend, twist = BEND * (2 * u[1] - 1), 0.2 * BEND * (2 * u[2] - 1)
        # The derivatives of both terms are at most 1, at the ends.
        place = place + bend * place * (1 - place) + twist * place * (1 - place) * (1 - 2 * place)
    return (first + (last - first) * place).float()


def pitch(shift: Tensor) -> Tensor:
    """The length of each pixel on an ascending axis (p,): (p,), cm-1."""
    inner = (shift[2:] - shift[:-2]) / 2
    return torch.cat([shift[1:2] - shift[:1], inner, shift[-1:] - shift[-2:-1]])
