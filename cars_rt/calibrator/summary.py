"""What is in a calibration, in words."""

from collections.abc import Iterator

from cars_rt.calibration import Calibration
from cars_rt.calibration.calibration import iso
from cars_rt.printable import counted


def described(known: Calibration, now_ns: int) -> Iterator[str]:
    """Lines for people."""
    yield f"calibration {known.id} of {known.source or 'an unnamed instrument'}: {known.region}"
    if known.who:
        yield f"by {known.who}"
    if known.settings:
        yield "made at " + ", ".join(f"{name} {value}" for name, value in known.settings.items())
    if (scale := known.scale) is None:
        yield "no axis"
    else:
        columns = scale.region.columns[[0, -1]]
        first, last = scale.at(columns)
        what = scale.quantity.replace("_", " ")
        yield (
            f"axis by {scale.of} ({scale.kind}), {iso(scale.time_ns)}: {what} {first:.3f} to {last:.3f} "
            f"{scale.unit}, {sum(point.used for point in scale.points)} points, residual "
            f"{scale.residual_cm1:.3f} cm-1 (rms)"
        )
        if scale.quantity == "wavelength":
            probe = "not known" if scale.probe_nm is None else f"{scale.probe_nm:.4f} nm in vacuum"
            yield f"probe: {probe}"
    if old := known.old(now_ns):
        yield f"WARNING: {old}"
    yield f"darks: {exposures(known) or 'none'}"
    yield f"saturates at: {'not known' if known.full_scale is None else f'{known.full_scale:g} counts'}"
    if known.reference is not None:
        yield f"reference of {counted(known.reference.spectra, 'spectrum')}, {iso(known.reference.time_ns)}"


def exposures(known: Calibration) -> str:
    """The exposures, rows and gains for which there are darks."""
    return ", ".join(dark.said for dark in known.darks)
