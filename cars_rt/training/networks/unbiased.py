"""`cnn-kk` and `rnn-kk`: the network finds the background, Kramers-Kronig retrieval the rest."""

import itertools
import math

import torch
from torch import Tensor, nn

from cars_rt.training.networks.layers import PHASES, Denoised, Retrieval

WIDTHS = (2.0, 6.0, 18.0)  # columns, standard deviations of the local means that the background is made of
NEAR = 13  # columns, within which the Hilbert transform is exact; beyond, of means of 2 columns
FAR = 63  # pairs of columns that it reaches
BLURS = (1.5, 5.0)  # pixels, standard deviations; of what noise may be smoothed with
BLUR_REACH = 3  # columns
BASES = (0.8, 2.0, 6.0)  # columns, standard deviations of the local means that a base line is made of
LESS = 2.0  # of the wider smoothing, in units of its gate's logit
MIDDLE = 0.5  # less of the middle local mean, likewise
GATES = tuple(itertools.accumulate((len(WIDTHS), len(BLURS), len(BASES) + 1), initial=0))
NEVER_NONE = 1e-30  # added to each gate: where all are closed, as of one lit pixel, a mixture would be 0 / 0
LARGEST = 4.0  # ln of the largest |chi / chi_NR|
SHARE = 0.2  # of the likeliest line in the deviation, to begin with


class Unbiased(Retrieval):
    """Raman whose noise is that of the counts and whose average is right.

    With b the logarithm of the amplitude that the background alone would have, retrieval is

        Im chi_R / chi_NR = exp(a - b) sin(Hilbert{a - b} + s),  a = 1/2 ln I

    The head gives only slow fields, one value to a column: what lines add to the mean of a; which mixture of
    three local means of the rest is b, and what is to be added; s, the error of the phase that comes of what
    lies beyond the ends; and how much the result is to be smoothed where noise hides everything, with
    kernels that leave parabolas as they are. None of them can shrink a line as noise makes a network do: that
    would take a background as narrow as the line.

    What a background is off by leaves a base line. The likeliest spectrum, as `Denoised` gives it, shows it:
    local means of the difference to it are taken away, wider ones where noise has shrunk the likeliest lines.

    The deviation is that of the noise and of the base line, and a share of the likeliest line: what an
    uncertain background makes wrong is in proportion to it.
    """

    fields = 3 + len(WIDTHS) + len(BLURS) + len(BASES) + 1 + Denoised.fields
    of_deviation = 1 + PHASES  # the share's logarithm first
    means: Tensor
    spline: Tensor
    splines: Tensor
    slow: Tensor
    bases: Tensor
    blurs: Tensor

    def __init__(self, trunk: nn.Module, channels: int, slope: float) -> None:
        """As `Retrieval`."""
        super().__init__(trunk, channels, slope)
        self.register_buffer("means", _gaussians(WIDTHS))
        self.register_buffer("slow", self.means[1:2])
        self.register_buffer("bases", _gaussians(BASES))
        place = (torch.arange(PHASES) + 0.5) / PHASES - 0.5  # of a pixel in its column
        spline = _spline(place)[:, None, None, :]
        self.register_buffer("spline", spline)
        self.register_buffer("splines", spline.repeat(2 + len(BLURS), 1, 1, 1))
        self.register_buffer("blurs", torch.cat([_blur(sigma) for sigma in BLURS]))
        self.hilbert = Hilbert()
        with torch.no_grad():  # start with the mean in the middle
            assert self.head.bias is not None
            self.head.bias[3 + len(WIDTHS) // 2] = 2.0
            self.head.bias[3 + GATES[1] : 3 + GATES[3] - 1] = -3.0
            self.head.bias[self.fields - Denoised.fields : self.fields - 2 * PHASES] = 1.0
            self.head.bias[self.fields] = math.log(SHARE)

    @torch.no_grad()
    def set_for_averages(self, *, back: bool = False) -> None:
        """Once it is trained, or back, to train it further. As the loss weighs noise, the wider smoothing
        costs weak lines a tenth of their average height, which is for averages too much; and with so much of
        the middle local mean a base line is left where the light ends, of 0.008 chi_NR in the simulated
        microscope. Both were found there, by dilutions."""
        assert self.head.bias is not None
        sign = 1 if back else -1
        self.head.bias[3 + GATES[2] - 1] += sign * LESS
        self.head.bias[3 + len(WIDTHS) // 2] += sign * MIDDLE

    def raman(self, fields: Tensor, sine: Tensor, cosine: Tensor, logarithm: Tensor) -> tuple[Tensor, ...]:
        """As `Retrieval.raman`; also before it is smoothed, before its base line is taken away, and the
        likeliest."""
        lines, added, error = (fields[:, n : n + 1] for n in range(3))
        weights = torch.sigmoid(fields[:, 3 : self.fields - Denoised.fields]) + NEVER_NONE
        chosen, blurs, bases = (weights[:, begin:end] for begin, end in itertools.pairwise(GATES))
        background = self._mixed(logarithm.mean(1, keepdim=True) - lines, self.means, chosen)
        background = background / chosen.sum(1, keepdim=True) + added
        error = nn.functional.conv2d(error, self.slow, padding=(0, self.slow.shape[-1] // 2))
        background, error, little, much = self._fine(torch.cat([background, error, blurs], 1), self.splines)
        amplitude = logarithm - background
        phase = self.hilbert(amplitude) + error
        plain = torch.exp(amplitude.clamp(max=LARGEST)) * torch.sin(phase)
        p, q, r = (fields[:, self.fields - n * PHASES :][:, :PHASES] for n in (3, 2, 1))
        likeliest = p * sine + q * cosine + r
        difference = (plain - likeliest).mean(1, keepdim=True)
        base = self._mixed(difference, self.bases, bases[:, :-1]) / bases.sum(1, keepdim=True)
        level = plain - self._fine(base, self.spline)[0]
        source = level.detach()  # smoothing is learnt apart
        blurred = nn.functional.conv2d(source, self.blurs, padding=(0, BLUR_REACH))
        kept = 1 - much
        smooth = much * blurred[:, PHASES:] + kept * (little * blurred[:, :PHASES] + (1 - little) * source)
        return smooth, level, plain, likeliest

    def deviation(self, logarithms: Tensor, raman: tuple[Tensor, ...]) -> Tensor:
        """As `Retrieval.deviation`."""
        share, rest = torch.exp(logarithms[:, :1]), torch.exp(logarithms[:, 1:])
        return rest + share * torch.relu(raman[-1].detach())

    def _mixed(self, column: Tensor, gaussians: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum of a curve's local means, (b, 1, 1, t); at the ends, of what is there."""
        reach = gaussians.shape[-1] // 2
        means = nn.functional.conv2d(column, gaussians, padding=(0, reach))
        means = means / nn.functional.conv2d(column * 0 + 1, gaussians, padding=(0, reach))
        return (weights * means).sum(1, keepdim=True)

    def _fine(self, columns: Tensor, splines: Tensor) -> list[Tensor]:
        """(b, n, 1, t) to n of (b, PHASES, 1, t): smooth curves."""
        ended = torch.cat([columns[..., :1], columns, columns[..., -1:]], 3)
        count = columns.shape[1]
        curves = nn.functional.conv2d(ended, splines, groups=count)
        return [curves[:, PHASES * n : PHASES * (n + 1)] for n in range(count)]


class Hilbert(nn.Module):
    """The Hilbert transform along the pixels, (b, PHASES, 1, t) to the same, t even; beyond the ends is
    nothing.

    Its kernel 1 / n is cut in two by a smooth window. What is near is the discrete transform, exact for
    all that pixels resolve; what is far is smooth, and so computed on means of 16 pixels.
    """

    near: Tensor
    mean: Tensor
    far: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        column = torch.arange(-NEAR, NEAR + 1, dtype=torch.float64)
        phase = torch.arange(PHASES, dtype=torch.float64)
        lag = PHASES * column + phase[None, :, None] - phase[:, None, None]  # input minus output pixel
        odd = lag.long() % 2 == 1
        near = torch.where(odd, -2 / (math.pi * torch.where(odd, lag, 1.0)) * _window(lag), 0.0)
        self.register_buffer("near", near[:, :, None, :].float())

        pair = 2 * PHASES
        lag = pair * torch.arange(-FAR - 1, FAR + 2, dtype=torch.float64)
        far = -(1 - _window(lag)) / (math.pi * torch.where(lag == 0, 1.0, lag)) * pair
        # Means and splines blur, together by a variance of a third of a pair squared; this undoes it.
        far = far[1:-1] - (far[2:] - 2 * far[1:-1] + far[:-2]) / 6
        self.register_buffer("far", far[None, None, None].float())
        self.register_buffer("mean", torch.full((1, PHASES, 1, 2), 1 / pair))
        # From one mean to the pixels of six columns: a quadratic spline, three pairs wide.
        place = (torch.arange(3 * pair) + 0.5) / pair - 1.5
        spread = _bell(place).reshape(6, PHASES).T
        self.register_buffer("spread", spread[None, :, None, :].contiguous().float())

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        near = nn.functional.conv2d(x, self.near, padding=(0, NEAR))
        far = nn.functional.conv2d(x, self.mean, stride=(1, 2))
        far = nn.functional.conv2d(far, self.far, padding=(0, FAR))
        result: Tensor = near + nn.functional.conv_transpose2d(
            far, self.spread, stride=(1, 2), padding=(0, 2)
        )
        return result


def _gaussians(widths: tuple[float, ...]) -> Tensor:
    """Kernels (n, 1, 1, columns) of local means."""
    radius = math.ceil(3 * widths[-1])
    offset = torch.arange(-radius, radius + 1, dtype=torch.float64)
    gaussians = torch.exp(-0.5 * (offset / torch.tensor(widths, dtype=torch.float64)[:, None]) ** 2)
    return (gaussians / gaussians.sum(1, keepdim=True)).float()[:, None, None, :]


def _window(lag: Tensor) -> Tensor:
    """1 at 0, smoothly falling to 0 at the reach of the near part."""
    reach = PHASES * (NEAR + 1) - PHASES + 1
    return torch.cos((lag / reach).clamp(-1, 1) * math.pi / 2) ** 2


def _bell(place: Tensor) -> Tensor:
    """The quadratic spline of knots at -1.5, -0.5, 0.5 and 1.5."""
    distance = place.abs()
    return torch.where(distance < 0.5, 0.75 - distance**2, 0.5 * (1.5 - distance).clamp(min=0) ** 2)


def _spline(place: Tensor) -> Tensor:
    """Weights (n, 3) of a column and its neighbours for places -0.5 to 0.5 in it."""
    return torch.stack([_bell(place + 1), _bell(place), _bell(place - 1)], 1)


def _blur(sigma: float) -> Tensor:
    """A smoothing (PHASES, PHASES, 1, columns) over pixels: a Gaussian twice less the Gaussian of itself, so
    that parabolas stay as they are."""
    column = torch.arange(-BLUR_REACH, BLUR_REACH + 1, dtype=torch.float64)
    phase = torch.arange(PHASES, dtype=torch.float64)
    lag = PHASES * column + phase[None, :, None] - phase[:, None, None]

    def gaussian(width: float) -> Tensor:
        return torch.exp(-0.5 * (lag / width) ** 2) / (width * math.sqrt(2 * math.pi))

    kernel = 2 * gaussian(sigma) - gaussian(math.sqrt(2) * sigma)
    return (kernel / kernel.sum((1, 2), keepdim=True))[:, :, None, :].float()
