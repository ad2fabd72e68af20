"""systemd's notification protocol: ready, status, watchdog, stopping. See sd_notify(3).

Of the known packages one needs a C library and the other is no longer kept; the protocol is one
datagram with lines of KEY=VALUE. RELOADING is not sent: the daemon serves on while a model is changed.
"""

import logging
import os
import socket
import time
from collections.abc import Mapping

from cars_rt.daemon.seen.snapshot import Snapshot, State

log = logging.getLogger("cars_rt.daemon")

STATUS_S = 1.0  # between two status texts
STARTING_S = 30  # granted again with every message until ready: a slow start is not a failed one


class Notifier:
    """Tells systemd what the snapshots say; does nothing without NOTIFY_SOCKET, as on other systems.

    `post` is called by the loop's thread only, whenever the loop turned: a loop that hangs sends no
    WATCHDOG, and systemd ends the process. It never waits and never raises.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._socket: socket.socket | None = None
        self._ready = self._stopping = self._failed = False
        self._status, self._status_at, self._alive_at = "", 0.0, 0.0
        self._watchdog_s: float | None = _watchdog(environment)
        path = environment.get("NOTIFY_SOCKET", "")
        if path[:1] not in ("/", "@") or not hasattr(socket, "AF_UNIX"):
            return
        self._address = "\0" + path[1:] if path[0] == "@" else path  # @: an abstract socket
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)

    def post(self, snapshot: Snapshot) -> None:
        """Say what is new, and that the loop turned."""
        if self._socket is not None:
            # The service is up while it waits for subscribers: they may be started after it.
            ready, stopping = snapshot.ready or snapshot.gathering, snapshot.state is State.STOPPING
            self.say(_describe(snapshot), ready=ready, stopping=stopping)

    def say(self, status: str, *, ready: bool, stopping: bool) -> None:
        """Tell what is new of these, and that the program is alive. status: one line."""
        if self._socket is None:
            return
        now, lines = time.monotonic(), []
        if ready and not self._ready and not stopping:
            lines.append("READY=1")
        if stopping and not self._stopping:
            lines.append("STOPPING=1")
        if self._watchdog_s is not None and now - self._alive_at >= self._watchdog_s / 3:
            lines.append("WATCHDOG=1")
        if lines or (status != self._status and now - self._status_at >= STATUS_S):
            lines.append(f"STATUS={status}")
            if not (self._ready or ready or stopping):
                lines.append(f"EXTEND_TIMEOUT_USEC={STARTING_S * 1_000_000}")
        # A message that found no room is composed again at the next turn.
        if lines and self._send(lines):
            self._ready |= "READY=1" in lines
            self._stopping |= "STOPPING=1" in lines
            self._status, self._status_at = status, now
            if "WATCHDOG=1" in lines:
                self._alive_at = now

    def close(self) -> None:
        """Say that the daemon ends, if it was not said yet."""
        if self._socket is not None:
            if not self._stopping:
                self._send(["STOPPING=1"])
            self._socket.close()
            self._socket = None

    def _send(self, lines: list[str]) -> bool:
        assert self._socket is not None
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed and not isinstance(error, BlockingIOError):
                self._failed = True
                log.warning("cannot tell systemd how it goes (NOTIFY_SOCKET): %s", error.strerror)
            return False
        return True


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Seconds within which systemd wants a sign of life, or None; it may mean another process."""
    usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6


def _describe(snapshot: Snapshot) -> str:
    """One line for `systemctl status`."""
    lost = sum(snapshot.lost.values())
    waits = f"{snapshot.waits_for}; " if snapshot.waits_for else ""
    text = f"{snapshot.state}: {waits}{snapshot.spectra_out} spectra sent, {lost} lost, {snapshot.model}"
    return " ".join(text.split())  # a line break would begin another field
