"""What drivers say of their instruments, and when two of them say the same."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

WHICH_CAMERA = ("model", "serial")  # settings that say which one it is
ROWS = "rows_per_spectrum"  # of an image, which are summed
#: Where a spectrograph is set to, as words in names of settings. What else is told moves no line: facilities
#: tell the ring's current and more of what always varies.
OF_LINES = ("grating", "turret", "wavelength", "centre", "center")
#: What a dark depends on beside exposure, rows and frames, likewise.
OF_DARKS = (
    "gain", "readout", "adcspeed", "pixelformat", "pixeltype", "bitdepth", "sensormode", "scanmode",
    "outputamplifier", "blacklevel", "baseline",
)  # fmt: skip
TEMPERATURE = "temperature"  # likewise, but it drifts, and tells no darks apart
#: Likewise, of what nobody sets, such as SensorReadoutTime, or of what is no spectrograph's.
READINGS = (
    "temp", "time", "status", "state", "current", "power", "moving", "busy", "done", "encoder", "actual",
    "wavemeter", "wavelengthmeter", "integrating", "objective", "filter",
)  # fmt: skip
ROUNDED = 1e-3  # relative: cameras round exposures to lines and clocks, and gains, and that changes no dark
STANDS = 5e-5  # relative: by less a spectrograph's own reading varies, 0.04 nm at 800 nm,
AT_ZERO = 1e-3  # or so much of whatever unit where it stands at zero


def whole_number(value: object, place: int = 0) -> int | None:
    """The number, or that at a place of a list; None for what is no whole one, such as a binning of "2x2"."""
    if isinstance(value, list | tuple):
        value = value[place] if place < len(value) else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) else None


def alike(then: object, now: object, within: float = 0.0, share: float = ROUNDED) -> bool:
    """Whether two settings are the same, numbers to this share of them or `within`."""
    if isinstance(then, int | float) and isinstance(now, int | float):
        return math.isclose(then, now, rel_tol=share, abs_tol=within)
    if isinstance(then, Sequence) and isinstance(now, Sequence) and not isinstance(then, str):
        return len(then) == len(now) and all(
            alike(*both, within, share) for both in zip(then, now, strict=True)
        )
    return then == now


def is_reading(name: str) -> bool:
    """Whether a setting is what a camera reads, and not what it is set to. name: in small letters."""
    return any(word in name for word in READINGS)


@lru_cache(1024)  # a driver asks for each image
def moves_lines(name: str) -> bool:
    """Whether a setting says by its name where a spectrograph is set to."""
    words = name.lower()
    return any(word in words for word in OF_LINES) and not is_reading(words)


def moving(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Names of the settings that are others now, as far as both say them, and move lines."""
    for name, here in now.items():
        was = then.get(name)
        if was is None or not moves_lines(name):
            continue
        if not alike(was, here, AT_ZERO if 0 in (was, here) else 0.0, STANDS):
            yield name


def said(value: object) -> str:
    """A setting in words, with as many digits as tell two of them apart."""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() else f"{value:.7g}"
    return str(value)
