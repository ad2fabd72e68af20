"""Asks daemon and display now and then how they are, in a thread, so that nobody waits for a slow answer."""

import socket
import threading
from contextlib import suppress
from typing import Any

from cars_rt.daemon.another import status
from cars_rt.sockets.addresses import Address, AddressError
from cars_rt.trust.flags import OFF

EVERY_S = 1.0


class Glance:
    """Asks one daemon and one display at their HOST:PORT until `close`. Answers may be read at any time."""

    def __init__(self, daemon: str | None, view: str | None) -> None:
        """Either may be None or the word none: then it is not asked."""
        self.asked = 0  # how often it has asked
        self.status: dict[str, Any] | None = None  # the daemon's last answer; None: there was none
        self.shown = False  # whether the display takes connections
        self._daemon, self._view = daemon, view
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._look, name="glance", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ask no more."""
        self._closed.set()

    def _look(self) -> None:
        while not self._closed.wait(EVERY_S):
            self.status = None if self._daemon in (None, OFF) else status(str(self._daemon))
            self.shown = self.shown or _answers(self._view)
            self.asked += 1


def _answers(http: str | None) -> bool:
    """Whether somebody takes connections at HOST:PORT."""
    with suppress(OSError, AddressError):
        address = Address.to_serve(http or "")
        with socket.create_connection((address.local, address.port), EVERY_S):
            return True
    return False
