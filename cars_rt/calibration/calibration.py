"""What is known of an instrument: its axis, its darks, where it saturates, its reference."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.darks import Mean, changed_since, chosen, frames_of, of_what
from cars_rt.calibration.errors import CalibrationError
from cars_rt.calibration.region import Region, region_of
from cars_rt.calibration.scale import Scale
from cars_rt.calibration.settings import WHICH_CAMERA, moving, said, whole_number
from cars_rt.protocol import Facts

OLD_DAYS = 30.0  # after so long a calibration is said to be old
NS_A_DAY = 86_400 * 10**9


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """Everything that was calibrated of one instrument; each part may be absent.

    source: the instrument, as its driver says it. settings: what else the driver said of it when the axis
    was made, or the reference where there is no axis. region: of the darks and the reference, too. darks:
    with the beams blocked, by exposure. full_scale: of one frame, as the darks. reference: above dark, of a
    purely non-resonant sample. who: made it. sha256: of the file, if it was read from one.
    """

    region: Region
    source: str = ""
    settings: Facts = field(default_factory=dict)
    who: str = ""
    scale: Scale | None = None
    full_scale: float | None = None
    darks: tuple[Mean, ...] = ()
    reference: Mean | None = None
    sha256: str = ""

    @property
    def id(self) -> str:
        """Twelve digits by which the file is known."""
        return self.sha256[:12]

    def axis(
        self,
        pixels: int | None = None,
        *,
        binning: int | None = None,
        first: int | None = None,
        probe_nm: float | None = None,
    ) -> NDArray[np.float64]:
        """The raman shift (pixels,), cm-1, float64; of the calibrated region if nothing else is given.

        binning, first: columns of the camera in one pixel, 1 where another number of pixels or `first` is
        given, and the one that the first pixel begins with: without it, all that were calibrated are meant.
        Raises CalibrationError if there is no scale, or none for this region, or if it is not said which part
        of the camera the pixels are.
        """
        if self.scale is None:
            raise CalibrationError("the calibration has no axis: make one with `cars-rt calibrate lamp` or "
                                   "`cars-rt calibrate standard`")  # fmt: skip
        known = self.scale.region
        if pixels is None or (pixels == known.pixels and binning is None and first is None):
            region = known
        else:
            binning = 1 if binning is None else binning
            region = Region(pixels, binning, known.first if first is None else first)
            if first is None and abs(region.end - known.end) >= max(binning, known.binning):
                raise CalibrationError(
                    f"the calibration is of {known}, and these spectra have {Region(pixels, binning)}: "
                    "calibrate this camera or region anew, or say which region it is"
                )
        return self.scale.axis(region, probe_nm)

    def dark(
        self,
        exposure_s: float | None,
        region: Region | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> NDArray[np.float32] | None:
        """The dark (p,), counts, for an exposure: measured, or between two that were; None if there is none.

        A dark belongs to its region, and to spectra of as many rows: for others there is none. settings: as
        the driver says them; where spectra are sums of frames, so is their dark.
        """
        parts = self._chosen(exposure_s, region, settings or {})
        if not parts:
            return None
        return np.asarray(sum(share * dark.counts for share, dark in parts), np.float32)

    def _chosen(
        self, exposure_s: float | None, region: Region | None, now: Mapping[str, Any]
    ) -> list[tuple[float, Mean]]:
        return [] if region not in (None, self.region) else chosen(self.darks, exposure_s, now)

    def applied(
        self,
        pixels: int,
        *,
        source: str = "",
        settings: Mapping[str, Any] | None = None,
        exposure_s: float | None = None,
        probe_nm: float | None = None,
    ) -> "Applied":
        """What it says of spectra that an instrument gives now; settings: as its driver says them.

        probe_nm: in place of the calibration's own. Raises CalibrationError if it is of another camera or
        region, and for a probe beside raman shifts.
        """
        now = settings or {}
        region = region_of(now, pixels, self.region)
        if other := self.other_camera(now):
            raise CalibrationError(f"{other}: calibrate this camera")
        axis = None
        if self.scale is not None:
            first = whole_number(now.get("region"))
            if probe_nm is not None and self.scale.quantity == "raman_shift":
                raise CalibrationError("the calibration holds raman shifts already: leave --pump-nm out")
            axis = self.axis(pixels, binning=region.binning, first=first, probe_nm=probe_nm)
        of_reference = self.doubts_of_reference(now) if region == self.region else ()
        of_dark = tuple(self.doubts_of_dark(exposure_s, region, now, above=not source))
        return Applied(
            axis,
            self.dark(exposure_s, region, now),
            None if self.full_scale is None else self.full_scale * frames_of(now),
            self.facts if axis is None or probe_nm is None else {**self.facts, "probe_nm": probe_nm},
            (*self._doubts(source, now, probe_nm), *of_reference, *of_dark),
            of_dark,
        )

    def other_camera(self, now: Mapping[str, Any]) -> str | None:
        """A sentence if the settings that a driver says are of another camera."""
        for name in WHICH_CAMERA:
            then, here = self.settings.get(name), now.get(name)
            if then is not None and here is not None and said(then) != said(here):
                one, other = said(then), said(here)
                return f"the calibration is of the camera with the {name} {one}, this one has {other}"
        return None

    def changed(self, now: Mapping[str, Any]) -> Iterator[str]:
        """A sentence for each setting that was another when it was made, and matters."""
        for name in moving(self.settings, now):
            yield f"it was made at {name} {said(self.settings[name])}, and now it is {said(now[name])}"

    def doubts_of_reference(self, now: Mapping[str, Any]) -> Iterator[str]:
        """A sentence for each setting that was another when its reference was measured, unless it was for the
        axis, too."""
        then = {} if self.reference is None else self.reference.settings
        known = set(moving(self.settings, now))
        for name in moving(then, now):
            if name not in known:
                yield f"its reference was made at {name} {said(then[name])}, and now it is {said(now[name])}"

    def _doubts(self, source: str, now: Mapping[str, Any], probe_nm: float | None) -> Iterator[str]:
        known = None if self.scale is None else self.scale.probe_nm
        if known is not None and probe_nm is not None and not math.isclose(known, probe_nm):
            yield f"its probe is at {known:g} nm, and shifts count from {probe_nm:g} nm, as --pump-nm says"
        if source and self.source and source != self.source:
            yield f"it was made with {self.source!r}, this is {source!r}"
        yield from self.changed(now)

    def doubts_of_dark(
        self, exposure_s: float | None, region: Region, now: Mapping[str, Any], *, above: bool = False
    ) -> Iterator[str]:
        """Sentences if it has darks, and none for these spectra or one that was made otherwise. above:
        whether these may be above a dark already, if nothing says their exposure."""
        parts = self._chosen(exposure_s, region, now)
        if self.darks and not parts:
            each_s = None if exposure_s is None else exposure_s / frames_of(now)
            there = ", ".join(dark.said for dark in self.darks)
            here, calibrated = ("", "") if region == self.region else (f", {region}", f", {self.region}")
            wanted = of_what(each_s, now) + here
            at = "theirs" if each_s is None else wanted
            yield (
                f"it has no dark for this exposure, region, rows and gain ({wanted}; there are {there}"
                f"{calibrated}), so none is subtracted: calibrate a dark at {at}"
            )
        doubts = dict.fromkeys(each for _, dark in parts for each in changed_since(dark.settings, now))
        yield from (f"its dark was {each}" for each in doubts)
        if parts and exposure_s is None and (above or parts[0][1].exposure_s is not None):
            remedy = "; if theirs was subtracted before, use a calibration made without `calibrate dark`"
            yield (
                f"its dark of {parts[0][1].said} is subtracted, and nothing says these spectra's exposure"
                f"{remedy * above}"
            )

    def old(self, now_ns: int) -> str | None:
        """A sentence if the axis is older than OLD_DAYS, or from the future."""
        if self.scale is None:
            return None
        days = (now_ns - self.scale.time_ns) / NS_A_DAY
        if -1 < days < OLD_DAYS:
            return None
        return f"it is {days:.0f} days old" if days > 0 else "it was made in the future: a clock is wrong"

    @property
    def facts(self) -> Facts:
        """What travels with a run, see docs/calibration.md."""
        known: dict[str, Any] = {"id": self.id, "sha256": self.sha256, "instrument": self.source}
        known |= {"who": self.who, "pixels": self.region.pixels}
        if (scale := self.scale) is not None:
            known |= {
                "kind": scale.kind,
                "of": scale.of,
                "time": iso(scale.time_ns),
                "quantity": scale.quantity,
                "unit": scale.unit,
                "medium": "vacuum",
                "coefficients": list(scale.coefficients),
                "residual_cm1": scale.residual_cm1,
                "points": sum(point.used for point in scale.points),
                "binning": scale.region.binning,
                "first_column": scale.region.first,
            }
            if scale.probe_nm is not None:
                known["probe_nm"] = scale.probe_nm
        return {name: value for name, value in known.items() if value != ""}


@dataclass(frozen=True, eq=False)
class Applied:
    """A calibration for the spectra of one run; what it does not say is None.

    raman_shift: (p,), cm-1. dark: (p,), counts. facts: for `start`. doubts: sentences. of_dark:
    those of them that matter to nobody with a dark of his own.
    """

    raman_shift: NDArray[np.float64] | None
    dark: NDArray[np.float32] | None
    full_scale: float | None
    facts: Facts
    doubts: tuple[str, ...]
    of_dark: tuple[str, ...]


def iso(time_ns: int) -> str:
    """A time for people and files, UTC, to the second."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
