"""What a storm of new connections costs the stream.

A daemon, a driver at a steady rate, and processes on this computer that connect and leave without end:

    python tests/scripts/storm.py --rate 500 --rate 3000 [--kind flood] [--gate raman] [--processes 3]

It prints the spectra that came in each storm as a share of those asked for, the longest gap, how long a new
subscriber waits, and the memory.
"""

import argparse
import math
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle, product
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from hostile.line import RATE, Line
from hostile.peers import a_request, connected, greeting, handshaken, part, ready, smuggled

from cars_rt.sockets import Subscriber

KINDS = ("connect", "blind", "shake", "subscribe", "flood", "endless", "web")
FLOOD = b"".join(part(bytes([n % 2]) + b"r", more=False) for n in range(200))
ENDLESS = part(bytes(50_000), more=True) * 100  # 5 MB of a message that does not end
WEB = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n" + smuggled(a_request("stop"))


def visit(address: str, kind: str) -> None:
    """One connection that does what its kind does, and leaves."""
    with suppress(OSError, AssertionError):
        if kind in ("connect", "blind", "web"):
            peer = connected(address)
            if kind == "blind":  # everything at once, without waiting for an answer
                peer.sendall(greeting() + ready(b"SUB") + part(b"\x01raman.", more=False))
            if kind == "web":
                peer.sendall(WEB)
        else:
            peer = handshaken(address, b"DEALER" if kind == "endless" else b"SUB")
            if kind == "subscribe":
                peer.sendall(part(b"\x01raman.", more=False))
            if kind == "flood":  # as many subscriptions as fit before it is ended
                peer.sendall(FLOOD)
            if kind == "endless":
                peer.sendall(ENDLESS)
        peer.close()


def storm(
    addresses: Sequence[str], rate: float, kinds: Sequence[str], made: "Synchronized[int]", until: float
) -> None:
    """Connections one after the other, to all addresses and of all kinds in turn, `rate` a second if that
    can be had, until this time of `time.monotonic`."""
    begin, visits = time.monotonic(), cycle(product(kinds, addresses))
    for number, (kind, address) in enumerate(visits, 1):
        if time.monotonic() >= until:
            return
        if (ahead := begin + number / rate - time.monotonic()) > 0:
            time.sleep(ahead)
        visit(address, kind)
        with made.get_lock():
            made.value += 1


class Join:
    """A subscriber that comes in mid-storm: when it gets its first frame."""

    def __init__(self, address: str, at: float) -> None:
        self.took_s = math.inf
        self._address, self._at = address, at
        self._subscriber: Subscriber | None = None

    def look(self) -> None:
        """Call it often."""
        now = time.monotonic()
        if self._subscriber is None:
            if now >= self._at:
                self._subscriber = Subscriber(self._address, "raman")
        elif self._subscriber.receive() is not None and math.isinf(self.took_s):
            self.took_s = now - self._at
        elif self._subscriber is not None:
            self._subscriber.watch()

    def close(self) -> None:
        """Leave."""
        if self._subscriber is not None:
            self._subscriber.close()


def main() -> None:
    """Run storms as asked for, one after the other, with a pause between them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, action="append")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--gate", default="raman", choices=("raman", "preview", "control", "raw"))
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rest", type=float, default=3.0, help="seconds between two storms")
    parser.add_argument("--processes", type=int, default=1)
    wanted = parser.parse_args()
    with Line(Path(tempfile.mkdtemp())) as line:
        for kind in wanted.kind or ["subscribe"]:
            for rate in wanted.rate or [500.0, 1000.0, 3000.0]:
                made = multiprocessing.Value("q", 0)
                until = time.monotonic() + wanted.seconds
                arguments = ([getattr(line, wanted.gate)], rate / wanted.processes, [kind], made, until)
                peers = [
                    multiprocessing.Process(target=storm, args=arguments) for _ in range(wanted.processes)
                ]
                begin, came, spent = time.monotonic(), line.came, sum(line.process.cpu_times()[:2])
                for each in peers:
                    each.start()
                gap, last, before, join = 0.0, begin, came, Join(line.raman, begin + 1)
                while (now := time.monotonic()) < until:
                    time.sleep(0.01)
                    if line.came > before:
                        last, before = now, line.came
                    gap = max(gap, now - last)
                    join.look()
                took = time.monotonic() - begin
                share = (line.came - came) / (took * RATE)
                cores = (sum(line.process.cpu_times()[:2]) - spent) / took
                for each in peers:
                    each.join()
                print(
                    f"{wanted.gate}, {kind}: {made.value / took:.0f} of {rate:.0f} connections/s, "
                    f"{share:.0%} of {RATE:.0f} spectra/s came, longest gap {gap:.2f} s, "
                    f"a new subscriber waited {join.took_s:.2f} s, "
                    f"the daemon took {cores:.2f} cores, {line.memory_mb:.0f} MB",
                    flush=True,
                )
                join.close()
                line.goes_on()
                time.sleep(wanted.rest)
                print(f"    {wanted.rest:.0f} s later: {line.memory_mb:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
