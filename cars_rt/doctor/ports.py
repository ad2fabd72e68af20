"""Whether the addresses that daemon and driver take by default are free."""

import os
import socket

from cars_rt.daemon.settings import DaemonSettings
from cars_rt.doctor.report import PortState

#: The flags that name another one.
USES = (
    ("driver", DaemonSettings.listen, "drive --publish"),
    ("results", DaemonSettings.publish, "run --publish"),
    ("preview", DaemonSettings.preview, "run --preview"),
    ("control", DaemonSettings.control, "run --control"),
    ("HTTP", DaemonSettings.http, "run --http"),
)


def read_ports(uses: tuple[tuple[str, str, str], ...] = USES) -> list[PortState]:
    """Tries to bind each for a moment."""
    return [
        PortState(used_for=used_for, address=address, flag=flag, reason=reason_against(address))
        for used_for, address, flag in uses
    ]


def reason_against(address: str) -> str | None:
    """Why tcp://HOST:PORT or HOST:PORT cannot be bound, or None if it can."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.socket() as attempt:
        if os.name == "posix":  # as ZeroMQ: connections that are still closing do not count
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((host, int(port)))
        except OSError as error:
            return error.strerror or str(error)
    return None
