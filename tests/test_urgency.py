"""Threads of a program that needs little run before others, and no longer when it needs much."""

import os
import subprocess
import sys

import pytest
from helpers import LOCAL, PATIENCE_S, Command, wait_until

from cars_rt.remote import Remote
from cars_rt.sockets.free import free_addresses
from cars_rt.urgency import allowed

PROGRAM = """
import hashlib, os, subprocess, sys, time
from pathlib import Path
from cars_rt.urgency import Urgency
def policies():
    each = (int(thread.name) for thread in Path("/proc/self/task").iterdir())
    return {os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK for thread in each}
with Urgency(0.02):
    while policies() != {os.SCHED_RR}:
        time.sleep(0.05)
    child = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
    print("urgent; a child", subprocess.run(child, capture_output=True, text=True).stdout.strip(), flush=True)
    while policies() != {os.SCHED_OTHER}:
        hashlib.sha256(bytes(1_000_000))
    print("as others", flush=True)
"""


BEGINNING = """
import time, zmq
from cars_rt import urgency
urgency.LOOK_S, urgency.CALM, urgency.WAKES = 0.00005, 1, 1e9
flipping = urgency.Urgency(1.0)
become = flipping._become
flipping._become = lambda urgent: become(not flipping.urgent)
with flipping:
    until = time.monotonic() + 3
    while time.monotonic() < until:
        contexts = [zmq.Context() for _ in range(4)]
        for each in contexts:
            each.socket(zmq.PAIR).close()
            each.term()
"""

needs_it = pytest.mark.skipif(not allowed(), reason="the system does not allow real-time priority here")


@needs_it
def test_who_needs_much_is_as_urgent_as_others() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert done.stdout.splitlines() == [f"urgent; a child {os.SCHED_OTHER}", "as others"]


@needs_it
def test_threads_of_zeromq_that_begin_are_left_alone() -> None:
    """They read their policy in two steps and set it again, and abort the program if it is not one policy."""
    done = subprocess.run(
        [sys.executable, "-c", BEGINNING], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr


@needs_it
def test_daemon_says_that_it_is() -> None:
    listen, control = free_addresses(2)
    where = "--listen", listen, "--publish", LOCAL, "--control", control
    with Command("run", *where, "--engine", "passthrough") as daemon:
        daemon.wait_for("runs before other programs")
        with Remote(control) as remote:
            # For as long as it needs much, as when it begins, it is as others again.
            wait_until(lambda: remote.ask("status")["realtime"])
        pid = daemon.process.pid
        wait_until(lambda: os.sched_getscheduler(pid) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR)
