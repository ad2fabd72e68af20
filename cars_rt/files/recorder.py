"""The recorder: subscribes to the raw stream, the result stream or both, and writes each run to a file."""

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cars_rt.files.recording import (
    SUFFIXES,
    Claim,
    Recording,
    RecordingError,
    claimed,
    refuse_unwritable,
    repair_all,
)
from cars_rt.protocol import Closed, Event, Frame, Reason, Start, StreamName
from cars_rt.sockets import RAMAN_ADDRESS
from cars_rt.sockets.addresses import Address
from cars_rt.source import Source
from cars_rt.trust.curve import ClientKeys
from cars_rt.trust.flags import RecorderAccess

log = logging.getLogger("cars_rt.recorder")

FLUSH_S = 1.0  # at most so much is lost when the recorder is killed
NAP_S = 0.01  # between two looks; being woken for every spectrum would cost the engine's cores more
BUSY = 64  # events of one look after which there is no nap
OTHER_S = 30.0  # how long a stream may begin after the other one of the run has ended
MOST_WAITING = 32  # recordings that wait for their other stream; each holds files open
QUIET_S = 0.2  # a stop takes in what is already on its way, until nothing came for so long,
STOP_S = 0.3  # but for no longer than this, however fast it comes
LOW_BYTES = 32 * 2**20  # left on the disk when a recording ends for want of room: closing takes some
MOST_KEPT = 10_000  # runs that are remembered one by one


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

    def describe(self) -> str:
        """How much is in the file."""
        rows = ", ".join(f"{count} spectra {stream}" for stream, count in self.rows.items())
        return f"{rows or 'no spectra'}, {'complete' if self.complete else 'incomplete'}"


@dataclass(slots=True, eq=False)
class _Open:
    """A file that is being written, and what of its run has ended."""

    recording: Recording
    recorded: Recorded
    ended: float = 0.0  # when a stream of it ended the last time

    @property
    def waiting(self) -> bool:
        """Every stream that began has ended, and another one should have begun."""
        return bool(self.recorded.rows) and set(self.recording.rows) == set(self.recorded.rows)


class Recorder:
    """Writes runs to `output`: one run if it is a .h5 file, every run if it is a folder.

    Raises StreamError for an impossible address, KeysError for keys that cannot be used, RecordingError if
    the output cannot be written.
    """

    def __init__(self, output: Path, settings: RecordSettings) -> None:
        self.output = output
        self.settings = settings
        self.recorded: list[Recorded] = []  # the last ones
        self.runs = self.incomplete = self.given_up = self.failed = 0  # files closed; of those
        self.one_run = output.suffix.lower() in SUFFIXES and not output.is_dir()
        self._stopping = False
        self._spectra = 0  # in files that are closed
        self._open: dict[str, _Open] = {}
        self._flushed = time.monotonic()
        self._full = ""
        self._written = 0  # bytes in the open files, a look at the disk ago
        raman = (settings.raman, settings.access.raman(settings.raman))
        raw = (settings.raw, settings.access.raw(settings.raw))
        streams: dict[StreamName, tuple[str | None, ClientKeys | None]] = {"raw": raw, "raman": raman}
        wanted = {
            stream: (address, keys)
            for stream, (address, keys) in streams.items()
            if address not in (None, "none")
        }
        if not wanted:
            raise RecordingError("nothing to record: give --raman or --raw")
        self._folder = output.parent if self.one_run else output
        self._claim = self._prepare()
        self.sources: dict[StreamName, Source] = {}
        try:
            for stream, (address, keys) in wanted.items():
                self.sources[stream] = Source(address or "", stream, keys)
        except BaseException:
            self._close()
            raise

    def _prepare(self) -> Claim | None:
        """Refuse before the experiment what would fail during it; the one file's name, if it is one."""
        if not self.one_run and not self.output.is_dir():
            raise RecordingError(
                f"{self.output} is neither a .h5 file nor a folder: name one NAME.h5 for one run, or make a "
                "folder first for all runs"
            )
        refuse_unwritable(self._folder)
        left = shutil.disk_usage(self._folder).free
        if left < 2 * LOW_BYTES:
            raise RecordingError(f"the disk of {self._folder} has {left / 1e6:.0f} MB left; make room on it")
        if self.one_run:
            return claimed(self.output, overwrite=self.settings.overwrite)
        repair_all(self.output)
        return None

    def stop(self) -> None:
        """Ask `serve` to close what is open and return. Callable from a signal handler."""
        self._stopping = True

    def serve(self, on_tick: Callable[[], None] = lambda: None) -> list[Recorded]:
        """Record until the one run is over, or until `stop`; the last runs. Raises RecordingError if writing
        fails or the disk is full, after closing as a file what is there."""
        try:
            while not (self._stopping or self._full or (self.one_run and self.runs and not self._open)):
                self._turn()
                on_tick()
            quiet = stopped = time.monotonic()
            while self._open and time.monotonic() < min(quiet + QUIET_S, stopped + STOP_S):
                if self._turn():
                    quiet = time.monotonic()
            self._interrupt()
        except RecordingError as error:
            raise RecordingError(f"{error}{self._save()}") from None
        finally:
            self._close()
        if self._full:
            raise RecordingError(self._full)
        return self.recorded

    @property
    def spectra(self) -> int:
        """Spectra in the open and the finished files, once also where counts and results are recorded."""
        being = [[rows.count for rows in each.recording.rows.values()] for each in self._open.values()]
        return self._spectra + sum(max(counts, default=0) for counts in being)

    def describe(self) -> str:
        """What it does, or waits for, in a phrase."""
        waiting = sum(each.waiting for each in self._open.values())
        if not self._open and not self.runs:
            return "waiting for a run"
        said = f"{self.spectra} spectra written"
        if waiting:
            said += f", {waiting} recordings wait for their other stream"
        if self.given_up:
            said += f", {self.given_up} had nothing of it"
        return said

    @property
    def left(self) -> list[Path]:
        """Partial files that are there, for whoever leaves without closing them."""
        return [each.recording.partial for each in self._open.values() if each.recording.partial.exists()]

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
            for each in self._open.values():
                each.recording.flush()
            self._look_at_the_disk()
        self._give_up_waiting()
        return came > 0

    def _look_at_the_disk(self) -> None:
        """End while there is room to end well: closed files, and a word."""
        free = shutil.disk_usage(self._folder).free
        rows = [rows for each in self._open.values() for rows in each.recording.rows.values()]
        written = sum(each.count * each.row_bytes for each in rows)
        used, self._written = max(written - self._written, 0), written
        if self._open and free < LOW_BYTES + 2 * used:
            self._full = (
                f"the disk of {self._folder} is full ({free / 1e6:.0f} MB left), so the recording ended"
            )
            log.error("%s", self._full)

    def _give_up_waiting(self, room: int = 0) -> None:
        """A stream that has not begun long after the other one ended will not: the daemon refused the run.
        Those that wait longest end, too, where many do: a program may have only so many files open."""
        waiting = [each for each in self._open.values() if each.waiting]
        for each in sorted(waiting, key=lambda each: each.ended):
            late = time.monotonic() - each.ended > OTHER_S
            if not late and len(waiting) + room <= MOST_WAITING:
                break
            waiting.remove(each)
            self.given_up += 1
            missing = ", ".join(set(self.sources) - set(each.recorded.rows))
            why = f"within {OTHER_S:g} s" if late else f"and {MOST_WAITING} later runs wait, too"
            log.warning("run %s: nothing came of the %s stream %s", each.recorded.run, missing, why)
            self._finish(each)

    def _take(self, event: Event) -> None:
        """One event. Whatever is wrong with one run costs that run's file, and no other."""
        run = event.end.run if isinstance(event, Closed) else getattr(event, "run", "")
        try:
            match event:
                case Start():
                    self._start(event)
                case Frame() if run in self._open:
                    self._open[run].recording.append(event)
                case Closed() if run in self._open:
                    self._end(event)
        except RecordingError:
            raise
        except Exception as error:  # of h5py or NumPy, at values that nobody has thought of
            self.failed += 1
            log.error("run %s cannot be recorded: %s", run, str(error) or type(error).__name__)
            if (each := self._open.get(run)) is not None:
                each.recording.fail()
                self._finish(each)

    def _start(self, start: Start) -> None:
        if start.run not in self._open:
            if self.one_run and (self._open or self.runs):
                return  # the file has its run
            self._give_up_waiting(room=1)
            claim = self._claim or Claim.unused(self.output / _name(start))
            path, overwrite = claim.path, self.settings.overwrite and self.one_run
            self._open[start.run] = _Open(
                Recording(claim, streams=set(self.sources), overwrite=overwrite),
                Recorded(start.run, str(path)),
            )
            log.info("run %s from %r: writing %s", start.run, start.source, path)
        if start.stream not in self._open[start.run].recording.rows:
            self._open[start.run].recording.start(start)

    def _end(self, closed: Closed) -> None:
        """A stream's run is over; the file is when all its streams are."""
        each = self._open[closed.end.run]
        stream = closed.end.stream
        if stream not in each.recording.rows:
            return  # it began in another file, which was closed
        each.recording.end(closed.end, closed.ledger)
        each.recorded.rows[stream] = each.recording.rows[stream].count
        each.recorded.lost[stream] = dict(closed.ledger.lost)
        each.ended = time.monotonic()
        if len(each.recorded.rows) == len(self.sources):
            self._finish(each)

    def _finish(self, each: _Open) -> None:
        """Close a file and say what is in it, as counted there."""
        recorded = each.recorded
        path = each.recording.close()
        contents = each.recording.contents or each.recording.rescue()
        recorded.path = str(path if contents is None else contents.path)
        recorded.complete = contents is not None and contents.complete
        if contents is not None:
            recorded.rows = dict(contents.rows)
        del self._open[recorded.run]
        self.recorded.append(recorded)
        del self.recorded[:-MOST_KEPT]
        self.runs += 1
        self.incomplete += not recorded.complete
        self._spectra += max(recorded.rows.values(), default=0)
        said = contents.describe() if contents else "as far as it could be written; see `cars-rt repair`"
        log.log(logging.INFO if recorded.complete else logging.WARNING, "%s: %s", recorded.path, said)

    def _interrupt(self) -> None:
        """Close what is open, as far as it came."""
        for source in self.sources.values():
            if (closed := source.reader.interrupt(time.time_ns(), Reason.STOPPED)) and (
                closed.end.run in self._open
            ):
                self._end(closed)
        for each in list(self._open.values()):  # a stream that never started
            self._finish(each)

    def _save(self) -> str:
        """After a failed write: make files of what is there; what became of them, to end a sentence."""
        said = ""
        for each in list(self._open.values()):
            with suppress(RecordingError):
                self._finish(each)
                said += f"; {each.recorded.path} has {each.recorded.describe()}"
        return said

    def _close(self) -> None:
        for each in self._open.values():
            each.recording.fail()
        for source in self.sources.values():
            source.close()
        if self._claim is not None:
            self._claim.release()


def _name(start: Start) -> str:
    """When it began and the beginning of its id; a number behind it tells files apart, see `Claim.unused`."""
    try:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(start.time_ns / 1e9))
    except (OverflowError, ValueError, OSError):  # a time that the system's calendar does not reach
        stamp = "undated"
    run = "".join(letter for letter in start.run if letter.isascii() and letter.isalnum())[:8]
    return f"{stamp}-{run or 'run'}.h5"
