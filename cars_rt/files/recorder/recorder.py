"""The recorder's loop: which run goes into which file, begun by itself or when it is told to."""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cars_rt.files.recorder.disk import Disk, refuse_full, refuse_no_folder
from cars_rt.files.recorder.names import Template, below, make_way
from cars_rt.files.recorder.piece import Piece, Recorded, once_more, waiting_for
from cars_rt.files.recorder.plan import Plan, planned
from cars_rt.files.recorder.settings import RecordSettings
from cars_rt.files.recording import SUFFIXES, RecordingError, claimed, refuse_unwritable, repair_all
from cars_rt.printable import counted
from cars_rt.protocol import Closed, Event, Frame, Reason, RunReader, Start, StreamName
from cars_rt.source import Source

log = logging.getLogger("cars_rt.recorder")

FLUSH_S = 1.0  # the most that is lost when the recorder is killed
NAP_S = 0.01  # between two looks; being woken for every spectrum would cost the engine's cores more
BUSY = 64  # events of one look after which there is no nap
OTHER_S = 30.0  # how long a stream may begin after the other one of the run has ended
CATCH_UP_S = 2.0  # how long results may pause on their way to the counts at which a recording was stopped
MOST_WAITING = 32  # recordings that wait for their other stream; each holds files open
QUIET_S = 0.2  # a stop reads what is already on its way, until nothing has come for this long
STOP_S = 0.3  # and for this long at most
MOST_KEPT = 10_000  # runs that are remembered one by one

#: Called with the files that were open when something was asked for, once they are closed.
Then = Callable[[list[Recorded]], None]


class Recorder:
    """Writes runs to `output`: one run if it is a .h5 file, every run if it is a folder; if idle, none before
    `start` or `open` say so, and then into that folder, which is made.

    Raises StreamError for an impossible address, KeysError for keys that cannot be used, RecordingError if
    the output cannot be written.
    """

    def __init__(self, output: Path, settings: RecordSettings, *, idle: bool = False) -> None:
        self.output, self.settings, self.idle = output, settings, idle
        self.recorded: list[Recorded] = []  # the last ones
        self.runs = self.incomplete = self.given_up = self.failed = 0  # files closed, and some of those
        self.passed_over = 0  # runs that began while nothing was to be recorded
        self.trouble = ""  # why the last recording ended too early
        self.one_run = output.suffix.lower() in SUFFIXES and not output.is_dir()
        self.latest: Piece | None = None  # closed last, until something else is to be recorded
        self._stopping = False
        self._spectra = 0  # in closed files
        self._open: list[Piece] = []  # a run has one; two where it was just split, or goes on in another one
        self._asked: list[tuple[Then, list[Piece]]] = []
        self._flushed = time.monotonic()
        self.begun_ns = time.time_ns()  # by which it is told from one that was started again
        self._packing = settings.packing()
        wanted = settings.streams()
        self.folder = output.parent if self.one_run else output
        self.plan = self._prepare()
        self.disk = Disk(self.folder)
        self.sources: dict[StreamName, Source] = {}
        try:
            for stream, (address, keys) in wanted.items():
                self.sources[stream] = Source(address, stream, keys)
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> Plan | None:
        """Refuse before the experiment what would fail during it. Returns what is to be recorded from the
        start."""
        if self.idle and self.one_run:
            raise RecordingError(f"{self.output} is one file, and recordings on command need a folder")
        if not self.one_run:
            refuse_no_folder(self.output, make=self.idle)
        refuse_unwritable(self.folder)
        refuse_full(self.folder)
        if self.one_run:
            claim = claimed(self.output, overwrite=self.settings.overwrite)
            return planned(self.settings, None, claim)
        repair_all(self.output)
        return None if self.idle else planned(self.settings, Template(self.settings.name), None)

    def stop(self) -> None:
        """Ask `serve` to close what is open and return. Callable from a signal handler."""
        self._stopping = True

    def start(
        self, name: str | None = None, sample: str | None = None, notes: str | None = None
    ) -> Piece | None:
        """Record each run from now on, until `finish`, into files of this name or the settings'. A run that
        is open is joined where it is: then its file is returned. Raises RecordingError."""
        self._refuse_busy()
        return self._follow(planned(self.settings, Template(name or self.settings.name), None, sample, notes))

    def open(self, path: str, sample: str | None = None, notes: str | None = None) -> Path:
        """Record the open run, or the next one, into exactly this file below the folder. Returns its path.
        Raises RecordingError."""
        self._refuse_busy()
        where = below(self.folder, path)
        make_way(self.folder, where)
        self._follow(planned(self.settings, None, claimed(where), sample, notes))
        return where

    def finish(self, then: Then) -> None:
        """Record nothing more, and close what is open."""
        plan, self.plan = self.plan, None
        pieces = self._open.copy()
        if plan is not None and not pieces:
            plan.release()
        for each in pieces:
            each.cut(self._readers, CATCH_UP_S, time.monotonic())
        self._asked.append((then, pieces))
        self._stopping |= self.one_run
        self._settle()

    def _refuse_busy(self) -> None:
        if self.one_run:
            raise RecordingError(f"this recorder takes one run into {self.output}: start one with a folder")
        if self.plan is not None or self._open:
            raise RecordingError("it is recording already: `cars-rt ctl record stop` first")
        refuse_full(self.folder)
        if self.latest is not None and not self.latest.finished:  # a full disk kept it from that
            log.info("the file before is closed now: %s", self.latest.close())

    def _follow(self, plan: Plan) -> Piece | None:
        """Record by this plan from now on. Returns the file of an open run that is joined."""
        self.plan, self.trouble, self.latest = plan, "", None
        self.disk.begin()
        readers = self._readers.values()
        over = {each.last for each in readers}
        starts = {each: each.run for each in readers if each.run is not None and each.run.run not in over}
        newest = max(starts.values(), key=lambda start: start.time_ns, default=None)
        there = {each: start for each, start in starts.items() if newest and start.run == newest.run}
        piece: Piece | None = None
        try:
            for start in there.values():
                # All streams from the same spectrum on, which the slower one has yet to reach.
                piece = piece or self._piece(start, max(each.index for each in there))
                piece.start(start)
        except Exception as error:  # the asker is told, and nothing stays half begun
            self._give_up(str(error))
            raise
        return piece

    def serve(self, on_tick: Callable[[], None] = lambda: None) -> list[Recorded]:
        """Record until the one run is over, or until `stop`. Returns the last runs. Raises RecordingError if
        writing fails or the disk is full, after closing the files; an idle recorder goes on."""
        try:
            while not (self._stopping or self._failed or (self.one_run and self.runs and not self._open)):
                self._turn()
                on_tick()
            quiet = stopped = time.monotonic()
            while self._open and time.monotonic() < min(quiet + QUIET_S, stopped + STOP_S):
                if self._turn():
                    quiet = time.monotonic()
            self._interrupt()
        finally:
            self.close()
        if self._failed:
            raise RecordingError(self.trouble)
        return self.recorded

    @property
    def _failed(self) -> bool:
        return bool(self.trouble) and not self.idle

    @property
    def _readers(self) -> dict[str, RunReader]:
        return {stream: source.reader for stream, source in self.sources.items()}

    @property
    def spectra(self) -> int:
        """Spectra in open and finished files. Counts and results of a spectrum count once."""
        return self._spectra + sum(each.spectra for each in self._open)

    def describe(self) -> str:
        """What it does, or waits for, in a phrase."""
        if self.plan is None and not self._open:
            return "idle: waits for `cars-rt ctl record start`"
        if not self._open and not self.runs:
            return "waiting for a run"
        without = waiting_for(sum(each.waiting for each in self._open), self.given_up)
        return f"{counted(self.spectra, 'spectrum')} written{without}"

    @property
    def left(self) -> list[Path]:
        """Partial files that are there, to be named if they are not closed."""
        return [each.recording.partial for each in self._open if each.recording.partial.exists()]

    @property
    def now(self) -> Piece | None:
        """The file that is being written; of several the one begun last."""
        return self._open[-1] if self._open else None

    def _of(self, run: str) -> list[Piece]:
        return [each for each in self._open if each.run == run]

    def _turn(self) -> bool:
        """Take what has come. True if anything has. A file that cannot be written ends the recording."""
        try:
            came = self._take_all()
            self._settle()
            self._give_up_waiting()
        except RecordingError as error:
            self._give_up(str(error))
            return True
        return came > 0

    def _take_all(self) -> int:
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
            for each in self._open:
                each.flush()
            self._look_at_the_disk()
            self._split()
        return came

    def _look_at_the_disk(self) -> None:
        """Warn in time, and end while there is still room to close the files."""
        if not self._open:
            return
        stored, given = zip(*((each.stored_bytes, each.given_bytes) for each in self._open), strict=True)
        self.disk.look(sum(stored), sum(given), time.monotonic())
        if warning := self.disk.warning():
            log.warning("%s", warning)
        self._end_if_full("the recording ended")

    def _end_if_full(self, so: str) -> None:
        if self.disk.full:
            for each in self._open:
                each.stop(self._readers, time.monotonic())
            self._give_up(f"the disk of {self.folder} is full ({self.disk.free / 1e6:.0f} MB left), so {so}")

    def _give_up(self, why: str) -> None:
        """Make files of what is there, and record nothing more until somebody asks for it."""
        if self.plan is not None and not self._open:
            self.plan.release()
        self.plan, self.trouble = None, f"{why}{self._save()}"
        self._answer()
        log.error("%s", self.trouble)

    def _split(self) -> None:
        """Go on in another file where one has become large enough."""
        most = self.settings.split_gb * 1e9
        for each in list(self._open) if most else ():
            whole = each.limit is None and each.recording.rows and not each.recorded.rows
            if whole and each.stored_bytes >= most:
                each.cut(self._readers, OTHER_S, time.monotonic())
                self._open.append(following := each.go_on(self._readers))
                paths = each.recording.path, following.recording.path
                log.info("%s goes on in %s, from spectrum %d on", *paths, each.limit)

    def _settle(self) -> None:
        """Close files that have reached their limit, and answer the requests that waited for it."""
        now = time.monotonic()
        for piece in [each for each in self._open if each.limit is not None]:
            if piece.catch_up(self._readers, now):
                self._finish(piece)
        self._answer()

    def _answer(self) -> None:
        for asked in [each for each in self._asked if not any(piece in self._open for piece in each[1])]:
            self._asked.remove(asked)
            then, pieces = asked
            then([piece.recorded for piece in pieces])

    def _give_up_waiting(self, room: int = 0) -> None:
        """Close files whose other stream has not begun long after the first one ended: the daemon refused the
        run. If many wait, those that wait longest are closed, since a program may have only so many files
        open."""
        waiting = [each for each in self._open if each.waiting]
        for each in sorted(waiting, key=lambda each: each.ended):
            late = time.monotonic() - each.ended > OTHER_S
            if not late and len(waiting) + room <= MOST_WAITING:
                break
            waiting.remove(each)
            self.given_up += 1
            missing = ", ".join(set(self.sources) - set(each.recorded.rows))
            why = f"within {OTHER_S:g} s" if late else f"and {MOST_WAITING} later runs wait, too"
            log.warning("run %s: nothing came of the %s stream %s", each.run, missing, why)
            self._finish(each)

    def _take(self, event: Event) -> None:
        """Take in one event. A fault in one run costs that run's file, and no other."""
        run = event.end.run if isinstance(event, Closed) else getattr(event, "run", "")
        try:
            match event:
                case Start():
                    self._begin(event)
                case Frame():
                    for piece in self._of(run):
                        piece.take(event)
                case Closed():
                    for piece in self._of(run):
                        piece.end(event, time.monotonic())
                        if piece.over:
                            self._finish(piece)
        except RecordingError:
            raise
        except Exception as error:  # h5py and NumPy raise many kinds at odd values
            self.failed += 1
            log.error("run %s cannot be recorded: %s", run, str(error) or type(error).__name__)
            for piece in self._of(run):
                piece.recording.fail()
                self._finish(piece)

    def _begin(self, start: Start) -> None:
        if text := once_more(start, [*self.recorded, *(each.recorded for each in self._of(start.run))]):
            log.warning("%s", text)
        if not self._of(start.run):
            if self.plan is not None and not self._open:  # else it is looked at each second
                self.disk.begin()
                self._end_if_full(f"run {start.run} is not recorded")
            if self.plan is None or (self.plan.claimed is not None and self._open):
                self.passed_over += start.stream == next(iter(self.sources))
                return
            self._give_up_waiting(room=1)
            self._piece(start)
        for piece in self._of(start.run):
            piece.start(start)
        if all(start.stream in piece.broken_off for piece in self._of(start.run)):
            self._again(start)

    def _again(self, start: Start) -> None:
        """Begin another file for a stream that goes on after its publisher had vanished or was stopped. The
        file before says where it ended."""
        piece = self._of(start.run)[0].again(start)
        self._open.append(piece)
        log.warning("run %s: its %s stream goes on, now in %s", start.run, start.stream, piece.recording.path)

    def _piece(self, start: Start, first: int = 0) -> Piece:
        """The file of a run that begins, or is joined at spectrum `first`."""
        assert self.plan is not None
        claim, about = self.plan.claim(self.folder, start), self.plan.about
        # Nothing more comes of a stream in which the run is over, unless it begins once more with the counts.
        begins = start.stream == "raw" and not start.index
        over = {name for name, reader in self._readers.items() if reader.last == start.run and not begins}
        wanted = {name for name in self.sources if name == start.stream or name not in over}
        overwrite, packing = self.one_run and self.settings.overwrite, self._packing
        piece = Piece(claim, start.run, wanted, about, first=first, overwrite=overwrite, packing=packing)
        self._open.append(piece)
        late = f", from spectrum {first} on" if first else ""
        log.info("run %s from %r: writing %s%s", start.run, start.source, claim.path, late)
        return piece

    def _finish(self, piece: Piece) -> None:
        """Close a file and say what is in it, as counted there."""
        recorded = piece.recorded
        try:
            said = piece.close()
        finally:
            self._open.remove(piece)
        self.latest = piece
        self.recorded.append(recorded)
        del self.recorded[:-MOST_KEPT]
        if piece.next is None:
            self.runs += 1
            if self.plan is not None and self.plan.claimed is not None:
                self.plan = None  # the one file has its run
        self.incomplete += not recorded.complete
        self._spectra += max(recorded.rows.values(), default=0)
        log.log(logging.INFO if recorded.complete else logging.WARNING, "%s: %s", recorded.path, said)

    def _interrupt(self) -> None:
        """Close what is open, as far as it came."""
        for source in self.sources.values():
            if closed := source.reader.interrupt(time.time_ns(), Reason.STOPPED):
                for piece in self._of(closed.end.run):
                    piece.end(closed, time.monotonic())
        for piece in list(self._open):  # also where a stream never started
            self._finish(piece)
        self._answer()

    def _save(self) -> str:
        """Make files of what is there, even after a failed write. Returns what became of them, to end a
        sentence."""
        said = ""
        for each in list(self._open):
            with suppress(RecordingError):
                self._finish(each)
                said += f"; {each.recorded.path} has {each.recorded.describe()}"
        return said

    def close(self) -> None:
        """Give everything back; what is open stays as it is. A second call does nothing."""
        for each in self._open:
            each.recording.fail()
        for source in self.sources.values():
            source.close()
        if self.plan is not None:
            self.plan.release()
