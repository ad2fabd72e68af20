"""Runs: an instrument yields counts, this publishes them and accounts for them."""

import logging
import math
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace

from cars_rt.accounting import Cause, Kind, Ledger, Problem, Range
from cars_rt.drivers.base import WAIT_S, Acquisition, DriveSettings, Instrument, InstrumentError, Waiting
from cars_rt.drivers.feed import Feed, kind_of
from cars_rt.drivers.order import Piece
from cars_rt.protocol import End, Frame, ProtocolError, Reason, Start
from cars_rt.sockets import Publisher

log = logging.getLogger("cars_rt.drivers")

FLIES_S = 2.0  # and two points at the slowest so far: within that a flight back comes, if ever


@dataclass(slots=True)
class DriveTotals:
    """What became of the spectra of one run: produced = sent + sum(lost), once nothing waits any more."""

    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    produced: int = 0
    sent: int = 0
    frames: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    ranges: list[Range] = field(default_factory=list)
    waiting_for: str | None = None  # while nothing comes: the trigger, or "" for whatever it may be
    stalls: int = 0  # how often a subscriber stopped reading and was left out
    deserted: bool = False  # whether all subscribers had left before the end: what was under way is lost
    reason: Reason = Reason.COMPLETE

    @property
    def complete(self) -> bool:
        """Whether everything that was measured went to somebody who was there to the end."""
        return not self.lost and not self.deserted

    def settle(self, ledger: Ledger, stalls: int) -> None:
        """Take over what the publisher counted."""
        self.sent, self.frames, self.stalls = ledger.spectra, ledger.frames, stalls
        self.lost, self.ranges = dict(ledger.lost), list(ledger.ranges)


def drive(
    instrument: Instrument,
    publisher: Publisher,
    settings: DriveSettings,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[Acquisition, DriveTotals], None] = lambda acquisition, totals: None,
) -> DriveTotals:
    """Make one run, publish start, frames and end, and close the instrument.

    If all subscribers leave in mid-run, frames wait `stall_s` in the buffer, and then are lost, counted.

    stopped is asked before every frame; progress is called after every frame and while waiting.
    Raises InstrumentError after the run was ended on the wire as failed.
    """
    [totals] = drive_runs(instrument, publisher, replace(settings, runs=1), stopped, progress)
    return totals


def drive_runs(
    instrument: Instrument,
    publisher: Publisher,
    settings: DriveSettings,
    stopped: Callable[[], bool] = lambda: False,
    progress: Callable[[Acquisition, DriveTotals], None] = lambda acquisition, totals: None,
) -> Iterator[DriveTotals]:
    """As `drive`, for `settings.runs` runs, one after the other, which are yielded as they end; one that
    fails is, too, before its InstrumentError is raised."""
    try:
        made = 0
        while not made or (not stopped() and (made < settings.runs or not settings.runs)):
            run = _Run(instrument, publisher, settings, stopped, progress)
            try:
                totals = run.make()
            except InstrumentError:
                if run.totals.reason is Reason.FAILED:
                    yield run.totals  # what had come until then
                raise
            yield totals
            made += 1
    finally:
        instrument.close()


class _Run:
    """One run that is being made."""

    def __init__(
        self,
        instrument: Instrument,
        publisher: Publisher,
        settings: DriveSettings,
        stopped: Callable[[], bool],
        progress: Callable[[Acquisition, DriveTotals], None],
    ) -> None:
        self._instrument, self._publisher, self._settings = instrument, publisher, settings
        self._stopped, self._progress = stopped, progress
        self._audience = _Audience(publisher, settings.stall_s or math.inf)
        self.totals, self._ledger = DriveTotals(), Ledger()
        self._stalls_before = publisher.stalls
        publisher.unheard = Cause.UNHEARD

    def make(self) -> DriveTotals:
        totals = self.totals
        try:
            feed = Feed(self._instrument.acquisition())
            about = feed.published
            for _ in self._audience.gather(self._settings):
                self._progress(about, totals)
                if self._stopped():
                    totals.reason = Reason.STOPPED
                    return totals
            if not about.triggered:
                self._open(about)
            try:
                self._measure(feed, about)
            finally:
                self.totals.waiting_for = None
        except ProtocolError as error:
            raise InstrumentError(f"the instrument gave what cannot be sent: {error}") from None
        return totals

    def _open(self, about: Acquisition) -> None:
        try:
            self._publisher.open(_start(about, self.totals.run), self._ledger)
        except (ProtocolError, TypeError, ValueError) as error:
            raise InstrumentError(f"{about.source} cannot be published: {error}") from None

    def _measure(self, feed: Feed, about: Acquisition) -> None:
        totals, patient, opened, frames = self.totals, True, not about.triggered, None
        said, came, pace_s = False, math.inf, 0.0
        try:
            frames = self._instrument.frames()
            if not isinstance(frames, Iterator):
                raise InstrumentError(f"frames() must yield blocks of counts, and returns {kind_of(frames)}")
            for given in frames:
                if isinstance(given, Waiting):
                    totals.waiting_for = given.what_for
                    flies_s = FLIES_S + 2 * max(about.exposure_s or 0.0, pace_s)
                    if feed.flies_back and time.monotonic() > came + flies_s:
                        break
                    self._publisher.serve()  # else nothing would leave before the next spectrum
                elif isinstance(given, Acquisition):
                    if opened:
                        raise InstrumentError("frames() yielded an Acquisition in a run that had begun")
                    feed = Feed(given)
                    about = feed.published
                else:
                    now = time.monotonic()
                    totals.waiting_for, came, pace_s = None, now, max(pace_s, now - came)
                    if not opened:
                        opened = True
                        self._open(about)
                    for piece in feed.take(given):
                        self._pass(piece)
                if feed.cut and not said:
                    said = True
                    log.warning(
                        "frames of a point are cut at the camera's full scale, which neither their sum nor "
                        "a flag shows: less light or exposure"
                    )
                self._audience.watch()
                self._progress(about, totals)
                if feed.full:
                    break
                if totals.reason is not Reason.STOPPED and self._stopped():
                    totals.reason = Reason.STOPPED
                    if not self._instrument.halt():
                        break
            else:
                if feed.missing and totals.reason is not Reason.STOPPED:
                    totals.reason = Reason.STOPPED  # at the instrument: not all that was planned was done
                    log.warning("the instrument ended %d spectra before the %d that it announced",
                                feed.missing, feed.acquisition.spectra)  # fmt: skip
        except BaseException as error:
            totals.reason = Reason.FAILED
            patient = isinstance(error, Exception)  # not after a second Ctrl-C
            raise
        finally:
            try:
                if isinstance(frames, Generator):
                    frames.close()  # the camera stops here, and not when memory is tidied up
                for piece in feed.finish():
                    self._pass(piece)
                if feed.beyond:
                    log.warning(
                        "%d frames came when their row was full, and are left out: does the trigger of rows "
                        "fit the scan's columns?",
                        feed.beyond,
                    )
            finally:
                if opened:
                    self._end(about, patient)

    def _pass(self, piece: Piece) -> None:
        """Publish counts, or count what is lost."""
        totals, ledger, publisher = self.totals, self._ledger, self._publisher
        totals.produced = piece.index + piece.spectra
        if piece.counts is None:
            cause = piece.cause or Cause.CAMERA
            text = f"spectra {piece.index} to {totals.produced - 1} are not there"
            ledger.found(Problem(cause, piece.spectra, text, Kind.SOURCE_SKIP, piece.index))
            self._settle()
            return
        frame = Frame(
            stream="raw",
            run=totals.run,
            sequence=publisher.sequence,
            index=piece.index,
            time_ns=time.time_ns() if piece.time_ns is None else piece.time_ns,
            arrays={"counts": piece.counts},
        )
        sent = publisher.send(frame)
        while not sent and not self._stopped():
            sent = publisher.send(frame, WAIT_S)
        if not sent:
            text = "stopped while a subscriber had no room"
            ledger.found(Problem(Cause.OVERLOAD, piece.spectra, text, Kind.OVERLOAD, frame.index))
        if ledger.lost or publisher.stalls > self._stalls_before:
            self._settle()

    def _end(self, about: Acquisition, patient: bool) -> None:
        publisher, totals = self._publisher, self.totals
        publisher.end(lambda: _end(totals, self._ledger))
        while not publisher.flush(WAIT_S) and patient:
            self._audience.watch()
            self._progress(about, totals)
        self._audience.watch()
        totals.deserted = self._audience.left and not publisher.subscribers
        self._settle()

    def _settle(self) -> None:
        self.totals.settle(self._ledger, self._publisher.stalls - self._stalls_before)


class _Audience:
    """Who listens to the publisher, said whenever it changes."""

    def __init__(self, publisher: Publisher, patience_s: float) -> None:
        self._publisher = publisher
        self._patience_s = patience_s
        self._here = 0
        self.left = False  # whether somebody left since the run began

    def gather(self, settings: DriveSettings) -> Iterator[None]:
        """Wait until as many are there as `settings` wants, and nobody new comes; yields meanwhile."""
        wanted = settings.subscribers
        if wanted:
            log.info("waiting for %s", _people(wanted))
        else:
            self._publisher.serve()
            self._here = self._publisher.subscribers
        while wanted:
            here = self._publisher.subscribers
            if here != self._here:
                self._here = here
                if here < wanted:
                    log.info("waiting for %s, %d here", _people(wanted), here)
                else:
                    log.info(
                        "%s here; the run begins in %g s if no other comes", _people(here), settings.settle_s
                    )
            left = settings.settle_s - (time.monotonic() - self._publisher.audience.newest_at)
            if here >= wanted and left <= 0:
                break
            self._publisher.wait_for_subscribers(here + 1, WAIT_S if here < wanted else min(WAIT_S, left))
            yield

    def watch(self) -> None:
        """Say who left or came in mid-run."""
        if not self._publisher.subscribers:
            self._publisher.serve()
        here = self._publisher.subscribers
        if here == self._here:
            return
        if here < self._here:
            self.left = True
            if here:
                log.warning("a subscriber left in mid-run: %d still listening", here)
            else:
                log.warning(
                    "nobody listens any more, and what was on its way is lost; what is measured now waits "
                    "%g s, as far as the buffer reaches, for the daemon or a recorder to come back",
                    self._patience_s,
                )
        else:
            log.info("a subscriber came in mid-run, and misses what was before: %d listening", here)
        self._here = here


def _people(count: int) -> str:
    return "1 subscriber" if count == 1 else f"{count} subscribers"


def _start(acquisition: Acquisition, run: str) -> Start:
    return Start(
        stream="raw",
        run=run,
        time_ns=time.time_ns() if acquisition.time_ns is None else acquisition.time_ns,
        source=acquisition.source,
        raman_shift=acquisition.raman_shift,
        dtype=acquisition.dtype,
        block=acquisition.block,
        spectra=acquisition.spectra,
        scan=acquisition.scan,
        step_um=acquisition.step_um,
        exposure_s=acquisition.exposure_s,
        full_scale=acquisition.full_scale,
        dark=acquisition.dark,
        calibration=acquisition.calibration,
        instrument=acquisition.instrument,
    )


def _end(totals: DriveTotals, ledger: Ledger) -> End:
    return End(
        stream="raw",
        run=totals.run,
        time_ns=time.time_ns(),
        frames=ledger.frames,
        spectra=ledger.spectra,
        reason=totals.reason,
        announced=totals.produced,
        lost=dict(ledger.lost),
        ranges=tuple(ledger.ranges),
    )
