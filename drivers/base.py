"""What every driver shares: an instrument yields counts, this publishes them and accounts for them."""

import logging
import math
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Cause, Kind, Ledger, Problem, Range
from cars_rt.errors import CarsRtError
from cars_rt.protocol import DTYPES, End, Facts, Frame, ProtocolError, Reason, Start
from cars_rt.sockets import BUFFER_MB, RAW_ADDRESS, STALL_S, Overload, Publisher
from cars_rt.sockets.addresses import Address
from cars_rt.trust.flags import PublisherAccess

log = logging.getLogger("cars_rt.drivers")

WAIT_STEP_S = 0.1  # how soon a stop is noticed while waiting
SETTLE_S = 2.0  # who looks for a publisher tries again within a second, and finds it


class InstrumentError(CarsRtError, RuntimeError):
    """The instrument cannot be opened or failed, with the reason in one sentence."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Acquisition:
    """What an instrument says of the run that it is about to make."""

    source: str  # the instrument, for people
    time_ns: int | None = None  # when the run began, Unix time; None: now
    raman_shift: NDArray[np.float64]  # (p,), cm-1, strictly monotonic
    dtype: str  # of the counts: uint8, uint16, uint32, float32 or float64
    block: int = 1  # the largest number of spectra it yields at once
    spectra: int | None = None  # planned total; None: until stopped
    scan: tuple[int, int] | None = None  # rows, columns
    step_um: tuple[float, float] | None = None
    exposure_s: float | None = None
    full_scale: float | None = None  # counts at which the camera saturates
    dark: NDArray[np.float32] | None = None  # (p,), counts with the beams blocked
    calibration: Facts | None = None  # where the axis comes from: `cars_rt.calibration.Calibration.facts`


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """A block of counts that does not simply follow the one before it, or has a time stamp of its own."""

    counts: NDArray[Any]  # (k, p); k = 0 only says that what lies before `index` is lost
    index: int  # of its first spectrum in the run, not less than what was yielded before
    time_ns: int | None = None  # Unix time at which the camera had delivered it; None: now


class Instrument(ABC):
    """One instrument, for one run. `drive` calls acquisition once, then frames, and close at the end.

    Another package's driver is found by an entry point of the group `cars_rt.drivers` that names its class.
    The parameters of its `__init__` become flags: a frozen dataclass of settings gives one for each field,
    whose docstring is the help; any other parameter is given by its place, such as a file.
    """

    @abstractmethod
    def acquisition(self) -> Acquisition:
        """Called first: open the instrument if need be, and describe the run. May raise InstrumentError."""

    @abstractmethod
    def frames(self) -> Iterator[NDArray[Any] | Block]:
        """Called once, when subscribers are there: yield counts (k, p), k from 1 to `block`, in scan order.

        Each block is stamped with the time at which it is yielded, unless it is a Block, which may have a
        time stamp of its own; it may be overwritten after the next one is asked for. May raise
        InstrumentError; what was yielded until then is kept. A block that is not what `acquisition` said ends
        the run as failed, with a sentence that says what is wrong.
        """

    def close(self) -> None:
        """Called last, whatever happened."""


@dataclass(frozen=True, kw_only=True)
class DriveSettings:
    """Settings of every `cars-rt drive`. Raises InstrumentError or AddressError for what cannot be."""

    publish: str = RAW_ADDRESS
    """Address at which the raw stream is published; the daemon connects to it."""

    subscribers: int = 1
    """Begin when so many subscribers listen, in whatever order they are started: 2 for a daemon and a
    recorder of the counts; 0 begins at once."""

    settle_s: float = SETTLE_S
    """Then wait until nobody new has come for so long, so that all who look for the driver find it."""

    overload: Overload = "block"
    """When subscribers are too slow and the buffer is full: wait, or drop the oldest or newest frames."""

    buffer_mb: float = BUFFER_MB
    """Memory for frames that subscribers have not taken yet."""

    stall_s: float = STALL_S
    """A subscriber that has read nothing for so long is left out, so that the others go on, and if all have
    gone, what is measured after so long is lost; 0: never."""

    access: PublisherAccess = field(default_factory=PublisherAccess)

    def __post_init__(self) -> None:
        Address.to_bind(self.publish)
        if not all(each >= 0 for each in (self.subscribers, self.settle_s, self.stall_s)):
            raise InstrumentError("--subscribers, --settle-s and --stall-s cannot be negative")
        if not self.buffer_mb > 0:
            raise InstrumentError(f"--buffer-mb must be more than 0, not {self.buffer_mb:g}")


@dataclass(slots=True)
class DriveTotals:
    """What became of the spectra of one run: produced = sent + sum(lost), once nothing waits any more."""

    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    produced: int = 0
    sent: int = 0
    frames: int = 0
    lost: dict[str, int] = field(default_factory=dict)
    ranges: list[Range] = field(default_factory=list)
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
    """Make one run: publish start, frames and end.

    If all subscribers leave in mid-run, frames wait `stall_s` in the buffer, and then are lost, counted.

    stopped is asked before every frame; progress is called after every frame and while waiting.
    Raises InstrumentError after the run was ended on the wire as failed.
    """
    totals, ledger, audience = DriveTotals(), Ledger(), _Audience(publisher, settings.stall_s or math.inf)
    publisher.unheard = Cause.UNHEARD
    try:
        acquisition = _checked(instrument.acquisition())
        for _ in audience.gather(settings):
            progress(acquisition, totals)
            if stopped():
                totals.reason = Reason.STOPPED
                return totals
        try:
            publisher.open(_start(acquisition, totals.run), ledger)
        except (ProtocolError, TypeError, ValueError) as error:
            raise InstrumentError(f"{acquisition.source} cannot be published: {error}") from None
        patient = True
        try:
            frames = instrument.frames()
            if not isinstance(frames, Iterator):
                raise InstrumentError(f"frames() must yield blocks of counts, and returns {_kind(frames)}")
            for given in frames:
                block = given if isinstance(given, Block) else Block(given, totals.produced)
                _skip(block.index, totals, ledger)
                if not isinstance(given, Block) or len(block.counts):
                    counts = check_block(block.counts, acquisition)
                    _publish(counts, block.time_ns, totals, ledger, publisher, stopped)
                audience.watch()
                progress(acquisition, totals)
                if stopped():
                    totals.reason = Reason.STOPPED
                    break
        except BaseException as error:
            totals.reason = Reason.FAILED
            patient = isinstance(error, Exception)  # not after a second Ctrl-C
            raise
        finally:
            publisher.end(lambda: _end(totals, ledger))
            while not publisher.flush(WAIT_STEP_S) and patient:
                audience.watch()
                progress(acquisition, totals)
            audience.watch()
            totals.deserted = audience.left and not publisher.subscribers
            totals.settle(ledger, publisher.stalls)
    except ProtocolError as error:
        raise InstrumentError(f"the instrument gave what cannot be sent: {error}") from None
    finally:
        instrument.close()
    return totals


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
            self._publisher.wait_for_subscribers(
                here + 1, WAIT_STEP_S if here < wanted else min(WAIT_STEP_S, left)
            )
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


def check_block(counts: Any, acquisition: Acquisition) -> NDArray[Any]:
    """A block as it was yielded, if it is what was announced. Raises InstrumentError, with the remedy."""
    pixels, most = len(acquisition.raman_shift), acquisition.block
    meant = f"(k, {pixels}) with k from 1 to {most} is meant"
    if not isinstance(counts, np.ndarray):
        raise InstrumentError(f"frames() yielded {_kind(counts)}, where a NumPy array {meant}")
    if counts.ndim != 2:
        remedy = "; counts[None] makes one spectrum a block" if counts.shape == (pixels,) else ""
        raise InstrumentError(f"frames() yielded an array of shape {counts.shape}, where {meant}{remedy}")
    if counts.shape[1] != pixels:
        remedy = "; counts.T turns it over" if counts.shape[0] == pixels else ""
        raise InstrumentError(
            f"frames() yielded {counts.shape[1]} pixels, raman_shift has {pixels}: {meant}{remedy}"
        )
    if not 1 <= len(counts) <= most:
        raise InstrumentError(
            f"frames() yielded {len(counts)} spectra at once, acquisition() said 1 to {most}: "
            "state the largest number as block"
        )
    if counts.dtype.name != acquisition.dtype:
        remedy = (
            f"state dtype={counts.dtype.name!r}" if counts.dtype.name in DTYPES else "convert with astype"
        )
        raise InstrumentError(
            f"frames() yielded {counts.dtype.name}, acquisition() said {acquisition.dtype}: {remedy}"
        )
    return counts


def _checked(given: Any) -> Acquisition:
    """With arrays and names of types where an author wrote lists and types. Raises InstrumentError."""
    if not isinstance(given, Acquisition):
        raise InstrumentError(f"acquisition() must return an Acquisition, and returns {_kind(given)}")
    try:
        return replace(
            given,
            raman_shift=np.asarray(given.raman_shift, np.float64),
            dtype=np.dtype(given.dtype).name,
            dark=None if given.dark is None else np.asarray(given.dark, np.float32),
        )
    except (TypeError, ValueError) as error:
        raise InstrumentError(f"acquisition() of {given.source}: {error}") from None


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _skip(index: int, totals: DriveTotals, ledger: Ledger) -> None:
    """What lies before a block and was not yielded is lost, as in the run that is played again."""
    if missing := index - totals.produced:
        if missing < 0:
            raise InstrumentError(f"spectrum {index} comes after spectrum {totals.produced - 1}")
        text = f"spectra {totals.produced} to {index - 1} are not there"
        ledger.found(Problem(Cause.UPSTREAM, missing, text, Kind.SOURCE_SKIP, totals.produced))
        totals.produced = index


def _publish(
    counts: NDArray[Any],
    time_ns: int | None,
    totals: DriveTotals,
    ledger: Ledger,
    publisher: Publisher,
    stopped: Callable[[], bool],
) -> None:
    frame = Frame(
        stream="raw",
        run=totals.run,
        sequence=publisher.sequence,
        index=totals.produced,
        time_ns=time.time_ns() if time_ns is None else time_ns,
        arrays={"counts": counts},
    )
    sent = publisher.send(frame)
    totals.produced += len(counts)
    while not sent and not stopped():
        sent = publisher.send(frame, WAIT_STEP_S)
    if not sent:
        text = "stopped while a subscriber had no room"
        ledger.found(Problem(Cause.OVERLOAD, len(counts), text, Kind.OVERLOAD, frame.index))
    if ledger.lost or publisher.stalls:
        totals.settle(ledger, publisher.stalls)


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


def paced(rate: float) -> Iterator[int]:
    """Yield 0, 1, 2, ... at `rate` per second, by the clock: what was late is caught up, like a camera's
    frames that wait in its memory. A rate of 0 never waits."""
    begin, number = time.perf_counter(), 0
    while True:
        if rate > 0:
            ahead = begin + number / rate - time.perf_counter()
            if ahead > 0:
                time.sleep(ahead)
        yield number
        number += 1
