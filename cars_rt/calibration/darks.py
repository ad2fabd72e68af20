"""The mean of some spectra, and of which the dark of others is made: by exposure, rows, gain and frames."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.settings import (
    OF_DARKS,
    ROUNDED,
    ROWS,
    TEMPERATURE,
    alike,
    is_reading,
    said,
    whole_number,
)
from cars_rt.protocol import Facts
from cars_rt.protocol.saturation import FRAMES

WARMER_K = 2.0  # the dark current of silicon doubles within 6 or 7


@dataclass(frozen=True, eq=False)
class Mean:
    """The mean of some spectra. counts: (p,) float32. spectra: how many. exposure_s: of each, if known.
    settings: what the driver said of the instrument then; a dark is of one frame, whatever they say."""

    counts: NDArray[np.float32]
    spectra: int
    time_ns: int
    exposure_s: float | None = None
    settings: Facts = field(default_factory=dict)

    @property
    def said(self) -> str:
        """Of what exposure, rows and gain."""
        return of_what(self.exposure_s, self.settings)


def of_what(exposure_s: float | None, settings: Mapping[str, Any]) -> str:
    """An exposure with the rows and the gain that settings say, in words."""
    text = "an unknown exposure" if exposure_s is None else f"{exposure_s * 1e3:g} ms"
    rows, binned = _number(settings, ROWS), _number(settings, "binning", 1)
    if rows is None:
        rows = _number(settings, "region", 3)
    text += "" if rows is None else f" of {rows} rows"
    text += f" binned by {binned}" if rows is not None and (binned or 1) > 1 else ""
    return text + (f" at gain {said(settings['gain'])}" if "gain" in settings else "")


def frames_of(settings: Mapping[str, Any]) -> int:
    """Frames of the camera that are added up in one spectrum."""
    return max(_number(settings, FRAMES) or 1, 1)


def same_exposure(one: float | None, other: float | None) -> bool:
    """Whether darks of these exposures are alike; one that is unknown is like another that is."""
    return one is other if one is None or other is None else math.isclose(one, other, rel_tol=ROUNDED)


def same_rows(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether spectra are sums of as many rows of the camera, as far as both say it. A region's height
    counts where it is not said how many of its rows are summed."""

    def differ(name: str, place: int = 0) -> bool | None:
        one, other = _number(then, name, place), _number(now, name, place)
        return None if one is None or other is None else one != other

    rows = differ(ROWS)
    return not ((differ("region", 3) if rows is None else rows) or differ("binning", 1))


def same_kind(then: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether darks of these settings are of as many rows, and alike in gain and whatever else changes darks,
    as far as both say it. Temperatures drift, and times jitter: they tell no darks apart."""
    return same_rows(then, now) and not any(other_kind(then, now))


def other_kind(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Names of the settings by which darks are told apart, and that are others now."""
    return filter(tells_apart, _changed(then, now))


def replaces(now: Mean, then: Mean) -> bool:
    """Whether a dark is another one's, measured anew: what the one says of its kind the other says, too. One
    that says no gain is none of any gain."""
    both = same_kind(then.settings, now.settings) and _told(then.settings) == _told(now.settings)
    return both and same_exposure(then.exposure_s, now.exposure_s)


def chosen(
    darks: Iterable[Mean], exposure_s: float | None, settings: Mapping[str, Any]
) -> list[tuple[float, Mean]]:
    """The darks of which that of spectra is made, with their shares of it; empty if there is none.

    exposure_s, settings: of these spectra. One of their exposure, or two between which it lies, that say of
    their kind what the spectra say; else of their kind, as far as it is said; where there is none of that,
    of the kind that was measured last of those that have it.
    """
    known = [each for each in darks if same_rows(each.settings, settings)]
    now = _told(settings)
    same = [each for each in known if _told(each.settings) == now and same_kind(each.settings, settings)]
    if found := _by_exposure(same, exposure_s, settings):
        return found
    if not all(same_rows(one.settings, other.settings) for one, other in combinations(known, 2)):
        return []  # the spectra do not say of which of them they are
    if mine := [each for each in known if same_kind(each.settings, settings)]:
        return _by_exposure(mine, exposure_s, settings)
    for last in sorted(known, key=lambda each: -each.time_ns):
        kind = [each for each in known if same_kind(each.settings, last.settings)]
        if found := _by_exposure(kind, exposure_s, settings):
            return found
    return []


def _by_exposure(
    known: list[Mean], exposure_s: float | None, settings: Mapping[str, Any]
) -> list[tuple[float, Mean]]:
    """As `chosen`, of darks of one kind; empty where they are of several. One that says more of what the
    spectra say goes before others of its exposure, and the last one before others."""
    if not all(same_kind(one.settings, other.settings) for one, other in combinations(known, 2)):
        return []
    frames = frames_of(settings)
    if exposure_s is None:
        return [(float(frames), known[0])] if len(known) == 1 else []
    each_s = exposure_s / frames
    now = _told(settings)
    known = sorted(known, key=lambda each: (len(_told(each.settings) & now), each.time_ns), reverse=True)
    timed = [(each.exposure_s or 0.0, each) for each in known]
    for exposure, dark in timed:
        if same_exposure(exposure, each_s):
            return [(float(frames), dark)]
    shorter = [each for each in timed if 0 < each[0] < each_s]
    longer = [each for each in timed if each[0] > each_s]
    if not shorter or not longer:
        return []
    low, one = max(shorter, key=lambda each: each[0])
    high, other = min(longer, key=lambda each: each[0])
    share = (each_s - low) / (high - low)
    return [(frames * (1 - share), one), (frames * share, other)]


def changed_since(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """In words, each setting of a dark that is another one now, and may change darks."""
    for name in _changed(then, now):
        yield f"made at {name} {said(then[name])}, and now it is {said(now[name])}"


def _changed(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name, was in then.items():
        here, within = now.get(name), WARMER_K if is_temperature(name) else 0.0
        if (within or tells_apart(name)) and here is not None and not alike(was, here, within):
            yield name


def _told(settings: Mapping[str, Any]) -> set[str]:
    """What settings say of the kind of a dark."""
    rows = any(_number(settings, *where) is not None for where in ((ROWS, 0), ("region", 3)))
    return ({ROWS} if rows else set()) | {name for name in settings if tells_apart(name)}


@lru_cache(1024)  # a driver asks for each image
def tells_apart(name: str) -> bool:
    """Whether darks are told apart by a setting of this name."""
    return any(word in _plain(name) for word in OF_DARKS) and not is_reading(_plain(name))


@lru_cache(1024)
def is_temperature(name: str) -> bool:
    """Whether a setting of this name is one, which drifts."""
    return TEMPERATURE in _plain(name)


def _plain(name: str) -> str:
    """The name of a setting as all makers would write it: pixelformat of Pixel_Format."""
    return name.lower().replace("_", "").replace(" ", "").replace("-", "")


def _number(settings: Mapping[str, Any], name: str, place: int = 0) -> int | None:
    return whole_number(settings.get(name), place)
