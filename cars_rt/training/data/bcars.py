"""The distribution `bcars`: simulated broadband CARS spectra with their true raman.

Every batch is a pure function of (seed, index), so that training resumes exactly and several
processes could share the work. Per batch: a camera (axis, number of pixels, noise), and for every
spectrum a mixture of up to three substances out of a pool, an envelope, a background, an instrument
line shape and a noise level, all drawn anew. The pool (its lines) is drawn anew every `POOL_SPECTRA`
spectra; mixing and new amplitudes make every spectrum a different one.

The truth is what Kramers-Kronig retrieval with a perfect reference and no noise gives. P being the
probe's field and L the spectrometer's line shape, that is L * (Im{P * chi_R} / chi_NR), the simulator's
truth, but for strong lines that L widens, where it differs by some per cent of the strongest line.
So networks and the Kramers-Kronig graph agree, and no network has to guess L from the lines' shapes.
Errors of the axis calibration are not drawn: they move counts and truth alike.
"""

import math

import numpy as np
import torch
import torch.utils.data
from numpy.typing import NDArray
from torch import Tensor

from cars_rt.physics.axis import Grid, resampling_matrix
from cars_rt.physics.cars import cars_intensity, lorentzians, raman_ratio
from cars_rt.reference import Reference
from cars_rt.training.data import envelopes
from cars_rt.training.data.batch import Batch, generator
from cars_rt.training.data.substances import WATER, draw_substances

GRID_STEP = 2.0  # cm-1, of the model's grid
FINE_STEP = 1.0  # cm-1, on which lines and line shape are computed
SHIFT_RANGE = (200.0, 3400.0)  # cm-1
POOL_SIZE = 1024
POOL_SPECTRA = 192 * 64
CAMERA_BATCHES = 192
FULL_SCALE = 65535.0


class Bcars(torch.utils.data.Dataset[Batch]):
    """The distribution `bcars`: broadband CARS as microscopes with a grating spectrometer measure it."""

    name = "bcars"
    target = "ratio"
    scaling = "mean"
    grid_step = GRID_STEP

    lengths: list[int]  # of the grids drawn with what they lack, ascending

    def __init__(
        self, seed: int, batch: int, stride: int, reference: Reference | None = None, min_length: int = 288
    ) -> None:
        """seed: any integer. batch: spectra per batch. stride: of the network; grids lack less than one
        stride to the next multiple, as instruments' axes do. reference: narrows axis and envelopes to those
        of one instrument."""
        self.seed, self.batch, self.stride, self.reference = seed, batch, stride, reference
        # Few different lengths: libraries such as oneDNN prepare and cache their kernels per length.
        longest = int((SHIFT_RANGE[1] - SHIFT_RANGE[0]) / GRID_STEP)
        wanted = np.linspace(min_length, longest - stride, 12)
        self.lengths = [max(1, round(n / stride)) * stride for n in wanted]
        points = round((SHIFT_RANGE[1] - SHIFT_RANGE[0]) / FINE_STEP) + 1
        self.shift = SHIFT_RANGE[0] + FINE_STEP * torch.arange(points)
        if reference is not None:
            length = int(np.ptp(reference.raman_shift) / GRID_STEP) + 1
            points = round(GRID_STEP / FINE_STEP) * (length - 1) + 1
            self.lengths = [length]
            self.shift = float(reference.raman_shift[0]) + FINE_STEP * torch.arange(points)
            self.envelope = torch.as_tensor(reference.envelope(self.shift.cpu().double().numpy())).float()
        self.water = lorentzians(self.shift, *torch.tensor(WATER).T)
        self._pool_number = -1
        self._pool = torch.zeros(0)
        self._cameras: dict[tuple[int, int], tuple[NDArray[np.float64], Tensor]] = {}

    def __getitem__(self, index: int) -> Batch:
        """Batch number `index` of this seed."""
        g = generator(self.seed, 1, index)
        pool = self._pool_for(index * self.batch // POOL_SPECTRA)
        cameras = index // CAMERA_BATCHES
        length = self._draw_length(cameras, g)
        every = round(GRID_STEP / FINE_STEP)
        points = (length - 1) * every + 1
        first = int(torch.randint(0, len(self.shift) - points + 1, (1,), generator=g))
        shift = self.shift[first : first + points]
        chi_nr = self._background(shift, g)
        probe, spectrometer = self._resolution(g)
        chi_r = self._mixture(pool[:, first : first + points], g)
        parts = _broaden(torch.stack([chi_r.real, chi_r.imag]), probe)
        chi_r = torch.complex(parts[0], parts[1])
        chi_r = chi_r * self._strength(_broaden(raman_ratio(chi_r, chi_nr.abs()), spectrometer), g)
        # Water, in some spectra: wide, and of known strength relative to chi_NR. Its flank at the end of
        # the axis looks much like an envelope's, so that too much of it teaches to see it everywhere.
        chi_r = chi_r + _some(0.15, self.batch, g) * self.water[first : first + points]
        raman = _retrieved(chi_r, chi_nr, spectrometer)[:, ::every]
        envelope = self._envelope(shift, g)
        intensity = _broaden(cars_intensity(envelope, chi_r, chi_nr), spectrometer)
        without = envelope * (chi_nr.real**2 + chi_nr.imag**2)
        counts, noise = self._camera(cameras, shift, intensity, without, g)
        return Batch(float(shift[0]), counts, raman, noise)

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

    def _camera_for(self, number: int, grid: Grid) -> tuple[NDArray[np.float64], Tensor]:
        """The pixels' raman shift above the first, and the matrix from them to the grid, (p, length)."""
        if (number, grid.length) not in self._cameras:
            # One camera for each length and number: the matrix takes as long as a third of a batch.
            self._cameras = {key: value for key, value in self._cameras.items() if key[0] == number}
            axis = _camera_axis(GRID_STEP * (grid.length - 1), generator(self.seed, 3, number, grid.length))
            if self.reference is not None:
                axis = self.reference.raman_shift - self.reference.raman_shift[0]
            matrix = torch.as_tensor(resampling_matrix(axis, GRID_STEP * np.arange(grid.length)))
            self._cameras[number, grid.length] = axis, matrix
        return self._cameras[number, grid.length]

    def _draw_length(self, number: int, g: torch.Generator) -> int:
        """Mostly wide spans: half of the batches cover what a BCARS camera covers."""
        u = float(torch.rand(1, generator=g))
        fraction = 0.8 + 0.4 * (u - 0.5) if u > 0.5 else u * 1.6
        if self.reference is not None:
            return self.lengths[0]
        whole = self.lengths[min(len(self.lengths) - 1, int(fraction * len(self.lengths)))]
        # The same for many batches, as the camera is.
        missing = torch.randint(self.stride, (1,), generator=generator(self.seed, 4, number, whole))
        return whole - int(missing)

    def _mixture(self, pool: Tensor, g: torch.Generator) -> Tensor:
        """chi_R of up to three substances in an arbitrary unit, (b, p) complex64."""
        b = self.batch
        rows = torch.randint(0, POOL_SIZE, (b, 3), generator=g)
        weight = torch.rand(b, 3, generator=g) ** 3
        weight[:, 0] = 1
        chi = torch.zeros(b, pool.shape[1], dtype=pool.dtype)
        for i in range(3):
            present = i < torch.randint(1, 4, (b,), generator=g)
            chi += pool[rows[:, i]] * (weight[:, i] * present)[:, None]
        return chi

    def _strength(self, raman: Tensor, g: torch.Generator) -> Tensor:
        """Factors (b, 1) that bring the strongest line to 0.01 to 5, about equally often in every octave.

        raman: (b, p) in any unit. One spectrum in twenty has no lines at all."""
        wanted = 0.01 * (5 / 0.01) ** torch.rand(self.batch, 1, generator=g) ** 0.8
        wanted = wanted * (torch.rand(self.batch, 1, generator=g) > 0.05)
        # Windows without lines keep only the lines' far wings.
        return wanted / raman.amax(1, keepdim=True).clamp(min=0.02)

    def _envelope(self, shift: Tensor, g: torch.Generator) -> Tensor:
        """S, (b, p): any, or the reference's with the drift of a day."""
        if self.reference is None:
            return envelopes.draw(shift, self.batch, g)
        return self.envelope * envelopes.drift(shift, self.batch, g)

    def _background(self, shift: Tensor, g: torch.Generator) -> Tensor:
        """chi_NR, (b, p) complex64: 1, with a slow slope and curvature and sometimes a small phase."""
        b = self.batch
        u = (shift - 1800) / 1600
        slope, curve = 0.1 * torch.randn(2, b, 1, generator=g).clamp(-2.5, 2.5)
        phase = 0.03 * torch.randn(b, 1, generator=g) * (torch.rand(b, 1, generator=g) < 0.3)
        result: Tensor = (1 + slope * u + 0.5 * curve * u**2) * torch.exp(1j * phase)
        return result

    def _resolution(self, g: torch.Generator) -> tuple[Tensor, Tensor]:
        """Full widths at half maximum, each (b, 1) cm-1: of the probe's field, which acts on the
        susceptibility, and of the spectrometer, which acts on the intensity."""
        u = torch.rand(2, self.batch, 1, generator=g)
        return 18 * u[0], 1.5 + 5.5 * u[1]

    def _camera(
        self, number: int, shift: Tensor, intensity: Tensor, without: Tensor, g: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Camera counts brought to the grid as the deployment graph does it, and the noise in raman.

        shift (p,), intensity and without (the intensity without resonances), (b, p)."""
        b, (low, high) = self.batch, (float(shift[0]), float(shift[-1]))
        grid = Grid(low, GRID_STEP, round((high - low) / GRID_STEP) + 1)
        axis, matrix = self._camera_for(number, grid)
        place = torch.as_tensor(axis / FINE_STEP).clamp(0, len(shift) - 1.001)
        left = place.long()
        fraction = (place - left).float()
        light = torch.lerp(intensity[:, left], intensity[:, left + 1], fraction)

        peak = 500 * (60000 / 500) ** torch.rand(b, 1, generator=g) ** 0.7
        scale = peak / light.amax(1, keepdim=True)
        light = light * scale
        per_count = 0.3 * (5 / 0.3) ** torch.rand(b, 1, generator=g)  # electrons per count
        read = 2 + 70 * torch.rand(b, 1, generator=g) ** 3  # counts
        gain = 1 + 0.004 * torch.rand(b, 1, generator=g) ** 2 * torch.randn(light.shape, generator=g)
        deviation = torch.sqrt(light / per_count + read**2)
        counts = light * gain + deviation * torch.randn(light.shape, generator=g)
        # Now and then the strongest lines saturate; the plateau is the camera's full scale.
        saturated = torch.rand(b, 1, generator=g) < 0.02
        limit = torch.where(saturated, 0.8 * peak, FULL_SCALE)
        counts = torch.minimum(counts.round(), limit)
        offset = 10 * torch.randn(b, 1, generator=g) * (torch.rand(b, 1, generator=g) < 0.6)
        # Not so much that a dim spectrum has no mean left, which is its unit.
        least = torch.maximum(-0.004 * peak, -0.5 * light.mean(1, keepdim=True))
        counts = counts + torch.clamp(offset, least, 0.004 * peak)

        background = (without * scale)[:, :: round(GRID_STEP / FINE_STEP)].clamp(min=1e-3)
        noise = torch.sqrt(background / per_count + read**2) / (2 * background)
        return counts @ matrix, noise


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
    points = change.shape[1]
    size = next(n for n in _fast_sizes() if n >= 1.5 * points)
    # The sign of CARS: where the logarithm falls with the raman shift, the phase is positive.
    phase = torch.fft.irfft(torch.fft.rfft(change, n=size) * -1j, n=size)[:, :points]
    result: Tensor = torch.exp(seen) * torch.sin(torch.atan2(ratio.imag, ratio.real) + phase)
    return result.clamp(min=0)  # where L breaks the retrieval beside a strong line, molecules still absorb


def _fast_sizes() -> list[int]:
    """Sizes that a fast Fourier transform likes, ascending."""
    return sorted(2**i * k for i in range(5, 14) for k in (1, 3, 5, 9, 15, 25))


def _camera_axis(span: float, g: torch.Generator) -> NDArray[np.float64]:
    """The raman shift of the camera's pixels above the first, cm-1: steps of 1 to 4 that change slowly."""
    u = torch.rand(3, generator=g, dtype=torch.float64).cpu().numpy()
    if u[0] < 0.2:
        return np.arange(0, span + GRID_STEP / 2, GRID_STEP)  # a source that delivers the grid itself
    position = np.linspace(0, 1, max(2, round(span / (1.2 * (3.2 / 1.2) ** u[1])) + 1))
    bend = u[2] - 0.5  # the step runs from (1 + bend) to (1 - bend) times its mean
    return np.asarray(span * (position + bend * position * (1 - position)))
