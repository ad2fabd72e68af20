"""The networks by name. Input: counts over their mean on the model's grid; output: raman.

`cnn` works on a space-to-depth view: eight neighbouring grid points become eight channels, so that
no layer runs at full resolution (such layers are memory-bound). Its front end is Kramers-Kronig
retrieval without a reference (Liu, Lee & Cicerone, Opt. Lett. 34, 1363 (2009)): with the local mean
of the logarithm as a first guess of the background, the amplitude is E = sqrt(I / I_guess) and the
phase H = Hilbert{ln E}. If the guess is wrong by a smooth factor exp(d) in amplitude, the truth is

    Im chi_R / chi_NR = p E sin H + q E cos H,    p = exp(-d) cos Hilbert{d},  q = -exp(-d) sin Hilbert{d}

so the trunk predicts the smooth fields p and q, and a residual r that removes noise and undoes the
rest. Everything is invariant to the spectrum's scale except the logarithm's floor.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

PHASES = 8  # grid points per column of the space-to-depth view
FLOOR = 2e-3  # smallest count over mean whose logarithm is taken; below it is read noise


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A 1-D convolution written as 2-D: ONNX Runtime's CPU kernels for it are 1.5 times faster."""
    padding = (kernel - stride + 1) // 2
    return nn.Conv2d(inputs, outputs, (1, kernel), (1, stride), (0, padding))


class Block(nn.Module):
    """Two convolutions around a skip. The second starts at zero, so that the block starts as nothing;
    this trains as fast as with batch norm, and leaves nothing to fold on export."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, kernel)
        self.second = _convolution(channels, channels, kernel)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(b, c, 1, t) to the same shape."""
        result: Tensor = x + self.second(torch.relu(self.first(torch.relu(x))))
        return result


class KramersKronigFeatures(nn.Module):
    """Amplitude and phase relative to the local mean of the logarithm; fixed, nothing is learnt."""

    outputs = 4 * PHASES + 2
    smoothing: Tensor
    interpolation: Tensor
    hilbert: Tensor

    def __init__(self, width: float = 6.0, reach: int = 20) -> None:
        """width: standard deviation of the local mean, reach: of the Hilbert kernel, both in columns."""
        super().__init__()
        radius = math.ceil(3 * width)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
        gaussian = torch.exp(-0.5 * (offsets / width) ** 2)
        # Two groups: the signal, and ones that normalise the mean at the ends of the spectrum.
        self.register_buffer("smoothing", (gaussian / gaussian.sum()).float().repeat(2, 1, 1, 1))

        position = (torch.arange(PHASES) + 0.5) / PHASES - 0.5  # of a point in its column, -0.5 to 0.5
        linear = torch.stack([(-position).clamp(min=0), 1 - position.abs(), position.clamp(min=0)], 1)
        self.register_buffer("interpolation", linear[:, None, None, :].repeat(2, 1, 1, 1))

        # -2 / (pi n) for odd n: the discrete Hilbert transform, here from phase i to phase o. The sign is
        # that of CARS: the logarithm is high below a line and low above it, the phase positive in it.
        column = torch.arange(-reach, reach + 1, dtype=torch.float64)
        phase = torch.arange(PHASES, dtype=torch.float64)
        lag = PHASES * column + phase[None, :, None] - phase[:, None, None]  # input minus output point
        odd = lag.long() % 2 == 1
        taper = torch.cos(lag / (PHASES * (reach + 1)) * math.pi / 2).clamp(min=0)
        kernel = torch.where(odd, -2 / (math.pi * torch.where(odd, lag, 1.0)) * taper, 0.0)
        self.register_buffer("hilbert", kernel[:, :, None, :].float())

    def forward(self, spectrum: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(b, length) to the features (b, outputs, 1, t), and E sin H and E cos H (b, 8, 1, t)."""
        logarithm = 0.5 * torch.log(torch.relu(spectrum - FLOOR) + FLOOR)
        # -1 for the batch only: the column count follows from the length, both stay dynamic in ONNX.
        columns = logarithm.reshape(spectrum.shape[0], -1, PHASES).transpose(1, 2).unsqueeze(2)
        mean = columns.mean(1, keepdim=True)
        pair = torch.cat([mean, mean * 0 + 1], 1)
        reach = self.smoothing.shape[-1] // 2
        smooth = nn.functional.conv2d(pair, self.smoothing, padding=(0, reach), groups=2)
        fine = nn.functional.conv2d(smooth, self.interpolation, padding=(0, 1), groups=2)
        relative = columns - fine[:, :PHASES] / fine[:, PHASES:]
        phase = nn.functional.conv2d(relative, self.hilbert, padding=(0, self.hilbert.shape[-1] // 2))
        amplitude = torch.exp(relative)
        sine, cosine = amplitude * torch.sin(phase), amplitude * torch.cos(phase)
        features = torch.cat([relative, phase, sine, cosine, mean, smooth[:, 1:]], 1)
        return features, sine, cosine


class Cnn(nn.Module):
    """A small U-Net over Kramers-Kronig features; see the module's text."""

    name = "cnn"
    stride = 4 * PHASES
    min_length = 256

    def __init__(
        self,
        widths: tuple[int, int, int] = (64, 80, 96),
        depths: tuple[int, int, int] = (1, 1, 2),
        kernel: int = 3,
        middle_kernel: int = 5,
    ) -> None:
        super().__init__()
        fine, half, quarter = widths
        self.features = KramersKronigFeatures()
        self.stem = _convolution(self.features.outputs, fine, 3)

        def blocks(count: int, channels: int, size: int) -> nn.Sequential:
            return nn.Sequential(*[Block(channels, size) for _ in range(count)])

        self.encode_fine = blocks(depths[0], fine, kernel)
        self.down_half = _convolution(fine, half, 4, 2)
        self.encode_half = blocks(depths[1], half, kernel)
        self.down_quarter = _convolution(half, quarter, 4, 2)
        self.middle = blocks(depths[2], quarter, middle_kernel)
        self.up_half = nn.ConvTranspose2d(quarter, half, (1, 2), (1, 2))
        self.decode_half = blocks(depths[1], half, kernel)
        self.up_fine = nn.ConvTranspose2d(half, fine, (1, 2), (1, 2))
        self.decode_fine = blocks(depths[0], fine, kernel)
        self.mix = _convolution(fine + self.features.outputs, fine, 1)
        self.head = _convolution(fine, 3 * PHASES, 1)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():  # start as plain Kramers-Kronig: p = 1, q = r = 0
            assert self.head.bias is not None
            self.head.bias.zero_()
            self.head.bias[:PHASES] = 1.0

    def forward(self, spectrum: Tensor) -> Tensor:
        """spectrum: (b, length) float32, counts over their mean; length a multiple of `stride`.

        Returns raman, (b, length) float32, dimensionless."""
        with torch.autocast(spectrum.device.type, enabled=False):  # phases need float32
            features, sine, cosine = self.features(spectrum)
        x = self.encode_fine(self.stem(features))
        half = self.encode_half(self.down_half(x))
        quarter = self.middle(self.down_quarter(half))
        half = self.decode_half(half + self.up_half(quarter))
        x = self.decode_fine(x + self.up_fine(half))
        x = self.head(torch.relu(self.mix(torch.cat([torch.relu(x), features], 1))))
        if x.dtype != torch.float32:  # under autocast
            x = x.float()
        raman = x[:, :PHASES] * sine + x[:, PHASES : 2 * PHASES] * cosine + x[:, 2 * PHASES :]
        result: Tensor = raman.squeeze(2).transpose(1, 2).reshape(spectrum.shape[0], -1)
        return result


NETWORKS: dict[str, Callable[[], nn.Module]] = {Cnn.name: Cnn}
