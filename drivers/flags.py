"""Values of flags that no instrument takes, refused before one is looked for."""

import math
import re

from cars_rt.drivers.base import InstrumentError


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
