"""The daemon as others see it: real HTTP requests, and a real datagram socket in systemd's place."""

import http.client
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import PATIENCE_S, Collected, Command, Published, a_snapshot, spectra_of, wait_until

from cars_rt.daemon.another import another, says
from cars_rt.daemon.seen import board as board_module
from cars_rt.daemon.seen import http as served
from cars_rt.daemon.seen.board import StatusBoard
from cars_rt.daemon.seen.http import MAX_CONNECTIONS, MAX_HEAD_BYTES, HttpServer
from cars_rt.daemon.seen.metric import Counter
from cars_rt.daemon.seen.notify import Notifier
from cars_rt.daemon.seen.outside import Outside
from cars_rt.daemon.seen.snapshot import State
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.sockets import AddressInUseError, Publisher, StreamError
from cars_rt.sockets.free import free_addresses

HERE = "127.0.0.1:0"  # the system chooses a free port


@contextmanager
def serving(board: StatusBoard, address: str = HERE) -> Iterator[int]:
    with closing(HttpServer(address)) as server:
        server.start(board)
        yield server.port


def ask(port: int, path: str, method: str = "GET", **header: str) -> tuple[int, str, dict[str, str]]:
    """Status, body and header of one request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request(method, path, headers=header)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def raw(port: int, data: bytes) -> bytes:
    """Whatever comes back for these bytes, until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client:
        client.sendall(data)
        answer = b""
        while chunk := client.recv(65_536):
            answer += chunk
        return answer


# -- the board over HTTP --------------------------------------------------------------------------------


def test_each_page_says_what_was_posted_last() -> None:
    board = StatusBoard(a_snapshot(spectra_in=1))
    with serving(board) as port:
        counted = Counter("cars_rt_spectra_received", "Spectra received.", 42)
        board.post(a_snapshot(spectra_in=42, source="câmera", metrics=(counted,)))
        status, text, header = ask(port, "/metrics")
        assert status == 200 and header["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "cars_rt_spectra_received_total 42.0" in text
        status, text, header = ask(port, "/status?pretty")
        assert status == 200 and header["Content-Type"] == "application/json"
        said = json.loads(text)
        assert said["spectra_in"] == 42 and said["source"] == "câmera" and said["alive"]
        assert ask(port, "/livez")[:2] == (200, "ok\n")
        assert ask(port, "/readyz")[:2] == (200, "ok\n")
        status, text, _ = ask(port, "/nothing")
        assert status == 404 and "/metrics" in text


def test_a_browser_is_shown_a_page_with_links_and_nothing_of_it_is_believed() -> None:
    board = StatusBoard(a_snapshot(run="run-1", source="<script>alert(1)</script>\n", lost={"missing": 3}))
    with serving(board) as port:
        status, text, header = ask(port, "/")
        assert status == 200 and header["Content-Type"] == "text/html; charset=utf-8"
        assert header["Content-Security-Policy"].startswith("default-src 'none'")
        links = re.findall(r'<a href="([^"]+)">', text)
        assert len(links) == 4 and [ask(port, link)[0] for link in links] == [200] * 4
    assert (
        "<script>" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;\\n" in text and "3 missing" in text
    )


def test_head_is_get_without_the_body() -> None:
    with serving(StatusBoard(a_snapshot())) as port:
        for path in ("/metrics", "/livez", "/readyz", "/status"):
            answer = raw(port, f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.0 200") and b"Content-Length" in head and body == b""


@pytest.mark.parametrize(
    ("snapshot", "reason"),
    [
        (a_snapshot(ready=False, state=State.STARTING), "starting"),
        (a_snapshot(state=State.STOPPING), "stopping"),
    ],
)
def test_not_ready_says_why_and_is_still_alive(snapshot: object, reason: str) -> None:
    board = StatusBoard(a_snapshot())
    with serving(board) as port:
        board.post(snapshot)  # type: ignore[arg-type]
        status, text, _ = ask(port, "/readyz")
        assert status == 503 and reason in text
        assert ask(port, "/livez")[0] == 200


def test_a_loop_that_hangs_is_neither_alive_nor_ready_until_it_turns_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(board_module, "ALIVE_S", 0.0)
    board = StatusBoard(a_snapshot())
    with serving(board) as port:
        for path in ("/livez", "/readyz"):
            status, text, _ = ask(port, path)
            assert status == 503 and "has not turned" in text
        assert json.loads(ask(port, "/status")[1])["alive"] is False
        monkeypatch.undo()
        board.post(a_snapshot())
        assert ask(port, "/livez")[0] == 200


def test_only_reading_is_allowed() -> None:
    with serving(StatusBoard(a_snapshot())) as port:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
            status, _, header = ask(port, "/status", method)
            assert status == 405 and header["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost", True), ("LOCALHOST:5580", True), ("127.0.0.1:1", True), ("[::1]:5580", True),
        ("127.1.2.3", True), ("evil.example", False), ("localhost.evil.example", False), ("", False),
        ("127.0.0.1.evil.example", False), ("192.168.1.1", False), ("[", False), ("a b", False),
    ],
)  # fmt: skip
def test_a_page_under_another_name_cannot_read_it(host: str, answered: bool) -> None:
    with serving(StatusBoard(a_snapshot())) as port:
        for path in ("/status", "/metrics", "/livez"):
            status, text, _ = ask(port, path, Host=host)
            assert (status == 200) == answered
            assert answered or "cars_rt" not in text
        assert raw(port, b"GET /livez HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n", b"GET\r\n\r\n", b"GET /livez HTTP/9.9\r\n\r\n", b"GET /livez HTTP/x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n", b"\xff\x00\n\n",
        b"GET  /livez  HTTP/1.1 x\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: evil\r\nHost: localhost\r\n\r\n",
        b"GET /livez HTTP/1.1\r\n: no name\r\n\r\n", b"GET /livez HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
        b"GET /" + b"a" * (MAX_HEAD_BYTES - 4), b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
    ],
)  # fmt: skip
def test_nonsense_is_refused_and_hurts_nobody(data: bytes) -> None:
    with serving(StatusBoard(a_snapshot())) as port:
        answer = raw(port, data)
        assert b" 200 " not in answer and b"cars_rt_" not in answer
        assert ask(port, "/livez")[0] == 200


def test_a_head_without_end_is_cut_off() -> None:
    with serving(StatusBoard(a_snapshot())) as port:
        assert raw(port, b"GET /livez HTTP/1.1\r\nX: " + b"a" * (MAX_HEAD_BYTES - 23)).split()[1] == b"431"


def answered(port: int) -> bool:
    with suppress(ConnectionError):
        return ask(port, "/livez")[0] == 200
    return False


def test_a_client_that_says_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "REQUEST_S", 0.2)
    with (
        serving(StatusBoard(a_snapshot())) as port,
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as client,
    ):
        client.sendall(b"GET /livez")
        assert client.recv(1000).startswith(b"HTTP/1.0 408")


def test_silent_clients_take_no_place_from_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "REQUEST_S", 10 * PATIENCE_S)
    with serving(StatusBoard(a_snapshot())) as port, ExitStack() as stack:
        silent = []
        for _ in range(3 * MAX_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
            client.sendall(b"GET /livez HTTP/1.0\r\n")
            silent.append(client)
            assert answered(port)
        assert silent[0].recv(1000) == b""  # the oldest had to go
        newest = silent[-1]
        newest.sendall(b"\r\n")
        assert newest.recv(1000).startswith(b"HTTP/1.0 200")


def test_connections_are_bounded_and_places_become_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks and then does not read the answer keeps a place, for REPLY_S at most."""
    monkeypatch.setattr(served, "PLACE_S", 0.01)
    go_on = threading.Event()
    monkeypatch.setattr(served._Server, "metrics", lambda _: go_on.wait(PATIENCE_S) and b"")
    with serving(StatusBoard(a_snapshot())) as port, ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        wait_until(lambda: not answered(port))
        go_on.set()
        wait_until(lambda: answered(port))


def test_readers_never_disturb_who_posts() -> None:
    """Many ask while the loop posts: every answer is one snapshot, whole."""
    board, wrong = StatusBoard(a_snapshot()), []
    with serving(board) as port:

        def look() -> None:
            for _ in range(10):
                said = json.loads(ask(port, "/status")[1])
                if said["spectra_in"] != said["spectra_out"]:
                    wrong.append(said)

        readers = [threading.Thread(target=look) for _ in range(4)]
        for each in readers:
            each.start()
        number = 0
        while any(each.is_alive() for each in readers):
            number += 1
            board.post(a_snapshot(spectra_in=number, spectra_out=number))
            time.sleep(0.001)
        assert not wrong


# -- addresses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["5580", "127.0.0.1", "127.0.0.1:x", "tcp://127.0.0.1:5580", ":5580",
                                     "127.0.0.1:70000", ""])  # fmt: skip
def test_an_address_that_is_none_is_one_sentence(address: str) -> None:
    with pytest.raises(StreamError, match=r"^cannot serve HTTP at .*give it as HOST:PORT, or as none$"):
        HttpServer(address)


def test_a_port_in_use_and_a_foreign_address_are_one_sentence() -> None:
    with (
        closing(HttpServer(HERE)) as first,
        pytest.raises(StreamError, match="another program already uses it"),
    ):
        HttpServer(first.address)
    HttpServer(first.address).close()  # and free at once after it was closed
    with pytest.raises(StreamError, match=r"cannot serve HTTP at 192\.0\.2\.1:5580"):
        HttpServer("192.0.2.1:5580")
    with pytest.raises(StreamError, match=r"cannot serve HTTP at no-such-host\.invalid:5580"):
        HttpServer("no-such-host.invalid:5580")


def test_other_interfaces_need_no_host_name_but_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with closing(HttpServer("0.0.0.0:0")) as server:
        server.start(StatusBoard(a_snapshot()))
        assert ask(server.port, "/livez", Host="microscope.example")[0] == 200
    assert "everyone who reaches" in caplog.text


def test_ipv6_is_served_where_there_is_any() -> None:
    try:
        server = HttpServer("[::1]:0")
    except StreamError:
        pytest.skip("no IPv6 on this computer")
    with closing(server):
        server.start(StatusBoard(a_snapshot()))
        connection = http.client.HTTPConnection("::1", server.port, timeout=PATIENCE_S)
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200
        connection.close()


# -- systemd --------------------------------------------------------------------------------------------

unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no such sockets here")


class Systemd:
    """The socket that systemd would read."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + path[1:] if path.startswith("@") else path)
        self.socket.settimeout(PATIENCE_S)
        self.path = path

    def next(self) -> dict[str, str]:
        lines = self.socket.recv(4096).decode().split("\n")
        return dict(line.split("=", 1) for line in lines)

    def until(self, key: str) -> dict[str, str]:
        deadline = time.monotonic() + PATIENCE_S
        while key not in (said := self.next()):
            assert time.monotonic() < deadline
        return said

    def nothing(self) -> bool:
        self.socket.setblocking(False)
        try:
            self.socket.recv(4096)
            return False
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(PATIENCE_S)


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    made = Systemd(f"@cars-rt-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify"))
    yield made
    made.socket.close()


@unix
def test_ready_is_said_once_and_only_when_it_is_true(systemd: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.path})
    starting = a_snapshot(ready=False, state=State.STARTING)
    notifier.post(starting)
    said = systemd.next()
    assert "READY" not in said and said["STATUS"].startswith("starting")
    assert int(said["EXTEND_TIMEOUT_USEC"]) > 0
    notifier.post(starting)
    assert systemd.nothing()  # neither too often
    notifier.post(a_snapshot())
    said = systemd.next()
    assert said["READY"] == "1" and "EXTEND_TIMEOUT_USEC" not in said and "WATCHDOG" not in said
    notifier.post(a_snapshot())
    assert systemd.nothing()
    notifier.post(a_snapshot(state=State.STOPPING))
    assert systemd.next()["STOPPING"] == "1"
    notifier.close()
    assert systemd.nothing()


@unix
def test_the_watchdog_hears_the_loop_and_nothing_else(systemd: Systemd) -> None:
    environment = {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "300000", "WATCHDOG_PID": str(os.getpid())}
    notifier = Notifier(environment)
    for _ in range(3):
        notifier.post(a_snapshot())
        systemd.until("WATCHDOG")
        assert systemd.nothing()  # while the loop does not turn
        time.sleep(0.15)  # more than a third of 0.3 s
    other = Notifier(environment | {"WATCHDOG_PID": "1"})  # meant for another process
    other.post(a_snapshot())
    assert "WATCHDOG" not in systemd.next()
    notifier.close()
    other.close()


@unix
def test_the_end_is_said_however_it_comes(systemd: Systemd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", systemd.path)
    with pytest.raises(ZeroDivisionError), Outside("none") as outside:
        outside.post(a_snapshot())
        assert systemd.next()["READY"] == "1"
        raise ZeroDivisionError
    assert systemd.next() == {"STOPPING": "1"}


@unix
def test_a_socket_that_takes_nothing_stops_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "notify")
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1"})
    for _ in range(3):
        notifier.post(a_snapshot())  # nobody there
    assert caplog.text.count("NOTIFY_SOCKET") == 1
    full = Systemd(path)
    for number in range(2000):  # it reads nothing
        notifier.post(a_snapshot(spectra_out=number))
    assert full.next()["READY"] == "1"  # said as soon as somebody was there
    full.socket.close()
    notifier.close()


def test_without_systemd_nothing_happens() -> None:
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:1:2"}):
        notifier = Notifier(environment)
        notifier.post(a_snapshot())
        notifier.close()


@unix
def test_a_status_with_line_breaks_is_one_field(systemd: Systemd) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": systemd.path})
    notifier.post(replace(a_snapshot(), model="evil\nSTOPPING=1"))
    assert set(systemd.next()) == {"READY", "STATUS"}
    notifier.close()


# -- the real daemon ------------------------------------------------------------------------------------


def metric(text: str, name: str) -> float:
    (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[-1])


def test_a_daemon_at_work_is_seen_from_outside() -> None:
    """`cars-rt run` as a process: its counters equal what was sent, and its log is JSON."""
    (publish, web) = free_addresses(2)
    port = int(web.rpartition(":")[2])
    with (
        Published() as source,
        Collected(publish) as result,
        Command(
            "run", "--listen", source.address, "--publish", publish, "--subscribers", 1, "--threads", 1,
            "--http", f"127.0.0.1:{port}", "--log-format", "json",
        ) as daemon,
    ):  # fmt: skip
        source.wait()
        source.run("run-1", spectra_of(300), block=4)
        result.ends()
        wait_until(lambda: metric(ask(port, "/metrics")[1], "cars_rt_runs_total") == 1)
        text = ask(port, "/metrics")[1]
        assert metric(text, "cars_rt_spectra_received_total") == result.spectra == 300
        assert metric(text, "cars_rt_spectra_sent_total") == 300
        assert metric(text, "cars_rt_frames_sent_total") == len(result.frames) <= 75
        assert sum(metric(text, line.rpartition(" ")[0]) for line in text.splitlines()
                   if line.startswith("cars_rt_spectra_lost_total{")) == 0  # fmt: skip
        assert metric(text, 'cars_rt_latency_seconds_count{stage="total"}') > 0
        phases = [line for line in text.splitlines() if line.startswith("cars_rt_phase_seconds_total{")]
        together = sum(float(line.split()[-1]) for line in phases)
        assert together == pytest.approx(metric(text, "cars_rt_uptime_seconds"), rel=0.05)
        assert ask(port, "/livez")[0] == ask(port, "/readyz")[0] == 200
        daemon.process.terminate()
        assert daemon.end() == 0
        lines = [json.loads(line) for line in daemon.said.splitlines()]
        assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
        assert any(f"http://127.0.0.1:{port}" in line["message"] for line in lines)


@unix
def test_a_daemon_under_systemd_is_ready_alive_and_stops(systemd: Systemd) -> None:
    (publish,) = free_addresses(1)
    environment = {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "1000000"}
    with (
        Published() as source,
        Command(
            "run", "--listen", source.address, "--publish", publish, "--engine", "passthrough", **environment
        ) as daemon,
    ):
        assert systemd.until("READY")["STATUS"]
        systemd.until("WATCHDOG")
        systemd.until("WATCHDOG")
        daemon.process.terminate()
        systemd.until("STOPPING")
        assert daemon.end() == 0


def test_a_daemon_whose_http_port_is_taken_says_so_and_ends() -> None:
    with closing(HttpServer(HERE)) as taken, Command("run", "--http", taken.address) as daemon:
        assert daemon.end() == 1
        assert f"cannot serve HTTP at {taken.address}: another program already uses it" in daemon.said
        assert len(daemon.said.strip().splitlines()) == 1


@pytest.mark.parametrize("taken", ["http", "publish"])
def test_second_daemon_says_that_another_one_is_there(taken: str) -> None:
    with closing(HttpServer(HERE)) as first, Published("raman") as there, Published() as elsewhere:
        board = StatusBoard(a_snapshot(publish=there.address, uptime_s=7.0))
        first.start(board)
        addresses = {"publish": there.address} if taken == "publish" else {}
        settings = DaemonSettings(http=first.address, **addresses)
        with pytest.raises(AddressInUseError) as error:
            HttpServer(first.address) if taken == "http" else Publisher(there.address, "raman")
        said = another(settings, str(error.value))
        assert another(settings, f"cannot publish at {elsewhere.address}: another program uses it") is None
    assert said is not None and said.startswith("a daemon runs here already, idle, up 7 s")
    assert there.address in said


def test_what_is_no_daemon_is_not_taken_for_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert says(f"127.0.0.1:{silent.getsockname()[1]}") is None
