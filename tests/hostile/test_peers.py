"""Programs on this computer, or in the network, that reach a port: the stream goes on, nothing is lost of it,
the memory comes back, and the stop takes no longer than otherwise."""

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import msgpack
import pytest
import zmq
from helpers import PATIENCE_S, Collected, wait_until

from cars_rt.remote import RemoteError
from cars_rt.trust import tokens
from hostile.line import Line
from hostile.peers import a_request, connected, handshaken, part, where

MOST_SENT = 400e6  # bytes that a peer may get rid of before it is cut off
GROWTH_MB = 40.0  # of the daemon after an attack, once it has had its moment
linux = pytest.mark.skipif(sys.platform != "linux", reason="what flows in is watched on Linux only")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """One daemon for all attacks that it must not notice."""
    with Line(tmp_path_factory.mktemp("line"), flight=tmp_path_factory.mktemp("flight")) as line:
        yield line


@pytest.fixture(autouse=True)
def _goes_on(line: Line) -> Iterator[None]:
    """After each of them spectra still come, and the memory is what it was."""
    line.goes_on()
    before = line.memory_mb
    yield
    line.goes_on()
    wait_until(lambda: line.memory_mb < before + GROWTH_MB)


@linux
@pytest.mark.parametrize(
    ("gate", "kind", "size"),
    [
        ("control", b"DEALER", 60_000),
        ("control", b"REQ", 10),
        ("raman", b"SUB", 2**20),
        ("preview", b"SUB", 200),
    ],
)
def test_message_that_does_not_end_is_cut_off(line: Line, gate: str, kind: bytes, size: int) -> None:
    address = getattr(line, gate)
    before, sent, piece = line.memory_mb, 0, part(bytes(size), more=True) * max(1, 60_000 // size)
    with closing(handshaken(address, kind)) as peer:
        peer.settimeout(2)  # cut off, or not read any more
        if gate == "control":
            peer.sendall(part(b"", more=True))
        with suppress(OSError):
            while sent < MOST_SENT:
                peer.sendall(piece)
                sent += len(piece)
        assert sent < MOST_SENT
        assert line.memory_mb < before + 2 * MOST_SENT / 1e6
    line.ask("status")


@linux
def test_idle_connections_leave_descriptors_to_others(line: Line) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    before = resource.prlimit(line.process.pid, resource.RLIMIT_NOFILE)
    assert before[0] > 1024 or before[0] == before[1]  # it asked for as many as it may have
    resource.prlimit(line.process.pid, resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with ExitStack() as stack:
            for _ in range(400):
                with suppress(OSError):
                    stack.enter_context(closing(connected(line.raman)))
            wait_until(lambda: line.process.num_fds() < 256 * 3 // 4 + 10)
            line.goes_on()
            assert line.ask("status")["state"] == "running"
            with socket.create_connection(where(f"tcp://{line.http}"), 10) as probe:
                probe.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
                assert probe.recv(100).startswith(b"HTTP/1.0 200")
            with Collected(line.raman) as late:  # and a subscriber that comes now
                late.until(lambda all_: all_.spectra > 10)
    finally:
        resource.prlimit(line.process.pid, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert line.ask("status")["problems"]["cut off: the results"] > 0


@pytest.mark.skipif(os.name != "posix", reason="there are no such files on Windows")
def test_paths_that_never_end_are_refused(line: Line, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    for do in ("reload", "shadow"):
        for name in ("pipe", "zero"):
            with pytest.raises(RemoteError, match="is no"):
                line.ask(do, model=str(tmp_path / f"{name}.onnx"))


BOMBS: dict[str, bytes] = {
    "nothing": b"",
    "deep": b"\x91" * 60_000 + b"\xc0",
    "deep maps": b"\x81\xa1a" * 20_000 + b"\xc0",
    "announced map": b"\xdf\xff\xff\xff\xff",
    "announced bytes": b"\xc9\xff\xff\xff\xff\x01",
    "twice": b"\x82\xa7cars_rt\x01\xa7cars_rt\x01",
    "no key": b"\x81\xc0\xc0",
    "no number": b"\x81\xa7cars_rt\xcb\x7f\xf8\0\0\0\0\0\0",
    "unused": b"\xc1",
}


@pytest.mark.parametrize("with_token", [False, True], ids=["stranger", "owner"])
def test_requests_that_are_none_are_answered_in_a_sentence(line: Line, with_token: bool) -> None:
    secret = {"token": tokens.find(line.control)} if with_token else {}
    odd: list[dict[str, object]] = [
        {"request": "bands", "bands": [["a", float("nan"), 1]]},
        {"request": "bands", "bands": [[["a"] * 9, {}, []]] * 1000},
        {"request": "bands", "bands": [["x" * 64, -1e5, 1e5]] * 500},
        {"request": "reload", "model": "a\0.onnx"},
        {"request": "reload", "model": "../" * 300 + "etc/passwd.onnx"},
        {"request": "shadow", "every": 2**63 - 1},
        {"request": "dark", "do": "../x"},
        {"request": "\x1b[2J"},
        {"request": "reload", "engine": "os:system"},
        {"request": "reload", "engine": 7},
        {"request": "stop", "token": {"a": 1}},
        {"request": "stop", "token": "x" * 2000},
        {"request": "stop", "token": ""},
    ]
    bodies = [*BOMBS.values(), *(msgpack.packb({"cars_rt": 1} | secret | each) for each in odd)]
    with zmq.Context() as context:
        for body in bodies:
            with context.socket(zmq.REQ) as asking:
                asking.setsockopt(zmq.LINGER, 0)
                asking.connect(line.control)
                asking.send(body)
                assert asking.poll(20_000), body[:60]
                error = msgpack.unpackb(asking.recv())["error"]
                assert error and "Traceback" not in error
    assert line.ask("status")["state"] == "running"


def test_parts_that_no_client_sends_do_no_harm(line: Line) -> None:
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.connect(line.control)
        for parts in ([b""], [b"", b""], [b"x"] * 50, [b"", *[b""] * 1000, a_request("stop")]):
            dealer.send_multipart(parts)
        for _ in range(3000):  # and takes no answer
            dealer.send_multipart([b"", a_request("pause")])
    assert line.ask("status")["state"] == "running"


def test_bytes_that_are_no_zeromq_do_no_harm(line: Line) -> None:
    noise = [
        b"",
        b"\0" * 64,
        b"\xff" * 4096,
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\0" + bytes(80),
        os.urandom(4096),
    ]
    for address in (line.control, line.raman, line.preview):
        for bytes_ in noise:
            with closing(connected(address)) as peer, suppress(OSError):
                peer.sendall(bytes_)
        for ending in (64, 20, 11, 1):  # gone in the middle of a greeting
            with closing(connected(address)) as peer:
                peer.sendall((b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(60))[:ending])


def test_slow_clients_of_http_keep_nobody_out(line: Line) -> None:
    with ExitStack() as stack:
        for _ in range(60):
            peer = stack.enter_context(closing(connected(f"tcp://{line.http}")))
            peer.sendall(b"GET / HT")
        for path in ("/livez", "/readyz", "/metrics"):
            with socket.create_connection(where(f"tcp://{line.http}"), 20) as probe:
                probe.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                assert probe.recv(100).startswith(b"HTTP/1.0 200"), path


def test_requests_for_flight_files_leave_room(line: Line) -> None:
    refused: list[str] = []

    def ask() -> bool:
        try:
            line.ask("flight", reason="x\x1b[2J/../y")
        except RemoteError as error:
            refused.append(str(error))
        return any("that were asked for" in each for each in refused)

    wait_until(ask)


def test_runs_without_end_are_taken_as_fast_as_their_results(tmp_path: Path) -> None:
    """A driver that begins runs and ends them, and a subscriber that reads next to nothing."""
    from chaos import programs
    from chaos.camera import AXIS
    from helpers import a_start, an_end

    from cars_rt.protocol import encode

    listen, publish = programs.addresses(2)
    with zmq.Context() as context, context.socket(zmq.PUB) as driver, context.socket(zmq.SUB) as slow:
        driver.setsockopt(zmq.SNDHWM, 0)
        driver.setsockopt(zmq.LINGER, 0)
        driver.bind(listen)
        slow.setsockopt(zmq.RCVHWM, 1)
        slow.setsockopt(zmq.RCVBUF, 4096)
        slow.subscribe(b"raman.")
        slow.connect(publish)
        with programs.daemon(listen, publish, subscribers=1, stall_s=60, receipts=tmp_path) as daemon:
            daemon.wait_for("ready for the driver")
            run = 0
            while len(list(tmp_path.iterdir())) < 100:
                assert daemon.process.poll() is None, daemon.said
                for _ in range(20):
                    for each in (a_start(f"run-{run}", AXIS, source="s" * 1000), an_end(0, run=f"run-{run}")):
                        driver.send_multipart([bytes(part) for part in encode(each)])
                    run += 1
                with suppress(zmq.Again):
                    slow.recv_multipart(zmq.NOBLOCK)
                time.sleep(0.005)
            for _ in range(1000):
                driver.send_multipart([bytes(part) for part in encode(a_start(f"more-{run}", AXIS))])
            begin = time.monotonic()
            daemon.process.terminate()
            assert daemon.end() == 0, daemon.said
            assert time.monotonic() - begin < PATIENCE_S / 2  # it does not wait for all that was sent
            lines = [line for line in daemon.said.splitlines() if "run run-" in line]
            assert len(lines) < 300 and "Traceback" not in daemon.said
