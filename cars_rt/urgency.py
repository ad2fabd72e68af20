"""Has the threads of this process run before other programs', while they need little of the computer.

A spectrum goes through several threads, each of which sleeps until it comes. Linux lets what runs meanwhile
(a browser that paints, say) go on for up to a tick, 4 ms, each time. A thread of real-time priority does not
wait for it. Who takes much of the computer would keep the others out, and who is sent messages as fast as can
be does more at a time if each of them does not wake it: both are as urgent as anybody.
"""

import contextlib
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Self

log = logging.getLogger("cars_rt.urgency")

LOOK_S = 0.2  # between two looks
CALM = 5  # looks in a row, after which it is urgent again
WAKES = 12_000  # a second, from which on there is always another message
AGAIN = 0.8  # of either, which a look has to find then: not in and out all the time
THREADS = Path("/proc/self/task")


class Urgency:
    """While entered, it looks how things are. share: of the time of all cores, below which it is urgent.

    Where the system does not have it, or does not allow it to this user, nothing is done.
    """

    def __init__(self, share: float, wanted: bool = True) -> None:
        self.urgent = False
        self._share, self._wanted = share, wanted
        self._raised: set[int] = set()  # threads
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="urgency", daemon=True)

    def __enter__(self) -> Self:
        if self._wanted and sys.platform == "linux":
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        import resource  # not on every system

        cores, calm, said = len(os.sched_getaffinity(0)), 0, False
        began, used, woken = time.monotonic(), time.process_time(), 0
        while not self._stop.wait(LOOK_S):
            now, now_used = time.monotonic(), time.process_time()
            now_woken = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
            seconds, most = now - began, 1 if self.urgent else AGAIN
            share, wakes = (now_used - used) / seconds / cores, (now_woken - woken) / seconds
            began, used, woken = now, now_used, now_woken
            calm = calm + 1 if share < self._share * most and wakes < WAKES * most else 0
            urgent = calm > 0 if self.urgent else calm >= CALM
            try:
                self._become(urgent)
            except OSError as error:
                log.debug("no real-time priority: %s", error.strerror)
                return
            if urgent and not said:
                said = True
                log.info(
                    "runs before other programs while it takes less than %.0f %% of the cores (real-time "
                    "priority, which the system allows)", 100 * self._share,
                )  # fmt: skip

    def _become(self, urgent: bool) -> None:
        """All threads, of which there may be new ones. Raises OSError if the system does not allow it."""
        there = {int(each.name) for each in THREADS.iterdir()}
        if urgent:
            self._raised &= there
            for thread in there - self._raised:
                if thread == threading.get_native_id() or _sleeps(thread):
                    _place(thread, os.SCHED_OTHER, os.SCHED_RR, 1)
                    self._raised.add(thread)
        else:
            for thread in there & self._raised:
                _place(thread, os.SCHED_RR, os.SCHED_OTHER, 0)
            self._raised = set()
        self.urgent = urgent


def _sleeps(thread: int) -> bool:
    """Whether it waits for something, and so has begun: a thread of ZeroMQ reads its policy and priority when
    it begins, one after the other, sets both again, and aborts the program if they do not fit each other."""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return (THREADS / str(thread) / "stat").read_bytes().rpartition(b")")[2].split()[0] == b"S"
    return False


def urgent() -> bool:
    """Whether the thread that asks runs before other programs, whoever has brought that about."""
    return sys.platform == "linux" and os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER


def allowed() -> bool:
    """Whether the system allows it to this user; tried by a thread that ends."""
    found = []

    def try_it() -> None:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
            found.append(True)

    if sys.platform == "linux":
        trying = threading.Thread(target=try_it)
        trying.start()
        trying.join()
    return bool(found)


def _place(thread: int, before: int, policy: int, priority: int) -> None:
    """Move a thread to another policy, unless it has one that is not from here."""
    with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
        if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == before:
            # What is started from a thread, be it another program, is as urgent as any.
            os.sched_setscheduler(thread, policy | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
