"""What the daemon waits for, in words: for the status, for probes, and for the log where it takes long."""

import logging
import time

from cars_rt.daemon.parts import Parts
from cars_rt.daemon.seen.status import no_driver
from cars_rt.printable import counted

log = logging.getLogger("cars_rt.daemon")

NOT_READY = ("compiling", "subscribers", "down")  # kinds of wait in which no spectrum would be answered
SAY_S = 5.0  # a wait longer than this is logged, and again whenever it has lasted twice as long
SOON_S = 1.0  # a shorter wait for room in the output is nothing to speak of


def waits_for(parts: Parts) -> tuple[str, str]:
    """The kind of wait, and a phrase; both empty while everything flows."""
    compute, publisher, intake = parts.compute, parts.results.publisher, parts.intake
    if (text := compute.compiling) and not parts.ready:
        return "compiling", text
    if parts.gathering:
        here, wanted = publisher.subscribers, parts.settings.subscribers
        are = "is" if here == 1 else "are"
        return "subscribers", f"waiting for {counted(wanted, 'subscriber')}, {here} {are} here"
    if compute.down is not None:
        return "down", compute.down
    if text:
        return "compiling", text
    if publisher.refused_s > SOON_S:
        return "room", f"waiting for a subscriber that has had no room for {publisher.refused_s:.0f} s"
    if parts.paused:
        return "paused", "paused; `cars-rt ctl resume` goes on"
    if not intake.connected:
        return "driver", intake.trouble or no_driver(parts.settings.listen, parts.runs.book.closed)
    run = parts.runs.current
    if run is not None and (text := run.waits_for) and time.monotonic() - run.since > SOON_S:
        return "run", text
    return "", ""


class Waits:
    """Tells the log of waits that take long."""

    def __init__(self) -> None:
        self._kind = ""
        self._since = self._next = 0.0

    def look(self, kind: str, text: str) -> None:
        """Call it often, with what `waits_for` says."""
        now = time.monotonic()
        if kind != self._kind:
            self._kind, self._since, self._next = kind, now, SAY_S
        elif kind not in ("", "driver") and now - self._since >= self._next:  # of drivers the status speaks
            self._next *= 2
            log.info("%s", text)
