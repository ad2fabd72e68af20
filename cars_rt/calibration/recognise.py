"""Which standard a CARS spectrum is of, by its own lines, and which raman shifts its pixels have.

Toluene and others; the lines of a lamp are matched in `lamp_fit`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from cars_rt.calibration.errors import UnmatchedError
from cars_rt.calibration.fit import fit_polynomial
from cars_rt.calibration.odds import explained, pairs, places, scores
from cars_rt.calibration.peaks import Peaks
from cars_rt.calibration.retrieved import raman_lines, retrieved
from cars_rt.calibration.standards import Lines, Standard, standards

Array = NDArray[np.float64]

ROUNDS = 3  # of retrieving on the axis that was found
FEWEST_PEAKS, FEWEST_PAIRS = 4, 4
TRIED_PEAKS, TRIED_LINES = 8, 9  # the highest ones, of which three make a guess
REFINED = 30  # the best guesses, of each standard
COARSE_CM1, FINE_CM1 = 10.0, 3.0  # by how much a line may lie beside its place
REACHES_CM1 = (
    25.0,
    25.0,
    20.0,
    12.0,
    12.0,
    12.0,
)  # within which a line is taken for another's, round by round
NEAR_CM1, NEAR_STRETCH = 40.0, 0.03  # how wrong an axis is that is there
SPAN_CM1 = (250.0, 5_000.0)  # of a spectrum whose axis is unknown
FROM_CM1, TO_CM1 = -800.0, 5_000.0
LONGEST_NM, SHORTEST_NM = 1_200.0, 400.0  # of the light that is measured
BEND = 0.05  # by which optics bend an axis beyond what wavelengths do to wavenumbers, over the slope
CERTAIN_CM1, OTHER_CM1 = 1.0, 3.0  # how well a line is known, and seen where lines overlap
TWISTED_CM1 = 12.0  # how far the higher coefficients may be from what is expected
OUTLIER = 3.0  # times what is expected: a line that is not used
LEAST_SCORE, LEAST_EXPLAINED, LEAST_FOUND = 9.0, 0.8, 0.75
MARGIN = 2.0  # by which the best standard must be ahead of the next
TILTED_CM1 = 2.0  # from end to end: of wavelengths that no longer hold; right ones leave 1.3 at most


@dataclass(frozen=True, eq=False)
class Guess:
    """What is known before: an axis is base + coefficients of the place, of which `free` are fitted in the
    end. unknown: whether the base is nothing."""

    base: Polynomial
    free: int
    unknown: bool


@dataclass(frozen=True, eq=False)
class Match:
    """A standard and an axis, cm-1. axis: of the place, from -1 at the first pixel to 1 at the last. peak,
    line: (k,), which of the spectrum's lines is which of `lines`. used: (k,), whether it was fitted. score:
    log of the odds. explained: share of the spectrum's lines. found: share of the standard's."""

    standard: Standard
    lines: Lines
    axis: Polynomial
    peak: NDArray[np.intp]
    line: NDArray[np.intp]
    used: NDArray[np.bool_]
    score: float
    explained: float
    found: float

    @property
    def good(self) -> bool:
        return self.score > LEAST_SCORE and self.explained > LEAST_EXPLAINED and self.found > LEAST_FOUND


@dataclass(frozen=True, eq=False)
class Recognised:
    """A spectrum and what was found in it. raman: (p,), ascending in raman shift. descending: whether the
    counts were the other way round. match: the best one."""

    raman: Array
    peaks: Peaks
    match: Match
    descending: bool

    @property
    def axis(self) -> Array:
        """The raman shift of each pixel of the counts as they were given, (p,), cm-1."""
        ascending = self.match.axis(np.linspace(-1, 1, len(self.raman)))
        return np.asarray(ascending[::-1] if self.descending else ascending, np.float64)

    @property
    def residual(self) -> float:
        """Root of the mean square of what the standard's own lines that were used are off, cm-1."""
        return float(np.sqrt(np.mean(self._off[1] ** 2)))

    @property
    def tilt(self) -> float:
        """By how much more they are off at one end of the axis than at the other, cm-1; 0 where that is
        little. Where the probe alone was fitted, it says that the wavelengths do not hold."""
        place, off = self._off
        if len(off) < FEWEST_PAIRS:
            return 0.0
        one, other = np.triu_indices(len(off), 1)  # the median of all pairs: no single line tilts it
        tilt = 2 * float(np.median((off[one] - off[other]) / (place[one] - place[other])))
        return tilt if abs(tilt) > TILTED_CM1 else 0.0

    @property
    def _off(self) -> tuple[Array, Array]:
        """Places, and what the lines there are off, cm-1."""
        match = self.match
        place = 2 * self.peaks.place[match.peak] / (len(self.raman) - 1) - 1
        off = match.axis(place) - match.lines.position[match.line]
        sure = match.used & match.lines.certain[match.line]
        which = sure if sure.any() else match.used
        return np.asarray(place[which], np.float64), np.asarray(off[which], np.float64)


def recognise(
    counts: Array, near: Array | None = None, wavenumber: Array | None = None, name: str | None = None
) -> Recognised:
    """The standard of which counts (p,) above dark are a CARS spectrum.

    near: (p,), an axis in cm-1 that is off by 40 cm-1 and 3 % at most. wavenumber: (p,), absolute, cm-1: what
    is unknown is the probe's. Neither: the axis is unknown. name: the standard, if it is known.
    Raises UnmatchedError if it is none of them, or not clearly one, CalibrationError for a name that is none.
    """
    among = standards(name)
    known = wavenumber if near is None else near
    ways = (False, True) if known is None else (bool(known[0] > known[-1]),)
    found = []
    for turned in ways:
        found.append(_recognised(counts, near, wavenumber, among, turned))
        if (matches := found[-1][2]) and matches[0].good:
            break
    best = max(found, key=lambda each: each[2][0].score if each[2] else -np.inf)
    raman, peaks, matches, turned = best
    if len(peaks) < FEWEST_PEAKS:
        raise UnmatchedError(
            f"{len(peaks)} lines stand out in the retrieved spectrum, and {FEWEST_PEAKS} are needed: average "
            "more spectra of a standard, with the dark subtracted",
            best,
        )
    if not matches or not matches[0].good:
        closest = f"; closest is {matches[0].standard.name}, {said(matches[0])}" if matches else ""
        raise UnmatchedError(
            f"its lines are those of none of {', '.join(each.name for each in among)}{closest}", best
        )
    if len(matches) > 1 and matches[0].score - matches[1].score < MARGIN:
        raise UnmatchedError(
            f"it may be {matches[0].standard.name} or {matches[1].standard.name}: say which, with --standard",
            best,
        )
    return Recognised(raman, peaks, matches[0], turned)


def said(match: Match) -> str:
    return (
        f"with {match.explained:.0%} of the spectrum's lines explained and {match.found:.0%} of its own found"
    )


def _recognised(
    counts: Array, near: Array | None, wavenumber: Array | None, among: Sequence[Standard], turned: bool
) -> tuple[Array, Peaks, list[Match], bool]:
    pixels, given = len(counts), counts[::-1] if turned else counts
    axis = near
    if axis is not None and turned:
        axis = axis[::-1]
    absolute = wavenumber[::-1] if wavenumber is not None and turned else wavenumber
    guess = _guess(axis, absolute, pixels)
    raman = retrieved(given, axis if axis is not None else absolute)
    peaks = raman_lines(raman)
    matches: list[Match] = []
    if len(peaks) >= FEWEST_PEAKS:
        matches = _sorted(_best(guess, peaks, standard, pixels) for standard in among)
    for _ in range(ROUNDS if matches else 0):
        better = retrieved(given, matches[0].axis(np.linspace(-1, 1, pixels)))
        lines = raman_lines(better)
        again = _sorted(
            _refined(
                guess, np.asarray((match.axis - guess.base).coef, np.float64), lines, match.standard, pixels
            )
            for match in matches
        )
        if not again or again[0].standard is not matches[0].standard:
            break
        raman, peaks, matches = better, lines, again
    return raman, peaks, matches, turned


def _sorted(matches: Iterable[Match | None]) -> list[Match]:
    return sorted((match for match in matches if match is not None), key=lambda match: -match.score)


def _guess(near: Array | None, wavenumber: Array | None, pixels: int) -> Guess:
    known = near if near is not None else wavenumber
    if known is None:
        return Guess(Polynomial([0.0]), 4, True)
    base = Polynomial.fit(np.linspace(-1, 1, pixels), known, min(7, pixels - 1), domain=[-1, 1])
    return Guess(base, 4 if near is not None else 1, False)


def _curves(guess: Guess, peaks: Peaks, standard: Standard, pixels: int) -> Array:
    """(h, d): coefficients to be tried."""
    u, lines = places(peaks, pixels), standard.lines
    high = np.sort(np.argsort(-peaks.height, kind="stable")[:TRIED_PEAKS])
    strong = np.sort(np.argsort(-lines.area, kind="stable")[:TRIED_LINES])
    if not guess.unknown and guess.free == 1:  # a shift alone
        return (lines.position[strong] - guess.base(u[high])[:, None]).reshape(-1, 1)
    if not guess.unknown:
        half = (guess.base(1.0) - guess.base(-1.0)) / 2
        shifts = np.arange(-NEAR_CM1, NEAR_CM1 + 1, COARSE_CM1 / 2)
        stretches = half * np.linspace(-NEAR_STRETCH, NEAR_STRETCH, 13)
        grid = np.meshgrid(shifts, stretches, indexing="ij")
        return np.stack([each.ravel() for each in grid], axis=1)
    ours = np.array(list(combinations(high.tolist(), 3)), np.intp)
    theirs = np.array(list(combinations(strong.tolist(), 3)), np.intp)
    inverse = np.linalg.inv(u[ours][:, :, None] ** np.arange(3))
    curves = np.einsum("aij,bj->abi", inverse, lines.position[theirs]).reshape(-1, 3)
    start, slope, bend = curves.T
    low, up = start - slope + bend, start + slope + bend
    fits = (slope > 0) & (up - low > SPAN_CM1[0]) & (up - low < SPAN_CM1[1])
    fits &= (low > FROM_CM1) & (up < TO_CM1)
    # Equal steps of wavelength are unequal ones of wavenumber: bend / slope = slope * wavelength.
    fits &= (bend > (slope * SHORTEST_NM / 1e7 - BEND) * slope) & (
        bend < (slope * LONGEST_NM / 1e7 + BEND) * slope
    )
    return np.asarray(curves[fits], np.float64)


def _best(guess: Guess, peaks: Peaks, standard: Standard, pixels: int) -> Match | None:
    curves, lines = _curves(guess, peaks, standard, pixels), standard.lines
    rated = scores(curves, guess.base, peaks, pixels, lines.position, lines.area, COARSE_CM1)
    order = np.argsort(-rated, kind="stable")[:REFINED]
    refined = (_refined(guess, curve, peaks, standard, pixels) for curve in curves[order])
    return max((each for each in refined if each is not None), key=lambda each: each.score, default=None)


def _refined(guess: Guess, curve: Array, peaks: Peaks, standard: Standard, pixels: int) -> Match | None:
    """Lines and axis fitted in turn, from a guess on."""
    u, place = places(peaks, pixels), np.linspace(-1, 1, 41)
    added = Polynomial(curve)
    lines, used = standard.lines, np.empty(0, np.bool_)
    fewest = guess.free + 1 if guess.unknown else FEWEST_PAIRS  # a curve goes through as many as it has free
    for reach in REACHES_CM1:
        axis = guess.base + added
        slope = np.abs(axis.deriv()(u))
        resolution = float(np.median(peaks.width * slope)) * 2 / (pixels - 1)
        lines = standard.seen_at(resolution)
        peak, line = pairs(axis(u), peaks.height, lines.position, lines.area, reach)
        if len(peak) < FEWEST_PAIRS:
            return None
        known = np.where(lines.certain[line], CERTAIN_CM1, OTHER_CM1)
        sigma = np.hypot(known, peaks.error[peak] * slope[peak] * 2 / (pixels - 1))
        off = np.abs(axis(u[peak]) - lines.position[line]) / np.hypot(sigma, 1)
        used = off < max(OUTLIER, OUTLIER * float(np.median(off)) * 1.5)
        if used.sum() < fewest:
            return None
        added = _fitted(guess, u[peak][used], lines.position[line][used], sigma[used], added)
        axis = guess.base + added
        if not (axis.deriv()(place) > 0).all():
            return None
    coefficients = np.array([added.coef], np.float64)
    score = scores(coefficients, guess.base, peaks, pixels, lines.position, lines.area, FINE_CM1)[0]
    share = explained(peaks, peak)
    inside = (lines.position > axis(-1.0)) & (lines.position < axis(1.0))
    weight = np.sqrt(lines.area) * (inside & (lines.area > 0.05 * lines.area.max()))
    found = weight[np.intersect1d(line, np.flatnonzero(weight))].sum() / max(float(weight.sum()), 1e-300)
    return Match(standard, lines, axis, peak, line, used, float(score), share, float(found))


def _fitted(guess: Guess, u: Array, position: Array, sigma: Array, before: Polynomial) -> Polynomial:
    """What is to be added to the base, with what is likely of the higher coefficients."""
    free = guess.free
    if not guess.unknown and free > 1:
        free = 4 if len(u) >= 7 else 2
    likely = {}
    if guess.unknown:
        _, slope, bend = np.append(np.asarray(before.coef, np.float64), [0.0, 0.0])[:3]
        likely = {3: (bend**2 / slope, TWISTED_CM1)}
    elif free == 4:
        likely = {2: (0.0, TWISTED_CM1), 3: (0.0, TWISTED_CM1)}
    return fit_polynomial(u, position - guess.base(u), sigma, free, likely)
