"""Listens to a publisher and judges what it sends, while it sends it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from cars_rt.judge import Judge
from cars_rt.protocol import RunReader, StreamName
from cars_rt.sockets import StreamError, Subscriber
from cars_rt.sockets.addresses import remedy
from cars_rt.trust.flags import ClientAccess

LOOK_S = 0.1  # how soon a stop is noticed
READ_AT_ONCE = 1_000  # messages, before everything else is looked at again
PATIENCE_S = 2.0  # after so long without a publisher, say so
SECOND_AFTER_S = 1.5  # into a run, a second subscriber comes
START_WITHIN_S = 5.0  # and has to get start


@dataclass(frozen=True, kw_only=True)
class ListenSettings(ClientAccess):
    """What to listen to, and for how long."""

    stream: StreamName = "raw"
    """raw: counts of a driver; raman, preview: what a daemon publishes."""

    runs: int = 1
    """End after so many runs; 0: listen until Ctrl-C or --seconds."""

    seconds: float = 0.0
    """End after so many seconds; 0: when the runs have ended."""

    def __post_init__(self) -> None:
        if not (self.runs >= 0 and self.seconds >= 0):
            raise StreamError("--runs and --seconds cannot be negative; 0 sets no end")


class Listener:
    """Listens to one address. Raises StreamError for an impossible one, KeysError for unusable keys."""

    def __init__(self, address: str, settings: ListenSettings) -> None:
        self.judge = Judge(settings.stream)
        self._settings = settings
        self._subscriber = Subscriber(address, settings.stream, security=settings.client())
        self._subscriber.run = lambda: self.judge.reader.run
        self._second: Subscriber | None = None
        self._second_at = 0.0
        self._tried = False  # the second subscriber, in this run
        self._stopped = False

    def stop(self) -> None:
        """End soon. From any thread, or a signal handler."""
        self._stopped = True

    def listen(self, say: Callable[[str], None]) -> Judge:
        """Listen until it is time to end; `say` gets every line as it comes up.

        Raises StreamError where another stream is published.
        """
        begun = time.monotonic()
        waiting = False  # whether it was said
        try:
            while not self._stopped and not self._enough(time.monotonic() - begun):
                cut_off = self._subscriber.cut_off
                self._subscriber.watch()
                if self._subscriber.cut_off > cut_off:
                    self._say(say, self.judge.cut_off())
                if self._subscriber.poll(LOOK_S):
                    self._read(say)
                elif self.judge.reader.run is not None and self._subscriber.vanished:
                    self._say(say, self.judge.vanished(time.time_ns()))
                elif not waiting and time.monotonic() - begun > PATIENCE_S and not self.judge.messages:
                    waiting = True
                    say(f"{self.describe()}; waiting")
                self._try_late(say)
        finally:
            self._subscriber.close()
            self._leave()
        self._say(say, self.judge.verdict())
        return self.judge

    def describe(self) -> str:
        """Whether anybody publishes there, in a phrase."""
        if self._subscriber.connected:
            return f"connected to {self._subscriber.address}, but no run is open there"
        return self._subscriber.trouble or f"nobody publishes at {self._subscriber.address}"

    def _read(self, say: Callable[[str], None]) -> None:
        for _ in range(READ_AT_ONCE):
            parts = self._subscriber.receive()
            if parts is None or self._enough(0):
                return
            self._say(say, self.judge.read(parts, time.time_ns()))
            if self.judge.elsewhere:
                where = remedy(self._settings.stream)
                raise StreamError(f"{self._subscriber.address}: {self.judge.elsewhere}; {where}")

    def _say(self, say: Callable[[str], None], lines: list[str]) -> None:
        for line in lines:
            say(line)

    def _enough(self, seconds: float) -> bool:
        most = self._settings
        return 0 < most.runs <= self.judge.ended or 0 < most.seconds <= seconds

    def _try_late(self, say: Callable[[str], None]) -> None:
        """Connect once more in mid-run, as a viewer that is started later does."""
        if self.judge.reader.run is None:
            self._tried = False
            self._leave()
        elif self._second is None:
            if not self._tried:
                self._tried, self._second_at = True, time.monotonic() + SECOND_AFTER_S
            if self._second_at and time.monotonic() > self._second_at:
                most = self._settings
                self._second = Subscriber(self._subscriber.address, most.stream, security=most.client())
                self._reader = RunReader(most.stream)
                self._second_at = time.monotonic() + START_WITHIN_S
        else:
            while (parts := self._second.receive()) is not None and self._reader.run is None:
                self._reader.read(parts)
            came = self._reader.run is not None
            if not self._second.watch():
                self._second_at = time.monotonic() + START_WITHIN_S
            if came or time.monotonic() > self._second_at:
                self._say(say, self.judge.late(came))
                self._leave()

    def _leave(self) -> None:
        if self._second is not None:
            self._second.close()
        self._second, self._second_at = None, 0.0
