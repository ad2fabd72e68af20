"""What is other in a start that is said again within its run. Pure."""

from dataclasses import fields
from typing import Any

import numpy as np

from cars_rt.protocol.messages import Start

#: Where the run has come to, and what computes now, which each frame says itself in `made_by`.
_GOES_ON = frozenset({"stream", "run", "sequence", "index", "model"})
#: Without them the numbers of a spectrum mean something else.
_REFUSED = ("axis", "dtype")
_NAMES = {"raman_shift": "axis"}


def changed(run: Start, start: Start) -> dict[str, str]:
    """Fields of `start` that are other than those of `run`: their names, and in words what they are now.

    The axis is called so; all else has its name on the wire. An array or a map that is other is named alone.
    """
    found: dict[str, str] = {}
    for name in (field.name for field in fields(Start) if field.name not in _GOES_ON):
        before, now = getattr(run, name), getattr(start, name)
        if not _same(before, now):
            name = _NAMES.get(name, name)
            plain = all(isinstance(value, str | int | float | tuple | None) for value in (before, now))
            found[name] = f"{name} ({_said(now)} instead of {_said(before)})" if plain else name
    return found


def refused(names: dict[str, str]) -> str:
    """Which of what `changed` found makes the spectra that follow be refused; empty if nothing does."""
    return next((name for name in _REFUSED if name in names), "")


def _same(before: Any, now: Any) -> bool:
    if isinstance(before, np.ndarray) or isinstance(now, np.ndarray):
        return before is not None and now is not None and np.array_equal(before, now)
    return bool(before == now)


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return " x ".join(_said(each) for each in value)
    if isinstance(value, float):
        return f"{value:.12g}"
    return "none" if value is None else repr(value)
