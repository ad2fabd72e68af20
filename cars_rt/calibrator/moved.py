"""Whether a reference still belongs to an axis that was measured anew: its counts are of pixels."""

from dataclasses import replace

import numpy as np

from cars_rt.calibration import Calibration, CalibrationError, Mean, Region, Scale
from cars_rt.calibration.settings import moving

BY_STANDARDS_CM1 = 5.0  # by which axes of two standards differ between their lines, where nothing moved


def without_moved_reference(before: Calibration, after: Calibration) -> Calibration:
    """The calibration after its axis was measured anew, without a reference of a grating that was moved.

    before: as it was. Where the reference was measured with the grating as for the old axis, the two axes
    alone decide, as settings of which a driver tells may have nothing to do with it.
    """
    kept, one, other = after.reference, before.scale, after.scale
    if kept is None:
        return after
    if one is None or other is None or _set_otherwise(kept, before):
        moved = _set_otherwise(kept, after)
    else:
        moved = _moved(one, other, after.region)
    return replace(after, reference=None) if moved else after


def _set_otherwise(reference: Mean, axis: Calibration) -> bool:
    return any(moving(reference.settings, axis.settings))


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
