"""Signals that ask a program to stop: Ctrl-C and Ctrl-Break, a service manager, the end of a terminal."""

import signal

STOPS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP") if hasattr(signal, name)
)


def interrupt_by_all() -> None:
    """Each of them interrupts as Ctrl-C does, so that what is not finished is taken away; by themselves the
    others end a process at once. Those that somebody ignores or handles stay so, as under nohup."""
    for number in STOPS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
