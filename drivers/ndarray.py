"""What an image of areaDetector (NTNDArray) says of its detector, beside its counts; pure."""

import math
import time
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cars_rt.calibration.darks import is_temperature, other_kind, tells_apart
from cars_rt.calibration.settings import alike, moves_lines, moving, said
from cars_rt.drivers.base import InstrumentError

FROM_NOW_S = 3600.0  # beyond that, a time stamp is none
EXPOSURE = "AcquireTime"  # in seconds, by what areaDetector says
DOUBTFUL = "ExposureTime"  # which some drivers mean in ms or us
#: In names of what only a spectrograph or a camera is set to: a centre, a gain, a baseline may be that of
#: something else at the facility.
SETS = (
    "grating", "turret", "wavelength", "spectro", "preampgain", "emgain", "readoutmode", "readoutrate",
    "readoutspeed", "readoutport", "adcspeed", "pixelformat", "pixeltype", "bitdepth", "sensormode",
    "outputamplifier", "blacklevel",
)  # fmt: skip
AT_REST = 0.01  # of whatever unit: what is set to zero reads less
#: Attributes by the names that all drivers have for them; those above go before those below.
OURS = {
    "Model": "model",
    "SerialNumber": "serial",
    "Gain": "gain",
    "TemperatureActual": "temperature_c",
    "Temperature": "temperature_c",
}
#: In names of what is no setting.
PASSING = ("Counter", "TimeStamp", "EpicsTS", "AcquirePeriod", EXPOSURE, DOUBTFUL)


@dataclass(frozen=True)
class Setting:
    """How the detector is set, as an image says it: of one run, all images say the same."""

    size: str
    offset: tuple[float, ...]
    binning: tuple[float, ...]
    exposure_s: float | None
    doubtful: float | None  # an exposure of which nobody says the unit; None where there is the other one
    told: dict[str, Any]  # its attributes, in our words: first what matters to axis and darks

    @classmethod
    def of(cls, value: Any, image: NDArray[Any]) -> "Setting":
        sizes, attributes = value["dimension"], _attributes(value)
        exposure_s = _positive(attributes.get(EXPOSURE))
        return cls(
            f"{sizes_of(image.shape)} {image.dtype.name}",
            tuple(float(each["offset"]) for each in sizes),
            tuple(float(max(each["binning"], 1)) for each in sizes),
            exposure_s,
            None if exposure_s else _positive(attributes.get(DOUBTFUL)),
            _settings(attributes),
        )

    def change(self, now: "Setting") -> str:
        """What is another one now, in words, that makes spectra of another kind; empty if nothing is."""
        if now.size != self.size:
            return f"changed from {self.size} to {now.size}"
        for name in ("offset", "binning"):
            then, here = getattr(self, name), getattr(now, name)
            if then != here:
                numbers = " to ".join(sizes_of(f"{each:g}" for each in both) for both in (then, here))
                return f"changed their {name} from {numbers}"
        then, here = self.exposure_s, now.exposure_s
        if then is not None and here is not None and not alike(then, here):
            return f"changed their exposure from {then * 1e3:g} to {here * 1e3:g} ms"
        then, here = self.doubtful, now.doubtful
        if then is not None and here is not None and not alike(then, here):
            return f"changed their {DOUBTFUL} from {then:g} to {here:g}"
        then, here = self.told.get("gain"), now.told.get("gain")
        if then is not None and here is not None and not alike(then, here):
            return f"changed their gain from {said(then)} to {said(here)}"
        return ""

    def moved(self, now: "Setting") -> str:
        """What by its name is set to another value now, in words, that makes other spectra; empty if nothing
        is. A single image may say so where a reading failed."""
        for name, (was, here) in self._others(now).items():
            plain = name.lower().replace("_", "").replace(" ", "")
            if any(word in plain for word in SETS) and not alike(was, here, AT_REST):
                changed = f"changed their {name} from {said(was)} to {said(here)}"
                return f"{changed} (if that changes neither axis nor dark, leave the attribute out)"
        return ""

    def others(self, now: "Setting") -> dict[str, str]:
        """What else a dark or the axis depends on by its name, and is said to be another one now, in words.
        Names are the facility's, and some readings are never the same twice."""
        changed = self._others(now).items()
        return {name: f"{name} {said(here)} in place of {said(was)}" for name, (was, here) in changed}

    def _others(self, now: "Setting") -> dict[str, tuple[Any, Any]]:
        told = {name: what for name, what in self.told.items() if now.told.get(name) not in (what, "")}
        names = (*moving(told, now.told), *other_kind(told, now.told))
        return {name: (told[name], now.told[name]) for name in names}


def stamp(value: Any) -> int | None:
    """When it was taken, Unix time, as far as its server knows."""
    now = time.time()
    for name in ("dataTimeStamp", "timeStamp"):
        seconds, ns = value[name]["secondsPastEpoch"], value[name]["nanoseconds"]
        if abs(seconds - now) < FROM_NOW_S:
            return int(seconds) * 10**9 + int(ns)
    return None


def _attributes(value: Any) -> dict[str, Any]:
    """Those of an image that are numbers or texts."""
    found: dict[str, Any] = {}
    for each in value["attribute"]:
        known, name = each["value"], str(each["name"])[:64]
        if isinstance(known, bool):
            if name not in (EXPOSURE, DOUBTFUL):
                found[name] = float(known)
        elif isinstance(known, int | float) and math.isfinite(known):
            found[name] = known
        elif isinstance(known, str) and name.isascii():
            found[name] = known[:200]
    return found


def _settings(attributes: dict[str, Any]) -> dict[str, Any]:
    """Those that say how the detector is set, in our words."""
    told = dict(attributes)
    if told.pop("ColorMode", 0.0):
        raise InstrumentError("the detector's images are in colour: choose the colour mode Mono")
    ours: dict[str, Any] = {}
    for name, known in OURS.items():
        if name in told:
            ours.setdefault(known, told.pop(name))
    others = [name for name in told if not any(each in name for each in PASSING)]
    return ours | {name: told[name] for name in sorted(others, key=_rank)}


def _rank(name: str) -> int:
    """Where an attribute stands among those that a run says, of which there may be too many."""
    return 0 if moves_lines(name) or tells_apart(name) else 1 if is_temperature(name) else 2


def _positive(known: object) -> float | None:
    return float(known) if isinstance(known, int | float) and known > 0 else None


def sizes_of(sizes: Any) -> str:
    """Numbers along the dimensions, in words."""
    return " x ".join(map(str, sizes))
