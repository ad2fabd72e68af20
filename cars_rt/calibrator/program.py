"""From the mean of some spectra to a part of a calibration, and into its file."""

import getpass
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from cars_rt.calibration import (
    Calibration,
    CalibrationError,
    Mean,
    Point,
    Region,
    Scale,
    read,
    region_of,
    write,
)  # fmt: skip
from cars_rt.calibration.darks import frames_of, of_what, replaces
from cars_rt.calibration.errors import UnmatchedError
from cars_rt.calibration.file import MOST_DARKS
from cars_rt.calibration.lamp_fit import LampFit, fit_lamp
from cars_rt.calibration.lamps import Lamp
from cars_rt.calibration.recognise import Recognised, recognise
from cars_rt.calibration.settings import WHICH_CAMERA
from cars_rt.calibrator.columns import along, by_column, column_of, turned
from cars_rt.calibrator.measured import Measured, with_dark_of
from cars_rt.calibrator.probe import refuse_moved
from cars_rt.calibrator.wrapped import wrapped_at
from cars_rt.files.units import NM
from cars_rt.physics.air import in_vacuum
from cars_rt.physics.darkness import FEW_FULL, bridged, may_be_hot
from cars_rt.physics.fitness import Fitness, Flag
from cars_rt.printable import counted
from cars_rt.storage import StorageError, refuse_missing_folder, refuse_target

Array = NDArray[np.float64]

EXACT_NM, EXACT_CM1 = 1e-4, 1e-3  # how closely the powers of the column give what was fitted
PLATEAU = 3  # pixels at the full scale: lines are cut off there; fewer of wrapped counts happen to be there


def region_for(given: Measured, binning: int | None = None, first: int | None = None) -> Region:
    """As it is said, or as the driver says it. Raises CalibrationError."""
    known = region_of(given.settings, len(given.counts))
    return Region(
        known.pixels,
        known.binning if binning is None else binning,
        known.first if first is None else first,
    )


def refuse_output(path: Path) -> None:
    """Before anything is measured for it. Raises CalibrationError where no calibration can be written, or
    what is there is none."""
    try:
        refuse_target(path)
        refuse_missing_folder(path.absolute().parent)
    except StorageError as error:
        raise CalibrationError(str(error)) from None
    if path.exists():
        read(path)
    if not os.access(path.absolute().parent, os.W_OK):
        raise CalibrationError(f"{path} cannot be written: nothing can be in its folder; name another")


def opened(path: Path, given: Measured, region: Region) -> Calibration:
    """The calibration that is there already, to which a part is added, or an empty one.

    Raises CalibrationError if it is of another camera or region.
    """
    if not path.exists():
        return Calibration(region=region, source=given.source, settings=given.settings, who=who())
    there = read(path)
    if there.region != region:
        raise CalibrationError(
            f"{path} is of {there.region}, and {given.where} has {region}: choose another file for this "
            "camera or region, or say the region with --binning and --first-column"
        )
    if there.source and given.source and there.source != given.source:
        raise CalibrationError(
            f"{path} is of {there.source!r}, and these spectra are from {given.source!r}: choose another file"
        )
    if other := there.other_camera(given.settings):
        raise CalibrationError(f"{path}: {other}: choose another file")
    settings = given.settings or there.settings
    if there.scale is not None or there.reference is not None:  # made at settings that are not those of now
        camera = {name: said for name, said in given.settings.items() if name in WHICH_CAMERA}
        settings = {**there.settings, **camera}
    return replace(there, source=given.source or there.source, settings=settings)


def who() -> str:
    """Who calibrates, as the system knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return ""


def with_lamp(
    calibration: Calibration,
    given: Measured,
    lamp: Lamp,
    *,
    near: tuple[float, float] | None = None,
    unsure: float = 0.2,
    said: bool = True,
    probe_nm: float | None = None,
) -> tuple[Calibration, LampFit]:
    """With the wavelengths that a lamp gives, above the dark as in `with_reference`.

    near, unsure: as `fit_lamp` takes them. said: by people; a range that the spectrum's own axis has is
    given up where nothing fits, as such an axis may stand for none. probe_nm: in vacuum.
    Raises UnmatchedError, CalibrationError.
    """
    counts = with_dark_of(calibration, given).above_dark
    full = None if given.saturated.sum() >= PLATEAU else given.saturates_at
    if full is not None and (at := wrapped_at(given.counts, full)) is not None:
        jump = abs(float(given.counts[at + 1] - given.counts[at]))
        raise CalibrationError(
            f"{given.where}: the counts jump by {jump:.0f} of {full:g} at pixel {at}, as those beyond a "
            "counter's end do: expose for a shorter time"
        )
    try:
        fit = fit_lamp(counts, lamp, near=near, unsure=unsure)
    except UnmatchedError:
        if said or near is None:
            raise
        fit = fit_lamp(counts, lamp)
    region = calibration.region
    coefficients = by_column(fit.wavelength, region, EXACT_NM)
    columns = column_of(fit.peaks.place[fit.peak], region)
    points = tuple(
        Point(float(column), float(lamp.vacuum_nm[line]), float(residual), lamp.names[line], bool(used))
        for column, line, residual, used in zip(columns, fit.line, fit.residual_cm1, fit.used, strict=True)
    )
    before = calibration.scale.probe_nm if calibration.scale is not None else None
    scale = Scale(
        kind="lamp",
        of=lamp.name,
        quantity="wavelength",
        coefficients=coefficients,
        region=region,
        residual_cm1=fit.residual,
        time_ns=given.time_ns,
        probe_nm=before if probe_nm is None else probe_nm,
        points=points,
    )
    if scale.probe_nm is not None:
        scale.axis(region)
    settings, full_scale = given.settings or calibration.settings, _full_scale(calibration, given)
    return replace(calibration, scale=scale, settings=settings, full_scale=full_scale), fit


def _has_plateau(given: Measured) -> bool:
    """Whether counts end below the full scale that is known, as the flag of spectra finds it. Without an
    axis: a plateau is one of pixels."""
    pixels = np.arange(len(given.counts), dtype=np.float64)
    flags = Fitness(pixels).flags(given.counts[None].astype(np.float32), None)
    return bool(flags[0] & Flag.SATURATED)


def with_standard(
    calibration: Calibration, given: Measured, *, name: str | None = None
) -> tuple[Calibration, Recognised, Array | None]:
    """With the raman shifts that a standard gives, above the dark as in `with_reference`, and the axis that
    was there before (p,), cm-1.

    Where the calibration has a lamp's wavelengths, only the probe's is fitted; so it is, where there are
    none, if the spectrum's own axis is in nm. An axis in cm-1 is corrected; without one, the raman shifts are
    found from nothing.
    Raises UnmatchedError, CalibrationError.
    """
    counts = with_dark_of(calibration, given).above_dark
    if (share := float(given.saturated.mean())) > FEW_FULL:
        raise CalibrationError(
            f"{given.where}: {share:.0%} of the pixels are saturated: expose for a shorter time"
        )
    if _has_plateau(given):
        raise CalibrationError(
            f"{given.where}: the brightest pixels lie in a plateau at {given.counts.max():.0f} counts, as "
            "where lines are cut off: expose for a shorter time"
        )
    if not counts.sum() > 0:
        raise CalibrationError(f"{given.where}: there is no light above the dark")
    region, scale = calibration.region, calibration.scale
    before, settings = None, given.settings or calibration.settings
    if given.axis is not None and given.unit == NM and (scale is None or scale.kind != "lamp"):
        nm = given.axis
        wavelength = Polynomial.fit(along(region), nm, min(5, region.pixels - 1), domain=[-1, 1])
        scale = Scale(
            kind="given",
            of="the spectrum's own axis",
            quantity="wavelength",
            coefficients=by_column(Polynomial(wavelength.coef), region, 1.0),
            region=region,
            residual_cm1=0.0,
            time_ns=given.time_ns,
        )
    if scale is not None and scale.quantity == "wavelength":
        if scale is calibration.scale:  # its wavelengths stay
            settings = calibration.settings
        if scale.probe_nm is not None:
            before = scale.axis(region)
        absolute = 1e7 / scale.at(region.columns)
        found = recognise(counts, wavenumber=absolute, name=name)
        refuse_moved(found, scale, given.where)
        offset = float(np.mean(absolute - found.axis))
        scale = _probed(scale, found, region, 1e7 / offset, given)
    else:
        near = given.axis if given.unit != NM else None
        before = near
        found = _on_its_axis(counts, near, name)
        scale = Scale(
            kind="standard",
            of=found.match.standard.name,
            quantity="raman_shift",
            coefficients=by_column(turned(found.match.axis, found.descending), region, EXACT_CM1),
            region=region,
            residual_cm1=found.residual,
            time_ns=given.time_ns,
            points=_points(found, region),
        )
    scale.axis(region)
    full_scale = _full_scale(calibration, given)
    return replace(calibration, scale=scale, settings=settings, full_scale=full_scale), found, before


def _on_its_axis(counts: Array, near: Array | None, name: str | None) -> Recognised:
    """As `recognise`; where the axis itself is in the way, the reason says so."""
    try:
        return recognise(counts, near, name=name)
    except UnmatchedError as error:
        if near is None:
            raise
        try:
            found = recognise(counts, name=name)
        except UnmatchedError:
            raise error from None
        shift = np.sort(found.axis)
        raise UnmatchedError(
            f"its lines are those of {found.match.standard.name} at {shift[0]:.0f} to {shift[-1]:.0f} cm-1, "
            f"and its own axis goes from {near[0]:.6g} to {near[-1]:.6g}: if that is not in cm-1, or is far "
            "off, give --pixels",
            error.attempt,
        ) from None


def with_dark(calibration: Calibration, given: Measured) -> Calibration:
    """With the dark of its exposure, which takes the place of another of the same exposure, rows and gain.

    Where spectra are sums of frames, it is that of one frame.
    """
    if not may_be_hot(given.saturated, given.counts):
        raise CalibrationError(
            f"{given.where}: saturated at {counted(int(given.saturated.sum()), 'pixel')}, as no dark is: "
            "block the beams"
        )
    darks = sorted(_with(calibration, given), key=lambda each: each.exposure_s or 0.0)
    return replace(calibration, darks=tuple(darks), full_scale=_full_scale(calibration, given))


def refuse_dark_too_many(path: Path, calibration: Calibration, given: Measured) -> None:
    """Raises CalibrationError where the file holds as many darks as it can, and none of this one's kind."""
    if len(_with(calibration, given)) > MOST_DARKS:
        kind = of_what(given.exposure_s, given.settings)
        raise CalibrationError(
            f"{path} has {len(calibration.darks)} darks, as many as it can hold, and none of {kind} to be "
            "replaced: take those out of its list `darks` that nobody needs, or name another file"
        )


def _with(calibration: Calibration, given: Measured) -> list[Mean]:
    """The darks with this one, of one frame, but without those that it replaces."""
    frames = frames_of(given.settings)
    exposure_s = None if given.exposure_s is None else given.exposure_s / frames
    counts = np.asarray(given.counts / frames, np.float32)
    dark = Mean(counts, given.spectra, given.time_ns, exposure_s, given.settings)
    return [*(each for each in calibration.darks if not replaces(dark, each)), dark]


def _full_scale(calibration: Calibration, given: Measured) -> float | None:
    """Of one frame, as it is stated of what is given or known already."""
    stated = None if given.full_scale is None else given.full_scale / frames_of(given.settings)
    return calibration.full_scale if stated is None else stated


def with_reference(calibration: Calibration, given: Measured) -> Calibration:
    """With the mean of a non-resonant sample above the dark: the spectra's own, or the calibration's.

    Raises CalibrationError unless it is above zero everywhere.
    """
    counts = with_dark_of(calibration, given).above_dark
    if not may_be_hot(given.saturated):
        raise CalibrationError(
            f"{given.where}: saturated at {counted(int(given.saturated.sum()), 'pixel')}, as a reference "
            "must not be: expose for a shorter time"
        )
    counts = bridged(counts, given.saturated)
    low = np.flatnonzero(counts <= 0)
    if low.size:
        raise CalibrationError(
            f"{given.where}: the reference is not above the dark at {low.size} of {len(counts)} pixels, "
            f"first at pixel {low[0]}: it needs light at every pixel"
        )
    reference = Mean(
        counts.astype(np.float32), given.spectra, given.time_ns, given.exposure_s, given.settings
    )
    settings = calibration.settings
    if calibration.scale is None:  # else they are those of the axis
        settings = given.settings or settings
    return replace(calibration, reference=reference, settings=settings)


def saved(path: Path, calibration: Calibration) -> Calibration:
    """Written, and read back."""
    return write(path, replace(calibration, who=calibration.who or who()))


def vacuum(nm: float | None, air: bool) -> float | None:
    """A wavelength in vacuum of one in vacuum or in air. Raises CalibrationError for what is none in nm."""
    if nm is not None and not 200 <= nm <= 2_000:
        raise CalibrationError(f"--pump-nm is a wavelength in nm, such as 785, and {nm:g} is none")
    return nm if nm is None or not air else float(in_vacuum(nm))


def believed(
    given: Measured, from_nm: float | None, to_nm: float | None, probe_nm: float | None
) -> tuple[float, float] | None:
    """Wavelengths at the first and the last pixel, as they are said or as the spectrum's own axis has them.

    Raises CalibrationError for one of the two alone, and for what cannot be wavelengths in nm.
    """
    if from_nm is not None and to_nm is not None:
        near = from_nm, to_nm
    elif from_nm is not None or to_nm is not None:
        raise CalibrationError("give --from-nm and --to-nm, or neither of them")
    elif given.axis is None or (given.unit != NM and probe_nm is None):
        return None
    else:
        nm = given.axis if given.unit == NM else 1e7 / (given.axis + 1e7 / (probe_nm or 1.0))
        near = float(nm[0]), float(nm[-1])
    if not all(200 <= each <= 2_000 for each in near) or near[0] == near[1]:
        raise CalibrationError(
            f"the range {near[0]:g} to {near[1]:g} is none of wavelengths in nm: 200 to 2000 are meant"
        )
    return near


def worst(found: Recognised, before: Array) -> float:
    """The largest difference between an axis (p,) and the one that was found, between the lines, cm-1."""
    place = found.peaks.place[found.match.peak]
    low, up = int(place.min()), int(place.max()) + 1
    rows = slice(len(before) - up, len(before) - low) if found.descending else slice(low, up)
    return float(np.abs(before - found.axis)[rows].max())


def _points(found: Recognised, region: Region) -> tuple[Point, ...]:
    match, pixels = found.match, len(found.raman)
    place = found.peaks.place[match.peak]
    here = match.axis(2 * place / (pixels - 1) - 1)
    columns = column_of(pixels - 1 - place if found.descending else place, region)
    known, certain = match.lines.position[match.line], match.lines.certain[match.line]
    return tuple(
        Point(
            float(column),
            float(line),
            float(value - line),
            f"{match.standard.name} {line:.1f}" + ("" if sure else ", no standard"),
            bool(used),
        )
        for column, line, value, sure, used in zip(columns, known, here, certain, match.used, strict=True)
    )


def _probed(scale: Scale, found: Recognised, region: Region, probe_nm: float, given: Measured) -> Scale:
    """A scale of wavelengths with the probe that a standard gives, whose lines stand among the points."""
    added = tuple(
        point._replace(value=1e7 / (point.value + 1e7 / probe_nm), name=point.name + " cm-1")
        for point in _points(found, region)
    )
    return replace(
        scale,
        probe_nm=probe_nm,
        of=f"{scale.of.split(' and ')[0]} and {found.match.standard.name}",
        residual_cm1=found.residual,
        time_ns=given.time_ns,
        points=tuple(point for point in scale.points if not point.name.endswith("cm-1")) + added,
    )
