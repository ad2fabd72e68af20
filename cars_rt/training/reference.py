"""A measured non-resonant background that narrows what is trained on to one's own instrument."""

from pathlib import Path

import numpy as np

from cars_rt import reference
from cars_rt.errors import CarsRtError
from cars_rt.reference import Reference
from cars_rt.training.settings import TrainingError

__all__ = ["SHORTEST", "Reference", "read_reference"]

SHORTEST = 400.0  # cm-1, of the axis


def read_reference(path: Path) -> Reference:
    """As `cars_rt.reference.read_reference`. Raises TrainingError, also if it is too short to train on."""
    try:
        found = reference.read_reference(path)
    except CarsRtError as error:
        raise TrainingError(str(error)) from None
    span = float(np.ptp(found.raman_shift))
    if span < SHORTEST:
        raise TrainingError(f"{path}: the reference spans {span:.0f} cm-1; {SHORTEST:.0f} are needed")
    return found
