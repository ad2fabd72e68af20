"""The daemon: receives counts, has them computed, publishes raman. One loop owns all sockets.

A frame's way: subscriber -> RunReader -> Pipeline (slab -> engine -> slab) -> publisher. Nothing in the
loop waits for anything but its sockets: what takes long (compiling, a subscriber without room, the last
spectra of a run) is looked at again in the next turn, so that requests are answered meanwhile.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import zmq

from cars_rt.accounting import Cause, Kind, Ledger, Problem
from cars_rt.clock import LAG_NS, SourceClock
from cars_rt.daemon.compute.change import Compute
from cars_rt.daemon.control import Control
from cars_rt.daemon.dark import Dark
from cars_rt.daemon.filing import Filing
from cars_rt.daemon.flight import FlightRecorder
from cars_rt.daemon.inflow import Gate, Inflow
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.outputs.preview import Preview, parse_band
from cars_rt.daemon.pipeline import Pipeline
from cars_rt.daemon.receipt import Receipt, Totals
from cars_rt.daemon.seen.picture import picture
from cars_rt.daemon.seen.snapshot import Phase, Snapshot, State
from cars_rt.daemon.settings import OFF, DaemonSettings
from cars_rt.daemon.waits import Waits, waits_for
from cars_rt.engines import EngineError, ModelError
from cars_rt.physics.axis import AxisError
from cars_rt.physics.fitness import NAMES
from cars_rt.protocol import DEVIATION, FLAGS, Closed, Event, Frame, Part, Reason, RunReader, Start
from cars_rt.sockets import RETRY_S, UNREAD, Publisher, Subscriber, message_bytes

log = logging.getLogger("cars_rt.daemon")

TICK_S = 0.1  # how soon a stop is noticed when nothing arrives
READ_AT_ONCE = 256  # messages taken before looking at the other sockets
QUIET_S = 0.1  # a stop takes in what was already sent: until nothing came for so long,
DRAIN_S = 2.0  # but not for longer than this
KEPT = 1_000  # receipts; those before are in the log, and in files with --receipts
ANSWER_S = 5.0  # and then for an engine that has a batch
STOP_S = 10.0  # how long a stop waits for subscribers that take nothing
MOST_SAID = 64  # kinds of problems and unknown runs kept apart on a connection
PART_BYTES = 100  # that a message part takes on the wire beside its content, at most
DRIVER_BYTES = 64_000_000  # from a driver, beside the messages of its run that may wait unread
SUBSCRIBER_BYTES = 16_000_000  # from all subscribers of a stream together: they only subscribe
CONTROL_BYTES = 8_000_000  # of all requests that come at once
STUCK_S = 3.0  # and how long if they do not take anything at all
LINGER_S = 1.0  # then, for those who do read
RUNS_WAITING = 16  # whose results wait for room; a driver that begins more has to wait, too
CLOCK_NS = 1_000_000  # a time stamp so far ahead of our clock is worth a warning
LAG_FRAMES = 16  # before it is said that a clock lags: the first ones may have been held up


class Daemon:
    """One input stream, one output stream with its preview, one model at a time.

    Raises StreamError, KeysError, ModelError or EngineError if it cannot start.
    """

    def __init__(self, settings: DaemonSettings) -> None:
        settings.make_folders()
        self.settings = settings
        self.receipts: list[Receipt] = []  # of the last KEPT runs
        self.runs = 0  # that are closed
        self.gathering = False  # subscribers are waited for, before the driver is
        self.totals = Totals()
        self.mishaps = Mishaps(self.totals.problems)
        self.frames_in = self.spectra_in = 0
        self.ready = False
        self.paused = False
        self.reader = RunReader("raw")
        self.run_open: Start | None = None  # as published; None: no run, or one that cannot be computed
        self.ledger = Ledger()  # what became of the run's spectra after they were received
        self.filing = Filing()
        self.dark = Dark(settings.receipts, self.filing)
        self._waits = Waits()
        self.dark_unused: str | None = None  # why the measured dark is not that of the open run
        self.phases = dict.fromkeys(Phase, 0.0)
        self._begun = self._marked = time.perf_counter()
        self._next_tick = 0.0
        self._stopping = False
        self._given_up = False  # that subscribers take the last results
        self._taken = (0, 0), 0.0  # by subscribers, and when that was seen first
        self._most_lost: Counter[str] = Counter()
        self._unsettled: list[tuple[Ledger, Ledger]] = []  # of runs whose end still waits in the output
        self._events: deque[tuple[Event, int, bool]] = deque()  # that wait for an opening or a closing
        self._empty_ns = 0  # when nothing waited to be read, the last time
        self._raw: Start | None = None  # as received
        self._opening: Start | None = None  # a run whose engine is being compiled
        self._closing: Closed | None = None  # a run whose last spectra are on their way
        self._lost_before = 0  # spectra of the run lost before they were received
        self._stalls_before = 0
        self._said: set[str] = set()  # problems without a run that have their line in the log
        self._output_seen = (0, 0)  # stalls of subscribers, spectra of the run dropped
        self.flight: FlightRecorder | None = None
        if settings.flight is not None:
            self.flight = FlightRecorder(settings.flight, settings.flight_seconds, settings.flight_mb)
        access = settings.access
        server = access.server(settings.publish)  # before anything starts
        self.compute = Compute(
            settings.model,
            settings.engine,
            settings.max_batch,
            settings.threads,
            settings.reference,
            deviation=settings.deviation,
        )
        opened: list[Subscriber | Publisher | Preview | Control | Compute] = [self.compute]
        try:
            self.subscriber = Subscriber(settings.listen, "raw", connect=False, security=access.client())
            opened.append(self.subscriber)
            self.publisher = Publisher(
                settings.publish,
                "raman",
                buffer_mb=settings.buffer_mb,
                overload=settings.overload,
                stall_s=settings.stall_s,
                cause=Cause.OUTPUT,
                security=server,
            )
            opened.append(self.publisher)
            self.preview: Preview | None = None
            if settings.preview != OFF:
                bands = [parse_band(each) for each in settings.bands]
                self.preview = Preview(settings.preview, bands, access.server(settings.preview))
                opened.append(self.preview)
            self.control: Control | None = None
            if settings.control != OFF:
                keys = access.control(settings.control)
                self.control = Control(settings.control, keys, access.control_token)
        except Exception:
            for each in opened:
                each.close()
            raise
        self._bytes_in = 0  # of messages of the driver
        self.inflow = Inflow(self._gates())
        self.pipeline = Pipeline(self.compute, self.publisher, self.preview, self.mishaps)
        control = [] if self.control is None else [(self.control.socket, int(zmq.POLLIN))]
        self._without_raw: list[tuple[Any, int]] = [(self.compute.socket, int(zmq.POLLIN)), *control]
        self._everything = [*self._without_raw, (self.subscriber.socket, int(zmq.POLLIN))]

    def stop(self) -> None:
        """Ask the loop to finish what was received and return. Callable from a signal handler."""
        self._stopping = True

    def serve(self, on_tick: Callable[[], None] = lambda: None) -> list[Receipt]:
        """Work until `stop`; the receipts of the last KEPT runs. Calls on_tick about every TICK_S."""
        linger: float | None = 0.0
        self.inflow.start()
        try:
            self._warm_up(on_tick)
            wanted, self.gathering = self.settings.subscribers, True
            while not self._stopping and self.publisher.subscribers < wanted:
                self._turn(on_tick)
            self.gathering = False
            # Not earlier: a driver that waits for us begins when it sees us.
            if not self._stopping:
                self.subscriber.connect()
                self._empty_ns = time.time_ns()
                log.info("ready for the driver at %s", self.settings.listen)
            while not self._stopping:
                self._turn(on_tick)
            self._finish(on_tick)
            linger = LINGER_S if self._given_up else STOP_S
            return self.receipts
        finally:
            self.inflow.close()
            self.compute.close()
            self.subscriber.close()
            if self.flight is not None:
                self.flight.close()
            if self.preview is not None:
                self.preview.close()
            if self.control is not None:
                self.control.close()
            results = bool(self.receipts) or self._raw is not None
            if not self.publisher.close(linger) and results:
                log.warning("subscribers did not take the last results; they are lost")
            self.filing.close()

    # -- the loop -----------------------------------------------------------------------------------

    def _turn(self, on_tick: Callable[[], None], timeout_s: float = TICK_S, reading: bool = True) -> bool:
        """Wait for something to do, and do it. True if a message came."""
        raw, done = self.subscriber.socket, self.compute.socket
        reading = reading and self._can_read
        wanted = self._everything if reading else self._without_raw
        if self.publisher.blocked:
            wanted = [*wanted, (self.publisher.wake, int(zmq.POLLIN))]
        blocked = self.publisher.blocked or self.pipeline.waiting
        self._mark(Phase.CONTROL)
        # As a zmq.Poller, without its look at flags: every turn comes by here.
        ready = {socket for socket, _ in zmq.zmq_poll(wanted, int(1e3 * self._at_most(timeout_s)))}
        self._mark(Phase.COMPUTE if self.pipeline.computing else Phase.BLOCKED if blocked else Phase.IDLE)
        if done in ready:
            self.compute.ring()
            self._collect()
        if self.publisher.blocked:
            self.publisher.serve()
        self.pipeline.submit(self._block)  # first of all: the engine shall not wait while results are sent
        self._mark(Phase.CONTROL)
        self.pipeline.send(self.ledger.total_lost if self.ledger.lost else 0)
        if self.pipeline.unsent:
            self._lose_unsent()
        self._mark(Phase.SEND)
        came = raw in ready
        if came:
            self._read()
            self._mark(Phase.RECEIVE)
        elif reading:
            self._empty_ns = time.time_ns()
        self.pipeline.submit(self._block)
        if self._events or self._opening is not None or self._closing is not None:
            self._proceed()
        if self.control is not None and self.control.socket in ready:
            self.control.serve(self)
        if self.preview is not None and self.preview.due:
            with self.mishaps.contained("the preview"):
                self.preview.serve()
        if time.perf_counter() >= self._next_tick:
            self._tick(on_tick)
        return came

    def _at_most(self, timeout_s: float) -> float:
        """How long to wait when nothing comes: the preview may be due earlier."""
        return timeout_s if self.preview is None else min(timeout_s, self.preview.due_s)

    def _tick(self, on_tick: Callable[[], None]) -> None:
        self._next_tick = time.perf_counter() + TICK_S
        refused, connected = self.subscriber.refused, self.subscriber.connected
        if self.subscriber.watch() and not connected:
            self._said.clear()
        if self.subscriber.refused > refused:
            self.reader.ledger.problems[Kind.CONNECTION_CUT.value] += 1
            self.totals.problems[Kind.CONNECTION_CUT.value] += 1
        self._close_vanished()
        self._collect()  # also an engine that hangs
        self.publisher.serve()
        if self.preview is not None:
            with self.mishaps.contained("the preview"):
                self.preview.serve()
        self._note_clock()
        while self.filing.failed:
            self.mishaps.note(*self.filing.failed.popleft())
        self._waits.look(*waits_for(self))
        if self.flight is not None:
            with self.mishaps.contained("the flight recorder"):
                self._note_output()
                self.flight.tick()
        for gate, count in self.inflow.cut.items():
            self.totals.problems[f"{Kind.CUT_OFF}: {gate}"] = count
        with self.mishaps.contained("the status"):
            on_tick()

    def _gates(self) -> list[Gate]:
        """What is watched: how much may be on its way into each socket without being a message yet."""

        def on_its_way() -> int:
            run = self._raw
            return DRIVER_BYTES + (0 if run is None else (UNREAD + 4) * message_bytes(run))

        gates = [
            Gate(
                "the driver", _port(self.settings.listen), on_its_way, lambda: self._bytes_in, outgoing=True
            ),
            Gate("the results", _port(self.publisher.address), lambda: SUBSCRIBER_BYTES),
        ]
        if self.preview is not None:
            address = self.preview.publisher.address
            gates.append(Gate("the preview", _port(address), lambda: SUBSCRIBER_BYTES))
        if (control := self.control) is not None:
            gates.append(
                Gate("control", _port(control.address), lambda: CONTROL_BYTES, lambda: control.taken)
            )
        return gates

    def _mark(self, phase: Phase) -> None:
        """The time since the last mark went to this phase."""
        now = time.perf_counter()
        self.phases[phase] += now - self._marked
        self._marked = now

    @property
    def _block(self) -> int:
        return 1 if self.run_open is None else self.run_open.block

    @property
    def _busy(self) -> bool:
        """Whether a run is being opened or closed, so that no other event may overtake."""
        return self._opening is not None or self._closing is not None

    @property
    def _can_read(self) -> bool:
        """Whether another message can be taken."""
        if self.paused or self._events or self._busy or self.publisher.runs_waiting >= RUNS_WAITING:
            return False
        run = self.run_open
        return run is None or self.compute.down is not None or self.pipeline.has_room(run.block)

    def _read(self) -> None:
        for _ in range(READ_AT_ONCE):
            if not self._can_read:
                return
            if (parts := self.subscriber.receive()) is None:
                self._empty_ns = time.time_ns()
                return
            received = time.time_ns()
            self._bytes_in += sum(map(len, parts)) + PART_BYTES * len(parts)
            prompt = received - self._empty_ns < LAG_NS // 2
            for event in self.reader.read(parts):
                if self.flight is not None:
                    try:
                        self._keep(event, parts)
                    except Exception as error:
                        self.mishaps.note("the flight recorder", error)
                if self._events or self._busy:
                    self._events.append((event, received, prompt))
                else:
                    self._handle(event, received, prompt)

    def _keep(self, event: Event, parts: Sequence[Part]) -> None:
        """What the flight recorder wants to see, in the order in which it came."""
        assert self.flight is not None
        match event:
            case Frame():
                self.flight.frame(event)
            case Start():
                self.flight.start(event)
            case Problem() if event.cause is Cause.REJECTED:
                self.flight.rejected(parts, event.text)

    def _handle(self, event: Event, received: int, prompt: bool = False) -> None:
        """One event; `prompt`: it cannot have waited long to be received.

        Whatever goes wrong costs it alone: of a start, its run; of an end, its receipt.
        """
        try:
            self._take(event, received, prompt)
        except Exception as error:
            reason = self.mishaps.note(f"a {type(event).__name__.lower()}", error)
            if isinstance(event, Frame):
                if self.pipeline.last is not event:  # it is not on its way
                    self._lose(Cause.ENGINE, event, reason)
            elif isinstance(event, Start):
                self._refuse_run(event, reason)
            elif isinstance(event, Closed):
                self._forget_run()

    def _take(self, event: Event, received: int, prompt: bool) -> None:
        match event:
            case Frame():
                self.pipeline.clock.frame(event.time_ns, received, prompt)
                self._fill(event, received)
            case Problem():
                self.totals.problems[event.kind.value] += 1
                self._lost_before = self.reader.ledger.total_lost
                self._report(event, self.reader.ledger)
            case Start():
                self.pipeline.clock = SourceClock()
                if not event.index:
                    self.pipeline.clock.start(received - event.time_ns, prompt)
                self._open(event)
            case Closed():
                self._closing = event
                self._proceed()

    def _fill(self, frame: Frame, received: int) -> None:
        spectra = len(frame.block)
        self.frames_in += 1
        self.spectra_in += spectra
        run = self.run_open
        if run is None:
            self._lose(Cause.ENGINE, frame, f"frames of run {frame.run}, which cannot be computed")
            return
        if self.compute.down is not None:
            self._lose(Cause.ENGINE, frame, self.compute.down)
            return
        if self.dark.measuring:
            self.dark.add(frame.block)
        self.pipeline.take(frame, received, self._lost_before)
        if not self.pipeline.has_room(run.block):
            self.pipeline.submit(run.block)

    def _collect(self) -> None:
        """Take computed batches from the engine; have it replaced if it failed, or was asked to be."""
        for batch, reason in self.pipeline.collect():
            self.compute.failed()
            for frame, *_ in batch.frames:
                self._lose(Cause.ENGINE, frame, reason)
        with self.mishaps.contained("a change of the engine"):
            if self.compute.settle() is not None and self.run_open is not None:
                self.pipeline.move()
        if self.compute.down is not None:
            self._abandon(self.compute.down)

    def _abandon(self, reason: str) -> None:
        """Give up what is in the engine or waits for it."""
        for batch in self.pipeline.abandon():
            for frame, *_ in batch.frames:
                self._lose(Cause.ENGINE, frame, reason)

    def _proceed(self) -> None:
        """Go on with what other events wait for, as far as it goes."""
        while True:
            if self._opening is not None:
                if not self.compute.opened:
                    return
                self._opened()
            elif self._closing is not None:
                if not self.pipeline.empty:
                    self.pipeline.submit(self._block, full=True)
                    return
                try:
                    self._close(self._closing)
                except Exception as error:
                    self.mishaps.note("an end", error)
                    self._forget_run()
            elif self._events:
                self._handle(*self._events.popleft())
            else:
                return

    # -- runs ---------------------------------------------------------------------------------------

    def _warm_up(self, on_tick: Callable[[], None]) -> None:
        """Compile for some axis before the first run: what does not work here is known at once."""
        self.compute.prepare(None)
        while not self.compute.opened and not self._stopping:
            self._turn(on_tick, reading=False)
        if self.compute.opened:
            self.compute.adopt_opened()
            self.ready = True

    def _open(self, start: Start) -> None:
        """A run begins: compile for its axis."""
        if not start.index:  # it begins here, so no frame came before, whatever else it says
            start = replace(start, sequence=0)
        self._raw = self._opening = start
        self._said.clear()
        self.ledger = Ledger()
        self._lost_before = self.reader.ledger.total_lost
        self._stalls_before = self.publisher.stalls
        self._output_seen = (self._stalls_before, 0)
        self.compute.prepare(start)
        self._proceed()

    def _opened(self) -> None:
        """The engine is there, or could not be had: tell the subscribers."""
        start, self._opening = self._opening, None
        assert start is not None
        try:
            self.compute.adopt_opened()
            self._begin(start)
        except (EngineError, ModelError, AxisError) as error:
            self._refuse_run(start, str(error))
        except Exception as error:
            self._refuse_run(start, self.mishaps.note("a start", error))

    def _refuse_run(self, start: Start, reason: str) -> None:
        """A run that cannot be computed: its frames are counted as lost."""
        log.error("run %s from %r cannot be computed: %s", start.run, start.source, reason)
        self.run_open = self._opening = None
        self.pipeline.end()

    def _begin(self, start: Start) -> None:
        """Compute what comes of this run."""
        worker = self.compute.worker
        assert worker is not None
        dark, name = self.dark.of(start)
        self.compute.set_dark(dark, name)
        self.dark_unused = self.dark.unused(start)
        if self.dark_unused:
            log.warning("run %s: %s", start.run, self.dark_unused)
        model = worker.model.provenance | {"engine": worker.engine.describe(), "made_by": worker.made_by}
        model["dark"] = f"{name}; {self.dark_unused}" if self.dark_unused else name
        if worker.model.unused:
            log.warning("run %s: %s", start.run, worker.model.unused)
            model["reference"] = f"none; {worker.model.unused}"
        model[FLAGS] = " ".join(NAMES.values())  # the names of the bits, lowest first
        with_deviation = bool(worker.engine.deviations)
        if with_deviation:
            model[DEVIATION] = "standard deviation of raman"
        self.pipeline.begin(start.saturates_at, with_deviation)
        # Of a run that was joined late, numbers go on from where the driver is: who was there with the
        # daemon before us does not take our results for repeats of its own.
        run = replace(start, stream="raman", dtype="float32", dark=None, model=model)
        self.publisher.open(run, self.ledger)
        self.run_open = run
        log.info(
            "run %s from %r: %d pixels, %s to %s cm-1, on %s",
            start.run, start.source, start.pixels,
            f"{start.raman_shift[0]:.0f}", f"{start.raman_shift[-1]:.0f}", worker.engine.describe(),
        )  # fmt: skip
        if self.preview is not None:
            with self.mishaps.contained("the preview"):
                self.preview.open(run)

    def _close(self, closed: Closed) -> None:
        """A run is over and nothing of it is on its way: its receipt, as soon as all of it has left."""
        self._note_clock()
        self._closing = None
        # Another run may have begun when the receipt is made: it is about this one.
        ledger, begun, counted = self.ledger, self._raw, (closed.ledger, self.ledger)
        stalls_before, flagged = self._stalls_before, self.pipeline.run_flagged
        self._unsettled.append(counted)
        made_by = self.pipeline.makers

        def receipt() -> Receipt:
            made = Receipt.of(
                closed,
                ledger,
                made_by=made_by,
                flagged=dict(flagged),
                stalls=self.publisher.stalls - stalls_before,
                source=begun.source if begun else "",
                begun_ns=begun.time_ns if begun else 0,
                first_sequence=begun.sequence if begun else 0,
                ended_ns=time.time_ns(),
            )
            self.receipts.append(made)
            del self.receipts[:-KEPT]
            self.runs += 1
            self._unsettled.remove(counted)
            self.totals.lost.update(made.lost)
            with self.mishaps.contained("a receipt"):
                made.report()
                if (folder := self.settings.receipts) is not None:
                    self.filing.ask("a receipt", lambda: made.write(folder))
            return made

        if self.run_open is None:
            receipt()
        else:
            self.publisher.end(lambda: receipt().end(closed.end))
            if self.preview is not None:
                with self.mishaps.contained("the preview"):
                    self.preview.end(closed.end)
            self.pipeline.end()
        if self.dark.measuring:
            self.dark.abandon()
            log.warning(
                "run %s ended while a dark was being measured; the dark stays as it was", closed.end.run
            )
        self.run_open = self._raw = self.dark_unused = None

    def _forget_run(self) -> None:
        """The run is over, though its receipt could not be made."""
        self._closing = self.run_open = self._raw = self.dark_unused = None
        self.pipeline.end()

    def _close_vanished(self) -> None:
        """Close the run of a driver that died: nobody else would."""
        vanished = self.reader.run is not None and self.subscriber.vanished
        if vanished and self._can_read and not self.subscriber.socket.poll(0):
            log.warning("the driver at %s vanished in mid-run", self.settings.listen)
            self._alarm("driver vanished", f"nobody publishes at {self.settings.listen} any more")
            if closed := self.reader.interrupt(time.time_ns()):
                self._handle(closed, time.time_ns())

    def _finish(self, on_tick: Callable[[], None]) -> None:
        """Take in what was already sent, publish it, and close the run."""
        begin = now = time.monotonic()
        until, deadline, quiet_s = begin + DRAIN_S, begin + STOP_S, 0.0
        while not self.paused and now < until and quiet_s < QUIET_S:
            before, reading = now, self._can_read
            came = self._turn(on_tick, QUIET_S / 5)
            now, blocked = time.monotonic(), not self._can_read
            # A turn may take long for what else there is to do: that was no silence.
            quiet_s = 0.0 if came or blocked or not reading else quiet_s + min(now - before, QUIET_S / 5)
            if blocked and now < deadline:
                until = now + DRAIN_S
            self._surrender(now > deadline)
        interrupted = False
        while True:
            if not interrupted and not self._events and not self._busy:
                interrupted = True
                if closed := self.reader.interrupt(time.time_ns(), Reason.STOPPED):
                    self._handle(closed, time.time_ns())
            if interrupted and not self._busy and not self.publisher.blocked:
                return
            self._surrender(time.monotonic() > deadline)
            self._turn(on_tick, RETRY_S, reading=False)

    def _surrender(self, late: bool) -> None:
        if late and (self._opening is not None or self.pipeline.computing_s > ANSWER_S):
            reason = "the engine did not answer in time when the daemon was to stop"
            self.compute.give_up()
            if self._opening is not None:
                self._refuse_run(self._opening, reason)
            self._abandon(reason)
        late |= self._stuck()
        if late and self.publisher.surrender():
            self._given_up = True
            log.warning("a subscriber had no room for the last results within %g s of the stop", STOP_S)

    def _stuck(self) -> bool:
        """Whether results wait, and for STUCK_S nobody has taken any."""
        taken, now = (self.publisher.frames_sent, self.publisher.runs_waiting), time.monotonic()
        if not self.publisher.blocked or taken != self._taken[0]:
            self._taken = taken, now
        return now - self._taken[1] > STUCK_S

    # -- what was lost ------------------------------------------------------------------------------

    def _lose(self, cause: Cause, frame: Frame, text: str) -> None:
        """Account for a frame that was received and will not be sent."""
        problem = Problem(cause, len(frame.block), text, cause, frame.index)
        self.ledger.found(problem)
        self.totals.problems[problem.kind.value] += 1
        self._report(problem, self.ledger)

    def _lose_unsent(self) -> None:
        """Account for results that could not be made a message."""
        unsent, self.pipeline.unsent = self.pipeline.unsent, []
        for frame, reason in unsent:
            self._lose(Cause.OUTPUT, frame, reason)

    def _report(self, problem: Problem, ledger: Ledger) -> None:
        """One line for the first problem of a kind in a run or, where none is open, of a connection."""
        first = ledger.problems[problem.kind] <= 1
        if self.reader.run is None:  # its ledger may last for days: each connection, each run is told anew
            key = problem.text if problem.kind is Kind.UNKNOWN_RUN else problem.kind
            first = key not in self._said and len(self._said) < MOST_SAID
            self._said |= {key} if first else set()
        log.log(logging.WARNING if first else logging.DEBUG, "%s: %s", problem.cause.value, problem.text)
        if problem.cause is Cause.REJECTED or (problem.spectra and problem.cause is not Cause.REPEATED):
            self._alarm(problem.cause.value, problem.text)

    def _note_output(self) -> None:
        """Raise an alarm for what happened in the output since the last tick."""
        seen = (self.publisher.stalls, self.ledger.lost[Cause.OUTPUT])
        if seen[0] > self._output_seen[0]:
            self._alarm("stall", "a subscriber stopped reading")
        if seen[1] > self._output_seen[1]:
            self._alarm(Cause.OUTPUT.value, "results were dropped at the output")
        self._output_seen = seen

    def _alarm(self, reason: str, text: str) -> None:
        if self.flight is not None:
            self.flight.alarm(reason, text, self.reader.ledger.lost + self.ledger.lost)

    def _note_clock(self) -> None:
        """Say once in a run that the source's clock and ours disagree."""
        clock = self.pipeline.clock
        early, lag = clock.early_ns, clock.lag_ns
        said = early > CLOCK_NS or (lag and (clock.frames >= LAG_FRAMES or self._closing is not None))
        if not said or self.ledger.problems[Kind.CLOCK.value]:
            return
        self.ledger.problems[Kind.CLOCK.value] += 1
        self.totals.problems[Kind.CLOCK.value] += 1
        if early > CLOCK_NS:
            log.warning(
                "time stamps of the source are up to %.1f ms in the future, so their latency is not counted: "
                "a clock was set, or two computers disagree; NTP helps", early / 1e6,
            )  # fmt: skip
        else:
            log.warning(
                "time stamps of the source are %s behind our clock from the beginning on, so that is not "
                "counted as latency: a clock lags (NTP helps), or older spectra are played again",
                timedelta(seconds=round(lag / 1e9)),
            )

    # -- seen from outside --------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The daemon at this moment."""
        self._mark(Phase.CONTROL)
        return picture(self)

    @property
    def source(self) -> Start | None:
        """The open run as the driver announced it."""
        return self._raw

    @property
    def state(self) -> State:
        """What it is doing."""
        if self._stopping:
            return State.STOPPING
        if self.paused:
            return State.PAUSED
        if not self.ready or self.gathering:
            return State.STARTING
        return State.IDLE if self._raw is None else State.RUNNING

    @property
    def uptime_s(self) -> float:
        """Of the loop, up to the last mark: what the phases add up to."""
        return self._marked - self._begun

    @property
    def run_lost(self) -> Counter[str]:
        """Spectra of the open run lost so far, by cause."""
        return self.reader.ledger.lost + self.ledger.lost if self._raw is not None else Counter()

    def all_lost(self) -> Counter[str]:
        """Spectra of all runs lost so far, by cause. No count ever shrinks."""
        lost = self.totals.lost + self.run_lost
        for before, after in self._unsettled:
            lost += before.lost + after.lost
        self._most_lost |= lost
        return self._most_lost


def _port(address: str) -> int:
    """The port of tcp://HOST:PORT; 0, which nobody has, of what has none."""
    port = address.rpartition(":")[2]
    return int(port) if port.isdecimal() else 0
