"""Values of flags that no instrument takes, refused before one is looked for."""

import math
import re

from cars_rt.drivers.base import InstrumentError

MOST_SPAN = 2**20  # rows of an image whose camera is not known yet


def refuse_duration(flag: str, value: float | None, *, zero: bool = False) -> None:
    """Raises InstrumentError for a duration that is not finite and above 0 (zero: nor 0). None: not given."""
    if value is not None and not (0 < value < math.inf or (zero and value == 0)):
        raise InstrumentError(f"{flag} must be {'0 or more' if zero else 'more than 0'}, not {value:g}")


def refuse_memory(flag: str, megabytes: float) -> None:
    """Raises InstrumentError for less than 1 MB."""
    if not 1 <= megabytes < math.inf:
        raise InstrumentError(f"{flag} must be at least 1, not {megabytes:g}")


def refuse_region(region: str | None) -> None:
    """Raises InstrumentError for a region that is not x,y,width,height of at least one pixel."""
    if region is None:
        return
    parts = [part.strip() for part in region.split(",")]
    if len(parts) != 4 or not all(re.fullmatch(r"[0-9]{1,9}", part) for part in parts):
        raise InstrumentError(f"--region {region}: give x,y,width,height, such as 0,100,1340,40")
    if not (int(parts[2]) and int(parts[3])):
        raise InstrumentError(f"--region {region}: width and height are at least 1")


def span(flag: str, text: str | None, most: int) -> tuple[int, int]:
    """First and one after the last of so many rows or columns, such as 100:140; all where nothing is said.

    most: how many there are, or MOST_SPAN. Raises InstrumentError.
    """
    if text is None:
        return 0, most
    parts = text.split(":")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        first, last = int(parts[0]), int(parts[1])
        if first < last <= most:
            return first, last
    limits = "such as 100:140" if most == MOST_SPAN else f"from 0:1 to 0:{most}"
    raise InstrumentError(f"{flag} {text}: give the first and the one after the last, {limits}")
