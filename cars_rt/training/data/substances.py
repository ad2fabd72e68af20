"""Random substances for training: lists of Lorentzian lines that resemble real Raman spectra.

Typical numbers: lines of liquids have half widths of 1.5 to 8 cm-1, bands of proteins and lipids 6 to
20 (amide I) and up to 75 where many overlap; 1850 to 2750 cm-1 is silent but for a few groups (C=C,
C=N, C-D, S-H); the CH stretches from 2800 to 3100 are crowded and often the strongest of all.
"""

import math

import torch
from torch import Tensor

MAX_LINES = 40
# Liquid water, as position, amplitude and half width in cm-1, chi_NR = 1
# (positions from Carey & Korenowski, J. Chem. Phys. 108, 2669 (1998)).
WATER = (
    (1641.0, 1.35, 45.0),
    (3051.0, 2.8, 70.0),
    (3233.0, 37.8, 105.0),
    (3393.0, 38.0, 95.0),
    (3511.0, 14.0, 70.0),
    (3628.0, 4.0, 50.0),
)


def draw_substances(count: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Positions (cm-1), amplitudes (cm-1, so that the strongest lines have amplitude / width near 1)
    and half widths (cm-1), each (count, MAX_LINES) float32; absent lines have amplitude 0."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=g)

    n, m = count, MAX_LINES
    kind = uniform(n, 1)  # 40 % liquids with sharp lines, 45 % biological, 15 % very few lines
    liquid, sparse = kind < 0.4, kind > 0.85
    biological = ~(liquid | sparse)

    # Where: fingerprint (with some pile-up), CH stretches, silent region, or anywhere at all.
    where = uniform(n, m)
    share_ch = torch.where(biological, 0.12 + 0.2 * uniform(n, 1), 0.35 * uniform(n, 1))
    share_ch = share_ch * (uniform(n, 1) < 0.85)
    share_silent = 0.15 * (uniform(n, 1) < 0.12)
    anywhere = uniform(n, 1) < 0.12
    fingerprint = 230 + 1500 * uniform(n, m)
    ch = 2840 + torch.where(biological, 150, 240) * uniform(n, m)
    silent = 1800 + 1000 * uniform(n, m)
    everywhere = 180 + 3240 * uniform(n, m)
    position = torch.where(where < share_ch + share_silent, silent, fingerprint)
    position = torch.where(where < share_ch, ch, position)
    position = torch.where(anywhere, everywhere, position)
    is_ch = (where < share_ch) & ~anywhere
    # Doublets: a fifth of the lines sits beside its neighbour in the list, as 1004 and 1031 in benzene rings.
    partner = torch.roll(position, 1, 1) + (10 + 40 * uniform(n, m)) * torch.sign(uniform(n, m) - 0.5)
    position = torch.where((uniform(n, m) < 0.2) & ~anywhere, partner, position)

    # How wide: a scale per substance, scattered per line.
    scale = torch.where(biological, 4.5 * (18 / 4.5) ** uniform(n, 1), 1.5 * (6 / 1.5) ** uniform(n, 1))
    width = scale * torch.exp(0.45 * torch.randn(n, m, generator=g))
    width = torch.where(is_ch, width * (1.5 + 1.5 * uniform(n, 1)), width)
    very_wide = uniform(n, m) < torch.where(liquid, 0.01, 0.06)
    width = torch.where(very_wide, 20 + 55 * uniform(n, m), width).clamp(1.2, 75)

    # How strong: heavy-tailed, a few strong lines over many weak ones.
    height = torch.exp(torch.where(biological, 0.8, 1.3) * torch.randn(n, m, generator=g))
    boost = torch.exp(math.log(8) * uniform(n, 1))
    height = torch.where(is_ch, height * boost, height)
    few, several, many = 1 + 4 * uniform(n, 1), 5 + 25 * uniform(n, 1), 10 + 30 * uniform(n, 1)
    lines = torch.where(sparse, few, torch.where(liquid, several, many))
    height = height * (torch.arange(m) < lines.floor())
    height = height / height.amax(1, keepdim=True)
    return position, height * width, width
