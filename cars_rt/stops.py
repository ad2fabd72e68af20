"""Signals that ask a program to stop: Ctrl-C and Ctrl-Break, a service manager, the end of a terminal."""

import signal

STOPS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP") if hasattr(signal, name)
)
