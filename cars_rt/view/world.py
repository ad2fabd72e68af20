"""What all pages share: the store, the threads that fill it, and what may be asked of daemon and recorder."""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from cars_rt.errors import CarsRtError
from cars_rt.printable import printable
from cars_rt.remote import Recorder, begun
from cars_rt.sockets.addresses import Address
from cars_rt.trust.flags import OFF
from cars_rt.trust.loopback import is_loopback
from cars_rt.view.feed import Feed
from cars_rt.view.health import Facts
from cars_rt.view.recorded import Recorded
from cars_rt.view.settings import ViewSettings
from cars_rt.view.store import Store
from cars_rt.view.watch import Watch

CALM_S = 5.0  # how long after a daemon was busy it is asked for whole spectra again
FEW_CORES = 4  # on which a browser, which paints on three of them, takes turns with the daemon
FLAGS_EVERY_S, FLAGS_KEPT = 2.0, 30  # the share of flagged spectra, over the last minute
QUICK = ("dark", "shadow", "unshadow", "bands")
SLOW = ("reload", "promote")  # minutes, where a model is compiled
DAEMON = (*QUICK, *SLOW)
RECORDER = {"record": "record-start", "record stop": "record-stop"}


class World:
    """Everything behind the pages. `close` ends its threads."""

    def __init__(self, settings: ViewSettings, file: Path | None = None) -> None:
        """file: a recording to be shown in place of a daemon."""
        self.settings, self._path = settings, file
        self.store = Store(settings.memory_mb * 1e6)
        self.file = None if file is None else file.name  # a recording is shown
        self._recorded: Recorded | None = None
        self.watch: Watch | None = None
        self.recorder: Watch | None = None
        self._feeds: list[Feed] = []
        self._busy_at = -CALM_S
        here = is_loopback(Address.to_connect(settings.preview).host)
        self._crowded = file is None and here and (os.cpu_count() or 1) <= FEW_CORES
        # No order waits for a slow one; quick ones, and those to the recorder, stay in their order. Of slow
        # ones the daemon refuses the second at once, which therefore has to reach it.
        recorder, quick, slow = (ThreadPoolExecutor(threads, "asks") for threads in (1, 1, 2))
        self._asking = dict.fromkeys(RECORDER, recorder) | dict.fromkeys(QUICK, quick)
        self._asking |= dict.fromkeys(SLOW, slow)
        self.pages: list[Any] = []  # of all browsers
        self._flags: deque[tuple[int, int]] = deque(maxlen=FLAGS_KEPT + 1)  # flagged, seen
        self._flags_of = ""  # this run
        self._flags_due = 0.0

    def start(self) -> None:
        """Connect. Raises KeysError or TokenError for what cannot be used."""
        settings, keys = self.settings, self.settings.access.client()
        if self._path is not None:
            self._recorded = Recorded(self.store, self._path)
            self._recorded.start()
            return
        self._feeds = [Feed(self.store, settings.preview, "preview", keys)]
        if settings.spectra != OFF:
            self._feeds.append(Feed(self.store, settings.spectra, "raman", keys, lambda: not self.busy))
        if settings.control != OFF:
            self.watch = Watch(settings.control, keys, settings.token)
        if settings.recorder != OFF:
            self.recorder = Watch(settings.recorder, keys, every_s=2.0, what=Recorder, word="record-status")
        for each in (*self._feeds, self.watch, self.recorder):
            if each is not None:
                each.start()

    def close(self) -> None:
        """End all threads."""
        for each in (*self._feeds, self._recorded, self.watch, self.recorder):
            if each is not None:
                each.close()
        for pool in self._asking.values():
            pool.shutdown(wait=False, cancel_futures=True)

    @property
    def busy(self) -> bool:
        """Whether the daemon has no head-room, or had none a moment ago."""
        now = time.monotonic()
        if self.watch is not None and self.watch.busy:
            self._busy_at = now
        return now - self._busy_at < CALM_S

    @property
    def no_spectra(self) -> str:
        """Why no whole spectra come beside the preview, in a phrase; empty: they do, or nobody knows."""
        store = self.store
        if self.file is not None or not store.connected.get("preview") or store.connected.get("raman"):
            return ""
        if self.settings.spectra == OFF:
            return "the display was started with --spectra none"
        return printable(store.troubles.get("raman", "")).rstrip(".")

    def crowding(self) -> float:
        """Spectra/s of a daemon that runs on this computer and waits for others there, where that has few
        cores; 0 otherwise."""
        scan, watch = self.store.scan, self.watch
        if not self._crowded or (watch and watch.urgent) or scan is None or scan.end is not None:
            return 0.0
        return scan.seen / max(time.monotonic() - scan.begun, 1.0)

    def facts(self) -> Facts:
        """How everything is."""
        store, watch, now = self.store, self.watch, time.monotonic()
        scan = store.scan
        known: dict[str, Any] = {}
        if scan is not None:
            known = {
                "run": scan.start.run,
                "source": scan.start.source,
                "seen": scan.seen,
                "between_s": scan.between_s,
                "planned": scan.start.spectra,
                "ended": scan.end.reason.value if scan.end else None,
                "came": scan.end.spectra if scan.end else None,
                "lost": dict(scan.lost),
                "flagged": dict(scan.flagged),
                "with_flags": scan.with_flags,
                "beyond": scan.beyond,
                "missed": scan.missed,
                "not_finite": scan.not_finite,
            }
        if watch is not None:
            known |= {
                "status": watch.status,
                "status_age_s": now - watch.at,
                "why": watch.why,
                "rate_in": watch.rate_in,
                "rate_out": watch.rate_out,
                "busy": self.busy,
            }
        if (recorder := self.recorder) is not None:
            known |= {
                "recorder": recorder.last,
                "recorder_silent_s": now - recorder.at if recorder.status is None else None,
                "recorder_there": recorder.there,
                "recorder_left": recorder.left,
            }
        return Facts(
            connected=store.connected.get("preview", False),
            trouble=store.troubles.get("preview", ""),
            gone_s=max(now - store.gone_since.get("preview", now), 0.0),
            quiet_s=now - store.quiet_since,
            file=self.file,
            results=self._recorded is None or self._recorded.results,
            file_trouble="" if self._recorded is None else self._recorded.trouble,
            **known,
        )

    def flags_over_time(self) -> list[float]:
        """The share of flagged spectra of the run in each of the last intervals, oldest first."""
        scan, now = self.store.scan, time.monotonic()
        if scan is not None and now >= self._flags_due:
            self._flags_due = now + FLAGS_EVERY_S
            if self._flags_of != scan.start.run:
                self._flags_of = scan.start.run
                self._flags.clear()
                self._flags.append((0, 0))
            self._flags.append((scan.with_flags, scan.seen))
        pairs = list(self._flags)
        return [(after[0] - before[0]) / max(after[1] - before[1], 1) for before, after in pairwise(pairs)]

    def ask(self, do: str, given: Mapping[str, Any], then: Callable[[str, bool], None]) -> None:
        """Ask daemon or recorder for something, in a thread. `then` is told what came of it, or why nothing
        did."""
        watch, word = (self.recorder, RECORDER[do]) if do in RECORDER else (self.watch, do)
        if not self.settings.allow_control:
            then("This page may look, not control: start `cars-rt view --allow-control` for that.", True)
        elif do not in DAEMON and do not in RECORDER:
            then(f"Nothing is called {do[:40]!r} here.", True)
        elif watch is None:
            then(f"The display was started without an address to ask for {do!r}.", True)
        else:
            watch.left = None if do == "record stop" else watch.left  # who stops it knows
            future = self._asking[do].submit(watch.ask, word, **given)
            future.add_done_callback(lambda done: then(*_answer(do, done)))


def _answer(do: str, done: "Future[dict[str, Any]]") -> tuple[str, bool]:
    try:
        result = done.result()
    except CarsRtError as error:
        return f"{do}: {error}", True
    except Exception as error:  # whatever it is, the user must see it
        return f"{do}: {type(error).__name__}: {error}", True
    known = (f"{name} {value}" for name, value in result.items() if isinstance(value, str | int | float))
    said = begun(result) if do == "record" else ", ".join(known)
    return f"{do}: done{f' ({said})' if said else ''}", False
