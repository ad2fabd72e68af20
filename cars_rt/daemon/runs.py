"""Runs one after the other: opened, filled, drained and closed, with an account of every spectrum."""

import logging
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace

from cars_rt.accounting import Cause, Kind, Ledger, Problem
from cars_rt.daemon.compute.compute import Compute
from cars_rt.daemon.compute.worker import RAMAN
from cars_rt.daemon.dark import Dark
from cars_rt.daemon.intake import Intake
from cars_rt.daemon.maker import maker
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.outputs.base import Outputs
from cars_rt.daemon.outputs.joined import largest
from cars_rt.daemon.pipeline import Pipeline
from cars_rt.daemon.receipt import Book, Receipt
from cars_rt.daemon.run import Run, RunState
from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric
from cars_rt.engines import EngineError, ModelError
from cars_rt.physics.axis import AxisError
from cars_rt.printable import without_numbers
from cars_rt.protocol import FLAGS, Closed, Event, Fault, Frame, Start

log = logging.getLogger("cars_rt.daemon")

LOSSES = dict.fromkeys((cause.value for cause in Cause if cause is not Cause.REPEATED), 0)  # a copy is none
MOST_SAID = 64  # problems that have a line in the log, in a run or on one connection


class Runs:
    """What happens to the events of one intake. Whatever goes wrong costs that event alone: of a start, its
    run; of an end, its receipt.

    An event that must wait, since a run is being opened or drained, is kept until `proceed` comes to it.
    """

    def __init__(
        self,
        intake: Intake,
        compute: Compute,
        pipeline: Pipeline,
        outputs: Outputs,
        dark: Dark,
        book: Book,
        mishaps: Mishaps,
    ) -> None:
        self.intake, self.compute, self.pipeline, self.outputs = intake, compute, pipeline, outputs
        self.dark, self.book, self.mishaps = dark, book, mishaps
        self.current: Run | None = None  # until its end is handed to the outputs
        self.draining: list[Run] = []  # whose end waits in an output
        self.taken = Ledger()  # all frames of all runs
        self.left_out = ""  # why no more of what comes is computed; empty: it is
        self.last: Run | None = None  # the run that was begun last
        self._stalls_seen = 0  # of subscribers
        self._events: deque[tuple[Event, int, bool]] = deque()
        self._said: set[str] = set()  # problems that have their line in the log

    # -- how it stands ------------------------------------------------------------------------------

    @property
    def open(self) -> Run | None:
        """The run whose spectra are computed."""
        run = self.current
        return run if run is not None and run.published is not None else None

    @property
    def block(self) -> int:
        """The largest frame that may come."""
        return 1 if self.current is None else self.current.start.block

    @property
    def busy(self) -> bool:
        """Whether a run is being opened or drained, so that no other event may overtake."""
        return self.current is not None and self.current.state is not RunState.OPEN

    @property
    def behind(self) -> bool:
        """Whether events wait."""
        return bool(self._events)

    @property
    def have_room(self) -> bool:
        """Whether another message can be taken."""
        if self._events or self.busy:
            return False
        run, down = self.open, self.compute.down
        return bool(self.left_out) or run is None or down is not None or self.pipeline.has_room(self.block)

    def all_lost(self) -> Counter[str]:
        """Spectra of all runs lost so far, by cause. No count ever shrinks."""
        runs = [*([self.current] if self.current is not None else []), *self.draining]
        return sum((run.told_lost() for run in runs), Counter(self.book.lost))

    def metrics(self) -> Iterator[Metric]:
        """What is counted here, and of all runs."""
        taken, run = self.taken, self.current
        yield metric.Counter("cars_rt_frames_received", "Frames received.", taken.frames, status="frames_in")
        yield metric.Counter("cars_rt_spectra_received", "Spectra received.", taken.spectra)
        lost = LOSSES | self.all_lost()
        yield metric.Counter("cars_rt_spectra_lost", "Spectra lost, by cause.", lost, "cause")
        yield metric.Gauge("cars_rt_run_open", "1: a run is open.", run is not None)
        announced = run.announced if run else 0
        yield metric.Gauge("cars_rt_run_announced_spectra", "Spectra of the open run so far.", announced)
        text = "Spectra of the open run lost, by cause."
        yield metric.Gauge("cars_rt_run_lost_spectra", text, LOSSES | (run.lost if run else {}), "cause")
        yield from self.book.metrics()

    # -- events -------------------------------------------------------------------------------------

    def take(self, event: Event, received_ns: int, prompt: bool = False) -> None:
        """Handle an event as soon as its turn comes. prompt: it was received soon after it arrived."""
        if self._events or self.busy:
            self._events.append((event, received_ns, prompt))
        else:
            self._handle(event, received_ns, prompt)

    def proceed(self) -> None:
        """Go on with opening or draining a run, then with events that wait for that, as far as possible."""
        while True:
            run = self.current
            if run is not None and run.state is RunState.OPENING:
                if not self.compute.opened:
                    return
                self._opened(run)
            elif run is not None and run.state is RunState.DRAINING:
                if not self.pipeline.empty:
                    self.pipeline.submit(self.block, full=True)
                    return
                try:
                    self._close(run)
                except Exception as error:
                    self.mishaps.note("an end", error)
                    self._forget()
            elif self._events:
                self._handle(*self._events.popleft())
            else:
                return

    def _handle(self, event: Event, received_ns: int, prompt: bool) -> None:
        try:
            match event:
                case Frame():
                    self._fill(event, received_ns, prompt)
                case Problem():
                    self._found(event)
                case Start():
                    self._begin(event, received_ns, prompt)
                case Closed():
                    self._drain(event)
        except Exception as error:
            reason = self.mishaps.note(f"a {type(event).__name__.lower()}", error)
            if isinstance(event, Frame):
                if self.pipeline.last is not event:  # it is not on its way
                    self.lose(self.current, Cause.ENGINE, event.index, len(event.block), reason)
            elif isinstance(event, Start):
                self._refuse(self.current, reason)
            elif isinstance(event, Closed):
                self._forget()

    def _fill(self, frame: Frame, received_ns: int, prompt: bool) -> None:
        """Spectra came: on their way with them."""
        run = self.current
        assert run is not None
        run.clock.frame(frame.time_ns, received_ns, prompt)
        first, count = frame.index, len(frame.block)
        self.taken.passed(count)
        if run.published is None:
            self.lose(run, Cause.ENGINE, first, count, f"frames of run {frame.run}, which cannot be computed")
            return
        if self.compute.down is not None:
            self.lose(run, Cause.ENGINE, first, count, self.compute.down)
            return
        if self.left_out:
            self.lose(run, Cause.OVERLOAD, first, count, self.left_out)
            return
        if self.dark.measuring:
            self.dark.add(frame.block, frame.time_ns)
        elif self.dark.doubted(run.start, frame.block):
            for problems in (run.sent.problems, self.book.problems):
                problems[Kind.LIT_DARK.value] += 1
        self.pipeline.take(run, frame, received_ns)
        if not self.pipeline.has_room(self.block):
            self.pipeline.submit(self.block)

    def _found(self, problem: Problem) -> None:
        """The reader found a problem, and has counted it."""
        ledger = self.intake.reader.ledger
        self.book.problems[problem.kind.value] += 1
        if self.current is not None:
            self.current.lost_before = ledger.total_lost
        self._report(problem, ledger)

    # -- a run --------------------------------------------------------------------------------------

    def _begin(self, start: Start, received_ns: int, prompt: bool) -> None:
        """A run begins: compile for its axis."""
        age = received_ns - start.time_ns
        if not start.index:  # it begins here, so no frame came before, whatever else it says
            start = replace(start, sequence=0)
        ledger, stalls = self.intake.reader.ledger, self.outputs.stalls
        self.current = self.last = run = Run(start, ledger, self._settle, stalls)
        run.lost_before = ledger.total_lost
        if not start.index:
            run.clock.start(age, prompt)
        self._stalls_seen = stalls
        self._said.clear()
        self.compute.prepare(start)
        self.proceed()

    def _opened(self, run: Run) -> None:
        """The engine is there, or could not be had: tell the subscribers."""
        try:
            self.compute.adopt_opened()
            self._publish(run)
        except (EngineError, ModelError, AxisError) as error:
            self._refuse(run, str(error))
        except Exception as error:
            self._refuse(run, self.mishaps.note("a start", error))

    def _refuse(self, run: Run | None, reason: str) -> None:
        """A run that cannot be computed: its frames are counted as lost."""
        if run is None:
            return
        log.error("run %s from %r cannot be computed: %s", run.start.run, run.start.source, reason)
        run.published, run.refused = None, reason
        run.become(RunState.OPEN)
        self.pipeline.end()

    def _publish(self, run: Run) -> None:
        """Announce a run to the subscribers, and compute its spectra from now on."""
        start, worker = run.start, self.compute.worker
        assert worker is not None
        dark, name = self.dark.of(start)
        self.compute.set_dark(dark, name)
        run.dark_unused = self.dark.unused(start)
        doubts = self._doubts(run)
        for doubt in filter(None, (*doubts, worker.model.unused)):
            log.warning("run %s: %s", start.run, doubt)
        run.outputs = RAMAN, FLAGS, *(name for name in worker.engine.graph.outputs if name != RAMAN)
        model = maker(run, worker, doubts)
        self.pipeline.begin()
        # In a run that was joined late, sequence numbers go on from the driver's: a subscriber that has had
        # results of an earlier daemon does not take ours for repeats.
        block = largest(start, len(run.outputs))
        run.published = replace(start, stream="raman", dtype="float32", block=block, dark=None, model=model)
        self.outputs.open(run)
        run.become(RunState.OPEN)
        log.info(
            "run %s from %r: %d pixels, %s to %s cm-1, on %s",
            start.run, start.source, start.pixels,
            f"{start.raman_shift[0]:.0f}", f"{start.raman_shift[-1]:.0f}", worker.engine.describe(),
        )  # fmt: skip

    def _doubts(self, run: Run) -> list[str]:
        """Sentences: why a run has no measured dark, or what was otherwise when its dark was measured."""
        return [run.dark_unused] if run.dark_unused else self.dark.doubts(run.start)

    def _drain(self, closed: Closed) -> None:
        """No more of this run will come; what is on its way leaves first."""
        run = self.current
        if run is not None:
            run.closed = closed
            run.become(RunState.DRAINING)
            self.proceed()

    def _close(self, run: Run) -> None:
        """Nothing of a run is on its way any more: its receipt, as soon as all of it has left."""
        assert run.closed is not None
        self.note_clock()
        # The receipt is about this run, even if another one has begun when it is made.
        self.draining.append(run)
        if run.published is None:
            self._settle(run)
        else:
            self.outputs.end(run)
            self.pipeline.end()
        if self.dark.measuring:
            self.dark.abandon()
            log.warning(
                "run %s ended while a dark was being measured; the dark stays as it was", run.start.run
            )
        self.current = None

    def _settle(self, run: Run) -> Receipt:
        """All of a run has left: its receipt."""
        made = run.receipt(self.outputs.stalls)
        self.draining.remove(run)
        self.book.lost += run.told_lost()
        self.book.enter(made, self.mishaps)
        return made

    def _forget(self) -> None:
        """The run is over, though its receipt could not be made."""
        self.dark.abandon()
        run, self.current = self.current, None
        if run is not None and run not in self.draining:
            self.book.lost += run.told_lost()
        self.pipeline.end()

    # -- the engine ---------------------------------------------------------------------------------

    def collect(self) -> None:
        """Take computed batches from the engine; have it replaced if it failed, or was asked to be."""
        for batch, reason in self.pipeline.collect():
            self.compute.failed(batch.worker)
            for frame in batch.frames:
                self.lose(batch.run, Cause.ENGINE, frame.index, frame.spectra, reason)
        with self.mishaps.contained("a change of the engine"):
            in_run = self.open is not None
            if self.compute.settle(in_run=in_run) is not None and in_run:
                self.pipeline.move()
                self.say_maker()
        if self.compute.down is not None:
            self._abandon(self.compute.down)

    def say_maker(self) -> None:
        """Another model, engine or dark makes the results from now on: say so in the start for who comes."""
        run, worker = self.open, self.compute.worker
        if run is not None and run.published is not None and worker is not None:
            run.published = replace(run.published, model=maker(run, worker, self._doubts(run)))
            self.outputs.say_again(run)

    def give_up_engine(self, reason: str) -> None:
        """Wait no longer for what is being compiled or computed."""
        self.compute.give_up()
        if self.current is not None and self.current.state is RunState.OPENING:
            self._refuse(self.current, reason)
        self._abandon(reason)

    def _abandon(self, reason: str) -> None:
        """Give up what is in the engine or waits for it."""
        for batch in self.pipeline.abandon():
            for frame in batch.frames:
                self.lose(batch.run, Cause.ENGINE, frame.index, frame.spectra, reason)

    # -- what was lost ------------------------------------------------------------------------------

    def lose(self, run: Run | None, cause: Cause, first: int, count: int, text: str) -> None:
        """Account for spectra that were received and will not be sent: so many, from the first on."""
        problem = Problem(cause, count, text, cause, first)
        ledger = Ledger() if run is None else run.sent
        ledger.found(problem)
        self.book.problems[problem.kind.value] += 1
        self._report(problem, ledger)

    def lose_unsent(self) -> None:
        """Account for results that could not be made a message."""
        for output in self.outputs:
            while output.unsent:
                run, frame, reason = output.unsent.pop(0)
                self.lose(run, Cause.OUTPUT, frame.index, frame.spectra, reason)

    def forget_said(self) -> None:
        """A connection has ended: problems of the next one have lines of their own in the log."""
        self._said.clear()

    def note_clock(self) -> None:
        """Say once in a run that the source's clock and ours disagree."""
        if self.last is not None and self.last.note_clock():
            self.book.problems[Kind.CLOCK.value] += 1

    def note_output(self) -> None:
        """Raise an alarm for what happened in the outputs since the last time."""
        stalls, run = self.outputs.stalls, self.last
        if stalls > self._stalls_seen:
            self.alarm("stall", "a subscriber stopped reading")
        self._stalls_seen = stalls
        if run is not None and (dropped := run.sent.lost[Cause.OUTPUT]) > run.output_seen:
            self.alarm(Cause.OUTPUT.value, "results were dropped at the output")
            run.output_seen = dropped

    def alarm(self, reason: str, text: str) -> None:
        """Tell the flight recorder."""
        self.intake.alarm(reason, text, Counter() if self.last is None else self.last.sent.lost)

    def _report(self, problem: Problem, ledger: Ledger) -> None:
        """One line for the first problem of a kind in a run or, where none is open, of a connection; of
        messages that are refused, for each sentence."""
        first = ledger.problems[problem.kind] <= 1 or problem.kind is Kind.START_CHANGED  # once a field
        each = isinstance(problem.kind, Fault)
        if each or self.intake.reader.run is None:  # whose ledger may last for days
            key = problem.text if problem.kind is Kind.UNKNOWN_RUN else problem.kind
            key = without_numbers(problem.text) if each else key
            first = key not in self._said and len(self._said) < MOST_SAID
            self._said |= {key} if first else set()
        where = f"{self.intake.address}: " if problem.kind is Kind.STREAM else ""
        log.log(logging.WARNING if first else logging.DEBUG, "%s%s: %s", where, problem.heading, problem.text)
        if problem.cause is Cause.REJECTED or (problem.spectra > 0 and problem.cause is not Cause.REPEATED):
            self.alarm(problem.cause.value, problem.text)
