"""One training batch: simulated spectra with their truth."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cars_rt.physics.fitness import LEAST_SHARE
from cars_rt.physics.overlap import SMALLEST
from cars_rt.training.data.axes import pitch


@dataclass(frozen=True)
class Batch:
    """b spectra on one axis of `length` points, a camera's pixels.

    shift: (length,) float32, ascending, cm-1.
    counts: (b, length) float32, dark-subtracted camera counts; of a published protocol the spectrum as
    that protocol normalises it.
    raman: (b, length) float32, the truth; Im{chi_R} / chi_NR, or what the distribution calls its target.
    noise: (b, length) float32, the noise's standard deviation in units of raman: half the relative
    standard deviation of the counts that the background alone would give; zero where it is not known.
    scaled: whether counts are the model's input as they are.
    draws: of the noise of each spectrum; rows n, n + b / draws, ... have one truth.
    passed: (b, length) float32, of pairs: the truth with the noise that Kramers-Kronig retrieval with a
    perfect reference passes on from these very counts. There the second half are the spectra of the first
    once more, with a little more of something in them and the same draws of the noise; `draws` are those of a
    half.
    """

    shift: Tensor
    counts: Tensor
    raman: Tensor
    noise: Tensor
    scaled: bool = False
    draws: int = 1
    passed: Tensor | None = None

    @property
    def pitch(self) -> Tensor:
        """Of the axis, (length,) float32, cm-1."""
        return pitch(self.shift)

    @property
    def spectrum(self) -> Tensor:
        """The model's input, (b, length) float32, as the deployment graph makes it: counts over their mean,
        or counts already scaled. Of a spectrum that is all noise the mean is an accident, and is bounded."""
        if self.scaled:
            return self.counts
        size = self.counts.abs().mean(1, keepdim=True).clamp(min=SMALLEST)
        return self.counts / torch.maximum(self.counts.mean(1, keepdim=True), LEAST_SHARE * size)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        shift, counts, raman, noise = (
            each.to(device) for each in (self.shift, self.counts, self.raman, self.noise)
        )
        passed = None if self.passed is None else self.passed.to(device)
        return Batch(shift, counts, raman, noise, self.scaled, self.draws, passed)


def generator(*key: int) -> torch.Generator:
    """A generator on torch's default device that depends on all the numbers of its key (and not on any
    other global state)."""
    state = np.random.SeedSequence([value & 0xFFFFFFFF for value in key]).generate_state(2)
    drawing = torch.Generator(torch.get_default_device())
    return drawing.manual_seed(int(state[0]) << 31 ^ int(state[1]))


def padded(spectra: Tensor, multiple: int) -> Tensor:
    """(b, n) to (b, m), m the next multiple: the edges repeated on both sides, as in the deployment graph."""
    missing = -spectra.shape[1] % multiple
    left = missing // 2
    return torch.nn.functional.pad(spectra[:, None], (left, missing - left), mode="replicate")[:, 0]


def cropped(spectra: Tensor, length: int) -> Tensor:
    """What `padded` added, taken away again: (b, m) to (b, length)."""
    left = (spectra.shape[1] - length) // 2
    return spectra[:, left : left + length]
