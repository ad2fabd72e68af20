"""One training batch: simulated spectra with their truth."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cars_rt.engines.scaling import SMALLEST


@dataclass(frozen=True)
class Batch:
    """b spectra on one uniform grid of `length` points from `start` cm-1.

    counts: (b, length) float32, dark-subtracted camera counts on the grid; of a published protocol the
    spectrum as that protocol normalises it.
    raman: (b, length) float32, the truth; Im{chi_R} / chi_NR, or what the distribution calls its target.
    noise: (b, length) float32, the noise's standard deviation in units of raman: half the relative
    standard deviation of the counts that the background alone would give; zero where it is not known.
    scaled: whether counts are the model's input as they are.
    """

    start: float
    counts: Tensor
    raman: Tensor
    noise: Tensor
    scaled: bool = False

    @property
    def spectrum(self) -> Tensor:
        """The model's input, (b, length) float32: counts over their mean, or counts already scaled."""
        if self.scaled:
            return self.counts
        return self.counts / self.counts.mean(1, keepdim=True).clamp(min=SMALLEST)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        parts = (self.counts.to(device), self.raman.to(device), self.noise.to(device))
        return Batch(self.start, *parts, self.scaled)


def generator(*key: int) -> torch.Generator:
    """A generator on torch's default device that depends on all the numbers of its key (and not on any
    other global state)."""
    state = np.random.SeedSequence([value & 0xFFFFFFFF for value in key]).generate_state(2)
    drawing = torch.Generator(torch.get_default_device())
    return drawing.manual_seed(int(state[0]) << 31 ^ int(state[1]))


def padded(spectra: Tensor, multiple: int) -> Tensor:
    """(b, n) to (b, m), m the next multiple: the edges repeated on both sides, as on the model's grid."""
    missing = -spectra.shape[1] % multiple
    left = missing // 2
    return torch.nn.functional.pad(spectra[:, None], (left, missing - left), mode="replicate")[:, 0]


def cropped(spectra: Tensor, length: int) -> Tensor:
    """What `padded` added, taken away again: (b, m) to (b, length)."""
    left = (spectra.shape[1] - length) // 2
    return spectra[:, left : left + length]
