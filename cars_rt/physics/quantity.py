"""What results are: the quantity that a model's target stands for, with its name and unit for every label."""

from typing import Any, NamedTuple

RATIO, SCALED, COUNTS = "ratio", "chi3", "counts"  # targets; the last one where nothing is retrieved


class Quantity(NamedTuple):
    """Of one array of results."""

    long_name: str  # for files
    symbol: str  # for the axes of pictures
    unit: str  # as UDUNITS has it


CAMERA_COUNTS = Quantity("camera counts", "camera counts", "count")

QUANTITIES = {
    RATIO: Quantity("Im(chi_R) / chi_NR", "Im χR / χNR", "1"),
    SCALED: Quantity(
        "Im(chi_R) / max |chi_R| of each spectrum, not to be compared between spectra",
        "Im χR, scaled in each spectrum: not comparable",
        "1",
    ),
    COUNTS: Quantity("camera counts, not retrieved", "camera counts, not retrieved", "count"),
}


def quantity(target: Any) -> Quantity:
    """Of results, from `target` in the `model` of their `start`, or `model_target` in a file; None where that
    is not said."""
    if target is None:
        return QUANTITIES[RATIO]
    return QUANTITIES.get(str(target), Quantity("raman, as its model defines it", "raman", "1"))
