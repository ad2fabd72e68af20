"""Publishers that mean harm, and a recorder: what others publish is recorded, memory comes back, and the stop
takes no longer than otherwise."""

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import (
    Command,
    Published,
    a_frame,
    a_start,
    an_end,
    spectra_of,
    summary,
    vouched_for,
    wait_until,
)

from hostile.peers import part, shake

UNFINISHED = 1.5e9  # bytes at most of messages that have no end
GROWTH_MB = 60.0


@contextmanager
def a_port(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A publisher's address. talk: what it does with each connection, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with closing(server.accept()[0]) as peer, suppress(OSError, AssertionError):
                        peer.settimeout(10)
                        talk(peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(20)


@pytest.mark.skipif(sys.platform != "linux", reason="what flows in is watched on Linux only")
def test_publisher_whose_message_does_not_end_is_cut_off(tmp_path: Path) -> None:
    sent = 0

    def endless(peer: socket.socket) -> None:
        nonlocal sent
        shake(peer, b"PUB")
        peer.sendall(part(b"raw.start", more=True))
        piece = part(bytes(1000), more=True) * 100
        while sent < UNFINISHED:
            peer.sendall(piece)
            sent += len(piece)

    runs = tmp_path / "runs"
    runs.mkdir()
    flags = "--control", "none", "--summary", tmp_path / "summary.json"
    with (
        Published("raman") as source,
        a_port(endless) as raw,
        Command("record", runs, "--raw", raw, "--raman", source.address, *flags) as recorder,
    ):
        source.wait()
        memory = psutil.Process(recorder.process.pid).memory_info
        before = memory().rss / 1e6
        recorder.wait_for("is cut off: it sends messages that do not end")
        source.say(a_start("legitimate", stream="raman", dtype="float32"))
        for number, raman in enumerate(spectra_of(20).astype(np.float32)):
            arrays = {"raman": raman[None]}
            source.say(a_frame(number, raman[None], "legitimate", stream="raman", arrays=arrays))
        source.say(an_end(20, 20, "legitimate", stream="raman"))
        wait_until(lambda: any(vouched_for(each, "raman") == 20 for each in runs.glob("*.partial.h5")))
        wait_until(lambda: memory().rss / 1e6 < before + GROWTH_MB)
        recorder.process.terminate()
        assert recorder.end() == 3, recorder.said  # nothing came of the counts
        assert "Traceback" not in recorder.said
    (recorded,) = summary(tmp_path / "summary.json")
    assert recorded["rows"] == {"raman": 20} and not recorded["lost"].get("raman")
