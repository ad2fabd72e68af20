"""Whether a reference still belongs to an axis that was measured anew: its counts are of pixels."""

from dataclasses import replace

import numpy as np

from cars_rt.calibration import Calibration, CalibrationError, Region, Scale
from cars_rt.calibration.settings import moving

BY_STANDARDS_CM1 = 5.0  # by which axes of two standards differ between their lines, where nothing moved


def without_moved_reference(before: Calibration, after: Calibration) -> Calibration:
    """The calibration after its axis was measured anew, without a reference of a grating that was moved.

    before: as it was. Its reference stays where the settings that a driver said of it are those of the new
    axis and not of the old one, and where the old axis is off the new one by less than a pixel.
    """
    kept = after.reference
    if kept is None:
        return after
    if any(moving(kept.settings, after.settings)):
        return replace(after, reference=None)
    one, other = before.scale, after.scale
    if one is None or other is None or any(moving(kept.settings, before.settings)):
        return after
    return replace(after, reference=None) if _moved(one, other, after.region) else after


def _moved(before: Scale, after: Scale, region: Region) -> bool:
    """By more than a pixel in the median. Also where the two cannot be compared, as without a probe."""
    if before.quantity == after.quantity:
        one, other = (each.at(region.columns) for each in (before, after))
    else:
        try:
            one, other = (each.axis(region) for each in (before, after))
        except CalibrationError:
            return True
    least = float(np.median(np.abs(np.diff(one))))
    if not before.quantity == after.quantity == "wavelength":
        least = max(least, BY_STANDARDS_CM1)
    return bool(np.median(np.abs(one - other)) > least)
