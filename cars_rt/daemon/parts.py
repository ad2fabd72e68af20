"""What a daemon is made of: opened together, closed together, and asked by all that look at the whole."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import zmq

from cars_rt.daemon.compute.compute import Compute
from cars_rt.daemon.dark import Dark
from cars_rt.daemon.filing import Filing
from cars_rt.daemon.flight import FlightRecorder
from cars_rt.daemon.intake import Intake
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.outputs.base import Outputs
from cars_rt.daemon.outputs.preview import Preview, parse_band
from cars_rt.daemon.outputs.results import Results
from cars_rt.daemon.outputs.spectra import Spectra, open_spectra
from cars_rt.daemon.pipeline import Pipeline
from cars_rt.daemon.receipt import Book
from cars_rt.daemon.runs import Runs
from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric
from cars_rt.daemon.seen.snapshot import Phase, Queue, State
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.latency import Latencies
from cars_rt.protocol.control import REQUESTS
from cars_rt.sockets.addresses import port_of
from cars_rt.sockets.control import Control
from cars_rt.sockets.inflow import Gate
from cars_rt.trust.flags import OFF
from cars_rt.urgency import urgent

SUBSCRIBER_BYTES = 16_000_000  # from all subscribers of a stream together: they only subscribe


class Times:
    """What the loop's time goes to."""

    def __init__(self) -> None:
        self.phases = dict.fromkeys(Phase, 0.0)  # s
        self._begun = self._marked = time.perf_counter()

    def mark(self, phase: Phase) -> None:
        """The time since the last mark went to this phase."""
        now = time.perf_counter()
        self.phases[phase] += now - self._marked
        self._marked = now

    @property
    def uptime_s(self) -> float:
        """Up to the last mark: what the phases add up to."""
        return self._marked - self._begun

    def metrics(self) -> Iterator[Metric]:
        """What is counted here."""
        yield metric.Gauge("cars_rt_uptime_seconds", "Since the daemon started.", self.uptime_s)
        text = "What the loop's time went to. The phases add up to its life."
        phases = {phase.value: seconds for phase, seconds in self.phases.items()}
        yield metric.Counter("cars_rt_phase_seconds", text, phases, "phase", "phases_s")


class Parts:
    """One intake, one model at a time, the results and their preview.

    Raises StreamError, KeysError, ModelError, EngineError or SettingsError if it cannot be; then nothing is
    left open.
    """

    def __init__(self, settings: DaemonSettings) -> None:
        settings.make_folders()
        self.settings = settings
        self.times = Times()
        self.ready = False  # once the engine is warm
        self.gathering = False  # subscribers are waited for, before the driver is
        self.paused = False  # nothing is read
        self.stopping = False
        book = Book(settings.receipts, Filing())
        self.mishaps = Mishaps(book.problems)
        flight = None
        if settings.flight is not None:
            flight = FlightRecorder(settings.flight, settings.flight_seconds, settings.flight_mb)
        access = settings.access
        server = access.server(settings.publish)  # before anything starts
        self.compute = Compute(
            settings.model,
            settings.engine,
            settings.max_batch,
            settings.threads,
            settings.reference,
            deviation=settings.deviation,
            stand_in=not settings.engine_only,
        )
        opened: list[Callable[[], object]] = [self.compute.close]
        try:
            self.intake = Intake(settings.listen, access.client(), flight, self.mishaps)
            opened.append(self.intake.close)
            self.results = results = Results(
                settings.publish,
                server,
                self.mishaps,
                buffer_mb=settings.buffer_mb,
                overload=settings.overload,
                stall_s=settings.stall_s,
            )
            opened.append(lambda: results.close(None))
            self.preview: Preview | None = None
            if settings.preview != OFF:
                bands = [parse_band(each) for each in settings.bands]
                self.preview = preview = Preview(settings.preview, bands, access.server(settings.preview))
                opened.append(lambda: preview.close(None))
            self.spectra: Spectra | None = None
            if settings.spectra != OFF:
                self.spectra = spectra = open_spectra(settings.spectra, access.server(settings.spectra))
                opened.append(lambda: spectra and spectra.close(None))
            self.control: Control | None = None
            if settings.control != OFF:
                keys = access.control(settings.control)
                self.control = Control(settings.control, REQUESTS, "daemon", keys, access.control_token)
        except Exception:
            for close in opened:
                close()
            raise
        self.outputs = Outputs([each for each in (results, self.preview, self.spectra) if each], self.mishaps)
        self.pipeline = Pipeline(self.compute, self.outputs, self.mishaps)
        dark = Dark(settings.receipts, book.filing)
        self.runs = Runs(self.intake, self.compute, self.pipeline, self.outputs, dark, book, self.mishaps)

    @property
    def flight(self) -> FlightRecorder | None:
        """The flight recorder, if there is one."""
        return self.intake.flight

    @property
    def state(self) -> State:
        """What the daemon is doing."""
        if self.stopping:
            return State.STOPPING
        if self.paused:
            return State.PAUSED
        if not self.ready or self.gathering:
            return State.STARTING
        return State.IDLE if self.runs.current is None else State.RUNNING

    @property
    def queues(self) -> dict[str, Queue]:
        """How full they are, by stage."""
        return self.pipeline.queues | {"output": self.results.queue}

    @property
    def latencies(self) -> dict[str, Latencies]:
        """As they are now, by stage."""
        parts = (self.pipeline, *self.outputs)
        return {stage: each.copy() for part in parts for stage, each in part.latencies.items()}

    def metrics(self) -> Iterator[Metric]:
        """What all of them count."""
        for part in (self.times, self.intake, self.compute, self.pipeline, self.runs, *self.outputs):
            yield from part.metrics()
        text = "1: spectra wait for no other program, 0: as everybody does."
        yield metric.Gauge("cars_rt_realtime", text, urgent(), status="realtime")
        text = "Connections without an allowed key or that flooded us, requests without the token."
        refused = sum(output.publisher.refused for output in self.outputs)
        refused += self.control.refused if self.control is not None else 0
        yield metric.Counter("cars_rt_connections_refused", text, refused, status="refused")
        queues = self.queues.items()
        depths, limits = ({name: getattr(queue, of) for name, queue in queues} for of in ("depth", "limit"))
        yield metric.Gauge("cars_rt_queue_depth_spectra", "Spectra waiting, by queue.", depths, "queue")
        yield metric.Gauge("cars_rt_queue_limit_spectra", "Room for spectra, by queue.", limits, "queue")
        text = "Latency in seconds, by stage."
        yield metric.Histogram("cars_rt_latency_seconds", text, self.latencies, "stage")

    def gates(self) -> list[Gate]:
        """What is watched: how much may be on its way into each socket without being a message yet."""
        gates, control = list[Gate](), self.control
        for output in self.outputs:
            sent = output.publisher
            gates.append(
                Gate(output.name, port_of(sent.address), lambda: SUBSCRIBER_BYTES, behind=sent.is_behind)
            )
        if control is not None:
            gates.append(control.gate())
        return gates

    @property
    def sockets(self) -> list[tuple[Any, int]]:
        """What the loop waits for, whether it reads or not."""
        sockets: list[tuple[Any, int]] = [(self.compute.socket, int(zmq.POLLIN))]
        if self.control is not None:
            sockets.append((self.control.socket, int(zmq.POLLIN)))
        return sockets

    def close(self, linger_s: float) -> bool:
        """Give everything back; False if subscribers had not taken all results after linger_s."""
        self.compute.close()
        self.intake.close()
        for output in self.outputs:
            if not output.needed:
                output.close(linger_s)
        if self.control is not None:
            self.control.close()
        taken = self.results.close(linger_s)
        self.runs.book.filing.close()
        return taken
