"""The file of a calibration: JSON, one version, nothing in it believed before it is judged."""

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.calibration import Calibration, iso
from cars_rt.calibration.darks import Mean
from cars_rt.calibration.errors import CalibrationError
from cars_rt.calibration.region import Region
from cars_rt.calibration.scale import UNITS, Point, Quantity, Scale
from cars_rt.protocol import ProtocolError, check_facts
from cars_rt.storage import StorageError, read_bytes, write_bytes

FORMAT, VERSION = "cars-rt calibration", 1
MOST_BYTES = 32 * 2**20  # sixteen darks of the widest camera are half of it
MOST_POINTS, MOST_DARKS, MOST_COEFFICIENTS = 1_000, 64, 16
MOST_TEXT = 1_024
MOST_COUNTS = 1e12  # of one pixel


def read(path: Path) -> Calibration:
    """The calibration in a file. Raises CalibrationError, whatever the file holds."""
    try:
        content = read_bytes(path, MOST_BYTES)
    except StorageError as error:
        raise CalibrationError(str(error)) from None
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror or error}") from None
    try:
        return decoded(content)
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None


def write(path: Path, calibration: Calibration) -> Calibration:
    """Write it, at once or not at all; what a reader will find. Raises CalibrationError."""
    content = encoded(calibration)
    known = decoded(content)
    try:
        write_bytes(path, content)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be written: {error.strerror or error}") from None
    return known


def encoded(calibration: Calibration) -> bytes:
    """The file's content: the same for the same calibration."""
    whole: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "who": calibration.who,
        "instrument": {"source": calibration.source, "settings": dict(calibration.settings)},
        "region": _region_out(calibration.region),
    }
    if (scale := calibration.scale) is not None:
        points = [
            {
                "column": point.column,
                "value": point.value,
                "residual_cm1": point.residual_cm1,
                "name": point.name,
                "used": point.used,
            }
            for point in scale.points
        ]
        whole["axis"] = {
            "kind": scale.kind,
            "of": scale.of,
            "quantity": scale.quantity,
            "unit": scale.unit,
            "medium": "vacuum",
            "probe_nm": scale.probe_nm,
            "coefficients": list(scale.coefficients),
            "residual_cm1": scale.residual_cm1,
            "time": iso(scale.time_ns),
            "region": _region_out(scale.region),
            "points": points,
        }
    if calibration.full_scale is not None:
        whole["full_scale"] = calibration.full_scale
    if calibration.darks:
        whole["darks"] = [_mean_out(dark) for dark in calibration.darks]
    if calibration.reference is not None:
        whole["reference"] = _mean_out(calibration.reference)
    try:
        return (json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except ValueError as error:
        raise CalibrationError(f"the calibration holds what no file can: {error}") from None


def decoded(content: bytes) -> Calibration:
    """The calibration that a file's content says. Raises CalibrationError, whatever the content."""
    try:
        loaded = json.loads(
            content.decode("utf-8-sig"), parse_constant=_no_constant, object_pairs_hook=_no_repeats
        )
    except (ValueError, RecursionError) as error:
        known = error if isinstance(error, CalibrationError) else "it is no JSON, or a damaged file"
        raise CalibrationError(f"no calibration: {known}") from None
    if not isinstance(loaded, dict) or loaded.get("format") != FORMAT:
        raise CalibrationError(
            "no calibration: it has not the format of `cars-rt calibrate` "
            f'("format": "{FORMAT}"); a table of numbers is for --axis'
        )
    if loaded.get("version") != VERSION:
        shown = loaded.get("version")
        shown = shown if isinstance(shown, int) else "none"
        raise CalibrationError(
            f"its version is {shown}, and this program reads {VERSION}: update one of them"
        )
    whole = _Map(loaded, "the file")
    for key in ("format", "version"):
        whole.take(key)
    instrument = whole.map("instrument")
    region = _region(whole.map("region"))
    axis = whole.map("axis", optional=True)
    calibration = Calibration(
        region=region,
        source=instrument.text("source"),
        settings=instrument.facts("settings"),
        who=whole.text("who"),
        scale=None if axis is None else _scale(axis),
        full_scale=whole.number("full_scale", low=0, optional=True),
        darks=tuple(_mean(each, region) for each in whole.maps("darks", MOST_DARKS)),
        reference=_optional_mean(whole.map("reference", optional=True), region),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    instrument.done()
    whole.done()
    if calibration.reference is not None and not (calibration.reference.counts > 0).all():
        raise CalibrationError("its reference is not above zero everywhere")
    return calibration


# -- parts -----------------------------------------------------------------------------------------------


def _region_out(region: Region) -> dict[str, int]:
    return {"pixels": region.pixels, "binning": region.binning, "first": region.first}


def _region(given: "_Map") -> Region:
    region = Region(given.count("pixels"), given.count("binning"), given.count("first"))
    given.done()
    return region


def _mean_out(mean: Mean) -> dict[str, Any]:
    return {
        "spectra": mean.spectra,
        "exposure_s": mean.exposure_s,
        "time": iso(mean.time_ns),
        "settings": dict(mean.settings),
        "counts": [float(f"{value:.7g}") for value in mean.counts.tolist()],
    }


def _mean(given: "_Map", region: Region) -> Mean:
    mean = Mean(
        given.numbers("counts", region.pixels, region.pixels).astype(np.float32),
        given.count("spectra"),
        given.time("time"),
        given.number("exposure_s", low=0, optional=True),
        given.facts("settings", optional=True),
    )
    given.done()
    return mean


def _optional_mean(given: "_Map | None", region: Region) -> Mean | None:
    return None if given is None else _mean(given, region)


def _scale(given: "_Map") -> Scale:
    said = given.text("quantity")
    quantity: Quantity | None = next((each for each in UNITS if each == said), None)
    if quantity is None:
        raise CalibrationError("axis.quantity must be wavelength or raman_shift")
    unit, medium = given.text("unit"), given.text("medium")
    if unit != UNITS[quantity] or medium != "vacuum":
        raise CalibrationError(
            f"axis is in {unit} in {medium}; a {quantity} is written in {UNITS[quantity]} in vacuum"
        )
    scale = Scale(
        kind=given.text("kind"),
        of=given.text("of"),
        quantity=quantity,
        coefficients=tuple(given.numbers("coefficients", 2, MOST_COEFFICIENTS).tolist()),
        region=_region(given.map("region")),
        residual_cm1=given.number("residual_cm1", low=None) or 0.0,
        time_ns=given.time("time"),
        probe_nm=given.number("probe_nm", low=100, high=10_000, optional=True),
        points=tuple(_point(each) for each in given.maps("points", MOST_POINTS)),
    )
    given.done()
    if scale.quantity == "raman_shift" or scale.probe_nm is not None:
        scale.axis(scale.region)
    elif not (np.diff(values := scale.at(scale.region.columns)) != 0).all() or not (values > 0).all():
        raise CalibrationError("axis: its polynomial gives no wavelengths")
    return scale


def _point(given: "_Map") -> Point:
    point = Point(
        given.number("column", low=None) or 0.0,
        given.number("value", low=None) or 0.0,
        given.number("residual_cm1", low=None) or 0.0,
        given.text("name"),
        given.take("used") is True,
    )
    given.done()
    return point


class _Map:
    """A map of the file: every value is judged as it is taken, and none may be left."""

    def __init__(self, given: Mapping[str, Any], what: str) -> None:
        self._left, self._what = dict(given), what

    def take(self, key: str, *, optional: bool = False) -> Any:
        value = self._left.pop(key, None)
        if value is None and not optional:
            raise CalibrationError(f"{self._what} has no {key}")
        return value

    def done(self) -> None:
        if self._left:
            name = sorted(self._left)[0][:40]
            raise CalibrationError(f"{self._what} has {name!r}, which version {VERSION} does not know")

    def map(self, key: str, *, optional: bool = False) -> Any:
        value = self.take(key, optional=optional)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._no(key, "a map")
        return _Map(value, key)

    def maps(self, key: str, most: int) -> list["_Map"]:
        value = self.take(key, optional=True)
        value = [] if value is None else value
        if not isinstance(value, list) or len(value) > most or not all(isinstance(e, dict) for e in value):
            self._no(key, f"a list of at most {most} maps")
        return [_Map(each, f"{key}[{number}]") for number, each in enumerate(value)]

    def text(self, key: str) -> str:
        value = self.take(key)
        if not isinstance(value, str) or len(value) > MOST_TEXT:
            self._no(key, f"text of at most {MOST_TEXT} characters")
        return str(value)

    def facts(self, key: str, *, optional: bool = False) -> Any:
        value = self.take(key, optional=optional)
        try:
            return {} if value is None else check_facts(value, key)
        except ProtocolError as error:
            raise CalibrationError(str(error)) from None

    def count(self, key: str) -> int:
        value = self.take(key)
        if type(value) is not int or not 0 <= value <= 2**53:
            self._no(key, "a whole number")
        return int(value)

    def number(
        self, key: str, *, low: float | None, high: float = math.inf, optional: bool = False
    ) -> float | None:
        value = self.take(key, optional=optional)
        if value is None:
            return None
        number = _number(value)
        if number is None or (low is not None and not low < number < high):
            self._no(key, "a number" if low is None else f"a number above {low:g}")
        return number

    def numbers(self, key: str, least: int, most: int) -> NDArray[np.float64]:
        value = self.take(key)
        meant = f"a list of {least}" + (f" to {most}" if most > least else "") + " finite numbers"
        if not isinstance(value, list) or not least <= len(value) <= most:
            self._no(key, meant)
        numbers = [_number(each) for each in value]
        if any(each is None or abs(each) > MOST_COUNTS for each in numbers):
            self._no(key, meant)
        return np.array(numbers, np.float64)

    def time(self, key: str) -> int:
        text = self.text(key)
        try:
            seconds = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
        except (ValueError, OverflowError):
            self._no(key, "a time such as 2026-11-02T10:00:00Z")
        return int(seconds) * 10**9

    def _no(self, key: str, meant: str) -> NoReturn:
        raise CalibrationError(f"{key} of {self._what} must be {meant}")


def _number(value: object) -> float | None:
    try:
        number = float(value) if type(value) in (int, float) else math.nan  # type: ignore[arg-type]
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _no_constant(text: str) -> NoReturn:
    raise CalibrationError(f"it holds {text}, which is no number")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise CalibrationError("it says the same thing twice")
    return found
