"""What is known of a measurement besides its counts: one list of names for messages, files and programs.

All code that writes a file or publishes one goes through this list, so that nothing is lost from one to
the next. Tests compare it with the fields of the messages.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cars_rt.physics.quantity import CAMERA_COUNTS, quantity
from cars_rt.printable import printable
from cars_rt.protocol import FLAGS, NETWORK_OUTPUTS, Facts, check_facts
from cars_rt.protocol.limits import MAX_COUNT, MAX_HEADER_BYTES, MAX_TEXT, MAX_TIME


class Rows(Protocol):
    """An array (n, ...), or rows that are read from a file when a slice of them is asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


def _count(value: Any) -> int:
    number = int(value)
    if number != value or not 0 <= number <= MAX_COUNT:
        raise ValueError(f"{value} is no count")
    return number


def _time(value: Any) -> int:
    number = int(value)
    if number != value or not 0 <= number <= MAX_TIME:
        raise ValueError(f"{value} is no time")
    return number


def _positive(value: Any) -> float:
    number = float(value)
    if not 0 < number < np.inf:
        raise ValueError(f"{value} is not positive")
    return number


def _text(value: Any) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text[:MAX_TEXT]


def _pair(kind: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, Any]]:
    def pair(value: Any) -> tuple[Any, Any]:
        first, second = value
        return kind(first), kind(second)

    return pair


def _positive_count(value: Any) -> int:
    if not (number := _count(value)):
        raise ValueError("0 is no size")
    return number


def _facts(value: Any) -> Facts:
    """Read a value as `stored` writes it."""
    if isinstance(value, Mapping):
        return check_facts(value, "it")
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"{len(text)} characters are too many")
    return check_facts(json.loads(text), "it")


def _by_cause(value: Any) -> str:
    """JSON of spectra by cause."""
    found = json.loads(text := str(value))
    if not isinstance(found, dict):
        raise ValueError("it is no map")
    for count in found.values():
        _count(count)
    return text


def _ranges(value: Any) -> str:
    """JSON of ranges of spectra: cause, index of the first, how many."""
    for cause, first, count in json.loads(text := str(value)):
        if not isinstance(cause, str) or not _count(count):
            raise ValueError("it is no range")
        _count(first)
    return text


def stored(value: Any) -> Any:
    """A value of `ABOUT` as files hold it: a map as JSON text, anything else as it is."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else value


#: Of the whole run: names as in `Start`, and how a value from a file is judged.
ABOUT: Mapping[str, Callable[[Any], Any]] = {
    "run": _text,
    "source": _text,
    "time_ns": _time,
    "block": _positive_count,
    "spectra": _count,
    "scan": _pair(_positive_count),
    "step_um": _pair(_positive),
    "exposure_s": _positive,
    "full_scale": _positive,
    "calibration": _facts,
    "instrument": _facts,
}

#: What people wrote of it, as a recording has it at its root.
WRITTEN = ("sample", "notes")
MOST_WRITTEN = 2**16  # characters of each

#: How a run ended, as a recording has it: names as in `End`, the causes and ranges as JSON.
RECEIPT: Mapping[str, Callable[[Any], Any]] = {
    "announced": lambda value: int(value),  # -1: the run never ended
    "reason": _text,
    "lost_before": _by_cause,
    "lost": _by_cause,
    "ranges": _ranges,
}

ANY_FLAG = 255  # the flags of a spectrum of which nobody knows them any more: not to be taken for none
NOWHERE = -1  # the index, and the place, of a row of which nothing says any more which spectrum it is
#: Of each spectrum: names as in `Frame`, and the type of a row.
COLUMNS: Mapping[str, tuple[tuple[int, ...], type[np.generic]]] = {
    "index": ((), np.int64),
    "sequence": ((), np.int64),
    "time_ns": ((), np.int64),
    "position": ((2,), np.int32),  # row and column of the scan
}

TARGET = "model_target"  # the attribute of results that says which quantity they are

#: What arrays are, for the axes of pictures, and their units, as UDUNITS has them; of results see `labels`.
LONG_NAMES = {
    "counts": CAMERA_COUNTS.long_name,
    **{name: f"{meaning}, as the model states it" for name, meaning in NETWORK_OUTPUTS.items()},
    "raman_shift": "Raman shift",
    FLAGS: "what is wrong with the spectrum: bits of cars_rt.Flag",
    "time": "when the camera had delivered the spectrum",
    "time_in": "when the daemon received it",
    "time_out": "when the daemon sent the result",
    "dark": "counts with the beams blocked",
}
UNITS = {"raman_shift": "1/cm", "counts": CAMERA_COUNTS.unit, "dark": CAMERA_COUNTS.unit}


def labels(name: str, target: Any = None) -> dict[str, str]:
    """What the attributes of an array say it is. target: of results, as `quantity` takes it."""
    long_name, _, unit = quantity(target)
    if name == "raman":
        return {"long_name": long_name, "units": unit}
    units = dict.fromkeys(NETWORK_OUTPUTS, unit) | UNITS
    return {"long_name": LONG_NAMES.get(name, name)} | ({"units": units[name]} if name in units else {})


def _unwrapped(value: Any) -> Any:
    """One value or two out of an array of any shape: MATLAB knows no others."""
    if not isinstance(value, np.ndarray | list):
        return value
    flat = np.ravel(value).tolist()
    return flat[0] if len(flat) == 1 else flat


def line(values: NDArray[Any]) -> NDArray[Any]:
    """An array (1, p) or (p, 1), as MATLAB writes a line of numbers, as (p,); another as it is."""
    return values.ravel() if values.size == max(values.shape, default=0) else values


def judged(
    found: Mapping[str, Any], rules: Mapping[str, Callable[[Any], Any]], *, strict: bool = True
) -> dict[str, Any]:
    """The values from a file that obey the rules, by name. One that does not is left out or, if strict, a
    ValueError that names it: a recording is ours, another file may mean something else by the name."""
    values = {}
    for name, rule in rules.items():
        if name in found:
            try:
                values[name] = rule(_unwrapped(found[name]))
            except (TypeError, ValueError, OverflowError, RecursionError):
                if not strict:
                    continue
                said = printable(str(found[name]), 80)
                raise ValueError(f"{name} is {said!r}, which it cannot be") from None
    return values
