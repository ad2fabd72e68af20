"""What an instrument is: it describes itself, yields counts, and closes. Everything else is shared."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Cause
from cars_rt.drivers.numbering import AS_THEY_COME, Numbering
from cars_rt.drivers.order import ROW_BY_ROW, Order
from cars_rt.errors import CarsRtError
from cars_rt.protocol import Facts
from cars_rt.sockets import BUFFER_MB, RAW_ADDRESS, STALL_S, Overload
from cars_rt.sockets.addresses import Address
from cars_rt.trust.flags import PublisherAccess

WAIT_S = 0.1  # how soon a stop is noticed in a wait
SETTLE_S = 2.0  # who looks for a publisher tries again within a second, and finds it


class InstrumentError(CarsRtError, RuntimeError):
    """The instrument cannot be opened or failed, with the reason in one sentence."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Acquisition:
    """What an instrument says of the run that it is about to make. Spectra are those that it yields."""

    source: str  # the instrument, for people
    time_ns: int | None = None  # when the run began, Unix time; None: now
    raman_shift: NDArray[np.float64]  # (p,), cm-1, strictly monotonic
    dtype: str  # of the counts: uint8, uint16, uint32, float32 or float64
    block: int = 1  # the largest number of spectra it yields at once
    spectra: int | None = None  # planned total; None: until stopped
    scan: tuple[int, int] | None = None  # rows, columns; planes of a stack lie one under the other
    order: Order = ROW_BY_ROW  # in which the points of the scan are measured
    step_um: tuple[float, float] | None = None
    exposure_s: float | None = None
    full_scale: float | None = None  # counts at which the camera saturates
    dark: NDArray[np.float32] | None = None  # (p,), counts with the beams blocked
    calibration: Facts | None = None  # where the axis comes from: `cars_rt.calibration.Calibration.facts`
    instrument: Facts | None = None  # its settings: gain, temperature_c, binning, region, model, serial...
    numbers: Numbering = AS_THEY_COME  # how the camera numbers its images, where blocks say their number
    triggered: bool = False  # the run begins when the first block has come, not at once


@dataclass(frozen=True, eq=False, slots=True)
class Block:
    """A block of counts that does not simply follow the one before it, or has a time stamp of its own."""

    counts: NDArray[Any]  # (k, p); k = 0 only says that what lies before `index` is lost
    index: int | None = None  # of its first spectrum, not less than what was yielded before; None: the next
    time_ns: int | None = None  # Unix time at which the camera had delivered it; None: now
    number: int | None = None  # instead of index: the camera's own number of its (first) image


@dataclass(frozen=True, slots=True)
class Gap:
    """So many spectra of the instrument are lost here. A gap in `Block.number` need not be said."""

    spectra: int
    cause: Cause = Cause.CAMERA


@dataclass(frozen=True, slots=True)
class NextRow:
    """The trigger of a row of the scan came, from the first row on: what the rows before it lack is lost at
    the camera, and what they had too many is left out. Where blocks say their number, more that are missing
    than the rows before lack are those at the beginning of this one: a camera that counts on while the scan
    flies back needs an `order` whose `flyback` is as many as it counts then, at most."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing has come yet: yielded about every tenth of a second, so that a stop is noticed meanwhile."""

    what_for: str = ""  # such as "the trigger"; shown to people


Yielded: TypeAlias = NDArray[Any] | Block | Gap | NextRow | Waiting | Acquisition


class Instrument(ABC):
    """One instrument. For each run `acquisition` is called, then `frames`; `close` once, at the end.

    Another package's driver is found by an entry point of the group `cars_rt.drivers` that names its class.
    The parameters of its `__init__` become flags: a frozen dataclass of settings gives one for each field,
    whose docstring is the help; any other parameter is given by its place, such as a file.
    """

    #: Where it is made and called. `here`: in the loop that publishes, which waits for slow subscribers and
    #: so holds it up. `thread`: in one of its own, always the same one, as libraries of cameras want it; what
    #: subscribers are too slow for is lost and counted. `process`: likewise, in a process that is ended when
    #: it gives no sign: for libraries that hang or crash. Its class and settings must be importable there.
    lives: ClassVar[Literal["here", "thread", "process"]] = "here"

    #: A module of another package that it cannot do without, and our extra that installs it.
    needs: ClassVar[tuple[str, str] | None] = None

    #: Seconds, beyond two exposures, after which an instrument that lives elsewhere and yields nothing, not
    #: even Waiting, has failed. One that lives in a thread may set more of its own when it is made.
    silent_s: float = 30.0

    @abstractmethod
    def acquisition(self) -> Acquisition:
        """Called first: open the instrument if need be, and describe the run. May raise InstrumentError."""

    @abstractmethod
    def frames(self) -> Iterator[Yielded]:
        """Called when subscribers are there: yield counts (k, p), k from 1 to `block`, as they are measured.

        Each block is stamped with the time at which it is yielded, unless it is a Block, which may have a
        time stamp and a number of its own; the array may be overwritten after the next one is asked for, so
        that a view of the camera's memory is as good as a copy. May raise InstrumentError; what was yielded
        until then is kept. What is not as `acquisition` said ends the run as failed, with a sentence that
        says what is wrong. Of a run that is `triggered`, an Acquisition may come first, where its first image
        says more than was known before. When the run is stopped, the iterator is closed: `finally` stops the
        camera.
        """

    def halt(self) -> bool:
        """Called when the run is stopped. True: `frames` will end by itself, soon, with what is measured and
        not yielded yet. False: its iterator is closed at once."""
        return False

    def close(self) -> None:
        """Called last, whatever happened: release the instrument. May be called twice."""

    @classmethod
    def conformance(cls, make: Callable[[], "Instrument"]) -> Mapping[str, Any]:
        """For `--conform`: what only its author knows of the instrument that `make` makes, by the names of
        `cars_rt.drivers.conformance.Subject`, such as what the counts should be."""
        return {}


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

    runs: int = 1
    """So many runs, one after the other, such as one for each scan; 0: until stopped."""

    overload: Overload = "block"
    """When subscribers are too slow and the buffer is full: wait, or drop the oldest or newest frames."""

    buffer_mb: float = BUFFER_MB
    """Memory for frames that subscribers have not taken yet."""

    stall_s: float = STALL_S
    """A subscriber that has read nothing for so long is left out, so that the others go on, and if all have
    gone, what is measured after so long is lost; 0: never."""

    no_realtime: bool = False
    """Wait for a core like any other program; else, where the system allows it, spectra wait for none while
    this takes less than a quarter of the computer."""

    access: PublisherAccess = field(default_factory=PublisherAccess)

    def __post_init__(self) -> None:
        Address.to_bind(self.publish)
        for name in ("subscribers", "settle_s", "stall_s"):
            if not (value := getattr(self, name)) >= 0:
                raise InstrumentError(f"--{name.replace('_', '-')} must be 0 or more, not {value:g}")
        if self.runs < 0:
            raise InstrumentError("--runs cannot be negative; 0 makes one after the other until stopped")
        if not 0 < self.buffer_mb < math.inf:
            raise InstrumentError(f"--buffer-mb must be more than 0 and finite, not {self.buffer_mb:g}")


def until(moment: float) -> Iterator[Waiting]:
    """Wait until then, in seconds of `time.perf_counter`, for `yield from` in `frames`: however far it is, a
    stop is noticed meanwhile. What is late does not wait, so that it is caught up, like a camera's frames
    that wait in its memory."""
    while (ahead := moment - time.perf_counter()) > WAIT_S:
        time.sleep(WAIT_S)
        yield Waiting()
    if ahead > 0:
        time.sleep(ahead)
