"""What the networks share: layers, fixed features, and the head that states raman and its deviation."""

import math

import torch
from torch import Tensor, nn

PHASES = 8  # pixels per column of the space-to-depth view
MEAN, REACH = 6.0, 20  # columns: standard deviation of the local mean, and reach of the Hilbert kernel
USUAL_PITCH = 2.0  # cm-1; features have the logarithm of a pixel's length over this
LN_DEVIATION = (-12.0, 4.0)  # what any sample shows; counts that no camera gives would overflow it
FLOOR = 2e-3  # smallest count over mean whose logarithm is taken; below it is read noise


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A 1-D convolution written as 2-D: ONNX Runtime's CPU kernels for it are 1.5 times faster."""
    padding = (kernel - stride + 1) // 2
    return nn.Conv2d(inputs, outputs, (1, kernel), (1, stride), (0, padding))


def activation(slope: float) -> nn.Module:
    """max(x, slope x)."""
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


class Block(nn.Module):
    """Two convolutions around a skip. The second starts at zero, so that the block starts as nothing;
    this trains as fast as with batch norm, and leaves nothing to fold on export."""

    def __init__(self, channels: int, kernel: int, slope: float) -> None:
        super().__init__()
        self.activation = activation(slope)
        self.first = convolution(channels, channels, kernel)
        self.second = convolution(channels, channels, kernel)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, 1, t) to the same shape."""
        result: Tensor = x + self.second(self.activation(self.first(self.activation(x))))
        return result


class KramersKronigFeatures(nn.Module):
    """Amplitude and phase relative to the local mean of the logarithm; fixed, nothing is learnt."""

    outputs = 5 * PHASES + 3
    smoothing: Tensor
    interpolation: Tensor
    hilbert: Tensor

    def __init__(self) -> None:
        super().__init__()
        radius = math.ceil(3 * MEAN)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        gaussian = torch.exp(-0.5 * (offsets / MEAN) ** 2)
        # Two groups: the signal, and ones that normalise the mean at the ends of the spectrum.
        self.register_buffer("smoothing", (gaussian / gaussian.sum()).float().repeat(2, 1, 1, 1))

        position = (torch.arange(PHASES) + 0.5) / PHASES - 0.5  # of a point in its column, -0.5 to 0.5
        linear = torch.stack([(-position).clamp(min=0), 1 - position.abs(), position.clamp(min=0)], 1)
        self.register_buffer("interpolation", linear[:, None, None, :].repeat(2, 1, 1, 1))

        # -2 / (pi n) for odd n: the discrete Hilbert transform, here from phase i to phase o. The sign is
        # that of CARS: the logarithm is high below a line and low above it, the phase positive in it.
        column = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
        phase = torch.arange(PHASES, dtype=torch.float64)
        lag = PHASES * column + phase[None, :, None] - phase[:, None, None]  # input minus output point
        odd = lag.long() % 2 == 1
        taper = torch.cos(lag / (PHASES * (REACH + 1)) * math.pi / 2).clamp(min=0)
        kernel = torch.where(odd, -2 / (math.pi * torch.where(odd, lag, 1.0)) * taper, 0.0)
        self.register_buffer("hilbert", kernel[:, :, None, :].float())

    def forward(self, spectrum: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(b, length) and the pixels' lengths (1, length), cm-1, to the features (b, outputs, 1, t), to
        E sin H and E cos H and to the logarithm of the amplitude, (b, 8, 1, t) each."""
        plain = folded(spectrum)
        length = torch.log(folded(pitch).mean(1, keepdim=True) / USUAL_PITCH)
        columns = 0.5 * torch.log(torch.relu(plain - FLOOR) + FLOOR)
        mean = columns.mean(1, keepdim=True)
        pair = torch.cat([mean, mean * 0 + 1], 1)
        reach = self.smoothing.shape[-1] // 2
        smooth = nn.functional.conv2d(pair, self.smoothing, padding=(0, reach), groups=2)
        fine = nn.functional.conv2d(smooth, self.interpolation, padding=(0, 1), groups=2)
        relative = columns - fine[:, :PHASES] / fine[:, PHASES:]
        phase = nn.functional.conv2d(relative, self.hilbert, padding=(0, self.hilbert.shape[-1] // 2))
        amplitude = torch.exp(relative)
        sine, cosine = amplitude * torch.sin(phase), amplitude * torch.cos(phase)
        every = mean * 0 + length  # the same for all spectra
        features = torch.cat([relative, phase, sine, cosine, plain, mean, smooth[:, 1:], every], 1)
        return features, sine, cosine, columns


class Retrieval(nn.Module):
    """What all of ours share: fixed features, a trunk of their own, and a head.

    The network sees a camera's pixels as they are, whatever their raman shift: what it computes is local, or
    slow, and a Hilbert transform does not mind an axis that is stretched slowly. How long the pixels are is a
    second input. All layers work on a space-to-depth view, eight neighbouring pixels as eight channels: at
    full resolution they would be memory-bound.
    """

    name: str
    stride: int
    min_length = 176  # pixels; on simulated spectra of 350 cm-1 as accurate as on 500
    fixed_length = 0
    inputs: tuple[str, ...] = ("spectrum", "pitch")
    outputs: tuple[str, ...] = ("raman", "deviation")
    fields: int  # outputs of the head before those that make the deviation
    of_deviation = PHASES

    def __init__(self, trunk: nn.Module, channels: int, slope: float) -> None:
        """trunk: features (b, KramersKronigFeatures.outputs, 1, t) to (b, channels, 1, t). slope: of the
        activations below zero."""
        super().__init__()
        self.activation = activation(slope)
        self.features = KramersKronigFeatures()
        self.trunk = trunk
        self.mix = convolution(channels + self.features.outputs, channels, 1)
        self.head = convolution(channels, self.fields + self.of_deviation, 1)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            assert self.head.bias is not None
            self.head.bias.zero_()
            self.head.bias[-PHASES:] = math.log(0.03)

    def forward(self, spectrum: Tensor, pitch: Tensor) -> tuple[Tensor, ...]:
        """spectrum: (b, length) float32, scaled counts, ascending raman shift; length a multiple of
        `stride`. pitch: (1, length) float32, the pixels' lengths in cm-1.

        Returns raman and its deviation, each (b, length) float32: with a chance of 68.3 % the truth is
        within one deviation."""
        with torch.autocast(spectrum.device.type, enabled=False):  # phases need float32
            features, sine, cosine, logarithm = self.features(spectrum, pitch)
        x = self.activation(self.trunk(features))
        x = self.head(self.activation(self.mix(torch.cat([x, features], 1)))).float()
        with torch.autocast(spectrum.device.type, enabled=False):
            raman = self.raman(x[:, : self.fields], sine, cosine, logarithm)
            deviation = self.deviation(x[:, self.fields :].clamp(*LN_DEVIATION), raman)
        # What only the loss wants to see is left out where nobody trains.
        found = (raman[0], deviation, *(raman[1:] if self.training else ()))
        return tuple(unfolded(each) for each in found)

    def raman(self, fields: Tensor, sine: Tensor, cosine: Tensor, logarithm: Tensor) -> tuple[Tensor, ...]:
        """(b, PHASES, 1, t) from the head's fields (b, fields, 1, t) and what `features` gave, and what
        else the loss wants to see."""
        raise NotImplementedError

    def deviation(self, logarithms: Tensor, raman: tuple[Tensor, ...]) -> Tensor:
        """(b, PHASES, 1, t) from the head's last outputs (b, of_deviation, 1, t) and what `raman` gave."""
        return torch.exp(logarithms)

    @property
    def deviation_head(self) -> tuple[Tensor, Tensor]:
        """Views of the last layer's weight (of_deviation, channels, 1, 1) and bias (of_deviation,) that give
        what the deviation is made of."""
        assert self.head.bias is not None
        return self.head.weight[self.fields :], self.head.bias[self.fields :]


class Denoised(Retrieval):
    """The likeliest spectrum: `cnn` and `rnn`.

    The front end is Kramers-Kronig retrieval without a reference (Liu, Lee & Cicerone, Opt. Lett. 34,
    1363 (2009)): with the local mean of the logarithm as a first guess of the background, the amplitude
    is E = sqrt(I / I_guess) and the phase H = Hilbert{ln E}. If the guess is wrong by a smooth factor
    exp(d) in amplitude, the truth is

        Im chi_R / chi_NR = p E sin H + q E cos H,  p = exp(-d) cos Hilbert{d},  q = -exp(-d) sin Hilbert{d}

    so the trunk predicts the smooth fields p and q, and a residual r that removes noise and undoes the
    rest; and a fourth field, the logarithm of the deviation.
    """

    fields = 3 * PHASES

    def __init__(self, trunk: nn.Module, channels: int, slope: float) -> None:
        """As `Retrieval`."""
        super().__init__(trunk, channels, slope)
        with torch.no_grad():  # start as plain Kramers-Kronig: p = 1, q = r = 0
            assert self.head.bias is not None
            self.head.bias[:PHASES] = 1.0

    def raman(self, fields: Tensor, sine: Tensor, cosine: Tensor, logarithm: Tensor) -> tuple[Tensor, ...]:
        """As `Retrieval.raman`."""
        p, q, r = (fields[:, i * PHASES : (i + 1) * PHASES] for i in range(3))
        return (p * sine + q * cosine + r,)


def folded(x: Tensor) -> Tensor:
    """(b, length) to columns (b, PHASES, 1, t)."""
    # -1 for the columns: their count follows from the length, and both stay dynamic in ONNX.
    return x.reshape(x.shape[0], -1, PHASES).transpose(1, 2).unsqueeze(2)


def unfolded(x: Tensor) -> Tensor:
    """(b, PHASES, 1, t) back to (b, length)."""
    result: Tensor = x.squeeze(2).transpose(1, 2).reshape(x.shape[0], -1)
    return result
