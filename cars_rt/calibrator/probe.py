"""The probe that a standard gives, where the wavelengths are known: whether they still hold."""

from collections.abc import Iterator

from cars_rt.calibration import Scale
from cars_rt.calibration.errors import UnmatchedError
from cars_rt.calibration.recognise import Recognised

RIGHT_CM1 = 1.0  # (rms) that right wavelengths do not leave
KNOWN_CM1 = 5.0  # how well a probe is known that a label or a meter says


def refuse_moved(found: Recognised, scale: Scale, where: str) -> None:
    """Where a probe alone does not bring the lines to their places. Raises UnmatchedError."""
    if not (tilt := found.tilt):
        return
    match, of = found.match, scale.of.split(" and ")[0]
    of_lamp = scale.kind == "lamp"
    raise UnmatchedError(
        f"{where}: its lines are those of {match.standard.name}, and off by {abs(tilt):.1f} cm-1 more "
        "at one end than at the other: the wavelengths are "
        + (f"no longer those of the lamp ({of}): measure it again" if of_lamp else f"not those of {of}")
        + (", or give --pixels" if of_lamp else ": give --pixels"),
        (found.raman, found.peaks, [match]),
    )


def doubts(before: Scale | None, found: Recognised, after: Scale) -> Iterator[str]:
    """Sentences on a probe that a standard gave. before: the scale of which the wavelengths are."""
    if after.quantity != "wavelength" or after.probe_nm is None:
        return
    if found.residual > RIGHT_CM1:
        yield (
            f"its lines are off by {found.residual:.1f} cm-1 (rms), and where the wavelengths hold by 0.1 to "
            "0.8: were they those of another grating?"
        )
    known = before.probe_nm if before is not None and before.quantity == "wavelength" else None
    if known is not None and abs(off := 1e7 / known - 1e7 / after.probe_nm) > KNOWN_CM1:
        yield (
            f"the probe was known to be at {known:.4f} nm, and this says {after.probe_nm:.4f} nm, "
            f"{abs(off):.1f} cm-1 away: where the laser is the same, the wavelengths are no longer right"
        )
