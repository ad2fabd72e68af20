"""The recorder: subscribes to the raw stream, the result stream or both, and writes each run to a file."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cars_rt.access import RecorderAccess
from cars_rt.address import Address
from cars_rt.protocol import Closed, Event, Frame, Reason, Start, StreamName
from cars_rt.recording import (
    Recording,
    RecordingError,
    partial_path,
    refuse_existing,
    refuse_unwritable,
)
from cars_rt.security import ClientKeys
from cars_rt.source import Source
from cars_rt.stream import RAMAN_ADDRESS

log = logging.getLogger("cars_rt.recorder")

FLUSH_S = 1.0  # at most so much is lost when the recorder is killed
NAP_S = 0.01  # between two looks; being woken for every spectrum would cost the engine's cores more
BUSY = 64  # events of one look after which there is no nap
OTHER_S = 30.0  # how long a stream may begin after the other one of the run has ended
QUIET_S = 0.3  # a stop takes in what is already on its way, until nothing came for so long


@dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """Settings of `cars-rt record`. Raises AddressError for what is no address."""

    raman: str | None = RAMAN_ADDRESS
    """Address of the result stream; "none" leaves it out."""

    raw: str | None = None
    """Address of the raw stream, if the counts are to be recorded, too."""

    overwrite: bool = False
    """Replace files that exist."""

    summary: Path | None = None
    """Write what was recorded to this JSON file at the end."""

    access: RecorderAccess = field(default_factory=RecorderAccess)

    def __post_init__(self) -> None:
        for address in (self.raman, self.raw):
            if address not in (None, "none"):
                Address.to_connect(str(address))


@dataclass(slots=True)
class Recorded:
    """What went into one file."""

    run: str
    path: str = ""
    complete: bool = False
    rows: dict[str, int] = field(default_factory=dict)  # spectra, by stream
    lost: dict[str, dict[str, int]] = field(default_factory=dict)  # on the way here, by stream and cause


class Recorder:
    """Writes runs to `output`: one run if it is a .h5 file, every run if it is a folder.

    Raises StreamError for an impossible address, KeysError for keys that cannot be used, RecordingError if
    the output cannot be written.
    """

    def __init__(self, output: Path, settings: RecordSettings) -> None:
        self.output = output
        self.settings = settings
        self.recorded: list[Recorded] = []
        self.one_run = output.suffix.lower() in (".h5", ".hdf5")
        self._stopping = False
        self._open: dict[str, tuple[Recording, Recorded]] = {}
        self._flushed = self._ended = time.monotonic()
        raman = (settings.raman, settings.access.raman(settings.raman))
        raw = (settings.raw, settings.access.raw(settings.raw))
        _check_output(output, self.one_run, settings.overwrite)
        streams: dict[StreamName, tuple[str | None, ClientKeys | None]] = {"raw": raw, "raman": raman}
        self.sources: dict[StreamName, Source] = {
            stream: Source(address, stream, keys)
            for stream, (address, keys) in streams.items()
            if address and address != "none"
        }
        if not self.sources:
            raise RecordingError("nothing to record: give --raman or --raw")

    def stop(self) -> None:
        """Ask `serve` to close what is open and return. Callable from a signal handler."""
        self._stopping = True

    def serve(self, on_tick: Callable[[], None] = lambda: None) -> list[Recorded]:
        """Record until the one run is over, or until `stop`. Raises RecordingError if writing fails."""
        try:
            while not (self._stopping or (self.one_run and self.recorded and not self._open)):
                self._turn()
                on_tick()
            quiet = time.monotonic()
            while self._open and time.monotonic() - quiet < QUIET_S:
                if self._turn():
                    quiet = time.monotonic()
            self._interrupt()
            return self.recorded
        finally:
            for recording, _ in self._open.values():
                recording.fail()
            for source in self.sources.values():
                source.close()

    @property
    def spectra(self) -> int:
        """Spectra in the open and the finished files, all streams together."""
        being = [sum(rows.count for rows in recording.rows.values()) for recording, _ in self._open.values()]
        return sum(being) + sum(sum(recorded.rows.values()) for recorded in self.recorded)

    def _turn(self) -> bool:
        """Take what has come; True if anything has."""
        came = 0
        for source in self.sources.values():
            events = source.pull(0)
            came += len(events)
            for event in events:
                self._take(event)
        if came < BUSY:
            time.sleep(NAP_S)
        if time.monotonic() - self._flushed > FLUSH_S:
            self._flushed = time.monotonic()
            for recording, _ in self._open.values():
                recording.flush()
        if any(recorded.rows for _, recorded in self._open.values()):
            self._give_up_waiting()
        return came > 0

    def _give_up_waiting(self) -> None:
        """A stream that has not begun long after the other one ended will not: the daemon refused the run."""
        for recording, recorded in list(self._open.values()):
            begun = set(recording.rows) == set(recorded.rows)
            if recorded.rows and begun and time.monotonic() - self._ended > OTHER_S:
                missing = ", ".join(set(self.sources) - set(recorded.rows))
                log.warning("run %s: nothing came of the %s stream", recorded.run, missing)
                self._finish(recording, recorded)

    def _take(self, event: Event) -> None:
        match event:
            case Start():
                self._start(event)
            case Frame() if event.run in self._open:
                self._open[event.run][0].append(event)
            case Closed() if event.end.run in self._open:
                self._end(event)

    def _start(self, start: Start) -> None:
        if start.run not in self._open:
            if self.one_run and (self._open or self.recorded):
                return  # the file has its run
            path = self.output if self.one_run else _unused(self.output / _name(start))
            self._open[start.run] = (
                Recording(path, streams=set(self.sources), overwrite=self.settings.overwrite),
                Recorded(start.run, str(path)),
            )
            log.info("run %s from %r: writing %s", start.run, start.source, path)
        if start.stream not in self._open[start.run][0].rows:
            self._open[start.run][0].start(start)

    def _end(self, closed: Closed) -> None:
        """A stream's run is over; the file is when all its streams are."""
        recording, recorded = self._open[closed.end.run]
        stream = closed.end.stream
        recording.end(closed.end, closed.ledger)
        recorded.rows[stream] = recording.rows[stream].count
        recorded.lost[stream] = dict(closed.ledger.lost)
        self._ended = time.monotonic()
        if len(recorded.rows) == len(self.sources):
            self._finish(recording, recorded)

    def _finish(self, recording: Recording, recorded: Recorded) -> None:
        """Close a file and say what is in it."""
        recorded.complete = recording.complete
        recorded.path = str(recording.close())
        del self._open[recorded.run]
        self.recorded.append(recorded)
        level = logging.INFO if recorded.complete else logging.WARNING
        rows = ", ".join(f"{count} spectra {stream}" for stream, count in recorded.rows.items())
        log.log(level, "%s: %s, %s", recorded.path, rows, "complete" if recorded.complete else "incomplete")

    def _interrupt(self) -> None:
        """Close what is open, as far as it came."""
        for source in self.sources.values():
            if (closed := source.reader.interrupt(time.time_ns(), Reason.STOPPED)) and (
                closed.end.run in self._open
            ):
                self._end(closed)
        for recording, recorded in list(self._open.values()):  # a stream that never started
            recorded.rows |= {stream: rows.count for stream, rows in recording.rows.items()}
            self._finish(recording, recorded)


def _name(start: Start) -> str:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(start.time_ns / 1e9))
    run = "".join(letter for letter in start.run if letter.isalnum())[:8]
    return f"{stamp}-{run}.h5"


def _unused(path: Path) -> Path:
    """The path, or with a number where a run is met twice, such as after an interruption, or where a
    recorder that was killed left a part of it."""
    paths = [path, *(path.with_stem(f"{path.stem}-{number}") for number in range(2, 1000))]
    return next((each for each in paths if not each.exists() and not partial_path(each).exists()), path)


def _check_output(output: Path, one_run: bool, overwrite: bool) -> None:
    """Refuse before the experiment what would fail during it."""
    folder = output.parent if one_run else output
    if one_run and not overwrite:
        refuse_existing(output)
    if not one_run and output.is_file():
        raise RecordingError(f"{output} is neither a .h5 file nor a folder")
    refuse_unwritable(folder)
