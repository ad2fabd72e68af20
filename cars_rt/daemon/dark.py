"""The dark of a run: the driver's own, or one that was measured here while the beams were blocked."""

import hashlib
import logging
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.darks import changed_since, frames_of, other_kind, same_exposure, same_rows
from cars_rt.calibration.settings import WHICH_CAMERA, alike, said
from cars_rt.clock import SourceClock
from cars_rt.daemon.filing import Filing
from cars_rt.engines.base import Slab
from cars_rt.physics.darkness import LOOKED_AT, light_in, may_be_hot, noise_of, relief
from cars_rt.physics.fitness import FULL_OF_MEAN
from cars_rt.printable import counted
from cars_rt.protocol import Start
from cars_rt.protocol.saturation import FRAMES
from cars_rt.storage import replacing

log = logging.getLogger("cars_rt.daemon")

NONE, FROM_START = "none", "start"
MOST_OF_LIGHT = 0.5  # of the counts' rise along the pixels: a dark with so much of it was measured with light


class Dark:
    """Averages counts between `begin` and `finish`. Until `clear` the average is subtracted in every run of
    the same camera in the same mode (see `unlike`) whose driver gives no newer dark."""

    def __init__(self, folder: Path | None, filing: Filing) -> None:
        """folder: where `filing` writes measured darks, by their id; None: nowhere."""
        self.spectra = 0  # averaged so far
        self._folder, self._filing = folder, filing
        self._during: Start | None = None  # the run in which counts are being averaged
        self._clock = SourceClock()  # of that run's source
        self._begun_ns = 0  # when that began, by our clock
        self._before_ns: int | None = None  # time stamp of the frame before, of those that came since then
        self.left_out = 0  # spectra that came since then and had been begun before
        self._sum: NDArray[np.float64] | None = None
        self._run: Start | None = None  # the run in which the dark was measured
        self._measured: Slab | None = None
        self.name = NONE  # of the measured one
        self.doubt: str | None = None  # why the measured one is none, most likely, in a sentence
        self._noise = 0.0  # of a pixel, while it was measured
        self._judged: Start | None = None  # the run whose dark was looked at

    @property
    def measuring(self) -> bool:
        """Whether counts are being averaged."""
        return self._sum is not None

    def begin(self, run: Start, clock: SourceClock) -> None:
        """Average what is begun from now on; `run` is the open one, as its driver announced it, and clock
        that of its source."""
        self._during, self._sum, self.spectra = run, np.zeros(run.pixels), 0
        self._clock, self._begun_ns, self._before_ns, self.left_out = clock, time.time_ns(), None, 0

    def add(self, counts: NDArray[np.generic], time_ns: int) -> None:
        """Counts (k, p) came while measuring, which the source had at that time, by its clock. Those that had
        been begun before `begin` may have light in them, and are left out: they waited on their way, or were
        under way."""
        if self._sum is not None and counts.shape[1] == len(self._sum):
            before_ns, self._before_ns = self._before_ns, time_ns
            if before_ns is None or not self._had_since(before_ns) or not self._begun_since(time_ns):
                self.left_out += len(counts)
                return
            if not self.spectra:
                self._noise = noise_of(counts[:LOOKED_AT])
            self._sum += counts.sum(axis=0, dtype=np.float64)
            self.spectra += len(counts)

    def _had_since(self, time_ns: int) -> bool:
        """Whether the source had a frame with this time stamp after `begin`: the next one was begun later.
        Stamps of a file may run faster or slower than time does, and tell nothing."""
        then = self._clock.at(self._begun_ns)
        return then is None or time_ns >= then

    def _begun_since(self, time_ns: int) -> bool:
        """A camera may expose while it reads out the frame before."""
        exposure = 0.0 if self._during is None else self._during.exposure_s or 0.0
        return self._had_since(time_ns - int(exposure * 1e9))

    def abandon(self) -> None:
        """Drop the measurement: its run ended first."""
        self._sum = self._during = None

    def finish(self) -> str:
        """Take the average as the dark; its id. Raises ValueError if there is none."""
        total, run = self._sum, self._during
        self.abandon()
        if total is None or run is None:
            raise ValueError("no dark is being measured; begin with `dark start`")
        if not self.spectra and self.left_out:
            raise ValueError(
                f"the {self.left_out} spectra that came since `dark start` were begun before it, or may have "
                f"been{self._how_far()}; the dark stays as it was: let it measure for longer"
            )
        if not self.spectra:
            raise ValueError("no spectrum came since `dark start`; the dark stays as it was")
        self._measured, self._run = (total / self.spectra).astype(np.float32), run
        self.name = hashlib.sha256(self._measured.tobytes()).hexdigest()[:12]
        said = light_in(self._measured, self._noise) or _cut(self._measured, run.saturates_at)
        self.doubt = said and f"the dark {self.name} {said}"
        if self.doubt:
            log.warning("%s", self.doubt)
        if self._folder is not None:
            path = self._folder / f"dark-{self.name}.csv"
            self._filing.ask("a dark", partial(_write, path, self._measured))
        return self.name

    def _how_far(self) -> str:
        then = self._clock.at(self._begun_ns)
        if then is None or self._before_ns is None or self._before_ns >= then:
            return ""
        return f" (the last one has a time stamp from {(then - self._before_ns) / 1e9:.1f} s before it)"

    def clear(self) -> None:
        """Forget the measured dark: each run has its driver's own again."""
        self.abandon()
        self._measured = self._run = self.doubt = None
        self.name = NONE

    def doubted(self, start: Start, counts: NDArray[np.generic]) -> bool:
        """Say once in a run, of which counts (k, p) came, that its dark holds most of their light. True if it
        was said just now."""
        if self._judged is start:
            return False
        self._judged = start
        dark, name = self.of(start)
        said = light_in(dark, noise_of(counts[:LOOKED_AT]))
        if said is None or relief(dark) < MOST_OF_LIGHT * relief(counts[:LOOKED_AT].mean(axis=0)):
            return False
        which = "dark of its start" if name == FROM_START else f"dark {name}"
        log.warning("run %s: the %s %s", start.run, which, said)
        return True

    def of(self, start: Start) -> tuple[Slab, str]:
        """The dark (pixels,) of a run, and its id."""
        if self._measured is not None and self.unused(start) is None:
            return self._measured, self.name
        if start.dark is not None:
            return start.dark, FROM_START
        return np.zeros(start.pixels, np.float32), NONE

    def unused(self, start: Start) -> str | None:
        """Why the measured dark is not subtracted in this run, in one sentence; None if it is, or if there
        is none."""
        if self._run is None:
            return None
        if reason := unlike(self._run, start):
            instead = "but the driver's own" if start.dark is not None else "and no other one is"
            return f"the dark {self.name} is not subtracted, {instead}: {reason}"
        if _newer(self._run.dark, start.dark):
            return f"the dark {self.name} is not subtracted, but the driver's own, which is newer"
        return None

    def doubts(self, start: Start) -> list[str]:
        """A sentence for each setting that may make the measured dark another one than that of this run, in
        which it is subtracted."""
        if self._run is None or self.unused(start) is not None:
            return []
        changed = changed_since(self._run.instrument or {}, start.instrument or {})
        return [f"the dark {self.name} was {each}" for each in changed]


def unlike(measured: Start, now: Start) -> str | None:
    """What differs in camera or mode between two runs, so that a dark of the first does not suit the second;
    None if nothing does."""
    if measured.source != now.source:
        return f"it was measured with {measured.source!r}, this run is from {now.source!r}"
    if not np.array_equal(measured.raman_shift, now.raman_shift):
        return (
            f"it was measured on another axis ({_axis(measured)}), this run has {_axis(now)}"
            if _axis(measured) != _axis(now)
            else "it was measured on another axis"
        )
    if measured.dtype != now.dtype:
        return f"it was measured as {measured.dtype}, this run has {now.dtype}"
    if not same_exposure(measured.exposure_s, now.exposure_s):
        return f"it was measured at {_seconds(measured)}, this run has {_seconds(now)}"
    if not alike(measured.full_scale, now.full_scale):
        return f"it was measured at a full scale of {measured.full_scale}, this run has {now.full_scale}"
    then, here = measured.instrument or {}, now.instrument or {}
    if not same_rows(then, here):
        return "it was measured on another number of rows of the camera"
    if (frames := frames_of(then)) != frames_of(here):
        return f"it was measured at {FRAMES} {frames}, this run has {frames_of(here)}"
    where = [name for name in (*WHICH_CAMERA, "region", "binning") if name in then and name in here]
    for name in (*where, *other_kind(then, here)):
        if then[name] != here[name]:
            return f"it was measured at {name} {said(then[name])}, this run has {said(here[name])}"
    return None


def _cut(dark: Slab, full_scale: float | None) -> str | None:
    """Say that more of a dark than hot pixels is at the camera's full scale, however flat it is."""
    if full_scale is None or may_be_hot(full := dark >= FULL_OF_MEAN * full_scale, dark):
        return None
    pixels = counted(int(full.sum()), "pixel")
    return f"has {pixels} at the camera's full scale: block the beams and measure it again"


def _newer(then: Slab | None, now: Slab | None) -> bool:
    """Whether a driver gives another dark now than when one was measured here."""
    return now is not None and (then is None or not np.array_equal(then, now))


def _axis(run: Start) -> str:
    return f"{run.pixels} pixels, {run.raman_shift[0]:.1f} to {run.raman_shift[-1]:.1f} cm-1"


def _seconds(run: Start) -> str:
    return "an unknown exposure" if run.exposure_s is None else f"an exposure of {run.exposure_s:g} s"


def _write(path: Path, dark: Slab) -> None:
    try:
        with replacing(path) as file:
            np.savetxt(file, dark, fmt="%.9g")  # as many digits as a float32 has: the id is of its bytes
    except OSError as error:
        log.warning("the dark %s cannot be written: %s", path, error.strerror or error)
