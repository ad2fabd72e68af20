"""Addresses that are free stay so for whoever was told them."""

import subprocess
import sys

import pytest
import zmq

from cars_rt.sockets import free
from cars_rt.sockets.publisher import Publisher

PICK = "from cars_rt.sockets import free; free.NOT_GIVEN = range({}, {}); print(*free.free_addresses(1))"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a port that is kept cannot be listened at")
def test_nobody_else_picks_an_address_that_was_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = free.free_addresses(1)
    port = int(first.rsplit(":", 1)[1])
    monkeypatch.setattr(free, "NOT_GIVEN", range(port, port + 1))
    with pytest.raises(OSError, match="no port is free"):
        free.free_addresses(1)
    other = subprocess.run(
        [sys.executable, "-c", PICK.format(port, port + 1)], capture_output=True, text=True
    )
    assert other.returncode and "no port is free" in other.stderr
    assert free.reason_against(first) is None
    publisher = Publisher(first, "raw")  # and yet a publisher may have it
    with zmq.Context() as context, context.socket(zmq.SUB) as subscriber:
        subscriber.subscribe("")
        subscriber.connect(first)
        assert publisher.wait_for_subscribers(1, 60)
    publisher.close(0)
