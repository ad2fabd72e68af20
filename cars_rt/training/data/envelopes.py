"""Random excitation envelopes S(w) for training, as broadband CARS microscopes show them.

A family is drawn for every spectrum (two- and three-colour BCARS, Gaussians, products of sigmoids,
polynomials, smooth random curves), then what instruments add: slow modulation, ripples of etalons,
and narrow absorption dips (air and optics; near 2330 to 2460 cm-1 in measured data). Computed as
ln S, so that dynamic ranges of several hundred to one are as easy as flat envelopes.
"""

import math

import torch
from torch import Tensor

PLATES = 4  # at most, that interfere weakly
LOWEST = (1 / 1500, 1 / 15)  # of the strongest, what is left where the excitation ends


def draw(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    """Envelopes with maximum 1 on a uniform raman shift (p,) in cm-1: (count, p) float32, positive."""
    log = torch.empty(count, len(shift))
    family = torch.multinomial(torch.tensor([share for share, _ in FAMILIES]), count, True, generator=g)
    for number, (_, make) in enumerate(FAMILIES):
        rows = (family == number).nonzero().squeeze(1)
        log[rows] = make(shift, len(rows), g)
    log = log + _some(0.6, count, g) * 0.12 * _smooth(shift, count, g, 250, 1000)
    log = log + _some(0.35, count, g) * _ripple(shift, count, g)
    log = log + _dips(shift, count, g)
    log = log - log.amax(1, keepdim=True)
    return torch.exp(log.clamp(min=-60)) + torch.exp(
        _uniform(math.log(LOWEST[0]), math.log(LOWEST[1]), count, g)
    )


def plates(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    """Factors near 1, (count, p) float32: what four of five instruments have and a single spectrum hardly
    shows, the interference of up to four plates and coatings, sines of 30 to 400 cm-1 and 0.02 to 0.6 %, half
    of the time with a smooth curve as weak."""
    log = torch.zeros(count, len(shift))
    present = torch.rand(count, 1, generator=g) < 0.8
    how_many = torch.randint(1, PLATES + 1, (count, 1), generator=g)
    scale = torch.exp(_uniform(math.log(2e-4), math.log(6e-3), count, g))
    for plate in range(PLATES):
        period = torch.exp(_uniform(math.log(30), math.log(400), count, g))
        phase, size = _uniform(0, 2 * math.pi, count, g), _uniform(0.2, 1, count, g)
        turns = shift / period + 0.02 * _uniform(-1, 1, count, g) * (shift / 1000) ** 2
        log += (plate < how_many) * size * torch.sin(2 * math.pi * turns + phase)
    log = log + _some(0.5, count, g) * _smooth(shift, count, g, 30, 300)
    return torch.exp(log * scale * present)


def drift(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    """Factors by which one instrument's envelope changes from day to day, (count, p) float32 near 1: slow
    modulation of up to 10 %, a ripple, and a tilt."""
    tilt = 0.15 * torch.randn(count, 1, generator=g) * (shift - shift.mean()) / (shift[-1] - shift[0])
    slow = _some(0.8, count, g) * 0.1 * _smooth(shift, count, g, 250, 1500)
    return torch.exp(tilt + slow + _some(0.35, count, g) * 0.5 * _ripple(shift, count, g))


def _uniform(low: float, high: float, count: int, g: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(count, 1, generator=g)


def _some(chance: float, count: int, g: torch.Generator) -> Tensor:
    """(count, 1): with this chance a factor between 0 and 1, else 0."""
    return (torch.rand(count, 1, generator=g) < chance) * torch.rand(count, 1, generator=g)


def _two_and_three_colour(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    """ln S: the three-colour part from 0 up to 700 to 1500 cm-1, the two-colour hump above it."""

    def u(low: float, high: float) -> Tensor:
        return _uniform(low, high, count, g)

    centre, width, power = u(-200, 400), u(300, 800), u(1.6, 4)
    three = -(((shift - centre).abs() / width) ** power)
    middle, left, right = u(1400, 2800), u(250, 800), u(300, 1100)
    power = u(1.6, 4)
    distance = shift - middle
    hump = -((distance.abs() / torch.where(distance < 0, left, right)) ** power)
    level = u(math.log(0.02), math.log(1.5))  # of the hump over the three-colour part
    log = torch.logaddexp(three, hump + level)
    cut = u(2800, 3600)  # a filter or the end of the supercontinuum
    return log - torch.nn.functional.softplus((shift - cut) / u(35, 150))


def _bell(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    centre, width = _uniform(200, 3400, count, g), _uniform(400, 1800, count, g)
    return -0.5 * ((shift - centre) / width) ** 2


def _edges(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    """ln of a rising times a falling sigmoid; steep ones occur."""
    u = (shift - shift[0]) / (shift[-1] - shift[0])
    steep = torch.exp(_uniform(math.log(4), math.log(40), count, g))
    rise, fall = _uniform(-0.3, 0.35, count, g), _uniform(0.65, 1.3, count, g)
    other = torch.exp(_uniform(math.log(4), math.log(40), count, g))
    sigmoid = torch.nn.functional.logsigmoid
    return sigmoid((u - rise) * steep) + sigmoid((fall - u) * other)


def _polynomial(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    """ln of a random polynomial of degree 4, lifted to stay positive."""
    u = (shift - shift[0]) / (shift[-1] - shift[0])
    values = torch.randn(count, 5, generator=g) @ torch.stack([(2 * u - 1) ** k for k in range(5)])
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    lift = torch.exp(_uniform(math.log(0.01), math.log(1), count, g))
    return torch.log((values - low) / (high - low) + lift)


def _smooth(shift: Tensor, count: int, g: torch.Generator, shortest: float, longest: float) -> Tensor:
    """A random smooth curve of standard deviation about 1: twelve cosines of these periods, cm-1."""
    terms = 12
    period = 2 * torch.exp(_uniform(math.log(shortest), math.log(longest), terms, g))
    basis_phase = 2 * math.pi * shift / period
    weights = torch.randn(count, 2 * terms, generator=g) * math.sqrt(1 / terms)
    return weights @ torch.cat([torch.cos(basis_phase), torch.sin(basis_phase)])


def _ripple(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    """Interference in a thin plate: a sine of 15 to 200 cm-1 period, up to 4 % modulation."""
    period = torch.exp(_uniform(math.log(15), math.log(200), count, g))
    phase = _uniform(0, 2 * math.pi, count, g)
    return 0.04 * torch.sin(2 * math.pi * (shift / period + 0.02 * (shift / 1000) ** 2) + phase)


def _dips(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    """-absorbance of up to six narrow bands, mostly where measured data show them.

    There they are two dips of 10 to 25 % and weaker ones around, in both samples of one instrument."""
    bands = 6
    at_home = torch.rand(count, 1, generator=g) < 0.7
    centre = torch.tensor([2347.0, 2455.0, 2380.0, 2400.0, 2430.0, 2490.0])
    spread = torch.tensor([12.0, 12.0, 40.0, 60.0, 60.0, 60.0])
    home = centre + spread * torch.randn(count, bands, generator=g)
    elsewhere = shift[0] + (shift[-1] - shift[0]) * torch.rand(count, bands, generator=g)
    position = torch.where(at_home, home, elsewhere)
    width = 5 + 25 * torch.rand(count, bands, generator=g) ** 1.5
    strength = torch.tensor([0.4, 0.4, 0.15, 0.15, 0.15, 0.15])
    depth = torch.rand(count, 1, generator=g) * torch.rand(count, bands, generator=g) * strength
    depth = torch.where(at_home, depth, 0.5 * depth)
    present = torch.rand(count, bands, generator=g) < torch.where(at_home, 0.8, 0.4)
    depth = depth * present * (torch.rand(count, 1, generator=g) < torch.where(at_home, 0.75, 0.3))
    log = torch.zeros(count, len(shift))
    for band in range(bands):
        place = position[:, band]
        inside = (place > shift[0] - 60) & (place < shift[-1] + 60)
        rows = ((depth[:, band] > 0) & inside).nonzero().squeeze(1)
        distance = (shift - place[rows, None]) / width[rows, band, None]
        # Clamped: an exponential that underflows takes fifty times as long.
        log[rows] -= depth[rows, band, None] * torch.exp((-0.5 * distance**2).clamp(min=-60))
    return log


def _wide_smooth(shift: Tensor, count: int, g: torch.Generator) -> Tensor:
    return _smooth(shift, count, g, 450, 1500)


FAMILIES = (
    (0.53, _two_and_three_colour),
    (0.15, _bell),
    (0.11, _edges),
    (0.10, _polynomial),
    (0.11, _wide_smooth),
)
