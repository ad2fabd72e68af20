"""`cnn`, `cnn-large` and `cnn-kk`: U-Nets over Kramers-Kronig features."""

import itertools

from torch import Tensor, nn

from cars_rt.training.networks.layers import PHASES, Block, Denoised, KramersKronigFeatures, convolution
from cars_rt.training.networks.unbiased import Unbiased

DEPTHS = (1, 1, 1, 2)  # blocks of each level
SLOPE = 0.1  # with 0, most units of the coarse levels are dead after a few thousand steps


class Cnn(Denoised):
    """Four levels of columns of 8, 16, 32 and 64 points; the deepest one sees the whole spectrum.

    Most of its work is at the coarse levels, where the smooth fields are found: halving the widths of the
    two fine ones halves the time of a spectrum."""

    name = "cnn"
    stride = 8 * PHASES

    def __init__(self, widths: tuple[int, ...] = (32, 32, 64, 96)) -> None:
        super().__init__(UNet(widths, DEPTHS), widths[0], SLOPE)


class CnnLarge(Cnn):
    """`cnn` with 2.5 times the work, for those who have a GPU."""

    name = "cnn-large"

    def __init__(self) -> None:
        super().__init__((64, 80, 96, 128))


class CnnKk(Unbiased):
    """The trunk of `cnn`; what it finds is the background."""

    name = "cnn-kk"
    stride = 8 * PHASES

    def __init__(self, widths: tuple[int, ...] = (32, 32, 64, 96)) -> None:
        super().__init__(UNet(widths, DEPTHS), widths[0], SLOPE)


class UNet(nn.Module):
    """(b, KramersKronigFeatures.outputs, 1, t) to (b, widths[0], 1, t), t a multiple of 8."""

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = convolution(KramersKronigFeatures.outputs, widths[0], 3)
        levels = list(zip(widths, depths, strict=True))
        self.encode = nn.ModuleList(_blocks(depth, width, 3) for width, depth in levels[:-1])
        self.middle = _blocks(depths[-1], widths[-1], 5)
        self.decode = nn.ModuleList(_blocks(depth, width, 3) for width, depth in levels[:-1])
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(convolution(fine, coarse, 4, 2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, (1, 2), (1, 2)) for fine, coarse in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.stem(x)
        skips = []
        for blocks, down in zip(self.encode, self.down, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(x)
        x = self.middle(x)
        for blocks, up, skip in reversed(list(zip(self.decode, self.up, skips, strict=True))):
            x = blocks(skip + up(x))
        return x


def _blocks(count: int, channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(*[Block(channels, kernel, SLOPE) for _ in range(count)])
