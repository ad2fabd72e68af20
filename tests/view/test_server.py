"""Who gets the page: hosts, origins, passwords, sizes, and addresses that cannot be."""

import asyncio
import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email.utils import parsedate_to_datetime
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from helpers import PATIENCE_S, Command

pytest.importorskip("bokeh", reason="the display is not installed (extra view)")
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.web import create_signed_value
from tornado.websocket import WebSocketClosedError, websocket_connect

from cars_rt.remote import Remote, RemoteError
from cars_rt.sockets.free import free_addresses
from cars_rt.view.server import COOKIE, PageServer, _key, _names
from cars_rt.view.settings import ViewError, ViewSettings
from cars_rt.view.watch import Watch
from cars_rt.view.world import World

PASSWORD = "a long password"


class Served:
    """A display that nobody feeds, and requests to it."""

    def __init__(self, command: Command) -> None:
        command.wait_for("the display is at ")
        self.link = command.said.partition("the display is at ")[2].split()[0]
        self.port = int(re.search(r":(\d+)/", self.link)[1])  # type: ignore[index]
        self.command = command

    def get(
        self, path: str = "/", method: str = "GET", body: str = "", **header: str
    ) -> tuple[int, str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        given = {"Host": f"127.0.0.1:{self.port}"} | {
            key.replace("_", "-"): each for key, each in header.items()
        }
        try:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers
        finally:
            connection.close()

    def websocket(self, token: str = "", origin: str | None = None, send: bytes = b"", **header: str) -> str:
        """What comes of a websocket: a message, or why there is none."""

        async def talk() -> str:
            request = HTTPRequest(
                f"ws://127.0.0.1:{self.port}/ws",
                headers={"Origin": origin or f"http://127.0.0.1:{self.port}"} | header,
            )
            socket = None
            try:
                socket = await websocket_connect(request, subprotocols=["bokeh", token])
                said = await asyncio.wait_for(socket.read_message(), 30)
                if said is None:
                    return "closed"
                if send:
                    await socket.write_message(send, binary=True)
                    for _ in range(20):
                        if await asyncio.wait_for(socket.read_message(), 30) is None:
                            return "closed"
                socket.close()
                while await asyncio.wait_for(socket.read_message(), 30) is not None:
                    continue  # the server closes it, too, after what was on its way
                return "open"
            except (HTTPClientError, WebSocketClosedError) as error:
                return str(error)
            finally:
                if socket is not None:
                    socket.close()

        async def whole() -> str:
            said = await talk()
            await asyncio.sleep(0)  # for the socket to be closed
            return said

        return asyncio.run(whole())

    def token(self, **header: str) -> str:
        """Of a session that this page began."""
        page = self.get("/", **header)[1]
        return re.search(r'"token":"([^"]+)"', page)[1]  # type: ignore[index]


def display(*flags: object, http: str = "127.0.0.1:0", preview: str = "") -> Command:
    nobody, control = free_addresses(2)
    alone = "--preview", preview or nobody, "--spectra", "none", "--control", control, "--recorder", "none"
    return Command("view", *alone, "--http", http, "--no-browser", *flags)


@pytest.fixture(scope="module")
def open_() -> Iterator[Served]:
    with display() as command:
        yield Served(command)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    secret = tmp_path_factory.mktemp("password") / "password"
    secret.write_text(PASSWORD + "\n", encoding="utf-8")
    with display("--password", secret, "--allow-control") as command:
        yield Served(command)


def test_another_name_or_another_page_gets_nothing(open_: Served) -> None:
    assert open_.get()[0] == 200
    assert open_.get(Host=f"localhost:{open_.port}")[0] == 200
    for header in (
        {"Host": "evil.example"},
        {"Host": f"evil.example:{open_.port}"},
        {"Origin": "http://evil.example"},
    ):
        status, said, _ = open_.get(**header)
        assert status == 421 and "evil.example" not in said.partition("'")[0] and len(said) < 300
    assert "421" in open_.websocket(open_.token(), origin="http://evil.example")
    assert open_.websocket(open_.token()) == "open"


def test_a_session_is_begun_by_a_page_and_not_made_up(open_: Served) -> None:
    token = open_.token()
    changed = token[:-4] + ("AAAA" if not token.endswith("AAAA") else "BBBB")
    for made_up in (changed, "nonsense", ""):
        assert open_.websocket(made_up) != "open"


def test_a_message_that_is_too_large_ends_the_connection(open_: Served) -> None:
    assert open_.websocket(open_.token(), send=b"x" * 1_000_000) == "closed"
    with suppress(ConnectionError):  # it need not read to the end what it refuses
        assert open_.get("/", "POST", "x" * 1_000_000)[0] in (400, 405, 413)
    assert open_.get()[0] == 200


def test_what_is_answered_may_not_be_framed_and_asks_nobody_outside(open_: Served) -> None:
    headers = open_.get()[2]
    assert headers["X-Frame-Options"] == "DENY" and "default-src 'self'" in headers["Content-Security-Policy"]
    assert not re.search(r'(src|href)="(https?:)?//', open_.get()[1])
    assert open_.get("/view/../server.py")[0] in (403, 404)


@pytest.fixture(scope="module")
def cookie(locked: Served) -> str:
    """Of who has given the password."""
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    headers = locked.get("/login", "POST", f"password={PASSWORD.replace(' ', '+')}", **form)[2]
    return str(headers["Set-Cookie"])


def a_cookie(served: Served, days: float = 0.0, secret: str = PASSWORD) -> dict[str, str]:
    """As who gave the secret so long ago has it, of the display that was there before this one."""
    then, name = time.time() - days * 86_400, COOKIE.format(port=served.port)
    signed = create_signed_value(_key(secret), name, "in", clock=lambda: then)
    return {"Cookie": f"{name}={signed.decode()}"}


@pytest.mark.parametrize(("days", "status"), [(0.9, 200), (1.1, 302), (30.0, 302)])
def test_who_gave_the_password_is_let_in_for_a_day(days: float, status: int, locked: Served) -> None:
    assert locked.get("/", **a_cookie(locked, days))[0] == status


def test_without_the_password_there_is_no_page_no_stream_and_no_file(locked: Served, cookie: str) -> None:
    assert locked.link == f"http://127.0.0.1:{locked.port}/"  # which does not hold it
    status, _, headers = locked.get("/")
    assert status == 302 and headers["Location"].startswith("/login")
    for form in ("npz", "h5"):
        status, said, _ = locked.get(f"/snapshot.{form}")
        assert status == 403 and said.endswith("load the page again\n")  # no form that lies there as a file
    assert locked.websocket("x") != "open"
    assert 'name="password"' in locked.get("/login")[1]
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    status, said, headers = locked.get("/login", "POST", "password=wrong+password", **form)
    assert status == 403 and "That is not the password" in said and "Set-Cookie" not in headers
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    inside = {"Cookie": cookie.partition(";")[0]}
    assert locked.get("/", **inside)[0] == 200
    assert locked.get("/snapshot.npz", **inside)[0] == 404  # nothing has come
    token = locked.token(**inside)
    assert locked.websocket(token, **inside) == "open"
    assert locked.websocket(token) != "open"


def test_who_may_control_has_shown_a_secret(locked: Served, cookie: str) -> None:
    with display("--allow-control") as command:
        served = Served(command)
        assert "/login?token=" in served.link
        assert served.get("/")[0] == served.get("/", **a_cookie(served))[0] == 302  # of another secret
        assert "Open the address that the display said" in served.get("/login")[1]  # nobody knows a password
        path = served.link.partition(f":{served.port}")[2]
        status, _, headers = served.get(path)
        assert status == 302 and headers["Location"] == "/"
        (given,) = SimpleCookie(headers["Set-Cookie"]).values()
        assert parsedate_to_datetime(given["expires"]).timestamp() > time.time() + 300 * 86_400
        secret = unquote(served.link.partition("?token=")[2])  # which is let in as long as it lives
        assert served.get("/", **a_cookie(served, 300.0, secret))[0] == 200
        browser = SimpleCookie(cookie)  # it has one of another display of this computer
        browser.load(headers["Set-Cookie"])
        both = "; ".join(f"{name}={each.coded_value}" for name, each in browser.items())
        status, page, _ = served.get("/", Cookie=both)
        assert status == 200 and 'id="control"' in page
        assert locked.get("/", Cookie=both)[0] == 200
        # A second one says who has the address.
        with Command("view", "--http", f"127.0.0.1:{served.port}", "--no-browser") as second:
            assert second.end() == 1
            assert "another program uses it, such as a second `cars-rt view`" in second.said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"http": "0.0.0.0:5570"}, "can be reached from other computers: give --password FILE"),
        ({"http": "*:5570"}, "can be reached from other computers"),
        ({"preview": "none"}, "--preview cannot be none"),
        ({"memory_mb": 1.0}, "--memory-mb must be 16 or more"),
        ({"memory_mb": float("inf")}, "--memory-mb must be 16 or more and finite, not inf"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ViewError, match=re.escape(said)):
        ViewSettings(**given)


def test_beyond_this_computer_it_says_that_nothing_is_encrypted(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("short\n", encoding="utf-8")
    with display("--password", secret, http="0.0.0.0:0") as command:
        assert command.end() == 1 and "one line of at least 8 characters" in command.said
    secret.write_text(PASSWORD, encoding="utf-8")
    with display("--password", secret, "--host", "lab.example:443", http="0.0.0.0:0") as command:
        served = Served(command)
        assert "is not encrypted" in command.said
        assert served.get("/login", Host="lab.example:443")[0] == 200
        assert served.get("/", **a_cookie(served))[0] == 200  # as after a restart
        from_there = {"Host": "lab.example", "Origin": "https://lab.example"}  # browsers leave out this port
        form = {"Content_Type": "application/x-www-form-urlencoded"} | from_there
        status, _, headers = served.get("/login", "POST", f"password={PASSWORD.replace(' ', '+')}", **form)
        assert status == 302
        inside = {"Host": "lab.example", "Cookie": headers["Set-Cookie"].partition(";")[0]}
        assert served.websocket(served.token(**inside), from_there["Origin"], **inside) == "open"
        assert served.get("/login", Host="other.example")[0] == 421


@pytest.mark.parametrize(
    ("host", "said"),
    [("[::1]", "[::1]"), ("127.0.0.2", "127.0.0.2"), ("localhost", "localhost"), ("[::]", "[::1]")],
)
def test_the_page_is_where_it_is_said_to_be(host: str, said: str, tmp_path: Path) -> None:
    (secret := tmp_path / "password").write_text(PASSWORD, encoding="utf-8")
    settings = ViewSettings(preview="tcp://127.0.0.1:9", http=f"{host}:0", password=secret)

    async def served() -> tuple[str, int]:
        page = PageServer(World(settings), settings)
        page._server._http.stop()
        return page.address, page.port

    try:
        address, port = asyncio.run(served())
    except ViewError as error:
        pytest.skip(str(error))  # a computer without IPv6, or with one address of its own
    assert address == f"http://{said}:{port}/" and f"{said}:{port}" in _names(host.strip("[]"), port, ())


@pytest.mark.parametrize("name", ["no-such-computer.invalid", 64 * "a"])
def test_a_computer_whose_own_name_is_not_resolved_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    names = _names("*", 5570, ("10.0.0.1:5570",))
    assert {"localhost:5570", "127.0.0.1:5570", "[::1]:5570", "10.0.0.1:5570", f"{name}:5570"} <= names
    assert f"own name {name} is not resolved" in caplog.text and "--host HOST:5570" in caplog.text


def test_a_display_that_waits_for_its_daemon_ends_at_once() -> None:
    """Nobody is there, and the requests may wait for minutes."""
    asked, said = threading.Event(), list[str]()

    class Asked(Remote):
        def ask(self, *do: Any, **arguments: Any) -> dict[str, Any]:
            asked.set()
            return super().ask(*do, **arguments)

    watch = Watch(free_addresses(1)[0], every_s=PATIENCE_S, what=Asked)
    watch.start()
    assert asked.wait(PATIENCE_S)

    def reload() -> None:
        with pytest.raises(RemoteError) as refused:
            watch.ask("reload", model="rnn", timeout_s=10 * PATIENCE_S)
        said.append(str(refused.value))

    asked.clear()
    closing = threading.Thread(target=watch.close, daemon=True)
    asking = threading.Thread(target=reload, daemon=True)
    asking.start()
    assert asked.wait(PATIENCE_S)
    closing.start()
    for each in (closing, asking):
        each.join(PATIENCE_S)
        assert not each.is_alive()
    assert "the display ends" in watch.why and said == ["the display ends"]
