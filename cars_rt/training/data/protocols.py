"""The training distributions of the published networks, for comparison with the papers.

CARS = S |chi_R + chi_NR|^2 + noise with chi_R = sum A / (W - w - j G); the target is Im chi_R. Spectra
are normalised as the papers do it, and nothing here resembles an instrument: models for measured spectra
are trained on `bcars`.

    crimson2024  Vernuccio et al., Sci. Rep. 14, 23903 (2024), doi 10.1038/s41598-024-74912-5, as its code
    crimson2024-axes  the same spectra as cameras' pixels would see them
    specnet2020  Valensise et al., APL Photonics 5, 061305 (2020)
    vector2022   Wang et al., J. Raman Spectrosc. 53, 1081 (2022): nine cases
    lut2022      Junjuri et al., Opt. Continuum 1, 1324 (2022): specnet2020 with three families of NRB
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cars_rt.physics.cars import cars_intensity
from cars_rt.training.data.axes import camera_axis, pitch
from cars_rt.training.data.batch import Batch, generator

CHUNK = 32  # spectra computed at once on a processor, so that the lines' buffers stay in its cache


class Protocol(torch.utils.data.Dataset[Batch]):
    """A published distribution: batch `index` of a seed is always the same."""

    name: str
    points: int
    first: float = 0.1  # cm-1
    last: float = 2000.0
    target = "chi3"
    scaling = "minmax"
    pitch_cm1: tuple[float, ...] = ()

    def __init__(self, seed: int, batch: int, stride: int = 1) -> None:
        """seed: any integer. batch: spectra per batch. stride: of no meaning, lengths are published."""
        self.seed, self.batch = seed, batch
        self.lengths = [self.points]

    @property
    def grid_step(self) -> float:
        """Of the raman-shift axis, cm-1."""
        return (self.last - self.first) / (self.points - 1)

    def axis(self, index: int) -> Tensor:
        """The raman shift of a batch, (p,) float32, ascending, cm-1."""
        return torch.linspace(self.first, self.last, self.points)

    def __getitem__(self, index: int) -> Batch:
        """Batch number `index` of this seed."""
        g, shift = generator(self.seed, 1, index), self.axis(index)
        cars, target, have = [], [], 0
        chunk = min(CHUNK, self.batch) if g.device.type == "cpu" else self.batch
        while have < self.batch:
            spectra, truth = self.draw(shift, chunk, g)
            cars.append(spectra)
            target.append(truth)
            have += len(spectra)
        truth = torch.cat(target)[: self.batch]
        return Batch(shift, torch.cat(cars)[: self.batch], truth, torch.zeros_like(truth), scaled=True)

    def draw(self, shift: Tensor, count: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Up to `count` normalised spectra on an axis (p,) and their targets, each (k, p) float32."""
        raise NotImplementedError


@dataclass(frozen=True)
class Lines:
    """Lorentzian lines of some spectra: all (count, most) float32; absent lines have amplitude 0."""

    position: Tensor
    amplitude: Tensor
    width: Tensor

    def susceptibility(self, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Real and imaginary part of each line alone, each (count, most, p)."""
        detuning = self.position[..., None] - shift
        width = self.width[..., None]
        strength = self.amplitude[..., None] / (detuning.square() + width.square())
        return strength * detuning, strength * width


def _uniform(low: float | Tensor, high: float | Tensor, g: torch.Generator, *shape: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=g)


def _sigmoid(u: Tensor, centre: float, falling: bool, count: int, g: torch.Generator) -> Tensor:
    """A sigmoid over u = 0..1 (count, p): centre N(centre, 0.3), slope N(10, 5)."""
    slope = 10 + 5 * torch.randn(count, 1, generator=g)
    argument = (u - (centre + 0.3 * torch.randn(count, 1, generator=g))) * slope
    return torch.sigmoid(-argument if falling else argument)


def _two_sigmoids(u: Tensor, count: int, g: torch.Generator) -> Tensor:
    return _sigmoid(u, 0.2, False, count, g) * _sigmoid(u, 0.7, True, count, g)


def _polynomial(u: Tensor, count: int, g: torch.Generator) -> Tensor:
    """Of degree 4 in u, scaled to 0..1."""
    largest = torch.tensor([1.0, 10.0, 1.0, 10.0, 10.0])  # lowest power first
    coefficient = largest * _uniform(-1, 1, g, count, 5)
    values = coefficient @ torch.stack([u**power for power in range(5)])
    low, high = values.amin(1, keepdim=True), values.amax(1, keepdim=True)
    return (values - low) / (high - low)


def _choose(families: list[Tensor], g: torch.Generator) -> Tensor:
    """One of several (count, p) for every row, with equal chance."""
    chosen = torch.randint(len(families), (len(families[0]),), generator=g)
    return torch.stack(families)[chosen, torch.arange(len(chosen))]


class Crimson2024(Protocol):
    """Default case of the 2024 paper's code; peaks that CARS cannot show are removed."""

    name = "crimson2024"
    points = 1000
    peaks = (2, 10)
    widths = (2.0, 10.0)  # cm-1
    visible = 0.1  # of the normalised spectrum, a peak's lowest value at its centre

    def draw(self, shift: Tensor, count: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Protocol.draw`; spectra in which no peak is left are missing."""
        lines, u = self._lines(count, g), (shift - self.first) / (self.last - self.first)
        real, imaginary = lines.susceptibility(shift)
        total_real, total_imaginary = real.sum(1), imaginary.sum(1)
        largest = (total_real.square() + total_imaginary.square()).amax(1).sqrt()
        real, imaginary = real / largest[:, None, None], imaginary / largest[:, None, None]
        chi_nr, envelope = self._background(u, count, g), self._envelope(shift, u, count, g)
        loudest = _uniform(0.005, 0.05, g, count, 1)
        noise = _uniform(0.0002, loudest, g, count, 1) * torch.randn(count, len(shift), generator=g)
        full = envelope * ((total_real / largest[:, None] + chi_nr) ** 2)
        full = full + envelope * (total_imaginary / largest[:, None]) ** 2 + noise
        low, high = full.amin(1, keepdim=True), full.amax(1, keepdim=True)
        # Each line alone with the background, normalised as the full spectrum is.
        alone = (real + chi_nr[:, None]).square_().add_(imaginary.square())
        alone.mul_(envelope[:, None]).add_((noise - low)[:, None]).div_((high - low)[:, None])
        seen = self._visible(alone, lines, loudest, shift) & (lines.amplitude > 0)
        kept = seen.float()[:, None]
        chi_r = torch.complex((kept @ real)[:, 0], (kept @ imaginary)[:, 0])
        cars = (cars_intensity(envelope, chi_r, chi_nr) + noise - low) / (high - low)
        left = seen.any(1)
        return cars[left], chi_r.imag[left]

    def _lines(self, count: int, g: torch.Generator) -> Lines:
        most = self.peaks[1]
        number = torch.randint(self.peaks[0], most + 1, (count, 1), generator=g)
        edge = 50 * self.grid_step
        width = _uniform(*self.widths, g, count, most)
        width = torch.where(torch.rand(count, most, generator=g) < 0.1, 10.0, width)
        amplitude = _uniform(0.1, 1, g, count, most) * (torch.arange(most) < number)
        return Lines(_uniform(self.first + edge, self.last - edge, g, count, most), amplitude, width)

    def _background(self, u: Tensor, count: int, g: torch.Generator) -> Tensor:
        """chi_NR (count, p): linear, from h up by h - l over the span, or its mirror image."""
        high, low = _uniform(0.5, 0.7, g, count, 1), _uniform(0.3, 0.5, g, count, 1)
        mirrored = torch.rand(count, 1, generator=g) < 0.5
        return high + (high - low) * torch.where(mirrored, 1 - u, u)

    def _envelope(self, shift: Tensor, u: Tensor, count: int, g: torch.Generator) -> Tensor:
        """S (count, p), at most 1: two sigmoids, a Gaussian or a polynomial."""
        centre, sigma = _uniform(0, 2000, g, count, 1), _uniform(500, 1500, g, count, 1)
        gaussian = torch.exp(-0.5 * ((shift - centre) / sigma) ** 2)
        drawn = _choose([_two_sigmoids(u, count, g), gaussian, _polynomial(u, count, g)], g)
        return drawn / drawn.amax(1, keepdim=True)

    def _visible(self, alone: Tensor, lines: Lines, loudest: Tensor, shift: Tensor) -> Tensor:
        """Whether each line shows in its spectrum alone (count, most, p): (count, most) bool.

        The jump from one half width below the centre to one above must differ from the same jump beside
        it by more than the noise can, and the signal there must be strong enough."""
        end = len(shift)
        between = (shift[1:] + shift[:-1]) / 2
        centre = torch.searchsorted(between, lines.position)  # the nearest pixel
        reach = (lines.width / pitch(shift)[centre]).round().long().clamp(min=1)
        sums = torch.nn.functional.pad(alone.cumsum(2), (1, 0))

        def mean(from_: Tensor, to: Tensor) -> Tensor:
            from_, to = from_.clamp(0, end), to.clamp(0, end)
            total = sums.gather(2, to[..., None]) - sums.gather(2, from_[..., None])
            return total[..., 0] / (to - from_).clamp(min=1)

        def jump(at: Tensor) -> Tensor:
            return mean(at - reach, at) - mean(at + 1, at + 1 + reach)

        step = jump(centre)
        beside = (step - jump(centre - 2 * reach)).abs() + (step - jump(centre + 2 * reach)).abs()
        value = alone.gather(2, centre[..., None].clamp(0, end - 1))[..., 0]
        return (beside > 3 * loudest) & (value > self.visible)


class Crimson2024Axes(Crimson2024):
    """crimson2024 on axes that cameras have: one for each batch, 0.9 to 2.4 cm-1 a pixel on average, from
    the protocol's first to its last raman shift. A line's visibility is judged at its own pixels, and the
    noise is white on them."""

    name = "crimson2024-axes"
    pixels = (850, 2200)
    pitch_cm1 = (0.6, 3.1)

    def __init__(self, seed: int, batch: int, stride: int = 1) -> None:
        """stride: of the network, so that the axes' lengths are few when padded."""
        super().__init__(seed, batch, stride)
        self.lengths = list(self.pixels)

    def axis(self, index: int) -> Tensor:
        """As `Protocol.axis`; one in four is the protocol's own."""
        g = generator(self.seed, 5, index)
        own, u = torch.rand(2, generator=g, device=g.device).tolist()
        least, most = self.pixels
        pixels = round(least * (most / least) ** u)
        if own < 1 / 4:
            return super().axis(index)
        return camera_axis(self.first, self.last, pixels, g)


class Specnet2020(Protocol):
    """The 2020 paper's: up to 14 peaks anywhere, widths and positions in fractions of the span."""

    name = "specnet2020"
    points = 640
    first, last = 0.0, 1278.0  # the paper has no unit: 2 cm-1 a point, as the cameras of the time had
    peaks = (1, 14)

    def draw(self, shift: Tensor, count: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """As `Protocol.draw`."""
        u = (shift - self.first) / (self.last - self.first)
        real, imaginary = (part.sum(1) for part in self._lines(count, g).susceptibility(u))
        largest = (real.square() + imaginary.square()).amax(1, keepdim=True).sqrt()
        factor = _uniform(0.3, 1, g, count, 1) / largest
        chi_r = torch.complex(real * factor, imaginary * factor)
        cars = cars_intensity(torch.ones(1), chi_r, self._background(u, count, g)) / 2
        noise = _uniform(0.0005, 0.003, g, count, 1) * torch.randn(count, len(shift), generator=g)
        return cars + noise, chi_r.imag.contiguous()

    def _lines(self, count: int, g: torch.Generator) -> Lines:
        most = self.peaks[1]
        number = torch.randint(self.peaks[0], most + 1, (count, 1), generator=g)
        amplitude = torch.rand(count, most, generator=g) * (torch.arange(most) < number)
        position = torch.rand(count, most, generator=g)
        return Lines(position, amplitude, _uniform(0.001, 0.008, g, count, most))

    def _background(self, u: Tensor, count: int, g: torch.Generator) -> Tensor:
        """NRB (count, p)."""
        return _two_sigmoids(u, count, g)


class Lut2022(Specnet2020):
    """specnet2020 with three families of NRB: two sigmoids, one sigmoid, a polynomial."""

    name = "lut2022"

    def _background(self, u: Tensor, count: int, g: torch.Generator) -> Tensor:
        one = _sigmoid(u, 0.2, False, count, g)
        return _choose([_two_sigmoids(u, count, g), one, _polynomial(u, count, g)], g)


class Vector2022(Specnet2020):
    """Nine cases by number and width of the peaks; the cases change from spectrum to spectrum."""

    name = "vector2022"
    points = 1000
    first, last = 0.1, 2000.0
    counts = ((1, 15), (15, 30), (30, 50))
    widths = (10.0, 25.0, 75.0)  # cm-1, the largest of the half widths; the smallest is 2
    cases = tuple((widest, number) for widest in (1, 2, 3) for number in "abc")

    def __init__(self, seed: int, batch: int, stride: int = 1, case: int | None = None) -> None:
        """case: 0 to 8 for one of `cases` alone."""
        super().__init__(seed, batch, stride)
        self.case = case

    def _lines(self, count: int, g: torch.Generator) -> Lines:
        case = torch.randint(9, (count, 1), generator=g)
        if self.case is not None:
            case = torch.full_like(case, self.case)
        least, most = torch.tensor(self.counts)[case % 3].unbind(-1)
        number = least + (torch.rand(count, 1, generator=g) * (most - least + 1)).long()
        slots = self.counts[-1][1]
        amplitude = torch.rand(count, slots, generator=g) * (torch.arange(slots) < number)
        span = self.last - self.first
        width = _uniform(2.0, torch.tensor(self.widths)[case // 3], g, count, slots)
        position = _uniform(300, 1700, g, count, slots) - self.first
        return Lines(position / span, amplitude, width / span)


PROTOCOLS: dict[str, type[Protocol]] = {
    cls.name: cls for cls in (Crimson2024, Crimson2024Axes, Specnet2020, Vector2022, Lut2022)
}
"""The published distributions by name."""
