"""The networks of the CRIMSON project, as published. They take spectra of one fixed length."""

import torch
from torch import Tensor, nn

POINTS = 1000
LAYERS = ((128, 32), (64, 16), (16, 8), (16, 8), (16, 8))  # SpecNet: filters, kernel


class Published(nn.Module):
    """A network for spectra of exactly `points` points, with one output."""

    name: str
    inputs: tuple[str, ...] = ("spectrum",)
    outputs: tuple[str, ...] = ("raman",)

    def __init__(self, points: int = POINTS) -> None:
        super().__init__()
        self.stride = self.min_length = self.fixed_length = points


class SpecNet(Published):
    """Valensise et al., APL Photonics 5, 061305 (2020), with the input length of Vernuccio et al.,
    Sci. Rep. 14, 23903 (2024). The dense layers between act on every position alone."""

    name = "specnet"

    def __init__(self, points: int = POINTS) -> None:
        super().__init__(points)
        layers: list[nn.Module] = []
        channels = 1
        for filters, kernel in LAYERS:
            layers += [nn.Conv1d(channels, filters, kernel), nn.ReLU()]
            channels = filters
        inner = points - sum(kernel - 1 for _, kernel in LAYERS)
        self.normalise = nn.BatchNorm1d(1)
        self.convolutions = nn.Sequential(*layers)
        # A dense layer per position is a convolution of kernel 1.
        self.dense = nn.Sequential(nn.Conv1d(16, 32, 1), nn.ReLU(), nn.Conv1d(32, 16, 1), nn.ReLU())
        self.dropout = nn.Dropout(0.25)
        self.out = nn.Linear(16 * inner, points)

    def forward(self, spectrum: Tensor) -> tuple[Tensor]:
        """(b, points) float32 to Im chi_R (b, points), not negative."""
        x = self.dense(self.convolutions(self.normalise(spectrum.unsqueeze(1))))
        return (torch.relu(self.out(self.dropout(x.flatten(1)))),)


class CnnGru(Published):
    """CNN+GRU of Vernuccio et al., Sci. Rep. 14, 23903 (2024)."""

    name = "cnn-gru"

    def __init__(self, points: int = POINTS) -> None:
        super().__init__(points)
        self.first = nn.Conv1d(1, 128, 5, padding=2)
        self.second = nn.Conv1d(128, 64, 3, padding=1)
        self.wide = nn.GRU(64, 50, bidirectional=True)
        self.narrow = nn.GRU(100, 30, bidirectional=True)
        self.dense = nn.Linear(60, 1)

    def forward(self, spectrum: Tensor) -> tuple[Tensor]:
        """(b, points) float32 to Im chi_R (b, points)."""
        x = torch.relu(self.second(torch.relu(self.first(spectrum.unsqueeze(1)))))
        x = self.narrow(self.wide(x.permute(2, 0, 1))[0])[0]
        return (self.dense(x).squeeze(2).transpose(0, 1),)
