"""The distribution `bcars`: simulated broadband CARS spectra with their true raman.

Every batch is a pure function of (seed, index), so that training resumes exactly and several
processes could share the work. Per batch: a camera (axis, number of pixels), and for every
spectrum a mixture of up to three substances out of a pool, an envelope, a background, an instrument
line shape and a noise level, all drawn anew. The pool (its lines) is drawn anew every `POOL_SPECTRA`
spectra; mixing and new amplitudes make every spectrum a different one.

Spectra are as the camera's pixels see them: no grid, no resampling. The truth is what Kramers-Kronig
retrieval with a perfect reference and no noise gives. P being the probe's field and L the spectrometer's
line shape, that is L * (Im{P * chi_R} / chi_NR), the simulator's truth, but for strong lines that L widens,
where it differs by some per cent of the strongest line. So networks and the Kramers-Kronig graph agree, and
no network has to guess L from the lines' shapes. Errors of the axis calibration are not drawn: they move
counts and truth alike.
"""

import math

import numpy as np
import torch
import torch.utils.data
from torch import Tensor

from cars_rt.physics.cars import cars_intensity, lorentzians, raman_ratio
from cars_rt.reference import Reference
from cars_rt.training.data import envelopes
from cars_rt.training.data.axes import camera_axis
from cars_rt.training.data.batch import Batch, generator
from cars_rt.training.data.substances import WATER, draw_substances

GRID_STEP = 2.0  # cm-1, of the grid that an axis is brought to which no camera has
FINE_STEP = 1.0  # cm-1, on which lines and line shape are computed
SHIFT_RANGE = (200.0, 3400.0)  # cm-1
SPANS = (560.0, 3190.0)  # cm-1
PITCH = (0.9, 4.0)  # cm-1, the mean of an axis
STEPS = (0.6, 5.3)  # cm-1, of one pixel
PIXELS = (256, 2304)
POOL_SIZE = 1024
POOL_SPECTRA = 192 * 64
LITTLE = (0.004, 0.16)  # strongest line of what a pair differs by, about equally often in every octave
LARGEST = 4.0  # ln of the largest |chi / chi_NR|
DARKEST = 2e-3  # of a spectrum's mean, the least counts that a logarithm is taken of
FULL_SCALE = 65535.0


class Bcars(torch.utils.data.Dataset[Batch]):
    """The distribution `bcars`: broadband CARS as microscopes with a grating spectrometer measure it."""

    name = "bcars"
    target = "ratio"
    scaling = "mean"
    grid_step = GRID_STEP

    lengths: list[int]  # fewest and most pixels
    draws = 1  # of the noise, of each spectrum
    pairs = False  # as `Batch` says
    plates = False  # whether envelopes have their weak interference
    weakest = 0.01  # of the strongest lines
    weak = 0.8  # the larger, the more are weak; with 1 about equally many in every octave
    without = 0.05  # share of spectra that have no lines at all
    watery = 0.15  # of those with water's own lines

    def __init__(self, seed: int, batch: int, stride: int = 1, reference: Reference | None = None) -> None:
        """seed: any integer. batch: spectra per batch. stride: of no meaning, cameras have any number of
        pixels. reference: narrows axis and envelopes to those of one instrument."""
        self.seed, self.batch, self.reference = seed, batch, reference
        self.drawn = max(1, batch // (2 * self.draws if self.pairs else self.draws))  # spectra, or pairs
        self.lengths = list(PIXELS)
        points = round((SHIFT_RANGE[1] - SHIFT_RANGE[0]) / FINE_STEP) + 1
        self.shift = SHIFT_RANGE[0] + FINE_STEP * torch.arange(points)
        if reference is not None:
            points = int(np.ptp(reference.raman_shift) / FINE_STEP) + 2
            self.lengths = [len(reference.raman_shift)]
            self.shift = float(reference.raman_shift[0]) + FINE_STEP * torch.arange(points)
            self.envelope = torch.as_tensor(reference.envelope(self.shift.cpu().double().numpy())).float()
        self.water = lorentzians(self.shift, *torch.tensor(WATER).T)
        self._pool_number = -1
        self._pool = torch.zeros(0)

    def __getitem__(self, index: int) -> Batch:
        """Batch number `index` of this seed."""
        g = generator(self.seed, 1, index)
        pool = self._pool_for(index * self.batch // POOL_SPECTRA)
        axis = self._axis(generator(self.seed, 3, index))
        first = int((float(axis[0]) - float(self.shift[0])) / FINE_STEP)
        points = min(
            int((float(axis[-1]) - float(self.shift[first])) / FINE_STEP) + 2, len(self.shift) - first
        )
        shift = self.shift[first : first + points]
        chi_nr = self._background(shift, g)
        probe, spectrometer = self._resolution(g)
        chi_r = self._mixture(pool[:, first : first + points], probe, g)
        chi_r = chi_r * self._strength(_broaden(raman_ratio(chi_r, chi_nr.abs()), spectrometer), g)
        # Water, in some spectra: wide, and of known strength relative to chi_NR. Its flank at the end of
        # the axis looks much like an envelope's, so that too much of it teaches to see it everywhere.
        chi_r = chi_r + _some(self.watery, self.drawn, g) * self.water[first : first + points]
        samples = [chi_r]
        if self.pairs:
            little = self._little(pool[:, first : first + points], chi_nr, probe, spectrometer, g)
            samples.append(chi_r + little)
        envelope = self._envelope(shift, g)
        seen = _Pixels(shift, axis)
        raman = [seen(_retrieved(chi, chi_nr, spectrometer)) for chi in samples]
        light = [seen(_broaden(cars_intensity(envelope, chi, chi_nr), spectrometer)) for chi in samples]
        without = envelope * (chi_nr.real**2 + chi_nr.imag**2)
        return self._camera(axis, raman, light, seen(without), g)

    @property
    def pitch_cm1(self) -> tuple[float, ...]:
        """As `Distribution` says; of one instrument, that of its axis and a tenth."""
        if self.reference is None:
            return STEPS
        steps = np.diff(np.sort(self.reference.raman_shift))
        return round(0.9 * float(steps.min()), 3), round(1.1 * float(steps.max()), 3)

    def _pool_for(self, number: int) -> Tensor:
        if number != self._pool_number:
            # The same seed and number always give the same pool: a resumed training finds it again.
            lines = draw_substances(POOL_SIZE, generator(self.seed, 2, number))
            chunks = [
                torch.view_as_real(lorentzians(self.shift, *(part[rows] for part in lines)))
                for rows in torch.arange(POOL_SIZE).reshape(-1, 16)
            ]
            self._pool = torch.view_as_complex(torch.cat(chunks).contiguous())
            self._pool_number = number
        return self._pool

    def _axis(self, g: torch.Generator) -> Tensor:
        """The raman shift of a camera's pixels, (p,) float32. Half of them span what a BCARS camera does."""
        if self.reference is not None:
            return torch.as_tensor(np.sort(self.reference.raman_shift)).float()
        u = torch.rand(4, generator=g, device=g.device).tolist()
        wide = 0.8 + 0.4 * (u[0] - 0.5) if u[0] > 0.5 else u[0] * 1.6
        span = SPANS[0] + (SPANS[1] - SPANS[0]) * wide
        pixels = round(span / (PITCH[0] * (PITCH[1] / PITCH[0]) ** u[1]))
        first = SHIFT_RANGE[0] + (SHIFT_RANGE[1] - SHIFT_RANGE[0] - span) * u[2]
        return camera_axis(first, first + span, min(max(pixels, PIXELS[0]), PIXELS[1]), g)

    def _mixture(self, pool: Tensor, probe: Tensor, g: torch.Generator) -> Tensor:
        """chi_R of up to three substances in an arbitrary unit as the probe sees it, (b, p) complex64."""
        b = self.drawn
        rows = torch.randint(0, POOL_SIZE, (b, 3), generator=g)
        weight = torch.rand(b, 3, generator=g) ** 3
        weight[:, 0] = 1
        chi = torch.zeros(b, pool.shape[1], dtype=pool.dtype)
        for i in range(3):
            present = i < torch.randint(1, 4, (b,), generator=g)
            chi += pool[rows[:, i]] * (weight[:, i] * present)[:, None]
        return torch.complex(*_broaden(torch.stack([chi.real, chi.imag]), probe))

    def _little(
        self, pool: Tensor, chi_nr: Tensor, probe: Tensor, spectrometer: Tensor, g: torch.Generator
    ) -> Tensor:
        """chi_R of another mixture whose strongest line is LITTLE, (b, p) complex64."""
        chi = self._mixture(pool, probe, g)
        strongest = _broaden(raman_ratio(chi, chi_nr.abs()), spectrometer).amax(1, keepdim=True)
        # Where no line is on the axis, the wings of those beyond its ends are to stay small.
        strongest = torch.maximum(strongest, 0.3 * chi.abs().amax(1, keepdim=True))
        wanted = LITTLE[0] * (LITTLE[1] / LITTLE[0]) ** torch.rand(self.drawn, 1, generator=g)
        return chi * (wanted / strongest.clamp(min=0.02))

    def _strength(self, raman: Tensor, g: torch.Generator) -> Tensor:
        """Factors (b, 1) that bring the strongest line to `weakest` to 5, and none in `without` of them.

        raman: (b, p) in any unit."""
        wanted = self.weakest * (5 / self.weakest) ** torch.rand(self.drawn, 1, generator=g) ** self.weak
        wanted = wanted * (torch.rand(self.drawn, 1, generator=g) > self.without)
        # Windows without lines keep only the lines' far wings.
        return wanted / raman.amax(1, keepdim=True).clamp(min=0.02)

    def _envelope(self, shift: Tensor, g: torch.Generator) -> Tensor:
        """S, (b, p): any, or the reference's with the drift of a day."""
        if self.reference is not None:
            return self.envelope[: len(shift)] * envelopes.drift(shift, self.drawn, g)
        drawn = envelopes.draw(shift, self.drawn, g)
        return drawn * envelopes.plates(shift, self.drawn, g) if self.plates else drawn

    def _background(self, shift: Tensor, g: torch.Generator) -> Tensor:
        """chi_NR, (b, p) complex64: 1, with a slow slope and curvature and sometimes a small phase."""
        b = self.drawn
        u = (shift - 1800) / 1600
        slope, curve = 0.1 * torch.randn(2, b, 1, generator=g).clamp(-2.5, 2.5)
        phase = 0.03 * torch.randn(b, 1, generator=g) * (torch.rand(b, 1, generator=g) < 0.3)
        result: Tensor = (1 + slope * u + 0.5 * curve * u**2) * torch.exp(1j * phase)
        return result

    def _resolution(self, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Full widths at half maximum, each (b, 1) cm-1: of the probe's field, which acts on the
        susceptibility, and of the spectrometer, which acts on the intensity."""
        u = torch.rand(2, self.drawn, 1, generator=g)
        return 18 * u[0], 1.5 + 5.5 * u[1]

    def _camera(
        self, axis: Tensor, raman: list[Tensor], light: list[Tensor], without: Tensor, g: torch.Generator
    ) -> Batch:
        """What the camera counts. axis (p,); truth and light of each sample, and the light without
        resonances, (b, p). All samples have the same exposure and the same draws of the noise."""
        b, shape = self.drawn, without.shape
        peak = 500 * (60000 / 500) ** torch.rand(b, 1, generator=g) ** 0.7
        scale = peak / light[0].amax(1, keepdim=True)
        light, without = [each * scale for each in light], (without * scale).clamp(min=1e-3)
        per_count = 0.3 * (5 / 0.3) ** torch.rand(b, 1, generator=g)  # electrons per count
        read = 2 + 70 * torch.rand(b, 1, generator=g) ** 3  # counts
        gain = 1 + 0.004 * torch.rand(b, 1, generator=g) ** 2 * torch.randn(shape, generator=g)
        # Now and then the strongest lines saturate; the plateau is the camera's full scale.
        saturated = torch.rand(b, 1, generator=g) < 0.02
        limit = torch.where(saturated, 0.8 * peak, FULL_SCALE)
        offset = 10 * torch.randn(b, 1, generator=g) * (torch.rand(b, 1, generator=g) < 0.6)
        # Not so much that a dim spectrum has no mean left, which is its unit.
        least = torch.maximum(-0.004 * peak, -0.5 * light[0].mean(1, keepdim=True))
        offset = torch.clamp(offset, least, 0.004 * peak)
        noise = torch.sqrt(without / per_count + read**2) / (2 * without)
        deviates = [torch.randn(shape, generator=g) for _ in range(self.draws)]
        counts, truth, passed = [], [], []
        for true, bright in zip(raman, light, strict=True):
            deviation = torch.sqrt(bright / per_count + read**2)
            for each in deviates:
                seen = torch.minimum((bright * gain + deviation * each).round(), limit)
                counts.append(seen + offset)
                truth.append(true)
                if self.pairs:
                    # What is the same in all draws, such as a pixel's gain or saturation, is of the spectrum.
                    passed.append(true + _passed(seen, torch.minimum(bright, limit), without))
        every = torch.cat(counts), torch.cat(truth), noise.repeat(len(counts), 1)
        return Batch(axis, *every, draws=self.draws, passed=torch.cat(passed) if passed else None)


class BcarsPairs(Bcars):
    """`bcars` as pairs, a spectrum and the same with a little more of something in it, both with several
    draws of the noise, more of it dilute, from which a network learns to be right on average."""

    name = "bcars-pairs"
    draws = 4
    rows = 2 * draws  # of a pair
    pairs = True
    plates = True
    weakest = 0.003
    weak = 1.0
    without = 0.2
    watery = 0.04  # few: a rise that may be water's or the envelope's is the envelope's


class BcarsRepeated(Bcars):
    """`bcars` with many draws of the noise: rows n, n + batch / draws, ... have one truth."""

    draws = 64


class _Pixels:
    """Rows (..., points) of a fine uniform grid as pixels see them, (..., p): cubic interpolation."""

    def __init__(self, shift: Tensor, axis: Tensor) -> None:
        place = ((axis - shift[0]) / FINE_STEP).clamp(0, len(shift) - 1.001)
        left = place.long()
        self._at = [(left + k).clamp(0, len(shift) - 1) for k in (-1, 0, 1, 2)]
        t = place - left
        self._weights = (
            -t * (t - 1) * (t - 2) / 6,
            (t + 1) * (t - 1) * (t - 2) / 2,
            -(t + 1) * t * (t - 2) / 2,
            (t + 1) * t * (t - 1) / 6,
        )

    def __call__(self, rows: Tensor) -> Tensor:
        parts = [rows[..., at] * weight for at, weight in zip(self._at, self._weights, strict=True)]
        result: Tensor = parts[0] + parts[1] + parts[2] + parts[3]
        return result


def _passed(counts: Tensor, clean: Tensor, without: Tensor) -> Tensor:
    """The noise that Kramers-Kronig retrieval with a perfect reference passes on, (b, p), to first order: its
    average is zero."""
    floor = DARKEST * clean.mean(1, keepdim=True)
    change = ((counts - clean) / (2 * clean.maximum(floor))).clamp(-1, 1)
    logarithm = 0.5 * torch.log(clean.maximum(floor) / without.maximum(floor))
    phase = _hilbert(logarithm)
    result: Tensor = torch.exp(logarithm.clamp(max=LARGEST)) * (
        torch.sin(phase) * change + torch.cos(phase) * _hilbert(change)
    )
    return result


def _hilbert(rows: Tensor) -> Tensor:
    """(b, p); nothing is beyond the ends."""
    points = rows.shape[1]
    size = next(n for n in _fast_sizes() if n >= 2 * points)
    # The sign of CARS: where the logarithm falls with the raman shift, the phase is positive.
    result: Tensor = torch.fft.irfft(torch.fft.rfft(rows, n=size) * -1j, n=size)[:, :points]
    return result


def _some(chance: float, count: int, g: torch.Generator) -> Tensor:
    """(count, 1): with this chance a factor from 0 to 1, mostly nearer to 1, else 0."""
    chosen = torch.rand(count, 1, generator=g) < chance
    return chosen * torch.rand(count, 1, generator=g) ** 0.4


def _broaden(values: Tensor, full_width: Tensor) -> Tensor:
    """Rows (..., b, p) convolved with Gaussians of full widths (b, 1) in cm-1; the ends are repeated."""
    pad, points = 32, values.shape[-1]
    ends = [values[..., :1].expand(*values.shape[:-1], pad), values[..., -1:].expand(*values.shape[:-1], pad)]
    extended = torch.cat([ends[0], values, ends[1]], -1)
    size = next(n for n in _fast_sizes() if n >= points + 3 * pad)
    frequency = torch.fft.rfftfreq(size, d=FINE_STEP)
    sigma = full_width / math.sqrt(8 * math.log(2))
    transfer = torch.exp((-2 * (math.pi * sigma * frequency) ** 2).clamp(min=-60))
    result: Tensor = torch.fft.irfft(torch.fft.rfft(extended, n=size) * transfer, n=size)
    return result[..., pad : pad + points]


def _retrieved(chi_r: Tensor, chi_nr: Tensor, spectrometer: Tensor) -> Tensor:
    """Raman as Kramers-Kronig retrieval gives it with a perfect reference, (b, p).

    Without a spectrometer ln(1 + chi_R / chi_NR) has the exact phase; what L changes in its real
    part is local to the lines, and its Hilbert transform is added to the phase."""
    ratio = 1 + chi_r / chi_nr
    square = ratio.real**2 + ratio.imag**2
    seen = 0.5 * torch.log(_broaden(square, spectrometer).clamp(min=1e-6))
    change = seen - 0.5 * torch.log(square.clamp(min=1e-6))
    result: Tensor = torch.exp(seen) * torch.sin(torch.atan2(ratio.imag, ratio.real) + _hilbert(change))
    return result.clamp(min=0)  # where L breaks the retrieval beside a strong line, molecules still absorb


def _fast_sizes() -> list[int]:
    """Sizes that a fast Fourier transform likes, ascending."""
    return sorted(2**i * k for i in range(5, 14) for k in (1, 3, 5, 9, 15, 25))
