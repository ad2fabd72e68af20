"""The result stream: one result for every spectrum, in order, as soon as there is room for it."""

import time
from collections import deque
from collections.abc import Iterator

from cars_rt.accounting import MAX_RANGES, Cause
from cars_rt.daemon.batch import Batch
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.daemon.outputs.base import Output
from cars_rt.daemon.outputs.joined import Joined, joined
from cars_rt.daemon.run import Run
from cars_rt.daemon.seen import metric
from cars_rt.daemon.seen.metric import Metric
from cars_rt.daemon.seen.snapshot import Queue
from cars_rt.latency import Latencies
from cars_rt.protocol import Frame
from cars_rt.protocol.limits import MAX_COUNT
from cars_rt.sockets import Overload, Publisher
from cars_rt.trust.curve import Access


class Results(Output):
    """Sends batches in the order in which they came, in few frames, with the time stamps of their counts.

    Raises StreamError if the address cannot be bound, KeysError if it may not be.
    """

    name, needed = "the results", True

    def __init__(
        self,
        address: str,
        security: Access,
        mishaps: Mishaps,
        *,
        buffer_mb: float,
        overload: Overload,
        stall_s: float,
    ) -> None:
        super().__init__()
        self.publisher = Publisher(
            address,
            "raman",
            buffer_mb=buffer_mb,
            overload=overload,
            stall_s=stall_s,
            cause=Cause.OUTPUT,
            security=security,
        )
        self.latencies = {"output": Latencies(), "total": Latencies()}
        self._mishaps = mishaps
        self._waiting: deque[tuple[Batch, deque[Joined]]] = deque()

    def open(self, run: Run) -> None:
        """Tell the subscribers; what leaves and what is dropped is counted in the run."""
        assert run.published is not None
        self.publisher.open(run.published, run.sent)

    def take(self, batch: Batch) -> None:
        """Send it after what waits already."""
        batch.holders += 1
        assert batch.run is not None and batch.run.published is not None
        self._waiting.append((batch, deque(joined(batch.frames, batch.run.published.block))))

    def work(self) -> None:
        """Send what there is room for."""
        while self._waiting:
            batch, parts = self._waiting[0]
            if not self._send(batch, parts):
                return
            self.latencies["output"].add((time.perf_counter() - batch.done) * 1e3)
            self._waiting.popleft()
            batch.holders -= 1

    def _send(self, batch: Batch, parts: deque[Joined]) -> bool:
        """True if all of it has left."""
        run, publisher, computed = batch.run, self.publisher, batch.result()
        assert run is not None
        arrays = computed.arrays
        whole = {name: arrays[name] for name in run.outputs if name in arrays}  # an engine may have changed
        lost = run.sent.total_lost
        while parts:
            part, now = parts[0], time.time_ns()
            rows = slice(part.first, part.first + part.rows)
            result = Frame(
                "raman", run.start.run, publisher.sequence, part.index, part.time_ns,
                {name: array[rows] for name, array in whole.items()} | part.delays(),
                part.received_ns, now, min(part.lost + lost, MAX_COUNT), batch.made_by,
            )  # fmt: skip
            try:
                if not publisher.send(result):
                    return False
            except Exception as error:
                reason = self._mishaps.note("a result", error)
                self.unsent += [(run, frame, reason) for frame in part.entries]
            else:
                self._left(run, part, now, batch.made_by)
            parts.popleft()
        return True

    def _left(self, run: Run, part: Joined, now_ns: int, made_by: str) -> None:
        """Note who made it, and how old it is."""
        makers, clock = run.makers, run.clock
        if (not makers or makers[-1][1] != made_by) and len(makers) < MAX_RANGES:
            makers.append((part.index, made_by))
        for frame in part.entries:
            age = now_ns - frame.time_ns
            if age < 0:  # the source's clock is ahead, or one of the two was set
                clock.early_ns = max(clock.early_ns, -age)
            elif not clock.lag_ns:
                self.latencies["total"].add(age / 1e6)

    def end(self, run: Run) -> None:
        """The run's last message follows its last result; its totals are those of the receipt."""
        assert run.closed is not None
        end = run.closed.end
        self.publisher.end(lambda: run.settle(run).end(end))

    @property
    def queue(self) -> Queue:
        """Spectra that wait for subscribers."""
        return Queue(self.publisher.waiting, self.publisher.capacity)

    def metrics(self) -> Iterator[Metric]:
        """What is counted here."""
        sent = self.publisher
        yield metric.Gauge("cars_rt_subscribers", "Subscribers of the result stream.", sent.subscribers)
        text = "Frames of results sent."
        yield metric.Counter("cars_rt_frames_sent", text, sent.frames_sent, status="frames_out")
        yield metric.Counter("cars_rt_spectra_sent", "Spectra sent.", sent.spectra_sent)
        text = "How often a subscriber stopped reading and was left out."
        yield metric.Counter("cars_rt_subscriber_stalls", text, sent.stalls, status="stalls")

    def close(self, linger_s: float | None) -> bool:
        """Close when subscribers have taken everything, after linger_s at most; None: without that limit."""
        return self.publisher.close(linger_s)
