"""Subscribers that come and vanish, as fast as they can: python churn.py SECONDS tcp://... tcp://...

Each connects to one of the addresses, subscribes, reads for a moment or not at all, and is gone without a
word, as a process that was killed. Prints how many there were.
"""

import random
import socket
import struct
import sys
import threading
import time
from contextlib import suppress

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x05READY" + b"\x0bSocket-Type" + struct.pack(">I", 3) + b"SUB"
THREADS = 4
LEAST = 301  # however slow the computer is


def connect(address: str) -> socket.socket:
    """A connection that has introduced itself as a SUB socket does."""
    host, port = address.removeprefix("tcp://").split(":")
    peer = socket.create_connection((host, int(port)), 5)
    peer.settimeout(5)
    peer.sendall(GREETING)
    got = b""
    while len(got) < len(GREETING):
        if not (data := peer.recv(len(GREETING) - len(got))):
            raise OSError("the other end closed the connection")
        got += data
    peer.sendall(bytes([4, len(READY)]) + READY)
    return peer


def subscription(topic: bytes, wanted: bool = True) -> bytes:
    """A short message that subscribes or unsubscribes."""
    return bytes([0, 1 + len(topic), wanted]) + topic


def _vanish(peer: socket.socket) -> None:
    """Reset the connection, as the system does for a process that was killed with unread data."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def main(seconds: float, *addresses: str) -> None:
    end, count, lock = time.monotonic() + seconds, 0, threading.Lock()

    def churn(seed: int) -> None:
        nonlocal count
        rng = random.Random(seed)
        while time.monotonic() < end or count < LEAST:
            with suppress(OSError):
                peer = connect(rng.choice(addresses))
                peer.sendall(subscription(b""))
                if rng.random() < 0.5:
                    time.sleep(rng.random() * 0.02)
                    peer.setblocking(False)
                    with suppress(BlockingIOError):
                        peer.recv(65_536)
                _vanish(peer)
                with lock:
                    count += 1

    threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(count, file=sys.stderr)


if __name__ == "__main__":
    main(float(sys.argv[1]), *sys.argv[2:])
