"""Whether an address of this computer is free, and addresses that are."""

import atexit
import errno
import os
import random
import socket
import sys
from contextlib import ExitStack, suppress

from cars_rt.sockets.addresses import ANY, Address

_kept = ExitStack()  # of ports, until this process ends
atexit.register(_kept.close)
NOT_GIVEN = range(20_000, 32_000)  # ports: Linux gives connections those from 32,768 on, others from 49,152


def free_addresses(count: int) -> list[str]:
    """Addresses on this computer that nobody listens to, and that no system gives to a connection by itself:
    they stay free until somebody binds them. Raises OSError if there are none."""
    ports = random.SystemRandom().sample(NOT_GIVEN, len(NOT_GIVEN))
    found: list[str] = []
    for port in ports:
        if len(found) == count:
            break
        with suppress(OSError):
            _keep(port)
            found.append(f"tcp://127.0.0.1:{port}")
    if len(found) < count:
        raise OSError(errno.EADDRINUSE, "no port is free")
    return found


def _keep(port: int) -> None:
    """Take a port if nobody has it. On Linux until this process ends: others who look for one pass it by,
    while whoever listens as ZeroMQ and asyncio do, with SO_REUSEADDR, may have it. Raises OSError."""
    probe = socket.socket()
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        probe.close()
        raise
    if sys.platform == "linux":
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _kept.enter_context(probe)
    else:
        probe.close()


def reason_against(address: str) -> str | None:
    """Why tcp://HOST:PORT or HOST:PORT cannot be bound, or None if it can. Raises AddressError."""
    where = Address.to_bind(address) if "://" in address else Address.to_serve(address)
    host = "" if where.host == ANY else where.host
    try:
        family, *_, target = socket.getaddrinfo(
            host or None, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family) as attempt:
            if os.name == "posix":  # as ZeroMQ: connections that are still closing do not count
                attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(target)
    except OSError as error:
        return error.strerror or str(error)
    return None
