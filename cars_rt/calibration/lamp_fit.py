"""Which wavelength lies at which pixel of a lamp's spectrum, whatever the grating was set to."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from cars_rt.calibration.errors import UnmatchedError
from cars_rt.calibration.fit import fit_polynomial
from cars_rt.calibration.lamps import Lamp
from cars_rt.calibration.odds import explained, pairs, places, scores, seen
from cars_rt.calibration.peaks import Peaks, find_peaks

Array = NDArray[np.float64]

SMOOTH, LEAST_CLEAR, LEAST = 1.0, 8.0, 0.003  # of `find_peaks`
FEWEST_PEAKS, FEWEST_PAIRS = 5, 5
TRIED_PEAKS = 7  # the highest ones, of which two make a guess
BRIGHT = 2  # lines that may be those
BENDS = np.linspace(-0.045, 0.045, 7)  # second coefficient over the first
FROM_NM, TO_NM = 340.0, 1_100.0
SPAN_NM = (10.0, 650.0)
STRENGTH = 8.0  # of a line over one of the next lower brightness, about
COARSE, REACH = 0.003, 0.008  # of the span: beside its place, and taken for another's
REFINED = 120  # the best guesses
#: Round by round: share of REACH, degree of the polynomial, times the median deviation that is left out.
#: Lines at the ends are far off at first, where the middle fits already: they must not be left out then.
SCHEDULE = (
    (1.0, 2, 4.0), (0.7, 2, 8.0), (0.7, 3, 12.0), (0.5, 3, 12.0), (0.4, 4, 12.0), (0.4, 4, 8.0),
    (0.2, 4, 8.0), (0.1, 4, 8.0), (0.1, 4, 8.0), (0.0, 4, 4.0), (0.0, 4, 8.0), (0.0, 4, 8.0), (0.0, 4, 4.0),
)  # fmt: skip
#: How large the coefficients from the third power on are, over the slope: a grating bends an axis by its
#: angles, a camera's lens by its distortion, and neither by more than a little.
SMOOTH_AXIS = (0.01, 0.002)
UNLIKELY = 20.0  # taken from the odds for each pixel by which lines are off
PLACE, VAGUE = 0.05, 0.25  # pixels: how well a line's place is known at best, and too badly
OUTLIER = 4.0  # times the median of what lines are off
LEAST_SCORE, LEAST_EXPLAINED = 8.0, 0.7
MOST_OFF = 0.25  # pixels, root of the mean square, of lines that are used
MARGIN = 2.0  # by which the best axis must be ahead of another one
OTHER = 4.0  # pixels: an axis that is so far off is another one


@dataclass(frozen=True, eq=False)
class LampFit:
    """wavelength: in vacuum, nm, of the place from -1 at the first pixel to 1 at the last. peak, line: (k,),
    which of the spectrum's lines is which of the lamp's. used: (k,), whether it was fitted. score: log of the
    odds. explained: share of the spectrum's lines. residual_cm1: (k,), of absolute wavenumber, fitted less
    known."""

    lamp: Lamp
    peaks: Peaks
    wavelength: Polynomial
    peak: NDArray[np.intp]
    line: NDArray[np.intp]
    used: NDArray[np.bool_]
    score: float
    explained: float
    residual_cm1: Array
    off: float  # of the lines that are used, root of the mean square, pixels

    @property
    def good(self) -> bool:
        return self.score > LEAST_SCORE and self.explained > LEAST_EXPLAINED and self.off < MOST_OFF

    @property
    def residual(self) -> float:
        """Root of the mean square of the lines that are used, cm-1."""
        return float(np.sqrt(np.mean(self.residual_cm1[self.used] ** 2)))


def fit_lamp(
    counts: Array, lamp: Lamp, *, near: tuple[float, float] | None = None, unsure: float = 0.2
) -> LampFit:
    """The wavelengths of a lamp's spectrum (p,), counts.

    near: wavelengths in nm at the first and the last pixel, as the grating is believed to be set. unsure: by
    what share of them the middle and the width of that range may be wrong. Without it any grating is tried.
    Raises UnmatchedError if the lines are not the lamp's, or fit in two ways.
    """
    pixels = len(counts)
    peaks = find_peaks(counts, smooth=SMOOTH, least_clear=LEAST_CLEAR, least=LEAST)
    if len(peaks) < FEWEST_PEAKS:
        raise UnmatchedError(
            f"{len(peaks)} lines stand out, and {FEWEST_PEAKS} are needed: expose longer, or average more "
            "spectra",
            (counts, peaks, None),
        )
    curves, sigma = _curves(peaks, lamp, pixels, near, unsure)
    strength = STRENGTH ** (lamp.brightness - 1)
    base = Polynomial([0.0])
    rated = scores(curves, base, peaks, pixels, lamp.vacuum_nm, strength, sigma)
    best = [
        fit
        for row in np.argsort(-rated, kind="stable")[:REFINED]
        if (fit := _refined(curves[row], counts, peaks, lamp, strength)) is not None
    ]
    best.sort(key=lambda fit: -fit.score)
    if not best or not best[0].good:
        closest = (
            f"; the best fit explains {best[0].explained:.0%} of them, {best[0].off:.2g} pixels off"
            if best
            else ""
        )
        raise UnmatchedError(
            f"its {len(peaks)} lines are not those of {lamp.name}{closest}: check which lamp it is, "
            "whether the spectrum is saturated, and the range that is given",
            (counts, peaks, best[0] if best else None),
        )
    first, place = best[0], places(peaks, pixels)[seen(peaks)]
    pixel_nm = abs(first.wavelength(1.0) - first.wavelength(-1.0)) / (pixels - 1)
    for other in best[1:]:
        apart = np.median(np.abs(other.wavelength(place) - first.wavelength(place)))
        if apart > OTHER * pixel_nm and other.good and first.score - other.score < MARGIN:
            raise UnmatchedError(
                f"its lines are those of {lamp.name} at {_range(first)} and at {_range(other)}: say which "
                "with --from-nm and --to-nm",
                (counts, peaks, first),
            )
    return first


def _range(fit: LampFit) -> str:
    return f"{fit.wavelength(-1.0):.0f} to {fit.wavelength(1.0):.0f} nm"


def _curves(
    peaks: Peaks, lamp: Lamp, pixels: int, near: tuple[float, float] | None, unsure: float
) -> tuple[Array, Array]:
    """(h, 3) coefficients to be tried, and how far a line may then be off (h,), nm."""
    u = places(peaks, pixels)
    high = np.sort(np.argsort(-peaks.height, kind="stable")[:TRIED_PEAKS])
    ours = u[np.array(list(combinations(high.tolist(), 2)), np.intp)]  # (a, 2)
    bright = lamp.vacuum_nm[lamp.brightness >= BRIGHT]
    theirs = bright[np.array(list(combinations(range(len(bright)), 2)), np.intp)]
    theirs = np.concatenate([theirs, theirs[:, ::-1]])  # (b, 2), also of falling wavelengths
    bends = BENDS[None, None, :]
    # w = c0 + c1 (u + bend u^2) goes through both.
    rise = (theirs[None, :, 1] - theirs[None, :, 0])[..., None]
    between = (ours[:, 1] - ours[:, 0])[:, None, None]
    slope = rise / (between * (1 + bends * (ours[:, 1] + ours[:, 0])[:, None, None]))
    start = theirs[None, :, :1] - slope * (ours[:, 0] + 0.0)[:, None, None]
    start = start - slope * bends * (ours[:, 0] ** 2)[:, None, None]
    bend = slope * bends
    curves = np.stack([start.ravel(), slope.ravel(), bend.ravel()], axis=1)
    low, up = curves @ np.array([1.0, -1.0, 1.0]), curves @ np.array([1.0, 1.0, 1.0])
    span, middle = np.abs(up - low), (up + low) / 2
    fits = (np.minimum(low, up) > FROM_NM) & (np.maximum(low, up) < TO_NM)
    fits &= (span > SPAN_NM[0]) & (span < SPAN_NM[1])
    if near is not None:
        meant, wide = (near[0] + near[1]) / 2, near[1] - near[0]
        reach = 1.3 * np.log1p(unsure)  # 20 % up or down, of the one or of the other
        fits &= (np.abs(np.log(np.abs(middle) / meant)) < reach) & (np.sign(up - low) == np.sign(wide))
        fits &= np.abs(np.log(np.maximum(span, 1e-9) / abs(wide))) < reach
    return curves[fits], COARSE * span[fits]


def _refined(curve: Array, counts: Array, peaks: Peaks, lamp: Lamp, strength: Array) -> LampFit | None:
    """Lines and wavelengths fitted in turn, from a guess on."""
    pixels = len(counts)
    u, lines = places(peaks, pixels), lamp.vacuum_nm
    fitted = Polynomial(curve)
    span = abs(fitted(1.0) - fitted(-1.0))
    pixel = span / (pixels - 1)
    wide = float(np.median(peaks.width))
    alone = _alone(lamp, 1.2 * wide * pixel)
    for share, degree, outlier in SCHEDULE:
        reach = max(share * REACH * span, 3 * pixel)
        peak, line = pairs(fitted(u), peaks.height, lines, strength, reach)
        if len(peak) < FEWEST_PAIRS:
            return None
        sigma = np.hypot(peaks.error[peak], PLACE) * pixel * np.where(alone[line], 1, 6)
        off = np.abs(fitted(u[peak]) - lines[line]) / sigma
        used = off <= outlier * max(float(np.median(off)), 1.0)
        if used.sum() < FEWEST_PAIRS:
            return None
        degree = min(degree, max(1, int(used.sum()) // 3))
        smooth = {power: (0.0, SMOOTH_AXIS[power - 3] * span / 2) for power in range(3, degree + 1)}
        fitted = fit_polynomial(u[peak][used], lines[line][used], sigma[used], degree + 1, smooth)
        steps = np.diff(fitted(np.linspace(-1, 1, 33)))
        if not ((steps > 0).all() or (steps < 0).all()):
            return None
    coefficients, none = np.array([fitted.coef], np.float64), Polynomial([0.0])
    sharp, near = max(0.5, 2 * PLACE) * pixel, 1.5 * wide * pixel
    score = scores(coefficients, none, peaks, pixels, lines, strength, sharp, near)[0]
    share = explained(peaks, peak[used])
    found = fitted(u[peak])
    off = np.abs(found - lines[line]) / sigma
    used &= (off <= max(OUTLIER * float(np.median(off)), OUTLIER / 2)) & (peaks.error[peak] < VAGUE)
    if not used.any():  # none whose place is known well: no lamp's, as of a sample with broad bands
        return None
    residual = 1e7 / found - 1e7 / lines[line]
    good = used & alone[line] if (used & alone[line]).any() else used
    away = float(np.sqrt(np.mean(((found - lines[line]) / pixel)[good] ** 2)))
    odds = float(score) - UNLIKELY * away
    return LampFit(lamp, peaks, fitted, peak, line, good, odds, share, residual, away)


def _alone(lamp: Lamp, nm: float) -> NDArray[np.bool_]:
    """(m,): whether nothing nearly as bright lies within so many nm of a line."""
    near = np.abs(lamp.vacuum_nm[:, None] - lamp.vacuum_nm) < nm
    bright = lamp.brightness[None, :] >= lamp.brightness[:, None] - 1
    np.fill_diagonal(near, False)
    return np.asarray(~(near & bright).any(1))
