"""Threads that read a daemon's streams into the store, and do nothing else."""

import logging
import threading
import time
from collections.abc import Callable

from cars_rt.accounting import Problem
from cars_rt.errors import CarsRtError
from cars_rt.kinds import Fault, Kind
from cars_rt.protocol import Closed, Event, Frame, Start, StreamName
from cars_rt.source import Source
from cars_rt.trust.curve import ClientKeys
from cars_rt.view.store import Store

log = logging.getLogger("cars_rt.view")

LOOK_S = 0.1  # how soon a stop is noticed
NOT_NOW = "none are asked for while the daemon has no head-room"
AGAIN_S = 1.0  # before a connection that broke is made anew
#: The daemon leaves out spectra rather than wait for a display, which is opened whenever somebody looks.
EXPECTED = frozenset({Kind.SOURCE_SKIP, Kind.JOINED_LATE})
GAPS = {Kind.SEQUENCE_JUMP, Kind.TAIL_MISSING}  # of what was sent to this display
SPEAKS_OTHERWISE = {*Fault, Kind.STREAM}  # findings that explain why nothing is shown


class Feed(threading.Thread):
    """Reads one stream until it is stopped, whatever happens to the daemon."""

    def __init__(
        self,
        store: Store,
        address: str,
        stream: StreamName,
        security: ClientKeys | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """wanted: asked from time to time; while it says no, this feed is not connected."""
        super().__init__(name=f"feed of {stream}", daemon=True)
        self.address, self.stream = address, stream
        self._store, self._security, self._wanted = store, security, wanted
        self._over = threading.Event()
        self._source: Source | None = None
        self._run = ""  # the one that this stream told of last

    def run(self) -> None:
        while not self._over.is_set():
            if not self._wanted():
                self._note(False, NOT_NOW)
                self._over.wait(AGAIN_S)
                continue
            try:
                self._source = source = Source(self.address, self.stream, self._security, expected=EXPECTED)
            except CarsRtError as error:
                self._note(False, str(error))
                self._over.wait(AGAIN_S)
                continue
            try:
                self._read(source)
            except CarsRtError as error:
                log.warning("%s", error)
                self._note(False, str(error))
                self._over.wait(AGAIN_S)
            finally:
                self._source = None
                source.close()

    def close(self) -> None:
        """Stop, and wait for it."""
        self._over.set()
        self.join()

    def _read(self, source: Source) -> None:
        said = ""
        while not self._over.is_set() and self._wanted():
            for event in source.pull(LOOK_S):
                try:
                    said = self._take(event, said)
                except Exception as error:  # one message that this program fails on costs no more than itself
                    log.warning("%s: a message cannot be shown: %s", self.address, error)
                    log.debug("where that was", exc_info=True)
            why = source.subscriber.trouble or "" if source.connected else source.describe()
            self._note(source.connected, said or why)

    def _take(self, event: Event, said: str) -> str:
        """Show what came. Returns why nothing can be shown, if that is known; `said` is what it was."""
        match event:
            case Start():
                self._run = event.run
                self._store.begin(event)
                return ""
            case Frame() if self.stream == "preview":
                self._store.bundle(event)
                return ""
            case Frame():
                self._store.spectra(event)
            case Closed() if self.stream == "preview":
                self._store.close(event, heard=self._source is None or self._source.connected)
            case Problem() if event.kind in GAPS and self.stream == "preview":
                self._store.missed(self._run, event.spectra)
            case Problem() if event.kind in SPEAKS_OTHERWISE:
                return f"{self.address}: {event.text}"
        return said

    def _note(self, connected: bool, trouble: str) -> None:
        if connected:
            self._store.gone_since.pop(self.stream, None)
        else:
            self._store.gone_since.setdefault(self.stream, time.monotonic())
        self._store.connected[self.stream] = connected
        self._store.troubles[self.stream] = trouble
