"""`rnn` and `rnn-kk`: recurrent networks of few steps, so that they compile well and run in real time."""

import torch
from torch import Tensor, nn

from cars_rt.training.networks.layers import PHASES, Block, Denoised, KramersKronigFeatures, convolution
from cars_rt.training.networks.unbiased import Unbiased


class Rnn(Denoised):
    """Convolutions down to columns of 16 points, bidirectional GRUs over those (63 steps for 1000
    points), and back up."""

    name = "rnn"
    stride = 2 * PHASES

    def __init__(self, width: int = 64, hidden: int = 96, layers: int = 2) -> None:
        super().__init__(Recurrent(width, hidden, layers), width, slope=0)


class RnnKk(Unbiased):
    """The trunk of `rnn`; what it finds is the background."""

    name = "rnn-kk"
    stride = 2 * PHASES

    def __init__(self, width: int = 64, hidden: int = 96, layers: int = 2) -> None:
        super().__init__(Recurrent(width, hidden, layers), width, slope=0)


class Recurrent(nn.Module):
    """(b, KramersKronigFeatures.outputs, 1, t) to (b, width, 1, t), t even."""

    def __init__(self, width: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.stem = convolution(KramersKronigFeatures.outputs, width, 3)
        self.encode = Block(width, 3, slope=0)
        self.down = convolution(width, hidden, 4, 2)
        self.recurrent = nn.GRU(hidden, hidden, layers, bidirectional=True)
        self.up = nn.ConvTranspose2d(2 * hidden, width, (1, 2), (1, 2))
        self.decode = Block(width, 3, slope=0)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = self.encode(self.stem(x))
        steps = torch.relu(self.down(x)).squeeze(2).permute(2, 0, 1)
        steps = self.recurrent(steps)[0].permute(1, 2, 0).unsqueeze(2)
        result: Tensor = self.decode(x + self.up(steps))
        return result
