"""The flight recorder: the last seconds of the daemon's input, kept in memory, written to a file at an alarm.

The file is a recording of the raw stream (cars_rt.files.recording), which `cars-rt drive replay` plays:

    /flight          attrs: reason, text, time_ns, lost, alarms, merged, spectra_per_s, block
    /flight/rejected 0, 1, ...: the bytes of messages that were refused, uint8; attrs: text, time_ns,
                     bytes and parts as they came

The loop owns the ring. At an alarm the whole ring goes to a thread that writes it and ends; the loop begins
a new one and waits for nothing.
"""

import json
import logging
import math
import shutil
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.recording import Claim, Recording, RecordingError, refuse_unwritable
from cars_rt.protocol import Closed, Frame, Part, RunReader, Start

log = logging.getLogger("cars_rt.daemon")

Item = TypeVar("Item")

SECONDS = 10.0
MEGABYTES = 256.0
FRAME_BYTES = 1024  # that Python's objects of a frame take beside its arrays
AFTER_S = 1.0  # how long the ring goes on after an alarm, to show what followed
AFTER_SHARE = 0.25  # share of the ring's seconds and bytes that this may take
COOL_DOWN_S = 30.0  # how long alarms are only counted after a file was begun: a bad minute gives two files
MOST_FILES = 20  # flight files in the folder; no more are written before somebody has looked at them
SPARE_BYTES = 2**30  # left free on the disk, for the recorder
MOST_REQUESTED = 10  # of these, files that were asked for; the other places are for alarms
REQUEST = "request"  # the reason of a file that was asked for
MOST_ALARMS = 16  # alarms named in one file
MOST_TEXT = 500  # characters of an alarm's text
REJECTED = 16  # refused messages that are kept
REJECTED_BYTES = 64 * 1024  # bytes that are kept of each
MOST_PARTS = 64  # parts of a refused message whose sizes are kept
CLOSE_S = 10.0  # how long closing waits for the file
WRITTEN = 32  # frames written between two pauses
SURVEYED = 512  # frames looked at between two pauses
NAP_S = 0.0005  # such a pause of the writer


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that should not happen."""

    time_ns: int
    reason: str  # one word, such as the cause of a loss
    text: str
    lost: Mapping[str, int] = field(default_factory=dict)  # spectra of the run so far, by cause


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message that was refused: its bytes, all parts one after the other, as far as they are kept."""

    time_ns: int
    text: str
    data: bytes
    bytes: int  # as it came
    parts: tuple[int, ...]  # bytes of each of its first parts

    @classmethod
    def of(cls, parts: Sequence[Part], text: str) -> "Rejected":
        """Copies at most REJECTED_BYTES."""
        room, kept = REJECTED_BYTES, []
        for part in parts:
            kept.append(bytes(part[:room]))
            room -= len(kept[-1])
            if not room:
                break
        sizes = [len(part) for part in parts]
        return cls(time.time_ns(), text[:MOST_TEXT], b"".join(kept), sum(sizes), tuple(sizes[:MOST_PARTS]))


@dataclass(slots=True)
class Flight:
    """What goes into one file."""

    alarms: list[Alarm]  # the first one is why it is written
    until: float  # monotonic time after which no frame is added
    room: int  # bytes of frames that may still be added
    start: Start | None = None
    frames: deque[tuple[float, int, Frame]] = field(default_factory=deque)
    rejected: list[Rejected] = field(default_factory=list)
    merged: dict[str, int] = field(default_factory=dict)  # alarms without a file of their own, by reason


class FlightRecorder:
    """Keeps the frames of the open run, at most `seconds` and `megabytes` of them; writes them at an alarm.

    Belongs to the loop's thread. While a file is written its frames take as much memory again. Raises
    RecordingError if the limits make no sense or the folder cannot be written. Later nothing is raised:
    a file that cannot be written costs a warning.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS, megabytes: float = MEGABYTES) -> None:
        if not (0 < seconds < math.inf and 0 < megabytes < math.inf):
            raise RecordingError("the flight recorder needs more than 0 seconds and more than 0 MB")
        with suppress(OSError):
            folder.mkdir(exist_ok=True)  # only the folder that was named, none above it
        refuse_unwritable(folder)
        self.folder = folder
        self.bytes = 0  # in the ring
        self.alarms = 0
        self.files = 0  # written
        self._seconds = seconds
        self._limit = int(megabytes * 1e6)
        self._start: Start | None = None
        self._ring: deque[tuple[float, int, Frame]] = deque()  # when it came (monotonic), its bytes, frame
        self._rejected: deque[Rejected] = deque(maxlen=REJECTED)
        self._merged: Counter[str] = Counter()
        self._flight: Flight | None = None  # to be handed over soon
        self._quiet_until = -math.inf
        self._writer: threading.Thread | None = None
        self._said = ""  # why a file could not be written, the last time

    @property
    def writing(self) -> bool:
        """Whether a file is being written."""
        return self._writer is not None and self._writer.is_alive()

    def start(self, start: Start) -> None:
        """A run begins. The ring holds one run: its frames share an axis, as those of a file do."""
        if self._flight is not None:
            self._hand_over(self._flight)
        self._start = start
        self._ring.clear()
        self.bytes = 0

    def frame(self, frame: Frame) -> None:
        """Keep a frame that was accepted: a reference, no copy."""
        now = time.monotonic()
        size = FRAME_BYTES
        for array in frame.arrays.values():
            size += array.nbytes
        ring = self._ring
        ring.append((now, size, frame))
        self.bytes += size
        while ring and (self.bytes > self._limit or now - ring[0][0] > self._seconds):
            self.bytes -= ring.popleft()[1]
        if self._flight is not None:
            self._flight.room -= size
            if now >= self._flight.until or self._flight.room <= 0:
                self._hand_over(self._flight)

    def rejected(self, parts: Sequence[Part], text: str) -> None:
        """Keep the bytes of a message that was refused, and why."""
        self._rejected.append(Rejected.of(parts, text))

    def alarm(self, reason: str, text: str = "", lost: Mapping[str, int] | None = None) -> bool:
        """Have the ring written soon. reason: one word; lost: spectra of the run so far, by cause.

        False if the alarm is only counted, since a file was begun a short time ago.
        """
        self.alarms += 1
        now = time.monotonic()
        alarm = Alarm(time.time_ns(), reason, text[:MOST_TEXT], dict(lost or {}))
        if self._flight is not None:
            if len(self._flight.alarms) < MOST_ALARMS:
                self._flight.alarms.append(alarm)
            else:
                self._merged[reason] += 1
            return True
        if now < self._quiet_until or self.writing:
            self._merged[reason] += 1
            return False
        after = min(AFTER_S, self._seconds * AFTER_SHARE)
        self._flight = Flight([alarm], now + after, int(self._limit * AFTER_SHARE))
        return True

    def request(self, text: str = "") -> bool:
        """Have the ring written now, for somebody who asked. False if there is nothing in it, or if a file
        is still being written. Raises RecordingError if the folder holds MOST_REQUESTED of such files."""
        if self.writing or not (self._ring or self._rejected):
            return False
        if (kept := len(list(self.folder.glob(f"flight-*-{REQUEST}*.h5")))) >= MOST_REQUESTED:
            raise RecordingError(
                f"{self.folder} holds {kept} flight files that were asked for, the most beside those of "
                "alarms; move some away"
            )
        self._quiet_until = -math.inf
        self.alarm(REQUEST, text)
        self.tick(at_once=True)
        return True

    def tick(self, at_once: bool = False) -> None:
        """Call it often: hands over the ring when it is time, also when no frame comes any more."""
        if self._flight is not None and (at_once or time.monotonic() >= self._flight.until):
            self._hand_over(self._flight)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what an alarm has asked for, and wait for it."""
        self.tick(at_once=True)
        if self._writer is not None:
            self._writer.join(timeout_s)
            if self._writer.is_alive():
                log.warning("%s: the disk is too slow for the flight file, which stays partial", self.folder)

    def _hand_over(self, flight: Flight) -> None:
        """The ring becomes the writer's; a new one begins."""
        self._flight = None
        if not self._ring and not self._rejected:
            self._merged[flight.alarms[0].reason] += 1
            return
        flight.start, flight.frames = self._start, self._ring
        flight.rejected, flight.merged = list(self._rejected), dict(self._merged)
        self._ring, self.bytes = deque(), 0
        self._rejected.clear()
        self._merged.clear()
        if flight.alarms[0].reason != REQUEST:  # a request does not silence alarms that follow
            self._quiet_until = time.monotonic() + COOL_DOWN_S
        self._writer = threading.Thread(target=self._write, args=(flight,), name="flight", daemon=True)
        self._writer.start()

    # -- in the thread ------------------------------------------------------------------------------

    def _write(self, flight: Flight) -> None:
        alarm = flight.alarms[0]
        try:
            path = write_flight(self.folder, flight)
        except Exception as error:  # whatever it is, the daemon goes on
            text = str(error) or type(error).__name__
            level = logging.DEBUG if text == self._said else logging.WARNING
            self._said = text
            log.log(level, "no flight file of the alarm (%s): %s", alarm.reason, text)
        else:
            self.files, self._said = self.files + 1, ""
            log.warning("alarm (%s): the input of the last seconds is in %s", alarm.reason, path)


def write_flight(folder: Path, flight: Flight) -> Path:
    """Write one flight file; its path. Empties `flight.frames` on the way, so that their memory is free.

    Raises RecordingError, and leaves nothing, if the folder holds MOST_FILES of them, the disk has no room
    to spare, or writing fails.
    """
    alarm = flight.alarms[0]
    kept = len(list(folder.glob("flight-*.h5")))
    if kept >= MOST_FILES:
        raise RecordingError(f"{folder} holds {kept} flight files; move some away to get more")
    needed = sum(size for _, size, _ in _gently(flight.frames, SURVEYED))
    if shutil.disk_usage(folder).free < needed + SPARE_BYTES:
        raise RecordingError(f"the disk of {folder} has less than {SPARE_BYTES / 1e9:.1f} GB to spare")
    recording = Recording(Claim.unused(folder / _name(alarm)))
    try:
        spectra = _write_alarms(recording, flight)
        if flight.start is not None and flight.frames:
            _write_frames(recording, flight.start, flight.frames, spectra)
        return recording.close()
    except BaseException:
        recording.fail()
        recording.partial.unlink(missing_ok=True)
        raise


def _write_alarms(recording: Recording, flight: Flight) -> int:
    """Why the file is written, and the refused messages. Returns the spectra that follow."""
    alarm, frames = flight.alarms[0], flight.frames
    counts = [len(frame.block) for _, _, frame in _gently(frames, SURVEYED)]
    took_ns = frames[-1][2].time_ns - frames[0][2].time_ns if frames else 0
    about: dict[str, Any] = {
        "reason": alarm.reason,
        "text": alarm.text,
        "time_ns": alarm.time_ns,
        "lost": json.dumps(alarm.lost),
        "alarms": json.dumps([asdict(each) for each in flight.alarms]),
        "merged": json.dumps(flight.merged),
        "spectra_per_s": sum(counts[1:]) / took_ns * 1e9 if took_ns > 0 else 0.0,
        "block": max(counts, default=0),
    }
    recording.note("flight", about)
    for number, message in enumerate(flight.rejected):
        data: NDArray[np.uint8] = np.frombuffer(message.data, np.uint8)
        about = {"text": message.text, "time_ns": message.time_ns}
        about |= {"bytes": message.bytes, "parts": json.dumps(message.parts)}
        recording.note(f"flight/rejected/{number}", about, data)
    return sum(counts)


def _write_frames(
    recording: Recording, start: Start, frames: deque[tuple[float, int, Frame]], spectra: int
) -> None:
    """Write them as a recorder that joined late would: earlier spectra count as missing."""
    reader, time_ns = RunReader("raw"), start.time_ns
    reader.accept(start)
    recording.start(start, spectra)
    for _ in _gently(range(len(frames)), WRITTEN):
        frame = frames.popleft()[2]
        reader.accept(frame)
        recording.append(frame)
        time_ns = frame.time_ns
    closed = reader.interrupt(time_ns)
    assert isinstance(closed, Closed)
    recording.end(closed.end, closed.ledger)


def _gently(items: Iterable[Item], piece: int) -> Iterator[Item]:
    """The items, with a pause before each piece: Python runs one thread at a time, the loop comes first."""
    for number, item in enumerate(items):
        if number % piece == 0:
            time.sleep(NAP_S)
        yield item


def _name(alarm: Alarm) -> str:
    """flight-TIME-REASON.h5."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(alarm.time_ns / 1e9))
    reason = "".join(each if each.isascii() and each.isalnum() else "-" for each in alarm.reason)[:32]
    return f"flight-{stamp}-{reason}.h5"
