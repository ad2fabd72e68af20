"""Whether an address of this computer is free, and addresses that are."""

import os
import socket

from cars_rt.sockets.addresses import ANY, Address


def free_addresses(count: int) -> list[str]:
    """Addresses on this computer that nobody listens to."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"tcp://127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    finally:
        for each in sockets:
            each.close()


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
