"""The one vocabulary of trouble: why spectra are lost, what is wrong with messages, what is found in streams.

The values are public: labels of metrics, words of receipts and logs. They never change their meaning.
"""

from collections.abc import Mapping
from enum import StrEnum


class Cause(StrEnum):
    """Why a spectrum (or a message) did not arrive at the next stage."""

    MISSING = "missing"  # never reached this stage: a gap in the sequence, or before it joined
    UPSTREAM = "upstream"  # the stage before lost it and says so; its own report names the cause
    REPEATED = "repeated"  # a copy or a straggler of a frame already counted; not a lost spectrum
    REJECTED = "rejected"  # arrived, but malformed or not what `start` announced
    CAMERA = "camera"  # the instrument lost it: a gap in its own numbers, or it says so
    UNMEASURED = "unmeasured"  # the scan was stopped in the middle of a row, before it came there
    UNHEARD = "unheard"  # measured while nobody listened to the driver
    OVERLOAD = "overload"  # dropped here because the next stage was too slow
    ENGINE = "engine"  # the engine failed on it
    OUTPUT = "output"  # computed, but dropped at the output: a subscriber had no room for it


class Outside(StrEnum):
    """Why a spectrum is not in this file though it was not lost; counted among the lost ones there."""

    UNRECORDED = "unrecorded"  # was measured before the recorder was told to record
    ELSEWHERE = "elsewhere"  # belongs to an earlier part of the same recording


class Fault(StrEnum):
    """What is wrong with a message; stable names, for counting and for programs."""

    PARTS = "parts"  # too few or too many message parts
    MAGIC = "magic"  # not a CARS-RT message
    VERSION = "version"  # another protocol version
    HEADER = "header"  # header is not a msgpack map within the limits
    FIELD = "field"  # a field is missing or has the wrong type or value
    OVERSIZED = "oversized"  # beyond a limit
    TRUNCATED = "truncated"  # payload shorter or longer than dtype and shape say
    DTYPE = "dtype"  # dtype unknown or not allowed there
    SHAPE = "shape"  # shape not possible or not consistent
    AXIS = "axis"  # raman-shift axis not finite or not strictly monotonic


class Kind(StrEnum):
    """What is found in a stream, finer than the cause. What is wrong with one message is a `Fault`."""

    # Of messages and their order, by every receiver
    STREAM = "stream"  # another stream is published there
    SECOND_START = "second start"  # a run began before the one before had ended
    START_CHANGED = "start changed"  # it was said again with another exposure, dark or the like
    UNKNOWN_RUN = "unknown run"  # frames or an end of a run whose start did not come
    AFTER_END = "after end"  # a frame or a start of the run that ended last
    JOINED_LATE = "joined late"  # the run was under way when we came
    REPEAT = "repeat"  # a frame came again, or too late
    NUMBER_BACK = "number back"  # a later frame has a number that was there before
    INDEX_BACK = "index back"  # the next frame does not begin after the last spectrum
    SERPENTINE = "serpentine"  # index falls within a line of the scan
    IMPLAUSIBLE = "implausible"  # numbers that jump by more than can be
    SEQUENCE_JUMP = "sequence jump"  # frames did not come
    SOURCE_SKIP = "source skip"  # the source says that spectra are missing
    WRAP = "wrap"  # a counter of few bits began again
    TAIL_MISSING = "tail missing"  # the last frames did not come
    WRONG_TOTALS = "wrong totals"  # end says what cannot be
    NAN = "nan"  # counts that are no numbers
    FAILED = "failed"  # a mistake of our own; with what failed after a colon, where that is known
    # Of the way on
    TOO_SLOW = "too slow"  # subscribers of the output
    OVERLOAD = "overload"  # subscribers of a driver
    UNHEARD = "unheard"  # nobody listens to a driver
    CLOSED = "closed"  # a client was closed before all was read
    # Of connections and clocks, by the daemon
    CONNECTION_CUT = "connection cut"
    CUT_OFF = "cut off"  # a peer that sends without end; which socket after a colon
    CLOCK = "clock"  # the clocks of two computers differ
    LIT_DARK = "lit dark"  # what is subtracted as dark was measured with light
    # Of a publisher that is judged: legal or not, most likely a slip
    RUN_AGAIN = "run again"
    NO_START = "no start"
    NO_END = "no end"
    BYTE_ORDER = "byte order"
    PIXEL_NUMBERS = "pixel numbers"
    UNIT_OF_AXIS = "unit of the axis"
    UNIT_OF_TIME = "unit of time"
    EXPOSURE = "exposure"
    SCAN = "scan"
    FULL_SCALE = "full scale"
    CONSTANT = "constant"
    NOT_COMPLETE = "not complete"
    MORE_THAN_PLANNED = "more than planned"
    SMALL_MESSAGES = "small messages"


#: Told without anything being refused or lost: a line that began with the cause would say so.
TOLD = frozenset({
    Kind.SECOND_START, Kind.START_CHANGED, Kind.INDEX_BACK, Kind.SERPENTINE, Kind.WRAP, Kind.TAIL_MISSING,
    Kind.WRONG_TOTALS,
})  # fmt: skip

#: What a word alone does not say, for people.
EXPLAINED = {str(Kind.CLOCK): "clock: time stamps of the source that are not of now"}


def in_words(counts: Mapping[str, int]) -> str:
    """How many of which cause or kind, for people; empty if there are none."""
    return ", ".join(f"{count} {EXPLAINED.get(str(kind), kind)}" for kind, count in sorted(counts.items()))
