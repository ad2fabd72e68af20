"""What a receiver knows of the current run, and in which order messages come: what a gap is, what a repeat.

Pure: parts in, events out. The daemon, the recorder and the client all read through it, so that
they judge a stream alike.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TypeAlias

from cars_rt.accounting import Cause, Kind, Ledger, Problem, Range, Trouble
from cars_rt.printable import counted
from cars_rt.protocol.again import changed, refused
from cars_rt.protocol.announced import disagreement, misshapen
from cars_rt.protocol.codec import decode
from cars_rt.protocol.errors import ProtocolError
from cars_rt.protocol.fields import Part
from cars_rt.protocol.gaps import jumped, skipped
from cars_rt.protocol.layout import LEARN_AFTER, FrameLayout
from cars_rt.protocol.limits import MAX_TEXT
from cars_rt.protocol.messages import MAIN_ARRAY, End, Frame, Message, Reason, Start, StreamName
from cars_rt.protocol.notice import decode_notice
from cars_rt.protocol.numbers import Before, Numbers, Place, Verdict
from cars_rt.protocol.refused import RefusedStarts
from cars_rt.protocol.serpentine import Serpentine
from cars_rt.protocol.totals import countable


@dataclass(frozen=True, eq=False, slots=True)
class Closed:
    """A run is over: its `end` (the receiver's own if none came) and what was counted here.

    `end.announced` is always set, and always ledger.spectra + ledger.total_lost.
    """

    end: End
    ledger: Ledger


#: What somebody who came after the beginning of a run can do about it the next time.
REMEDY = "start the driver last, or let it wait (--subscribers 2 for a daemon and a recorder)"
JOINED_LATE = f"joined late, after the run had begun; {REMEDY}"
ANEW = "time_ns, and it began to count anew"
OF_ITS_OWN = "what changes needs a run with an id of its own"
UNPLACED = -1  # the index of spectra that came in unknown places

Event: TypeAlias = Start | Frame | Closed | Problem


class RunReader:
    """Reads one stream of one publisher.

    `read` turns the parts of one message into events: the message itself if it is in order, and a
    Problem for everything that is not. A frame is passed on only if it belongs to the run whose
    `start` was seen, has the announced dtype and pixels, and is not older than what came before.
    `ledger` counts the open run.
    """

    def __init__(self, stream: StreamName) -> None:
        self.stream = stream
        self.run: Start | None = None  # the open run
        self.ledger = Ledger()
        self._at = Numbers()
        self._jump: Problem | None = None  # what seems to be missing before the last frame, if in doubt
        self._unplaced = 0  # rejected spectra whose place is unknown: in a gap, or beyond the run
        self._doubtful = 0  # refused spectra that are not counted yet: the gap that they leave counts them
        self._changed = ""  # what of the open run's start was other when it was said again: it is refused
        self._told: set[str] = set()  # fields of it that were other, and were told
        self.refused, self._serpentine = RefusedStarts(), Serpentine()
        self.last: str | None = None  # the run that ended last, whose stragglers are not "unknown"
        self._over: tuple[Start, int] | None = None  # the run after whose end nothing comes, and its spectra
        self._late: Start | None = None  # of that run: it came after the end
        self._layout: FrameLayout | None = None  # of a frame of the open run that was in order
        self._missed = 0  # frames in a row that did not fit the layout
        self._odd: tuple[int, int, int] | None = None  # a frame of a wrong shape: sequence after, index, most

    def read(self, parts: Sequence[Part]) -> list[Event]:
        """Events of one message, in order. Never raises; a malformed message is a Problem."""
        try:
            return self._read(parts)
        except Exception as error:  # a mistake of ours must cost no more than this message
            text = f"a message that this program failed on: {type(error).__name__}: {error}"
            return [self._problem(Cause.REJECTED, 0, text[:MAX_TEXT], Kind.FAILED)]

    def _read(self, parts: Sequence[Part]) -> list[Event]:
        layout, at = self._layout, self._at
        sequences, indices = at.sequences.base, at.indices.base
        if (
            layout is not None
            and at.settled
            and (frame := layout.read(parts, at.sequence - sequences, at.index - indices))
            and not (sequences and at.older(frame))
        ):
            if sequences or indices:
                frame.sequence, frame.index = at.sequence, at.index
            self._missed = 0
            self._pass(frame)
            return [frame]
        try:
            message = decode(parts)
        except ProtocolError as error:
            if there := decode_notice(parts):
                return [] if there == self.stream else [self._elsewhere(there)]
            self.refused.note(parts, str(error))
            return [self._problem(Cause.REJECTED, 0, str(error), error.fault)]
        events = self.accept(message)
        if len(events) == 1 and isinstance(in_order := events[0], Frame):
            self._missed += 1
            if self._missed >= LEARN_AFTER:
                self._missed = 0
                self._layout = FrameLayout.of(in_order, parts) or layout
        return events

    def accept(self, message: Message) -> list[Event]:
        """Do what `read` does, with a message that is already decoded."""
        if message.stream != self.stream:
            return [self._elsewhere(message.stream)]
        match message:
            case Frame():
                return self._frame(message)
            case Start():
                return self._start(message)
            case End():
                return self._end(message)

    def interrupt(self, time_ns: int, reason: Reason = Reason.INTERRUPTED) -> Closed | None:
        """Close the open run without its `end`: the publisher vanished or we stop. None if none is open."""
        if self.run is None:
            return None
        if self._doubtful:  # no gap came to count them
            self.ledger.set_lost(Cause.REJECTED, self.ledger.lost[Cause.REJECTED] + self._doubtful)
            self._unplaced += self._doubtful
        return self._close(self._end_here(self.run, time_ns, reason))

    @property
    def index(self) -> int:
        """The index of the spectrum that the open run is expected to go on with."""
        return self._at.index

    @property
    def sequence(self) -> int:
        """The number of the frame that the open run, or the last one, is expected to go on with."""
        return self._at.sequence

    def so_far(self, time_ns: int, reason: Reason) -> Closed | None:
        """What `interrupt` would return now. The open run goes on. None if none is open."""
        if self.run is None:
            return None
        end = self._end_here(self.run, time_ns, reason)
        return Closed(end, deepcopy(self.ledger).within(end.announced))

    def _end_here(self, run: Start, time_ns: int, reason: Reason) -> End:
        upstream = self.ledger.lost[Cause.UPSTREAM]
        announced = self.ledger.spectra + self.ledger.total_lost
        return End(
            stream=self.stream,
            run=run.run,
            time_ns=time_ns,
            frames=self._at.sequence,
            spectra=announced - upstream,
            announced=announced,
            reason=reason,
            lost={Cause.UPSTREAM.value: upstream} if upstream else {},
        )

    # -- one kind of message each -------------------------------------------------------------------

    def _start(self, start: Start) -> list[Event]:
        events: list[Event] = []
        if self.run is not None and self.run.run == start.run:  # said again for late subscribers
            anew = self._at.said_again(start)
            events = self._said_again(self.run, start)
            if anew and not self._changed:
                self._changed, self._layout = ANEW, None
            return events
        if self._overtaken(start):
            self._late = start
            text = f"start of run {start.run} was said again after its end"
            return [self._problem(Cause.REPEATED, 0, text, Kind.AFTER_END)]
        if self.run is not None:
            text = f"the end of run {self.run.run} never came; run {start.run} begins"
            events.append(self._problem(Cause.REJECTED, 0, text, Kind.SECOND_START))
            if interrupted := self.interrupt(start.time_ns):
                events.append(interrupted)
        self.run, self.ledger, self._layout = start, Ledger(), None
        self._at, self._jump = Numbers(start), None
        self._unplaced, self._doubtful, self._changed, self._told, self._odd = 0, 0, "", set(), None
        self.refused.clear()
        self._serpentine = Serpentine()
        events.append(start)
        if start.index:
            events.append(self._gap(Cause.MISSING, start.index, JOINED_LATE, Kind.JOINED_LATE))
            self._at.sequence, self._at.index = start.sequence, start.index
        return events

    def _overtaken(self, start: Start) -> bool:
        """Whether it was said again and its end went before, as of a driver that says it from another loop.
        One that is other, or goes on before that end, is of a new run with an old id."""
        if self._over is None:
            return False
        run, spectra = self._over
        return run.run == start.run and 0 < spectra <= start.index and not changed(run, start)

    def _said_again(self, run: Start, start: Start) -> list[Event]:
        """Say once of each field that it is other. Where the numbers would mean something else, they are
        refused from here on; what else is other is not taken, for half a run cannot have it."""
        self.run = replace(run, model=start.model)  # what makes results now
        found = changed(run, start)
        new = {name: said for name, said in found.items() if name not in self._told}
        self._told |= new.keys()
        text = f"start of run {run.run} was said again with another"
        if (other := refused(found)) and not self._changed:
            self._changed, self._layout = other, None
            text += f" {other}; its spectra are refused from here on: {OF_ITS_OWN}"
            return [self._problem(Cause.REJECTED, 0, text, Kind.SECOND_START)]
        if not new or self._changed:
            return []
        text += f" {', '.join(new.values())}; what it was at first holds for the whole run: {OF_ITS_OWN}"
        return [self._problem(Cause.UPSTREAM, 0, text[:MAX_TEXT], Kind.START_CHANGED)]

    def _frame(self, frame: Frame) -> list[Event]:
        run = self.run
        if run is None or frame.run != run.run:
            # Spectra of another run: whatever they cost, they cost it nothing here.
            if frame.run == self.last:
                if (late := self._late) is not None and frame.index >= late.index:  # it goes on all the same
                    self._over = self._late = None
                    return [*self._start(late), *self._frame(frame)]
                text = f"a frame came after the end of run {frame.run}"
                return [self._problem(Cause.REPEATED, 0, text, Kind.AFTER_END)]
            why = self.refused.why(frame.run)
            lacks = (
                f"its start was refused: {why}"
                if why
                else f"no start of it came that could be read; {REMEDY}"
            )
            text = f"run {frame.run} is under way, but {lacks}"
            return [self._problem(Cause.REJECTED, 0, text[:MAX_TEXT], Kind.UNKNOWN_RUN)]
        if text := self._serpentine.fall(frame, run.scan[1] if run.scan else 0):
            return [self._problem(Cause.UPSTREAM, 0, text, Kind.SERPENTINE), *self._placed(frame, run)]
        return self._placed(frame, run)

    def _placed(self, frame: Frame, run: Start) -> list[Event]:
        sent, odd = frame, misshapen(frame, run)
        if odd is not None:
            frame = replace(frame, arrays={MAIN_ARRAY[self.stream]: frame.block[: odd[0]]})
        spectra = len(frame.block)
        self._fit(frame.sequence + self._at.sequences.base, frame.index + self._at.indices.base)
        place = self._at.place(frame)
        frame = place.frame
        match place.verdict:
            case Verdict.REPEAT:
                return [self._problem(Cause.REPEATED, spectra, place.text, Kind.REPEAT)]
            case Verdict.NUMBER_BACK:
                self._unplaced += spectra
                if "time_ns" in self._told and not self._changed:  # a driver whose numbers mean others now
                    self._changed, self._layout = ANEW, None
                return [self._problem(Cause.REJECTED, spectra, place.text, Kind.NUMBER_BACK, UNPLACED)]
            case Verdict.IMPLAUSIBLE:
                self._doubtful += spectra
                return [self._problem(Cause.REJECTED, 0, place.text, Kind.IMPLAUSIBLE)]
            case Verdict.INDEX_BACK:
                first = self._at.displaced(frame)
                return [self._problem(Cause.REJECTED, spectra, place.text, Kind.INDEX_BACK, first)]
        events = self._way(place)
        other = f"start was said again with another {self._changed}"
        if fault := (Kind.SECOND_START, other) if self._changed else disagreement(sent, run):
            self._at.advance(frame, place.before)
            self._odd = None if odd is None else (self._at.sequence, frame.index, odd[1])
            text = f"frame {frame.sequence}: {fault[1]}"
            return [*events, self._problem(Cause.REJECTED, spectra, text, fault[0], frame.index)]
        self._pass(frame, place.before)
        return [*events, frame]

    def _pass(self, frame: Frame, before: Before | None = None) -> None:
        """Count a frame that is in order; `before`: how the run goes on if its numbers were damaged."""
        self.ledger.passed(self._at.advance(frame, before))

    def _way(self, place: Place) -> list[Event]:
        """What is told before a frame that follows: how its numbers go on, and what is missing before it."""
        frame, at, events, jump = place.frame, self._at, list[Event](), self._jump
        self._jump = None
        if place.back:
            cause, first, missed = (jump.cause, jump.first, jump.spectra) if jump else (Cause.UPSTREAM, 0, 0)
            events.append(self._problem(cause, -missed, place.text, Kind.INDEX_BACK, first))
        elif place.text:
            kind = Kind.WRAP if place.verdict is Verdict.FOLLOWS else Kind.INDEX_BACK
            events.append(self._problem(Cause.UPSTREAM, 0, place.text, kind))
        missing = frame.index - at.index
        if frame.sequence > at.sequence:
            if missing or not place.anew:
                text = jumped(at.sequence, frame.sequence, missing)
                events.append(self._gap(Cause.MISSING, missing, text, Kind.SEQUENCE_JUMP))
        elif missing > 0:
            text = skipped(at.index, frame.index, first=not at.sequence)
            events.append(self._gap(Cause.UPSTREAM, missing, text, Kind.SOURCE_SKIP))
        if place.before is not None and missing > 0 and isinstance(last := events[-1], Problem):
            self._jump = last
        return events

    def _end(self, end: End) -> list[Event]:
        if self.run is None or end.run != self.run.run:
            # Between two runs the last end is said again for who comes late, also to whom it means nothing.
            if end.run == self.last or (self.run is None and self.last is None):
                return []
            return [self._problem(Cause.REJECTED, 0, f"end of the unknown run {end.run}", Kind.UNKNOWN_RUN)]
        goes_on = end.spectra + self.ledger.lost[Cause.UPSTREAM] if end.announced is None else end.announced
        self._fit(end.frames + self._at.sequences.base, goes_on + self._at.indices.base)
        end = self._at.totals(end, self.ledger.spectra + self.ledger.lost[Cause.REJECTED])
        events: list[Event] = []
        tail = max((end.spectra if end.announced is None else end.announced) - self._at.index, 0)
        if end.frames > self._at.sequence:
            came = f"the last one that came is {self._at.sequence - 1}"
            came = came if self._at.sequence else "and none came that could be read"
            if tail:
                text = f"the run had {end.frames} frames, {came}"
                events.append(self._gap(Cause.MISSING, tail, text, Kind.TAIL_MISSING))
            else:
                text = f"end says {end.frames} frames, though {self._at.sequence} held all of its spectra"
                events.append(self._problem(Cause.MISSING, 0, text, Kind.TAIL_MISSING))
        elif tail and end.announced is not None and end.announced > end.spectra:
            events.append(
                self._gap(Cause.UPSTREAM, tail, "the source lost its last spectra", Kind.SOURCE_SKIP)
            )
        # Only the totals tell how much was lost before the publisher and how much on the way.
        ledger = self.ledger
        here = ledger.spectra + ledger.lost[Cause.REJECTED]
        sent = max(end.spectra, here)
        if here > end.spectra and ledger.spectra + ledger.total_lost == end.announced:
            # The publisher was restarted in mid-run and counts only what it sent since. Our count adds up.
            sent = here + ledger.lost[Cause.MISSING]
            end = replace(end, spectra=sent)
        announced = sent + ledger.lost[Cause.UPSTREAM] if end.announced is None else max(end.announced, sent)
        if sent > end.spectra or (end.announced is not None and announced > end.announced):
            said = "" if end.announced is None else f"{end.announced} spectra announced, "
            text = f"end says {said}{end.spectra} sent, but {here} came"
            events.append(self._problem(Cause.REJECTED, 0, text, Kind.WRONG_TOTALS))
        ledger.set_lost(Cause.UPSTREAM, announced - sent)
        ledger.set_lost(Cause.MISSING, sent - here)
        end = replace(end, spectra=sent, announced=announced)
        # The results of a daemon that was stopped or away may go on when it is back.
        over = (self.run, announced) if self.stream == "raw" or end.reason is Reason.COMPLETE else None
        events.append(self._close(end))
        self._over = over
        return events

    # -- helpers ------------------------------------------------------------------------------------

    def _problem(self, cause: Cause, spectra: int, text: str, kind: Trouble, first: int = 0) -> Problem:
        problem = Problem(cause, spectra, text, kind, first)
        self.ledger.found(problem)
        return problem

    def _elsewhere(self, stream: StreamName) -> Problem:
        """The problem that the publisher has another stream than we read."""
        text = f"the {stream} stream is published there, not the {self.stream} stream"
        return self._problem(Cause.REJECTED, 0, text, Kind.STREAM)

    def _gap(self, cause: Cause, spectra: int, text: str, kind: Trouble) -> Problem:
        """Count spectra, from the next expected one on, that did not come or were refused."""
        first, text = self._at.index, f"{text}: {counted(spectra, 'spectrum')} missing"
        if cause is Cause.MISSING and self._unplaced:
            known = self._place(min(self._unplaced, spectra))
            first, spectra = first + known, spectra - known
        if cause is Cause.MISSING:
            self._doubtful = max(self._doubtful - spectra, 0)
        return self._problem(cause, spectra, text, kind, first)

    def _fit(self, sequence: int, index: int) -> None:
        """Count as many spectra of a frame of a wrong shape as what comes next leaves room for."""
        if self._odd is None or self._odd[0] != self._at.sequence:
            return
        first, most = self._odd[1:]
        frames, room, held = sequence - self._at.sequence, index - first, self._at.index - first
        room = room if not frames else min(room - frames, held)  # each frame between holds a spectrum
        if frames >= 0 and 1 <= room <= most:
            self.ledger.set_lost(Cause.REJECTED, self.ledger.lost[Cause.REJECTED] + room - held)
            self.ledger.note(Range(Cause.REJECTED.value, first + min(room, held), room - held))
            self._at.index = first + room
            self._odd = None

    def _place(self, spectra: int) -> int:
        """Count so many of the rejected spectra as those that are missing next."""
        if spectra:
            self.ledger.note(Range(Cause.REJECTED.value, self._at.index, spectra))
        self._unplaced -= spectra
        return spectra

    def _close(self, end: End) -> Closed:
        if self._unplaced:  # they lie beyond what came in order
            self._place(self._unplaced)
        end = countable(end, self.ledger)
        closed = Closed(end, self.ledger.within(end.announced))
        self.run, self.ledger, self.last, self._layout = None, Ledger(), end.run, None
        self._over = self._late = None
        return closed
