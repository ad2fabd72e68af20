"""What every driver shares: an instrument yields counts, this publishes them and accounts for them."""

import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.access import PublisherAccess
from cars_rt.accounting import Cause, Ledger, Problem, Range
from cars_rt.errors import CarsRtError
from cars_rt.protocol import End, Frame, ProtocolError, Reason, Start
from cars_rt.stream import BUFFER_MB, RAW_ADDRESS, STALL_S, Overload, Publisher

WAIT_STEP_S = 0.1  # how soon a stop is noticed while waiting


class InstrumentError(CarsRtError, RuntimeError):
    """The instrument cannot be opened or failed, with the reason in one sentence."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Acquisition:
    """What an instrument says of the run that it is about to make."""

    source: str  # the instrument, for people
    raman_shift: NDArray[np.float64]  # (p,), cm-1, strictly monotonic
    dtype: str  # of the counts: uint8, uint16, uint32, float32 or float64
    block: int = 1  # the largest number of spectra it yields at once
    spectra: int | None = None  # planned total; None: until stopped
    scan: tuple[int, int] | None = None  # rows, columns
    step_um: tuple[float, float] | None = None
    exposure_s: float | None = None
    full_scale: float | None = None  # counts at which the camera saturates
    dark: NDArray[np.float32] | None = None  # (p,), counts with the beams blocked


class Instrument(ABC):
    """One instrument, for one run. `drive` calls acquisition once, then frames, and close at the end."""

    @abstractmethod
    def acquisition(self) -> Acquisition:
        """Called first: open the instrument if need be, and describe the run. May raise InstrumentError."""

    @abstractmethod
    def frames(self) -> Iterator[NDArray[Any]]:
        """Called once, when subscribers are there: yield counts (k, p), k from 1 to `block`, in scan order.

        Each block is stamped with the time at which it is yielded; it may be overwritten after the
        next one is asked for. May raise InstrumentError; what was yielded until then is kept.
        """

    def close(self) -> None:
        """Called last, whatever happened."""


@dataclass(frozen=True, kw_only=True)
class DriveSettings:
    """Settings of every `cars-rt drive`."""

    publish: str = RAW_ADDRESS
    """Address at which the raw stream is published; the daemon connects to it."""

    subscribers: int = 1
    """Start when so many subscribers are connected, so that none misses the beginning."""

    overload: Overload = "block"
    """When subscribers are too slow and the buffer is full: wait, or drop the oldest or newest frames."""

    buffer_mb: float = BUFFER_MB
    """Memory for frames that subscribers have not taken yet."""

    stall_s: float = STALL_S
    """A subscriber that has read nothing for so long is left out, so that the others go on; 0: never."""

    access: PublisherAccess = field(default_factory=PublisherAccess)


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
    reason: Reason = Reason.COMPLETE

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

    stopped is asked before every frame; progress is called after every frame and while waiting.
    Raises InstrumentError after the run was ended on the wire as failed.
    """
    totals, ledger = DriveTotals(), Ledger()
    try:
        acquisition = instrument.acquisition()
        while not publisher.wait_for_subscribers(settings.subscribers, WAIT_STEP_S):
            progress(acquisition, totals)
            if stopped():
                totals.reason = Reason.STOPPED
                return totals
        try:
            publisher.open(_start(acquisition, totals.run), ledger)
        except ProtocolError as error:
            raise InstrumentError(f"{acquisition.source} cannot be published: {error}") from None
        patient = True
        try:
            for counts in instrument.frames():
                _publish(counts, totals, ledger, publisher, stopped)
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
                progress(acquisition, totals)
            totals.settle(ledger, publisher.stalls)
    except ProtocolError as error:
        raise InstrumentError(f"the instrument gave what cannot be sent: {error}") from None
    finally:
        instrument.close()
    return totals


def _publish(
    counts: NDArray[Any],
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
        time_ns=time.time_ns(),
        arrays={"counts": counts},
    )
    sent = publisher.send(frame)
    totals.produced += len(counts)
    while not sent and not stopped():
        sent = publisher.send(frame, WAIT_STEP_S)
    if not sent:
        text = "stopped while a subscriber had no room"
        ledger.found(Problem(Cause.OVERLOAD, len(counts), text, "overload", frame.index))
    if ledger.lost or publisher.stalls:
        totals.settle(ledger, publisher.stalls)


def _start(acquisition: Acquisition, run: str) -> Start:
    return Start(
        stream="raw",
        run=run,
        time_ns=time.time_ns(),
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
