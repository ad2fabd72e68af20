"""Fitness: whether a spectrum and its result can be trusted, as flags that travel with the result.

Some checks look at the counts alone (saturated, empty, spike, below dark), one at counts and result together.
None depends on the unit of the counts or on the direction of the axis. The last one reconstructs what the
result implies for the counts: with R = Im{chi_R} / chi_NR and its Hilbert transform H[R] = Re{chi_R} / chi_NR
(Kramers and Kronig),

    ln I = ln S + ln((1 + H[R])^2 + R^2),

and the envelope S is smooth. So the structure of ln I at the width of lines, l, should be the one that
R implies, m, and the slope of l over m should be 1, whatever the envelope, the noise or the model. Both are
seen through a second difference and weighed by the noise, which the spectrum itself shows in the third
differences of its pixels. A result that says nothing above the noise agrees with every spectrum.

Thresholds: `python tests/scripts/fitness.py` measures how often each flag is raised on many kinds of spectra,
and the distributions behind it; docs/fitness.md has its table and says which threshold follows from what.
"""

from collections.abc import Mapping
from enum import IntFlag

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cars_rt.physics.axis import check_raman_shift, gaps
from cars_rt.physics.dispersion import dispersion_matrix
from cars_rt.physics.overlap import LIT_OVERLAP, RESOLUTION_CM1, SMALLEST, Overlap, lit_range

Floats = NDArray[np.float32]
Flags = NDArray[np.uint8]


class Flag(IntFlag):
    """One bit of a spectrum's flags, uint8. Bits that are not named here are to be ignored."""

    SATURATED = 1  # pixels at the camera's full scale, or a plateau below it
    EMPTY = 2  # nothing above the dark and the noise: no beam, a closed shutter, a dark that is too high
    SPIKE = 4  # a jump that no optics lets through: a cosmic ray, a hot pixel, a step, counts that wrapped
    UNLIKE = 8  # counts do not show what the result implies, or are negative: not what models learn from


NAMES: Mapping[Flag, str] = {flag: str(flag.name).lower() for flag in Flag}

BLOCK = 32  # pixels over which noise and light count as the same
FEWEST_PIXELS = 2 * BLOCK  # of which something can be said at all, beyond full scale
BIN_CM1 = 6.0  # pixels are averaged to about this for the reconstruction: below the width of most lines
MOST_BINS = 1024  # its cost grows with their square
LAG_CM1 = 18.0  # of the second difference: passes lines, 10 to 50 cm-1 wide, and not the envelope
LEAST_SIGNAL = 5.0  # of a bin, in its noise; with less, the logarithm has no use
ROWS = 32  # spectra looked at together, so that what is computed stays in the processor's cache

FULL_PIXELS = 3  # at full scale; a cosmic ray fills one or two
FULL_OF_MEAN = 0.98  # of the full scale, where a mean is: most of its spectra are cut there, if not all
PLATEAU_PIXELS = 24  # within half of the noise from the brightest; 3 are usual, a broad maximum has some 15
PLATEAU_NOISE = 20.0  # of the brightest block above the darkest, in the noise: dimmer light is flat by itself
FLAT_PIXELS = 4  # side by side with the very same counts as the brightest, where noise is
FLAT_NOISE = 8.0  # times a count's rounding: a top that is flat by chance then comes once in millions
LEAST_SHARE = 0.1  # of their mean magnitude, that counts above dark are taken to have as their mean
LEAST_LIGHT = 1.2  # of the brightest block above the darkest, in the noise of one pixel; noise gives 0.8
LEAST_SPIKE = 8.0  # of a pixel above the mean of its neighbours, in the noise; noise gives 6 at most
SPIKE_COUNTS = 6.0  # the same, in a count's rounding: among pixels without any, a photon is no spike
CUT_SHARE = 0.25  # of a block's pixels at the least counts: these are cut there, and the noise with them
SPIKE_SHARE = 0.6  # of its height that a spike has already above the next pixel; lines have less
LEAST_JUMP = 0.75  # of all counts' range, from one pixel to the next: what wraps falls by nearly all of it
LEAST_JUMP_NOISE = 20.0  # of such a jump over the lower quartile of all and of those nearby; noise gives 15
BELOW_SHARE = 0.02  # of the brightest block: so far below dark no dark is wrong that somebody measured
BELOW_NOISE = 6.0  # and of a block's mean, in its noise
LEAST_IMPLIED = 60.0  # sum of the implied structure's squares, in the noise
LEAST_SLOPE = 0.5  # of the structure in the counts over the implied one

_NOISE_OF_THIRD = np.float32(np.sqrt(np.pi / 2) / np.sqrt(20))  # mean |third difference| to deviation


class Fitness:
    """The flags of spectra from one instrument axis.

    Immutable after construction; about a megabyte for 1340 pixels.
    """

    def __init__(self, raman_shift: ArrayLike) -> None:
        """raman_shift: (p,), cm-1. Raises AxisError for an axis that cannot be."""
        axis = check_raman_shift(raman_shift)
        self._descending = bool(axis[0] > axis[-1])
        axis = axis[::-1] if self._descending else axis
        self._lit = lit_range(axis)[1]
        self._overlap = Overlap.on(axis)
        pixels, pitch = len(axis), float(np.median(np.abs(np.diff(axis))))
        self._merged = np.arange(0, pixels, max(1, round(RESOLUTION_CM1 / pitch)))
        width = np.gradient(axis)
        self._pixel_share = np.asarray(width / width.sum(), np.float32)  # of the axis
        self._width = max(1, round(BIN_CM1 / pitch), -(-pixels // MOST_BINS))  # pixels of a bin
        bins = pixels // self._width
        centres = axis[self._width // 2 :: self._width][:bins]  # a pixel's, so that none is in a gap
        self._lag = max(1, round(LAG_CM1 / (pitch * self._width)))
        self._bins = bins
        self._blocks = pixels // BLOCK
        self._bright = self._blocks * 9 // 10
        self._firsts = np.arange(self._blocks) * BLOCK
        last = max(self._blocks - 1, 0)
        # Pixels of each block; the last one takes the rest, and others have their last pixel more than once.
        ends = np.append(self._firsts[1:], pixels)[: self._blocks]
        longest = pixels - last * BLOCK
        self._in_block = np.minimum(self._firsts[:, None] + np.arange(longest), ends[:, None] - 1)
        self._gaps = np.flatnonzero(gaps(axis))  # each after this pixel
        # Jumps by which one is judged, and where each finds its own; the last ones have those before them.
        jumps = pixels - 1
        firsts = np.minimum(np.arange(0, jumps, BLOCK), max(jumps - BLOCK, 0))
        self._nearby = firsts[:, None] + np.arange(min(BLOCK, jumps))
        self._place = np.arange(jumps) // BLOCK
        # Third differences over a gap are no noise. The last block takes the rest.
        over_gap = np.unique(self._gaps[:, None] - np.arange(3))
        self._over_gap = over_gap[(over_gap >= 0) & (over_gap < pixels - 3)]
        in_block = np.diff(np.append(self._firsts, pixels - 3))
        in_block -= np.bincount(np.minimum(self._over_gap // BLOCK, last), None, self._blocks)[: self._blocks]
        # Pixels that lack one of three neighbours on a side.
        edges = np.concatenate([[-1], self._gaps, [pixels - 1]])
        self._at_edge = np.unique(np.clip(edges[:, None] + np.arange(-2, 4), 0, pixels - 1))
        self._noise_of_sum = np.asarray(_NOISE_OF_THIRD / np.maximum(in_block, 1), np.float32)
        self._useful = pixels >= FEWEST_PIXELS and bins > 8 * self._lag
        self._transform = dispersion_matrix(centres) if self._useful else np.zeros((0, 0), np.float32)
        self._block_of_bin = np.minimum(np.arange(bins) * self._width // BLOCK, last)
        # Of second differences, those whose three bins have no gap between or in them.
        first = np.arange(bins - 2 * self._lag) * self._width
        beyond = first + (2 * self._lag + 1) * self._width - 1
        self._whole = np.searchsorted(self._gaps, first) == np.searchsorted(self._gaps, beyond)

    def flags(
        self,
        counts: Floats,
        raman: Floats | None,
        dark: Floats | None = None,
        full_scale: float | None = None,
    ) -> Flags:
        """Flags (k,) uint8 of counts (k, p) float32 and their result.

        raman: (k, p), Im{chi_R} / chi_NR; None where the result is something else, and UNLIKE is not
        looked for. dark: (p,) counts. full_scale: counts at which the camera saturates, if known.
        """
        found = np.zeros(len(counts), np.uint8)
        if self._descending:  # looked at from the other end, so that no flag depends on the direction
            counts = counts[:, ::-1]
            raman = None if raman is None else raman[:, ::-1]
            dark = None if dark is None else dark[::-1]
        with np.errstate(all="ignore"):  # counts near the largest float32: what comes of it is UNLIKE
            for first in range(0, len(counts), ROWS):
                rows = slice(first, first + ROWS)
                part = counts[rows]
                signal = part if dark is None else part - dark
                found[rows] = self._look(part, signal, None if raman is None else raman[rows], full_scale)
        return found

    def _look(self, counts: Floats, signal: Floats, raman: Floats | None, full_scale: float | None) -> Flags:
        brightest = counts.max(axis=1)
        saturated = np.zeros(len(counts), bool)
        if full_scale is not None and brightest.max() >= full_scale:
            saturated = (counts >= full_scale).sum(axis=1) >= min(FULL_PIXELS, counts.shape[1])
        flags = saturated * np.uint8(Flag.SATURATED)
        empty = self._is_dark(signal)
        wraps = self._wraps(counts)
        if not self._useful:
            return flags | empty * np.uint8(Flag.EMPTY) | (wraps & ~empty) * np.uint8(Flag.SPIKE)
        light, noise = self._blocked(signal), self._noise(signal)
        above = light.max(axis=1) - np.maximum(light.min(axis=1), 0)
        plateau = self._plateaus(counts, brightest, above, noise)
        flat = above <= np.float32(LEAST_LIGHT) * noise.mean(axis=1)
        empty |= flat
        # Without light there is neither a plateau nor a structure, only noise.
        flags |= (plateau & ~empty) * np.uint8(Flag.SATURATED)
        flags |= empty * np.uint8(Flag.EMPTY)
        flags |= (self._spikes(counts, signal, noise) | wraps & ~flat) * np.uint8(Flag.SPIKE)
        # What is left of a difference of two spectra, beside the noise: a line's dip or a background's.
        most = np.float32(BELOW_SHARE) * light.max(axis=1, keepdims=True)
        below = light < -most - np.float32(BELOW_NOISE / np.sqrt(BLOCK)) * noise
        flags |= (below.any(axis=1) & ~empty) * np.uint8(Flag.UNLIKE)
        if raman is not None:
            flags |= (self._unlike(signal, noise, raman) & ~empty) * np.uint8(Flag.UNLIKE)
        return flags

    def _plateaus(self, counts: Floats, brightest: Floats, above: Floats, noise: Floats) -> NDArray[np.bool_]:
        """Whether the brightest pixels are many and alike. above: (k,), of the brightest block."""
        # Shot noise grows with the light, so that bright blocks have at least this, unless they saturate.
        bright = np.partition(noise, self._bright, axis=1)[:, self._bright]
        near = (counts >= (brightest - bright / 2)[:, None]).sum(axis=1)
        found = np.zeros(len(counts), bool)
        if len(rows := np.flatnonzero(near >= FLAT_PIXELS)):
            high = counts[rows]
            # Noise below a count's rounding makes plateaus and flat tops, too.
            level, rounding = bright[rows], _roundings(_jumps(high))
            wide = (near[rows] >= PLATEAU_PIXELS) & (above[rows] >= PLATEAU_NOISE * level)
            found[rows] = wide & (level >= rounding) | _flat_tops(high) & (level >= FLAT_NOISE * rounding)
        return found

    def _is_dark(self, signal: Floats) -> NDArray[np.bool_]:
        """Whether the mean does not stand out of the noise, is negative or carried by single pixels, or is
        none at all."""
        parts = signal * self._pixel_share
        if len(self._merged) < signal.shape[1]:
            parts = np.add.reduceat(parts, self._merged, axis=1)
        mean = parts.sum(axis=1)
        np.abs(parts, out=parts)
        lit = mean >= np.float32(self._lit) * np.maximum(parts.sum(axis=1), np.float32(SMALLEST))
        lit &= self._overlap.of(signal) >= np.float32(LIT_OVERLAP)
        return np.asarray(~lit)

    def _blocked(self, values: Floats) -> Floats:
        """Means over blocks, (k, blocks)."""
        means = np.add.reduceat(values[:, : self._blocks * BLOCK], self._firsts, axis=1)
        means *= np.float32(1 / BLOCK)
        return np.asarray(means)

    def _noise(self, signal: Floats) -> Floats:
        """The noise's deviation in one pixel, (k, blocks): third differences leave little else."""
        steps = signal[:, 1:] - signal[:, :-1]
        bends = steps[:, 1:] - steps[:, :-1]
        third = bends[:, 1:] - bends[:, :-1]
        np.abs(third, out=third)
        third[:, self._over_gap] = 0
        sums = np.add.reduceat(third, self._firsts, axis=1)
        sums *= self._noise_of_sum
        return np.asarray(sums)

    def _spikes(self, counts: Floats, signal: Floats, noise: Floats) -> NDArray[np.bool_]:
        """Whether some pixel stands alone above its neighbours, three on each side."""
        above = np.empty(signal.shape, np.float32)  # twice the height
        middle = above[:, 1:-1]
        np.multiply(signal[:, 1:-1], 2, out=middle)
        middle -= signal[:, :-2]
        middle -= signal[:, 2:]
        above[:, self._at_edge] = 0
        highest = np.maximum.reduceat(above, self._firsts, axis=1)
        found = np.zeros(len(signal), bool)
        rows, blocks = np.nonzero(highest > 2 * LEAST_SPIKE * noise)  # few
        if len(rows):
            inside = self._in_block[blocks]
            pixels = inside[np.arange(len(rows)), above[rows[:, None], inside].argmax(axis=1)]
            middle = 2 * signal[rows, pixels]
            wider = [np.abs(middle - signal[rows, pixels - by] - signal[rows, pixels + by]) for by in (2, 3)]
            height = above[rows, pixels]
            each, where = np.unique(rows, return_inverse=True)
            least = 2 * np.float32(SPIKE_COUNTS) * _roundings(_jumps(counts[each]))[where]
            alone = (height > SPIKE_SHARE * np.maximum(*wider)) & (height > least)
            rows, blocks, pixels, height = (each[alone] for each in (rows, blocks, pixels, height))
            if not len(rows):
                return found
            each, first, where = np.unique(rows, return_index=True, return_inverse=True)
            left = counts[each] > counts[each].min(axis=1, keepdims=True)
            cut = self._blocked(left.astype(np.float32)) <= 1 - CUT_SHARE
            found[rows[~cut[where, blocks]]] = True
            # Where noise is cut, what is left of it is seldom and high: the highest is seen against the rest.
            height[~cut[where, blocks]] = 0
            highest = np.maximum.reduceat(height, first)
            place = np.zeros(len(each), np.intp)
            chosen = height == highest[where]
            place[where[chosen]] = pixels[chosen]
            noise = self._noise_of_cut(above[each], left, cut, place)
            found[each[highest > 2 * np.float32(LEAST_SPIKE) * noise]] = True
        return found

    def _noise_of_cut(
        self, above: Floats, left: NDArray[np.bool_], cut: NDArray[np.bool_], pixels: NDArray[np.intp]
    ) -> Floats:
        """What noise has (k,) where it is cut at the lowest count, as at 0 where a dark was taken away: how
        far the pixels that are left there stand above or below their neighbours, without one of each spectrum
        and those beside it. 0 where none is left.

        above: (k, pixels), twice that; left, cut: pixels (k, pixels) and blocks (k, blocks)."""
        beside = pixels[:, None] + np.arange(-2, 3)
        left[np.arange(len(left))[:, None], beside] = False
        many = self._blocked(left.astype(np.float32))
        known = cut & (many > 0)
        means = np.where(known, self._blocked(np.abs(above) * left) / (2 * many), np.float32(np.inf))
        means.sort(axis=1)
        median = means[np.arange(len(means)), np.maximum(known.sum(axis=1) - 1, 0) // 2]
        return np.where(known.any(axis=1), median, np.float32(0))

    def _wraps(self, counts: Floats) -> NDArray[np.bool_]:
        """Whether counts jump by their whole range within one pixel, as those beyond a counter's end do."""
        found = np.zeros(len(counts), bool)
        jumps = _jumps(counts)
        jumps[:, self._gaps] = 0
        lowest = counts.min(axis=1)
        least = np.float32(LEAST_JUMP) * (counts.max(axis=1) - lowest)
        highest = jumps.max(axis=1)
        rows = np.flatnonzero(highest > least)  # few
        rows = rows[highest[rows] > LEAST_JUMP_NOISE * _roundings(jumps[rows])]
        # Where counts hover about the end, half of them jump, and not the quarter that jumps least.
        # Neighbours that are both at the lowest count, as where noise is cut at 0, do not tell how it jumps.
        at_end = counts[rows] == lowest[rows, None]
        judged = np.where(at_end[:, 1:] & at_end[:, :-1], np.float32(np.inf), jumps[rows])
        usual = LEAST_JUMP_NOISE * _lower_quartile(judged)
        likely = highest[rows] > usual
        rows, usual, judged = rows[likely], usual[likely], judged[likely]
        if len(rows):
            nearby = LEAST_JUMP_NOISE * _lower_quartile(judged[:, self._nearby])[:, self._place]
            high = jumps[rows]
            found[rows] = (high > np.maximum(np.maximum(nearby, usual[:, None]), least[rows, None])).any(1)
        return found

    def _unlike(self, signal: Floats, noise: Floats, raman: Floats) -> NDArray[np.bool_]:
        """Whether the counts lack the structure that the result implies."""
        intensity, ratio = self._binned(signal), self._binned(raman)
        deviation = noise[:, self._block_of_bin] / np.float32(np.sqrt(self._width))
        known = intensity > LEAST_SIGNAL * deviation
        np.maximum(intensity, np.finfo(np.float32).tiny, out=intensity)
        deviation /= intensity
        deviation *= deviation  # the variance of ln I
        real = ratio @ self._transform
        real += 1
        real *= real
        ratio *= ratio
        real += ratio
        np.maximum(real, np.float32(1e-4), out=real)
        implied = self._second_difference(np.log(real, out=real))
        structure = self._second_difference(np.log(intensity, out=intensity))
        lag, ends = self._lag, slice(2 * self._lag, None)
        seen = known[:, lag:-lag] & known[:, ends] & known[:, : -2 * lag] & self._whole
        variance = 4 * deviation[:, lag:-lag] + deviation[:, ends] + deviation[:, : -2 * lag]
        weighted = np.where(seen, implied / np.maximum(variance, np.float32(1e-10)), np.float32(0))
        strength = np.einsum("kp,kp->k", weighted, implied)
        shown = np.einsum("kp,kp->k", weighted, structure)
        # NaN is unlike anything.
        return np.asarray(~((strength < LEAST_IMPLIED) | (shown >= LEAST_SLOPE * strength)))

    def _binned(self, values: Floats) -> Floats:
        if self._width == 1:
            return values.copy()
        whole = values[:, : self._bins * self._width]
        binned = whole[:, :: self._width].copy()
        for pixel in range(1, self._width):
            binned += whole[:, pixel :: self._width]
        binned *= np.float32(1 / self._width)
        return binned

    def _second_difference(self, values: Floats) -> Floats:
        lag = self._lag
        difference = 2 * values[:, lag:-lag]
        difference -= values[:, 2 * lag :]
        difference -= values[:, : -2 * lag]
        return difference


def _flat_tops(counts: Floats) -> NDArray[np.bool_]:
    """Whether neighbours in counts (k, p) are as bright as the brightest, to the last count."""
    top = counts == counts.max(axis=1, keepdims=True)
    for step in (1, 2):  # runs of two, then of four: FLAT_PIXELS
        top = top[:, step:] & top[:, :-step]
    return np.asarray(top.any(axis=1))


def _jumps(counts: Floats) -> Floats:
    """From one pixel to the next, (k, p - 1)."""
    return np.asarray(np.abs(counts[:, 1:] - counts[:, :-1]))


def _roundings(jumps: Floats) -> Floats:
    """The least jumps of neighbours (k, p - 1) that are not the same, (k,); infinite if all are."""
    return np.asarray(np.where(jumps > 0, jumps, np.float32(np.inf)).min(axis=1))


def _lower_quartile(values: Floats) -> Floats:
    """Of the last axis."""
    at = values.shape[-1] // 4
    return np.asarray(np.partition(values, at, axis=-1)[..., at])


def shares(flagged: Mapping[str, int], spectra: int) -> str:
    """Which part of the spectra has which flag, in a phrase such as "flags: 12 % saturated, 1 % unlike"."""
    parts = [f"{percent(number, spectra)} {name}" for name, number in flagged.items()]
    return f"flags: {', '.join(parts)}" if parts else ""


def percent(part: float, whole: float) -> str:
    """A share for people: "0.033 %", "12 %", "100 %", which is said of all only."""
    share = 100 * part / max(whole, part, 1)
    if share >= 99.5 and part < whole:
        return f"{min(share, 99.99):.4g} %"
    return f"{share:.2g} %" if share < 10 else f"{share:.0f} %"


def named(counted: ArrayLike) -> dict[str, int]:
    """How many spectra have each flag, from flags (n,) uint8: name to number, only what there is."""
    flags = np.asarray(counted)
    return {name: number for flag, name in NAMES.items() if (number := int(((flags & flag) != 0).sum()))}
