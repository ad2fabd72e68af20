"""What is known of an instrument: its axis, its darks, where it saturates, its reference."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.errors import CalibrationError
from cars_rt.calibration.region import Region, region_of
from cars_rt.calibration.scale import Scale
from cars_rt.protocol import Facts

OLD_DAYS = 30.0  # after so long a calibration is said to be old
SAME = 1e-6  # relative: what a float loses on its way through other programs
WHICH_CAMERA = ("model", "serial")  # settings that say which one it is
#: Settings that move no line and change no reference; the dark has its exposure of its own.
HARMLESS = {"exposure_s", "gain", "temperature_c", "binning", "region", *WHICH_CAMERA}
NS_A_DAY = 86_400 * 10**9


@dataclass(frozen=True, eq=False)
class Mean:
    """The mean of some spectra. counts: (p,) float32. spectra: how many. exposure_s: of each, if known."""

    counts: NDArray[np.float32]
    spectra: int
    time_ns: int
    exposure_s: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """Everything that was calibrated of one instrument; each part may be absent.

    source: the instrument, as its driver says it. settings: what else the driver said of it when the axis
    was made, or the reference where there is no axis. region: of the darks and the reference, too. darks:
    with the beams blocked, by exposure. reference: above dark, of a purely non-resonant sample. who: made it.
    sha256: of the file, if it was read from one.
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

        binning, first: columns of the camera in one pixel, and the one that the first pixel begins with; 1
        and 0 where another number of pixels, or one of the two, is given.
        Raises CalibrationError if there is no scale, or none for this region.
        """
        if self.scale is None:
            raise CalibrationError("the calibration has no axis: make one with `cars-rt calibrate lamp` or "
                                   "`cars-rt calibrate standard`")  # fmt: skip
        known = self.scale.region
        if pixels is None or (pixels == known.pixels and binning is None and first is None):
            region = known
        else:
            region = Region(pixels, 1 if binning is None else binning, 0 if first is None else first)
        if region.pixels != known.pixels and (region.binning, region.first) == (1, 0):
            raise CalibrationError(
                f"the calibration is of {known}, and these spectra have {region}: calibrate this camera or "
                "region anew, or say which region it is"
            )
        return self.scale.axis(region, probe_nm)

    def dark(self, exposure_s: float | None, region: Region | None = None) -> NDArray[np.float32] | None:
        """The dark (p,), counts, for an exposure: measured, or between two that were; None if there is none.

        A dark belongs to its region: in another one there is none.
        """
        if region is not None and region != self.region:
            return None
        known = sorted((dark.exposure_s or 0.0, number) for number, dark in enumerate(self.darks))
        for exposure, number in known:
            if exposure_s is None or math.isclose(exposure, exposure_s, rel_tol=SAME):
                return self.darks[number].counts if exposure_s is not None or len(known) == 1 else None
        if exposure_s is None:
            return None
        below = [each for each in known if 0 < each[0] < exposure_s]
        above = [each for each in known if each[0] > exposure_s]
        if not below or not above:
            return None
        (low, one), (high, other) = below[-1], above[0]
        share = (exposure_s - low) / (high - low)
        mixed = (1 - share) * self.darks[one].counts + share * self.darks[other].counts
        return np.asarray(mixed, np.float32)

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

        Raises CalibrationError if it is of another camera or region.
        """
        now = settings or {}
        region = region_of(now, pixels, self.region)
        if other := self.other_camera(now):
            raise CalibrationError(f"{other}: calibrate this camera")
        axis = None
        if self.scale is not None:
            axis = self.axis(pixels, binning=region.binning, first=region.first, probe_nm=probe_nm)
        reference = self.reference if region == self.region else None
        return Applied(
            axis,
            self.dark(exposure_s, region),
            self.full_scale,
            None if reference is None else reference.counts,
            self.facts,
            tuple(self._doubts(source, now, exposure_s, region)),
        )

    def other_camera(self, now: Mapping[str, Any]) -> str | None:
        """A sentence if the settings that a driver says are of another camera."""
        for name in WHICH_CAMERA:
            then, here = self.settings.get(name), now.get(name)
            if then is not None and here is not None and str(then) != str(here):
                return f"the calibration is of the camera with the {name} {then}, this one has {here}"
        return None

    def changed(self, now: Mapping[str, Any]) -> Iterator[str]:
        """A sentence for each setting that was another when it was made, and matters."""
        for name, here in now.items():
            then = self.settings.get(name)
            if name not in HARMLESS and then is not None and not _alike(then, here):
                yield f"it was made at {name} {_said(then)}, and now it is {_said(here)}"

    def _doubts(
        self, source: str, now: Mapping[str, Any], exposure_s: float | None, region: Region
    ) -> Iterator[str]:
        if source and self.source and source != self.source:
            yield f"it was made with {self.source!r}, this is {source!r}"
        yield from self.changed(now)
        if self.darks and self.dark(exposure_s, region) is None:
            known = ", ".join(
                "unknown" if dark.exposure_s is None else f"{dark.exposure_s:g} s" for dark in self.darks
            )
            here = "unknown" if exposure_s is None else f"{exposure_s:g} s"
            yield f"it has no dark for this exposure and region ({here}; there are {known})"

    def age_days(self, now_ns: int) -> float | None:
        """Since the axis was measured; None if there is none."""
        return None if self.scale is None else (now_ns - self.scale.time_ns) / NS_A_DAY

    def old(self, now_ns: int) -> str | None:
        """A sentence if the axis is older than OLD_DAYS, or from the future."""
        days = self.age_days(now_ns)
        if days is None or -1 < days < OLD_DAYS:
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

    raman_shift: (p,), cm-1. dark, reference: (p,), counts. facts: for `start`. doubts: sentences.
    """

    raman_shift: NDArray[np.float64] | None
    dark: NDArray[np.float32] | None
    full_scale: float | None
    reference: NDArray[np.float32] | None
    facts: Facts
    doubts: tuple[str, ...]


def iso(time_ns: int) -> str:
    """A time for people and files, UTC, to the second."""
    return datetime.fromtimestamp(time_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _alike(then: object, now: object) -> bool:
    if isinstance(then, int | float) and isinstance(now, int | float):
        return math.isclose(then, now, rel_tol=1e-3)
    if isinstance(then, Sequence) and isinstance(now, Sequence) and not isinstance(then, str):
        return len(then) == len(now) and all(map(_alike, then, now))
    return then == now


def _said(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
