"""`cars-rt calibrate`: axes, darks and references of an instrument."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, NoReturn

from cyclopts import App, Parameter
from rich.text import Text

from cars_rt.calibration import Calibration, CalibrationError
from cars_rt.calibration.errors import UnmatchedError
from cars_rt.calibrator.measured import Measured, doubts_of_dark, is_address, measured, with_dark_of
from cars_rt.cli.app import Logs, needs
from cars_rt.console import Logging, Terminal, fail, log, start_logging
from cars_rt.printable import counted, listed, printable
from cars_rt.trust.flags import ClientAccess

calibrate = App(
    name="calibrate",
    help=(
        "Calibrate an instrument: its axis, darks and reference, in one file for --calibration.\n\n"
        "The spectra come from a file, or from a driver that is running, by its address. What is in the file "
        "of the calibration already stays: `lamp`, `standard`, `dark` and `reference` each add a part."
    ),
)


@dataclass(frozen=True, kw_only=True)
class CalibrateSettings:
    """Settings of every `cars-rt calibrate`."""

    output: Annotated[Path, Parameter(name=("--output", "-o"))] = Path("calibration.json")
    """The file of the calibration; a part is added to one that is there."""

    spectra: int | None = None
    """Average so many spectra: all of a file, and 100 of a stream if not given."""

    binning: int | None = None
    """Columns of the camera in one pixel, if the driver does not say so."""

    first_column: int | None = None
    """Column of the camera that the first pixel begins with, if the driver does not say so."""

    exposure_ms: float | None = None
    """Exposure of one spectrum, if it is not said there: without it no dark of the calibration is taken from
    a file."""

    access: ClientAccess = field(default_factory=ClientAccess)

    def __post_init__(self) -> None:
        _above_0("--spectra", self.spectra)
        _above_0("--exposure-ms", self.exposure_ms)


def _above_0(flag: str, value: float | None) -> None:
    """Raises CalibrationError for a number that is given and cannot be."""
    if value is not None and not 0 < value < math.inf:
        raise CalibrationError(f"{flag} must be more than 0, not {value:g}")


Settings = Annotated[CalibrateSettings, Parameter(name="*")]


@calibrate.command
def lamp(
    source: str,
    *,
    lamp: str,
    from_nm: float | None = None,
    to_nm: float | None = None,
    unsure: float = 0.2,
    pump_nm: float | None = None,
    air: bool = False,
    picture: Path | None = None,
    settings: Settings = CalibrateSettings(),
    logs: Logs = Logging(),
) -> None:
    """Wavelengths of the pixels from the spectrum of a lamp, whatever the grating is set to.

    Example: cars-rt calibrate lamp tcp://127.0.0.1:5555 --lamp neon --pump-nm 785.1 -o lab.json

    Parameters
    ----------
    source
        A file with the lamp's spectrum, or the address of a running driver.
    lamp
        neon, argon, krypton or mercury-argon.
    from_nm
        Wavelength at the first pixel as the grating is believed to be set, in nm; with --to-nm.
    to_nm
        Wavelength at the last pixel.
    unsure
        By what share of them the middle and the width of that range may be wrong.
    pump_nm
        Wavelength from which the light is shifted, that of the probe if it is another beam than the pump, in
        vacuum. Without it, measure a standard next: that finds it.
    air
        --pump-nm is in air.
    picture
        PNG of the lines and residuals; by default beside the output, where matplotlib is installed.
    """
    from cars_rt.calibration.lamps import lamp as lamp_called
    from cars_rt.calibrator import pictures, program

    start_logging(logs)
    _above_0("--unsure", unsure)
    chosen, given = lamp_called(lamp), _measured(source, settings)
    near = program.believed(given, from_nm, to_nm, program.vacuum(pump_nm, air))
    path = _picture(picture, settings.output, "lamp")
    before = calibration = _opened(given, settings)
    _doubt_dark(calibration, given, settings)
    if saturated := int(given.saturated.sum()):
        log.warning(
            "%s: %d pixels are saturated: bright lines are off their places; expose for a shorter time",
            source, saturated,
        )  # fmt: skip
    try:
        calibration, fit = program.with_lamp(
            calibration, given, chosen, near=near, unsure=unsure, said=from_nm is not None,
            probe_nm=program.vacuum(pump_nm, air),
        )  # fmt: skip
    except UnmatchedError as error:
        _refused(error, path)
    known = _saved(before, _without_moved_reference(before, calibration, settings), settings)
    _draw(path, lambda at: pictures.draw_lamp(fit, with_dark_of(known, given).above_dark, at))
    place = fit.wavelength([-1.0, 1.0])
    log.info(
        "%s: %s lamp, %d lines, residual %.3f cm-1 (rms), %.3f to %.3f nm in vacuum; id %s",
        settings.output, chosen.name, fit.used.sum(), fit.residual, place[0], place[1], known.id,
    )  # fmt: skip
    if known.scale is not None and known.scale.probe_nm is None:
        log.info("no probe's wavelength is known: give --pump-nm, or `cars-rt calibrate standard` next")


@calibrate.command
def standard(
    source: str,
    *,
    standard: str | None = None,
    pixels: bool = False,
    picture: Path | None = None,
    settings: Settings = CalibrateSettings(),
    logs: Logs = Logging(),
) -> None:
    """Raman shifts of the pixels from a CARS spectrum of a standard, recognised by its own lines.

    The spectrum's own axis is corrected; where the calibration has a lamp's wavelengths, only the probe's is
    found; without any, or with --pixels, the axis is found from nothing.

    Example: cars-rt calibrate standard toluene.csv -o lab.json

    Parameters
    ----------
    source
        A file with the spectrum, or the address of a running driver.
    standard
        toluene, cyclohexane, polystyrene, benzonitrile or acetaminophen; recognised if not given.
    pixels
        Use neither the spectrum's own axis nor the wavelengths of the calibration.
    picture
        PNG of lines, residuals, and what was wrong with the axis; by default beside the output, where
        matplotlib is installed.
    """
    from cars_rt.calibrator import pictures, probe, program

    start_logging(logs)
    given = _measured(source, settings)
    path = _picture(picture, settings.output, "standard")
    opened = calibration = _opened(given, settings)
    _doubt_dark(calibration, given, settings)
    original = given
    if pixels:
        given, calibration = replace(given, axis=None, unit=""), replace(calibration, scale=None)
    there = calibration.scale
    try:
        calibration, found, before = program.with_standard(calibration, given, name=standard)
    except UnmatchedError as error:
        _refused(error, path)
    if pixels and original.unit == "cm-1":
        before = original.axis
    known = _saved(opened, _without_moved_reference(opened, calibration, settings), settings)
    _draw(path, lambda at: pictures.draw_standard(found, before, at))
    scale = known.scale
    assert scale is not None
    for doubt in probe.doubts(there, found, scale):
        log.warning("%s: %s", source, doubt)
    log.info(
        "%s: %s by %d lines, residual %.2f cm-1 (rms of those of ASTM E1840)%s; %.1f to %.1f cm-1; id %s",
        settings.output, found.match.standard.name, found.match.used.sum(), scale.residual_cm1,
        f", probe {scale.probe_nm:.4f} nm in vacuum" if scale.probe_nm else "",
        found.axis[0], found.axis[-1], known.id,
    )  # fmt: skip
    if before is not None:
        log.info("the axis before was off by up to %.1f cm-1 between the lines", program.worst(found, before))


@calibrate.command
def dark(
    source: str,
    *,
    full_scale: float | None = None,
    settings: Settings = CalibrateSettings(),
    logs: Logs = Logging(),
) -> None:
    """The dark of one exposure, from spectra with the beams blocked; again for each exposure.

    Example: cars-rt calibrate dark tcp://127.0.0.1:5555 --spectra 500 -o lab.json

    Parameters
    ----------
    source
        A file with the spectra, or the address of a running driver.
    full_scale
        Counts at which one frame of the camera saturates, if it is not said there.
    """
    from cars_rt.calibration.darks import frames_of
    from cars_rt.calibrator import program
    from cars_rt.calibrator.summary import exposures
    from cars_rt.physics.darkness import light_in

    start_logging(logs)
    _above_0("--full-scale", full_scale)
    given = _measured(source, settings, dark=True)
    if full_scale is not None:
        given = replace(given, full_scale=full_scale * frames_of(given.settings))
    before = _opened(given, settings)
    program.refuse_dark_too_many(settings.output, before, given)
    known = _saved(before, program.with_dark(before, given), settings)
    _doubt_hot(given, "all spectra have a notch and false lines there, and the flag `spike`")
    if said := light_in(given.counts, given.noise):
        log.warning("%s: this dark %s", given.where, said)
    log.info(
        "%s: dark of %s, %.6g counts in the mean; darks for %s; saturates at: %s; id %s",
        settings.output, counted(given.spectra, "spectrum"), given.counts.mean(), exposures(known),
        "not known" if known.full_scale is None else f"{known.full_scale:g} counts", known.id,
    )  # fmt: skip


@calibrate.command
def reference(source: str, *, settings: Settings = CalibrateSettings(), logs: Logs = Logging()) -> None:
    """The envelope's reference, from spectra of a purely non-resonant sample such as glass.

    The dark of the spectra, or else the calibration's dark for their exposure, is subtracted; none from a
    file that does not say its exposure, unless --exposure-ms does.

    Example: cars-rt calibrate reference glass.h5 -o lab.json

    Parameters
    ----------
    source
        A file with the spectra, or the address of a running driver.
    """
    from cars_rt.calibrator import program

    start_logging(logs)
    given = _measured(source, settings)
    before = _opened(given, settings)
    _doubt_dark(before, given, settings)
    if given.dark is None and not before.darks:
        log.warning("no dark is known: none is subtracted")
    known = program.saved(settings.output, program.with_reference(before, given))
    _doubt_hot(given, "neighbours stand for them")
    log.info("%s: reference of %s; id %s", settings.output, counted(given.spectra, "spectrum"), known.id)


@calibrate.command
def show(file: Path, *, logs: Logs = Logging()) -> None:
    """Say what is in the file of a calibration.

    Parameters
    ----------
    file
        The calibration.
    """
    from cars_rt.calibration import read
    from cars_rt.calibrator.summary import described

    start_logging(logs)
    out = Terminal()
    for line in described(read(file), time.time_ns()):
        out.say(Text(printable(line)))


def _measured(source: str, settings: CalibrateSettings, dark: bool = False) -> Measured:
    from cars_rt.calibrator import program

    def exposed(given: Measured) -> Measured:
        exposure_ms = settings.exposure_ms
        return given if exposure_ms is None else replace(given, exposure_s=exposure_ms / 1e3)

    def judge(said: Measured) -> None:
        region = program.region_for(said, settings.binning, settings.first_column)
        there = program.opened(settings.output, said, region)
        if dark:
            program.refuse_dark_too_many(settings.output, there, exposed(said))

    program.refuse_output(settings.output)
    security = settings.access.client() if is_address(source) else None
    given = exposed(measured(source, settings.spectra, security, judge=judge))
    of = counted(given.spectra, "spectrum")
    log.info("%s: the mean of %s of %d pixels", source, of, len(given.counts))
    return given


def _opened(given: Measured, settings: CalibrateSettings) -> Calibration:
    from cars_rt.calibrator import program

    region = program.region_for(given, settings.binning, settings.first_column)
    there = program.opened(settings.output, given, region)
    for sentence in there.changed(given.settings):
        log.warning("%s: %s", settings.output, sentence)
    return there


def _saved(before: Calibration, after: Calibration, settings: CalibrateSettings) -> Calibration:
    from cars_rt.calibrator import program

    if before.full_scale is not None and before.full_scale != after.full_scale:
        log.warning(
            "%s: it saturated at %g counts, and now at %g",
            settings.output, before.full_scale, after.full_scale,
        )  # fmt: skip
    return program.saved(settings.output, after)


def _doubt_dark(there: Calibration, given: Measured, settings: CalibrateSettings) -> None:
    """Say what is to be said of the dark that the calibration has for these spectra."""
    for doubt in doubts_of_dark(there, given):
        log.warning("%s: %s", settings.output, doubt)


def _doubt_hot(given: Measured, what: str) -> None:
    """Say which pixels are at the full scale, of which none is refused for, and what comes of it."""
    if len(hot := given.saturated.nonzero()[0]):
        log.warning("%s: saturated at %s: hot? %s", given.where, listed(hot.tolist(), "pixel"), what)


def _without_moved_reference(
    before: Calibration, after: Calibration, settings: CalibrateSettings
) -> Calibration:
    from cars_rt.calibrator.moved import without_moved_reference

    kept = without_moved_reference(before, after)
    if kept is not after:
        log.warning(
            "%s: its reference is left out, as it was measured on another axis: measure the reference again",
            settings.output,
        )
    return kept


def _picture(asked: Path | None, output: Path, kind: str) -> Path | None:
    """Where a picture goes; None if none can be drawn."""
    if asked is not None:
        needs("matplotlib", "demo")
        return asked
    return output.with_name(f"{output.stem}-{kind}.png") if find_spec("matplotlib") else None


def _draw(path: Path | None, draw: Callable[[Path], None]) -> None:
    if path is None:
        return
    try:
        draw(path)
    except OSError as error:
        log.warning("the picture %s cannot be written: %s", path, error.strerror or error)
    else:
        log.info("%s: the lines and what they are off", path)


def _refused(error: UnmatchedError, path: Path | None) -> NoReturn:
    """Leave with the reason, and with the picture of what was found."""
    from cars_rt.calibrator import pictures

    sentence = str(error)
    if path is not None:
        try:
            pictures.draw_unmatched(error.attempt, path)
            sentence += f"; {path} shows what was found"
        except OSError as trouble:
            log.warning("the picture %s cannot be written: %s", path, trouble.strerror or trouble)
    fail(sentence)
