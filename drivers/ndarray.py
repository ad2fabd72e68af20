"""What an image of areaDetector (NTNDArray) says of its detector, beside its counts; pure."""

import math
import time
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from cars_rt.calibration.darks import other_kind
from cars_rt.calibration.settings import alike, moving, said
from cars_rt.drivers.base import InstrumentError

FROM_NOW_S = 3600.0  # beyond that, a time stamp is none
EXPOSURES = ("AcquireTime", "ExposureTime")
#: Attributes by the names that all drivers have for them; those above go before those below.
OURS = {
    "Model": "model",
    "SerialNumber": "serial",
    "Gain": "gain",
    "TemperatureActual": "temperature_c",
    "Temperature": "temperature_c",
}
PASSING = ("Counter", "TimeStamp", "EpicsTS", "AcquirePeriod", *EXPOSURES)  # in names of what is no setting


@dataclass(frozen=True)
class Setting:
    """How the detector is set, as an image says it: of one run, all images say the same."""

    size: str
    offset: tuple[float, ...]
    binning: tuple[float, ...]
    exposure_s: float | None
    told: dict[str, Any]  # its attributes, in our words

    @classmethod
    def of(cls, value: Any, image: NDArray[Any]) -> "Setting":
        sizes, attributes = value["dimension"], _attributes(value)
        return cls(
            f"{sizes_of(image.shape)} {image.dtype.name}",
            tuple(float(each["offset"]) for each in sizes),
            tuple(float(max(each["binning"], 1)) for each in sizes),
            next((known for name in EXPOSURES if isinstance(known := attributes.get(name), float)), None),
            _settings(attributes),
        )

    def change(self, now: "Setting") -> str:
        """What is another one now, in words; empty if nothing is."""
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
        others = {name: what for name, what in self.told.items() if now.told.get(name) != what}
        for name in (*moving(others, now.told), *other_kind(others, now.told)):
            return f"changed their {name} from {said(others[name])} to {said(now.told[name])}"
        return ""


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
        if isinstance(known, bool | int | float) and math.isfinite(known):
            found[name] = float(known)
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
    return ours | {name: what for name, what in told.items() if not any(each in name for each in PASSING)}


def sizes_of(sizes: Any) -> str:
    """Numbers along the dimensions, in words."""
    return " x ".join(map(str, sizes))
