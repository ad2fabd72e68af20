"""Raman-shift axes: checking a camera's axis, and moving spectra between it and a uniform grid."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cars_rt.errors import CarsRtError

FloatArray = NDArray[np.float64]
SPLINE_REACH = 6  # points to either side; what is beyond has a weight of less than 4e-4
SMALLEST_CM1 = 10.0  # that an axis reaches: one in eV, um or thousands of cm-1 stays below
WIDE = 4.0  # usual steps: a step so wide is a gap
BRIDGED = 300.0  # cm-1, the longest gap that models bridge, such as that of a notch
FEWEST = 8  # steps beside an end that tell whether it is one of them
LARGEST_CM1 = 9000.0  # twice what any molecule has; absolute wavenumbers of visible light begin at 12,500


class AxisError(CarsRtError, ValueError):
    """A raman-shift axis that cannot be used, with the reason in one sentence."""


def check_raman_shift(raman_shift: ArrayLike) -> FloatArray:
    """Return the axis as float64 (p,), ascending or descending, cm-1.

    Raises AxisError unless it is one-dimensional, finite, strictly monotonic and has two points.
    """
    try:
        if np.iscomplexobj(raman_shift):
            raise TypeError("they are complex")
        axis = np.asarray(raman_shift, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AxisError(f"the raman-shift axis is not made of numbers: {error}") from None
    if axis.ndim != 1 or axis.size < 2:
        raise AxisError(f"the raman-shift axis must be a list of 2 or more values, not shape {axis.shape}")
    if not np.isfinite(axis).all():
        where = int(np.flatnonzero(~np.isfinite(axis))[0])
        raise AxisError(f"the raman-shift axis is not finite at pixel {where}")
    before, after = (axis[:-1], axis[1:]) if axis[0] < axis[-1] else (axis[1:], axis[:-1])
    wrong = np.flatnonzero(~(before < after))
    if wrong.size:
        where = int(wrong[0])
        raise AxisError(
            f"the raman-shift axis is not strictly monotonic: "
            f"{axis[where]:g} then {axis[where + 1]:g} cm-1 at pixel {where + 1}"
        )
    return axis


def judged_raman_shift(raman_shift: ArrayLike) -> FloatArray:
    """As `check_raman_shift`, of an axis that comes from elsewhere: it must also be one that can be.

    Raises AxisError for pixel numbers (0, 1, 2, ... or 1, 2, 3, ...), beyond `LARGEST_CM1`, within
    `SMALLEST_CM1`, and where it lies on the other side of the laser, too.
    """
    axis = check_raman_shift(raman_shift)
    if is_numbering(axis):
        first = float(min(axis[0], axis[-1]))
        raise AxisError(
            f"the axis is {first:g}, {first + 1:g}, {first + 2:g}, ...: pixel numbers, not a raman shift in "
            "cm-1; give the calibrated axis (--calibration FILE of `drive` and `process`)"
        )
    largest = float(np.abs(axis).max())
    if largest > LARGEST_CM1:
        raise AxisError(
            f"the axis reaches {largest:.6g}, beyond every raman shift in cm-1; of absolute wavenumbers "
            "subtract that of the pump, wavelengths convert to 1e7/nm - 1e7/pump"
        )
    low, high = float(axis.min()), float(axis.max())
    if low < -high / 2 and largest > SMALLEST_CM1:
        raise AxisError(
            f"the axis goes from {low:g} to {high:g}, far below 0: anti-Stokes shifts count as positive; "
            "turn its sign round, or leave out what lies on the other side of the laser"
        )
    if largest < SMALLEST_CM1:
        raise AxisError(
            f"the axis reaches no further than {largest:.3g}, as energies in eV, wavelengths in um and "
            "shifts in 1000 cm-1 do; give raman shifts in cm-1"
        )
    return axis


def is_numbering(axis: FloatArray) -> bool:
    """Whether an axis (p,) is pixel numbers: 0, 1, 2, ... or 1, 2, 3, ..., up or down."""
    ends = float(min(axis[0], axis[-1]))
    return ends in (0, 1) and len(axis) > 2 and bool((np.abs(np.diff(axis)) == 1).all())


def may_be_wavelengths(axis: FloatArray) -> bool:
    """Whether an axis (p,) whose unit nobody states has the range and the steps of a spectrometer's
    nanometres, as a raman shift hardly does."""
    low, high, steps = float(axis.min()), float(axis.max()), np.abs(np.diff(axis))
    fine = len(axis) > 1 and float(steps.mean()) < 0.6
    narrow = high - low < 200 and len(axis) >= 32
    return low >= 190 and high <= 1200 and (fine or narrow)


def from_wavelength(wavelength_nm: ArrayLike, pump_nm: float) -> FloatArray:
    """The raman shift (p,), cm-1, of anti-Stokes light at wavelengths (p,), nm: positive where they are
    below that of the pump (the beam from which the light is shifted, the probe where that is another).

    Raises AxisError for wavelengths that cannot be, or if none is below the pump's.
    """
    wavelength = check_raman_shift(wavelength_nm)
    if not 100 <= pump_nm <= 10_000 or not (wavelength > 0).all():
        raise AxisError("wavelengths in nm must be positive, and the pump's from 100 to 10000")
    shift = 1e7 / wavelength - 1e7 / pump_nm
    if shift.max() <= 0:
        raise AxisError(
            f"no wavelength of {wavelength.min():g} to {wavelength.max():g} nm is below the pump's, "
            f"{pump_nm:g} nm, as anti-Stokes light is"
        )
    return np.asarray(shift, np.float64)


@dataclass(frozen=True)
class Grid:
    """A uniform raman-shift grid: `length` points from `start` in steps of `step`, cm-1."""

    start: float
    step: float
    length: int

    @property
    def raman_shift(self) -> FloatArray:
        """The grid's points, (length,), cm-1, ascending."""
        return np.asarray(self.start + self.step * np.arange(self.length), dtype=np.float64)

    @classmethod
    def covering(cls, raman_shift: ArrayLike, step: float, multiple: int) -> "Grid":
        """The smallest centred grid that covers an axis and whose length is a multiple of `multiple`.

        Raises AxisError for an axis that `check_raman_shift` refuses.
        """
        axis = check_raman_shift(raman_shift)
        low, high = float(axis.min()), float(axis.max())
        needed = int(np.ceil((high - low) / step - 1e-9)) + 1
        length = -(-needed // multiple) * multiple
        start = (low + high) / 2 - step * (length - 1) / 2
        return cls(start, step, length)


def resampling_matrix(source: ArrayLike, target: ArrayLike) -> NDArray[np.float32]:
    """The matrix M, (p, q) float32, for which spectra (n, p) @ M are the spectra on the target axis.

    Cubic splines through the source's points, whose distances may change slowly along the axis; where the
    target is the coarser of the two, their basis is as much wider, so that noise falls and nothing
    aliases. Across a gap the curve goes on as between two neighbours. Outside the source the edge value is
    repeated. Every column sums to 1. Raises AxisError for an axis that `check_raman_shift` refuses.
    """
    pixels, points = check_raman_shift(source), check_raman_shift(target)
    descending = pixels[0] > pixels[-1]
    if descending:
        pixels = pixels[::-1]
    last = len(pixels) - 1
    place = np.interp(points, pixels, np.arange(last + 1))  # of each point among the pixels
    wider = np.maximum(1, widths(points) / np.interp(points, pixels, np.gradient(pixels)))
    nearest, columns = np.rint(place).astype(int), np.arange(len(points))
    matrix = np.zeros((last + 1, len(points)))
    reach = int(np.ceil(SPLINE_REACH * wider.max()))
    for offset in range(-reach, reach + 1):
        at = nearest + offset
        weight = _cardinal_spline((place - at) / wider)
        # What is beyond an end is what is before it, turned about the end: slopes go on.
        end = np.clip(at, 0, last)
        beyond = at != end
        matrix[np.clip(2 * end - at, 0, last), columns] += np.where(beyond, -weight, weight)
        matrix[end, columns] += np.where(beyond, 2 * weight, 0)
    matrix /= matrix.sum(axis=0)
    # Where distances change abruptly, straight lines would bend; the slope between two neighbours undoes it.
    inside = np.clip(points, pixels[0], pixels[-1])
    left = np.clip(np.floor(place).astype(int), 0, last - 1)
    slope = (inside - pixels @ matrix) / (pixels[left + 1] - pixels[left])
    slope[np.abs(slope) < 1e-9] = 0
    matrix[left, columns] -= slope
    matrix[left + 1, columns] += slope
    if descending:
        matrix = matrix[::-1]
    return np.ascontiguousarray(matrix, dtype=np.float32)


def widths(points: FloatArray) -> FloatArray:
    """How long each point's part of the axis (n,) is, (n,), cm-1; a gap beside it belongs to none."""
    steps = np.abs(np.diff(points))
    nearer = np.minimum(np.append(steps[:1], steps), np.append(steps, steps[-1:]))
    around = np.abs(np.gradient(points))
    return np.where(around > 2 * nearer, nearer, around)


def gaps(points: FloatArray) -> NDArray[np.bool_]:
    """Between which neighbours an axis (n,) has a gap, (n - 1,): steps much wider than is usual and than one
    beside them, as the steps of a coarser window are not."""
    steps = np.abs(np.diff(points))
    beside = np.minimum(np.append(np.inf, steps[:-1]), np.append(steps[1:], np.inf))
    return np.asarray(steps > WIDE * np.maximum(np.median(steps), beside))


def end_apart(axis: FloatArray, nm: float = 0.0, *, numbering: bool = False) -> int | None:
    """Which end of an axis (n,) lies apart from those beside it, 0 or -1, as a setting, a sum, or names of
    columns that are numbers do; None: neither. nm: how many one of its unit is, 0 where it is in cm-1.
    numbering: only a number that may number pixels or columns: a single point may lie apart, such as one
    beside the resonances."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = 1e7 / (nm * axis) if nm else axis
        for at, end in (0, shift), (-1, shift[::-1]):
            steps = np.diff(end[: FEWEST + 1])
            onward = len(steps) == FEWEST and abs(np.sign(steps[1:]).sum()) == FEWEST - 1
            if onward and abs(steps[0]) > WIDE * abs(np.median(steps)):
                return None if numbering and axis[at] not in (0, 1, len(axis) - 1, len(axis)) else at
    return None


def _cardinal_spline(place: FloatArray) -> FloatArray:
    """The cubic spline that is 1 at 0 and 0 at all other whole numbers; 0 beyond `SPLINE_REACH`."""
    distance, pole = np.abs(place), np.sqrt(3) - 2
    values = np.zeros_like(distance)
    for knot in range(-SPLINE_REACH - 2, SPLINE_REACH + 3):
        u = np.abs(distance - knot)
        bell = np.where(u < 1, 2 / 3 - u**2 + u**3 / 2, np.clip(2 - u, 0, None) ** 3 / 6)
        values += np.sqrt(3) * pole ** abs(knot) * bell
    return np.where((distance < SPLINE_REACH) & (np.abs(values) > 1e-9), values, 0)
