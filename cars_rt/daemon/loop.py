"""The daemon: receives counts, has them computed, publishes raman. One loop owns all sockets.

A frame's way: intake -> Runs -> Pipeline (slab -> engine) -> each output. Nothing in the loop waits for
anything but its sockets: what takes long (compiling, a subscriber without room, the last spectra of a run)
is looked at again in the next turn, so that requests are answered meanwhile.
"""

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import zmq

from cars_rt.daemon import commands
from cars_rt.daemon.compute.compute import Compute
from cars_rt.daemon.ending import finish
from cars_rt.daemon.intake import CUT_OFF
from cars_rt.daemon.parts import Parts
from cars_rt.daemon.picture import picture
from cars_rt.daemon.receipt import Receipt
from cars_rt.daemon.seen.snapshot import Phase, Snapshot
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.daemon.waits import Waits, waits_for
from cars_rt.kinds import Kind
from cars_rt.sockets import Publisher
from cars_rt.sockets.inflow import Inflow

log = logging.getLogger("cars_rt.daemon")

TICK_S = 0.1  # how soon a stop is noticed when nothing arrives
READ_AT_ONCE = 256  # messages taken before looking at the other sockets
RUNS_WAITING = 16  # runs whose results may wait for room; with more of them the driver has to wait


class Daemon:
    """One input stream, one output stream with its preview, one model at a time.

    Raises StreamError, KeysError, ModelError or EngineError if it cannot start.
    """

    def __init__(self, settings: DaemonSettings) -> None:
        self.parts = Parts(settings)
        self._inflow = Inflow(self.parts.gates())
        self._waits = Waits()
        self._next_tick = 0.0
        self._without_raw: list[tuple[Any, int]] = self.parts.sockets
        self._raw: list[zmq.Socket[bytes]] = []  # as the intake had them last
        self._everything = self._without_raw

    # -- for who runs it ----------------------------------------------------------------------------

    @property
    def publisher(self) -> Publisher:
        """The publisher of the results."""
        return self.parts.results.publisher

    @property
    def compute(self) -> Compute:
        """The engine and its model."""
        return self.parts.compute

    @property
    def receipts(self) -> list[Receipt]:
        """The receipts of the last runs."""
        return list(self.parts.runs.book.receipts)

    def snapshot(self) -> Snapshot:
        """The daemon at this moment."""
        return picture(self.parts)

    def stop(self) -> None:
        """Ask the loop to finish what was received and return. Callable from a signal handler."""
        self.parts.stopping = True

    def serve(self, on_tick: Callable[[], None] = lambda: None) -> list[Receipt]:
        """Work until `stop`; the receipts of the last runs. Calls on_tick about every TICK_S."""
        parts, linger_s = self.parts, 0.0
        self._inflow.start()
        try:
            self._warm_up(on_tick)
            parts.gathering = True
            while not parts.stopping and self.publisher.subscribers < parts.settings.subscribers:
                self._turn(on_tick)
            parts.gathering = False
            # Not earlier: a driver that waits for us begins when it sees us.
            if not parts.stopping:
                parts.intake.connect()
                log.info("ready for the driver at %s", parts.intake.address)
            while not parts.stopping:
                self._turn(on_tick)
            linger_s = finish(parts, partial(self._turn, on_tick), lambda: self._can_read)
            return self.receipts
        finally:
            self._inflow.close()
            if not parts.close(linger_s) and (self.receipts or parts.runs.current is not None):
                log.warning("subscribers did not take the last results; they are lost")

    # -- the loop -----------------------------------------------------------------------------------

    def _turn(self, on_tick: Callable[[], None], timeout_s: float = TICK_S, reading: bool = True) -> bool:
        """Wait for something to do, and do it. True if a message came."""
        parts, publisher = self.parts, self.publisher
        runs, pipeline, mark = parts.runs, parts.pipeline, parts.times.mark
        reading = reading and self._can_read
        if (raw := parts.intake.sockets) is not self._raw:
            self._raw = raw
            self._everything = [*self._without_raw, *((socket, int(zmq.POLLIN)) for socket in raw)]
        wanted = self._everything if reading else self._without_raw
        if publisher.blocked:
            wanted = [*wanted, (publisher.wake, int(zmq.POLLIN))]
        blocked = publisher.blocked or pipeline.waiting
        control_s = math.inf if parts.control is None else parts.control.due_s
        timeout_s = min(timeout_s, parts.outputs.due_s, control_s)
        mark(Phase.CONTROL)
        # zmq.Poller does the same, but looks at flags each time, and every turn comes by here.
        ready = {socket for socket, _ in zmq.zmq_poll(wanted, int(1e3 * timeout_s))}
        mark(Phase.COMPUTE if pipeline.computing else Phase.BLOCKED if blocked else Phase.IDLE)
        if parts.compute.socket in ready:
            parts.compute.ring()
            runs.collect()
        if publisher.blocked:
            publisher.serve()
        pipeline.submit(runs.block)  # first of all: the engine shall not wait while results are sent
        mark(Phase.CONTROL)
        pipeline.send()
        runs.lose_unsent()
        mark(Phase.SEND)
        came = not ready.isdisjoint(self._raw)
        if came:
            self._read()
            mark(Phase.RECEIVE)
        elif reading:
            parts.intake.was_empty()
        pipeline.submit(runs.block)
        if runs.behind or runs.busy:
            runs.proceed()
        if parts.control is not None and (control_s < math.inf or parts.control.socket in ready):
            commands.serve(parts)
        parts.outputs.serve(due=True)
        if time.perf_counter() >= self._next_tick:
            self._tick(on_tick)
        return came

    @property
    def _can_read(self) -> bool:
        """Whether another message can be taken."""
        runs = self.parts.runs
        return not self.parts.paused and runs.have_room and self.publisher.runs_waiting < RUNS_WAITING

    def _read(self) -> None:
        intake, runs = self.parts.intake, self.parts.runs
        for _ in range(READ_AT_ONCE):
            if not self._can_read or not intake.receive():
                return
            for event in intake.events():
                runs.take(event, intake.received_ns, intake.prompt)

    def _tick(self, on_tick: Callable[[], None]) -> None:
        """Do what need not be done in every turn."""
        self._next_tick = time.perf_counter() + TICK_S
        parts, mishaps, runs = self.parts, self.parts.mishaps, self.parts.runs
        problems, filing = runs.book.problems, runs.book.filing
        cut_off = problems[CUT_OFF]
        if parts.intake.watch(problems):
            runs.forget_said()
        if problems[CUT_OFF] > cut_off:
            runs.alarm(Kind.CUT_OFF.value, "the connection to the driver was cut off")
        for gate, count in self._inflow.cut.items():
            problems[f"{Kind.CUT_OFF}: {gate}"] = count
        self._close_vanished()
        if not self._can_read:
            parts.intake.hold()
        runs.collect()  # also an engine that hangs
        parts.outputs.serve()
        runs.note_clock()
        while filing.failed:
            mishaps.note(*filing.failed.popleft())
        self._waits.look(*waits_for(parts))
        if parts.flight is not None:
            with mishaps.contained("the flight recorder"):
                runs.note_output()
                parts.flight.tick()
        with mishaps.contained("the status"):
            on_tick()

    def _close_vanished(self) -> None:
        """Close the run of a driver that died: nobody else would."""
        intake, runs = self.parts.intake, self.parts.runs
        if self._can_read and intake.vanished:
            log.warning("the driver at %s vanished in mid-run", intake.address)
            runs.alarm("driver vanished", f"nobody publishes at {intake.address} any more")
            if closed := intake.reader.interrupt(time.time_ns()):
                runs.take(closed, time.time_ns())

    def _warm_up(self, on_tick: Callable[[], None]) -> None:
        """Compile for some axis before the first run: what does not work here is known at once."""
        compute = self.compute
        compute.prepare(None)
        while not compute.opened and not self.parts.stopping:
            self._turn(on_tick, reading=False)
        if compute.opened:
            compute.adopt_opened()
            self.parts.ready = True
