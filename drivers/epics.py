"""Detectors at facilities: images (NTNDArray) of EPICS areaDetector over PVAccess."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import import_module
from itertools import islice
from threading import Event
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.calibration.settings import ROWS, alike
from cars_rt.drivers.axis import UNKNOWN, Axis, AxisSettings
from cars_rt.drivers.base import (
    WAIT_S,
    Acquisition,
    Block,
    Gap,
    Instrument,
    InstrumentError,
    Waiting,
    Yielded,
)
from cars_rt.drivers.flags import refuse_duration
from cars_rt.drivers.images import ImageSettings, Rows
from cars_rt.drivers.ndarray import DOUBTFUL, EXPOSURE, Setting, sizes_of, stamp
from cars_rt.drivers.numbering import Numbering
from cars_rt.drivers.scan import ScanSettings
from cars_rt.installation import install_extra
from cars_rt.printable import one_line

log = logging.getLogger("cars_rt.drivers")

ASKED = 1000  # images that wait in the monitor's queue: of the four that are usual, some are overwritten
QUIET_S = 0.25  # and one exposure, for which a detector that rests sends nothing: its plugins have queues
LATE_S = 2.0  # likewise, before its run ends: a slow plugin gives what is in its queue with pauses
HOPES_S = 10.0  # and one exposure, after which it is said that no image comes any more
RESTS = (
    "%s is 0 again, and %d of %d spectra have come: the others are lost, or the detector is told to take "
    "fewer images"
)
ENDED = "%s is 0 again, which ends the run: %d spectra have come; give --spectra to know whether any are lost"
HOPES = (
    "no image of %s has come for %.0f s, and %s spectra have: if the detector rests, Ctrl-C ends the run%s"
)
NOTHING = (
    "{} is 0 again, and no image of {} has come: does the detector take any (trigger, NumImages), and do "
    "they reach the plugin NDPva (EnableCallbacks)?"
)
ENDS = "; with --acquire that ends it"
OTHERS = "images of %s say %s: axis and dark are those of the run's first image"
SAYS = "--exposure-ms %g: the images of %s say %g ms, which is taken"
DOUBTS = (
    "the images of %s say %s %g, and nobody says whether that is s, ms or us: give --exposure-ms, or have "
    "them say %s, in s"
)
WINS = "--exposure-ms %g is taken: the images of %s say %s %g, which is that neither in s nor in ms or us"
LEFT_OUT = "of the %d attributes of images of %s, a run says %d: those of axis and darks before others"
SURELY = 3  # images one after the other that say that a grating moved
GOES_S = 1.0  # for which a detector that may be gone is asked to stop
FIELDS = "field(value,codec,uniqueId,dimension,timeStamp,dataTimeStamp,attribute)"
TOLD = 20  # attributes that are told in `start`


@dataclass(frozen=True, kw_only=True)
class EpicsSettings:
    """Settings of `cars-rt drive epics`."""

    acquire: str | None = None
    """PV to which 1 is put when a run begins, and 0 before and when it ends, such as 13SIM1:cam1:Acquire."""

    exposure_ms: float | None = None
    """Exposure of one image, where the detector has no attribute AcquireTime that says it."""

    connect_s: float = 5.0
    """For how long to wait for the PV and its first image."""

    def __post_init__(self) -> None:
        refuse_duration("--exposure-ms", self.exposure_ms)
        refuse_duration("--connect-s", self.connect_s)


class Epics(Instrument):
    """Images of areaDetector over PVAccess; gaps of uniqueId are counted as lost at the camera.

    Example: cars-rt drive epics 13SIM1:Pva1:Image --acquire 13SIM1:cam1:Acquire --calibration lab.json

    Parameters
    ----------
    pv
        The images' PV, of the plugin NDPva.
    """

    lives = "thread"  # which empties the monitor's queue, whatever happens behind it
    needs = ("p4p", "epics")

    def __init__(
        self, pv: str, settings: EpicsSettings, images: ImageSettings, scan: ScanSettings, axis: AxisSettings
    ) -> None:
        """Raises InstrumentError if there is no such PV, or it has no image that can be spectra."""
        self._pv, self._settings, self._images = pv, settings, images
        # Its first image says how the detector is set in a run.
        self._source, self._about = f"{pv} (EPICS)", scan.about() | {"triggered": True}
        self._axis, self._exposure_s, self._moved = Axis(axis), 0.0, 0
        try:
            client = import_module("p4p.client.thread")
        except ImportError as error:
            raise InstrumentError(f"p4p is missing ({error}): {install_extra('epics')}") from None
        if not self._axis.known:  # nor can any image say it
            raise InstrumentError(UNKNOWN.format("the detector's"))
        self._context = client.Context("pva", nt=False)
        self.silent_s = Epics.silent_s + settings.connect_s

    def acquisition(self) -> Acquisition:
        value = self._first()
        try:
            return self._described(value, self._image(value), warns=False)
        except InstrumentError as error:
            if self._settings.acquire is None:
                raise
            log.info("%s: of the image that stands; the first one of the run decides", error)
        return Acquisition(source=self._source, raman_shift=np.arange(2.0), dtype="uint8", **self._about)

    def frames(self) -> Iterator[Yielded]:
        planned, order, done, last = self._about["spectra"], self._about["order"], 0, None
        with closing(_Monitor(self._context, self._pv)) as monitor, closing(_Switch(self._context)) as switch:
            try:
                yield from self._begin(monitor, switch)
                came, said = time.monotonic(), False
                while planned is None or done < planned:
                    value = monitor.next(WAIT_S)
                    if value is None:
                        quiet_s = time.monotonic() - came - self._exposure_s
                        if min(quiet_s, switch.rests_s - self._exposure_s) > LATE_S:
                            if not done:
                                raise InstrumentError(NOTHING.format(self._settings.acquire, self._pv))
                            if planned is None:
                                log.info(ENDED, self._settings.acquire, done)
                                return
                            if planned - done > order.flyback * order.frames:
                                log.warning(RESTS, self._settings.acquire, done, planned)
                            yield Gap(planned)  # as many as are missing
                            return
                        if done and quiet_s > HOPES_S and not said:
                            said = True
                            come = str(done) if planned is None else f"{done} of {planned}"
                            ends = ENDS if self._settings.acquire is None else ""
                            log.warning(HOPES, self._pv, quiet_s, come, ends)
                        yield Waiting("" if done else "the detector")
                        continue
                    came = time.monotonic()
                    image = self._image(value)
                    if last is None:
                        yield self._described(value, image)
                        changed = set[str]()
                    else:
                        changed |= self._compared(Setting.of(value, image), changed)
                    number = int(value["uniqueId"])
                    yield Block(self._rows(image), None, stamp(value), number)
                    if number != last:  # no copy
                        done, last = done + self._rows.tracks, number
            finally:
                with suppress(InstrumentError):
                    self._put(0, GOES_S)

    def close(self) -> None:
        self._context.close()

    def _compared(self, now: Setting, known: set[str]) -> set[str]:
        """What is said to be another one than in the run's first image; told once, beside what is known.
        Raises InstrumentError where spectra are of another kind."""
        if change := self._setting.change(now):
            raise InstrumentError(f"images of {self._pv} {change}, which ends the run")
        others = self._setting.others(now)
        moved = self._setting.moved(now) if others else ""  # which is one of them
        self._moved = self._moved + 1 if moved else 0
        if self._moved >= SURELY:
            raise InstrumentError(f"images of {self._pv} {moved}, which ends the run")
        for name in sorted(others.keys() - known):
            log.warning(OTHERS, self._pv, others[name])
        return set(others)

    def _described(self, value: Any, image: NDArray[Any], *, warns: bool = True) -> Acquisition:
        """A run of images like this one."""
        self._setting, self._moved = Setting.of(value, image), 0
        self._rows = Rows(self._images, image.shape[0], image.dtype)
        binned, told = self._setting.binning, self._setting.told
        exposure_s = self._exposure(warns)
        self._exposure_s = exposure_s or 0.0
        if warns and len(told) > TOLD:
            log.info(LEFT_OUT, len(told), self._pv, TOLD)
        size = [each["size"] * by for each, by in zip(value["dimension"], binned, strict=True)]
        facts: dict[str, Any] = dict(islice(told.items(), TOLD))
        facts |= {ROWS: self._rows.summed, "binning": list(binned)}
        facts["region"] = list(self._setting.offset) + size
        return self._axis.acquisition(
            image.shape[1],
            warns=warns,
            source=self._source,
            instrument=facts,
            exposure_s=exposure_s,
            dtype=self._rows.dtype,
            block=self._rows.tracks,
            numbers=Numbering(lowest=-(2**31), highest=2**31 - 1, spectra=self._rows.tracks),
            **self._about,
        )

    def _exposure(self, warns: bool) -> float | None:
        """Of the images in seconds, or as it is given; None where neither is known."""
        said_s, doubtful = self._setting.exposure_s, self._setting.doubtful
        given_ms = self._settings.exposure_ms
        if given_ms is None:
            if doubtful and warns:
                log.warning(DOUBTS, self._pv, DOUBTFUL, doubtful, EXPOSURE)
            return said_s
        if said_s:
            if warns and not alike(said_s * 1e3, given_ms):
                log.warning(SAYS, given_ms, self._pv, said_s * 1e3)
            return said_s
        if doubtful and warns and not any(alike(doubtful, given_ms * each) for each in (1e-3, 1.0, 1e3)):
            log.warning(WINS, given_ms, self._pv, DOUBTFUL, doubtful)
        return given_ms / 1e3

    def _begin(self, monitor: "_Monitor", switch: "_Switch") -> Iterator[Waiting]:
        """Let go by what is of before this run: the image as it stands and, where the detector can be
        stopped, what still comes out of its queues until it rests. Then start it."""
        self._put(0)
        wait_s, rests_s, what_for = self._settings.connect_s, 0.0, "the detector"
        if self._settings.acquire is not None:
            rests_s = QUIET_S + self._exposure_s
            what_for = "the detector to rest"
        begin = time.monotonic()
        while (left := begin + wait_s - time.monotonic()) > 0:
            if monitor.next(min(left, WAIT_S)) is not None:
                begin, wait_s = time.monotonic(), rests_s
            if wait_s:
                yield Waiting(what_for)
        switch.watch(self._settings.acquire, self._settings.connect_s)
        self._put(1)

    def _first(self) -> Any:
        """The image as it stands; waits for one if there was none yet."""
        deadline, value = time.monotonic() + self._settings.connect_s, None
        while (left := deadline - time.monotonic()) > 0:
            try:
                value = self._context.get(self._pv, timeout=left)
            except TimeoutError:
                break
            except Exception as error:
                raise InstrumentError(f"{self._pv}: {one_line(error)}") from None
            if "dimension" not in value or "uniqueId" not in value:
                raise InstrumentError(
                    f"{self._pv} is no NTNDArray, but {value.getID()}: give the PV of images"
                )
            if len(value["dimension"]):
                return value
            time.sleep(WAIT_S)
        if value is None:
            raise InstrumentError(
                f"there is no PV {self._pv} within {self._settings.connect_s:g} s: is its server running, "
                "and does EPICS_PVA_ADDR_LIST name its computer?"
            )
        raise InstrumentError(
            f"{self._pv} has no image yet: let the detector take one, so that its size is known"
        )

    def _put(self, value: int, patience_s: float | None = None) -> None:
        if self._settings.acquire is None:
            return
        try:
            self._context.put(self._settings.acquire, value, timeout=patience_s or self._settings.connect_s)
        except Exception as error:
            reason = "no such PV" if isinstance(error, TimeoutError) else one_line(error)
            raise InstrumentError(f"--acquire {self._settings.acquire}: {reason}") from None

    def _image(self, value: Any) -> NDArray[Any]:
        """(rows, columns), the columns in the detector's own order, as calibration and axis have them. Raises
        InstrumentError for what is no grey, plain image."""
        codec = value["codec"]["name"]
        if codec:
            raise InstrumentError(
                f"images of {self._pv} are compressed ({codec}): switch its codec plugin off"
            )
        sizes = [int(each["size"]) for each in value["dimension"]]
        if len(sizes) > 2:
            raise InstrumentError(
                f"images of {self._pv} are in colour ({sizes_of(sizes)}), and a spectrum has one number a "
                "pixel: choose the colour mode Mono"
            )
        data = np.asarray(value["value"])
        if data.size != np.prod(sizes, dtype=int):
            raise InstrumentError(f"an image of {self._pv} says {sizes_of(sizes)} and has {data.size} pixels")
        image = data.reshape(sizes[::-1] if len(sizes) == 2 else (1, -1))
        mirrored = any(each["reverse"] for each in value["dimension"][:1])
        return image[:, ::-1] if mirrored else image


class _Monitor:
    """A subscription to a PV, emptied and closed by one thread.

    p4p's own subscription (p4p.client.thread, 4.3.0) is emptied by a thread of p4p. If that one lets go of it
    last, it waits for PVAccess with Python's lock held, while PVAccess may wait for that lock: the program
    stands still and hears no signal. Its first image can also arrive before it is ready to be told of any,
    and it is never told again.
    """

    def __init__(self, context: Any, pv: str, fields: str = FIELDS) -> None:
        raw = import_module("p4p.client.raw")
        self._pv, self._told = pv, Event()
        request = f"record[queueSize={ASKED}]{fields}"
        self._subscription = raw.Context.monitor(context, pv, self._told.set, request)

    def next(self, patience_s: float) -> Any:
        """The next value, or None if there is none for so long. Raises InstrumentError if its server left."""
        deadline = time.monotonic() + patience_s
        while True:
            self._told.clear()  # before the look, so that what comes after it is not overlooked
            value = self._subscription.pop()
            if isinstance(value, Exception):
                raise InstrumentError(f"{self._pv}: its server is gone ({one_line(value)})")
            if value is not None or not self._told.wait(max(deadline - time.monotonic(), 0.0)):
                return value

    def close(self) -> None:
        self._subscription.close()


class _Switch:
    """The PV that starts a detector, which goes back to 0 by itself when that has taken all it was told to.

    One that is never seen at 1, such as a button that comes back at once, says nothing."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._monitor: _Monitor | None = None
        self._ran, self._rests_since = False, math.inf

    def watch(self, pv: str | None, patience_s: float) -> None:
        """From now on; returns when it is heard. None: there is none."""
        if pv is not None:
            self._monitor = _Monitor(self._context, pv, "field(value)")
            self._look(patience_s)

    @property
    def rests_s(self) -> float:
        """For how long it has been at 0 after it was at 1; below 0 where it is not."""
        self._look()
        return time.monotonic() - self._rests_since

    def _look(self, patience_s: float = 0.0) -> None:
        with suppress(InstrumentError):  # as whoever waits for images will find, too
            while self._monitor is not None and (value := self._monitor.next(patience_s)) is not None:
                patience_s, known = 0.0, value["value"]
                if not isinstance(known, bool | int | float | str):
                    known = known["index"]  # of an enumeration
                runs = known != 0
                self._ran |= runs
                self._rests_since = time.monotonic() if self._ran and not runs else math.inf

    def close(self) -> None:
        if self._monitor is not None:
            self._monitor.close()
