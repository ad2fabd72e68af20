"""Asks the daemon how it is, once a second, and passes on what the page may ask of it."""

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from cars_rt.errors import CarsRtError
from cars_rt.remote import BusyError, Remote, RemoteError
from cars_rt.trust.curve import ClientKeys

Answer: TypeAlias = Mapping[str, Any]

EVERY_S = 1.0
FULL = 0.5  # share of a queue; a daemon with a fuller one has no head-room


class Watch(threading.Thread):
    """The status of one daemon, or recorder, at `address`."""

    def __init__(
        self,
        address: str,
        security: ClientKeys | None = None,
        token: Path | None = None,
        every_s: float = EVERY_S,
        what: type[Remote] = Remote,
        word: str = "status",
    ) -> None:
        """what: the kind of connection. word: the request for the status."""
        super().__init__(name=f"watch of {address}", daemon=True)
        self.address = address
        self.status: dict[str, Any] | None = None  # the last answer; None: it does not answer
        self.last: dict[str, Any] | None = None  # the last answer, also of one that is gone
        self.at = 0.0  # when it came
        self.why = "not asked yet"  # why there is no answer
        self.there = False  # it does not answer, but takes connections
        self.rate_in = self.rate_out = 0.0  # spectra/s
        self.busy = False
        self.urgent = False  # it waits for no other program, so neither for a browser that draws
        self.left: Answer | None = None  # what a recorder that began anew left undone: see `left`
        self._security, self._token, self._every_s = security, token, every_s
        self._what, self._word = what, word
        self._over = threading.Event()

    def run(self) -> None:
        remote: Remote | None = None
        while not self._over.is_set():
            try:
                if remote is None:
                    remote = self._what(self.address, self._security, self._token)
                self._take(remote.ask(self._word, timeout_s=2 * self._every_s, waiting=self._go_on))
            except CarsRtError as error:
                self.status, self.why, self.busy, self.urgent = None, str(error), False, False
                self.there = isinstance(error, BusyError)
                if remote is not None:
                    remote.close()
                remote = None
            self._over.wait(self._every_s)
        if remote is not None:
            remote.close()

    def _go_on(self) -> None:
        """Called while an answer is waited for: the end of the program does not wait for it."""
        if self._over.is_set():
            raise RemoteError("the display ends")

    def _take(self, status: dict[str, Any]) -> None:
        now, before = time.monotonic(), self.status
        if before is not None:
            passed = max(now - self.at, 1e-3)
            try:
                self.rate_in = max(status["spectra_in"] - before["spectra_in"], 0) / passed
                self.rate_out = max(status["spectra_out"] - before["spectra_out"], 0) / passed
                queues = status["queues"].values()
                self.busy = any(each["depth"] > FULL * max(each["limit"], 1) for each in queues)
            except (KeyError, TypeError, AttributeError):  # a recorder, or a daemon of another version
                self.busy = False
        self.urgent = bool(status.get("realtime"))
        self.left = left(self.last or {}, status, self.left)
        self.status, self.last, self.at, self.why = status, status, now, ""

    def ask(self, do: str, /, **arguments: Any) -> dict[str, Any]:
        """Make one request, on a connection of its own. Raises CarsRtError, which says why it was refused."""
        with self._what(self.address, self._security, self._token) as remote:
            return remote.ask(do, waiting=self._go_on, **arguments)

    def close(self) -> None:
        """Stop asking."""
        self._over.set()
        self.join()


def left(last: Answer, now: Answer, before: Answer | None) -> Answer | None:
    """The last answer of an earlier life of a recorder that was to record, where this one, which answers
    `now`, waits to be told anew; or None. last: the answer before `now`. before: what was left until then.
    """
    if now.get("state") != "idle":
        return None
    anew = last.get("begun_ns") != now.get("begun_ns")
    return last if anew and last.get("state") in ("recording", "waiting") else before
