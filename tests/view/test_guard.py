"""Who means harm to the page: others are served meanwhile, its memory stays, it says one sentence each."""

import asyncio
import http.client
import json
import select
import socket
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any
from weakref import WeakSet

import numpy as np
import psutil
import pytest
from helpers import PATIENCE_S, Published, a_start, wait_until

pytest.importorskip("bokeh", reason="the display is not installed (extra view)")
from tornado.httpclient import HTTPRequest
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, websocket_connect

from cars_rt.protocol import Band, Frame
from cars_rt.view.guard import MOST_CONNECTIONS
from cars_rt.view.server import GUESSES, QUEUE, WRONG_S
from view.test_server import Served, display


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with display() as command:
        served = Served(command)
        yield served
        assert command.process.poll() is None
        command.process.terminate()
        assert command.end() == 0
        assert "Traceback" not in command.said, command.said


def run_shown(served: Served) -> str:
    """What the file is called that can be taken away."""
    with closing(http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)) as connection:
        connection.request("GET", "/snapshot.npz")
        return str(connection.getresponse().headers["Content-Disposition"])


def process(served: Served) -> psutil.Process:
    return psutil.Process(served.command.process.pid)


OVER = WeakSet[WebSocketClientConnection]()


@asynccontextmanager
async def opened(served: Served, token: str) -> AsyncIterator[WebSocketClientConnection]:
    """A page's connection that was let in; closed at the end."""
    where = f"127.0.0.1:{served.port}"
    request = HTTPRequest(f"ws://{where}/ws", headers={"Origin": f"http://{where}"})
    connection = await websocket_connect(request, subprotocols=["bokeh", token])
    try:
        assert "ACK" in str(await asyncio.wait_for(connection.read_message(), 60))
        yield connection
    finally:
        connection.close()
        await ended(connection)


async def ended(connection: WebSocketClientConnection) -> bool:
    """Wait until it is closed, here or at the other end. Who reads on after that waits for ever."""
    while connection not in OVER:
        if await asyncio.wait_for(connection.read_message(), 60) is None:
            OVER.add(connection)
    return True


def test_requests_that_do_not_go_on_make_room(served: Served) -> None:
    with ExitStack() as stack:
        peers = []
        for number in range(2 * MOST_CONNECTIONS):
            peers.append(stack.enter_context(closing(socket.create_connection(("127.0.0.1", served.port)))))
            peers[-1].sendall(
                (b"GET / HT", b"POST /login HTTP/1.1\r\nContent-Length: 60000\r\n\r\nx")[number % 2]
            )
        assert served.get()[0] == 200
        assert process(served).num_fds() < MOST_CONNECTIONS + 60
        peers[0].settimeout(60)
        assert peers[0].recv(100) == b""  # the one that came first


def test_a_page_has_one_connection_the_newest(served: Served) -> None:
    async def many() -> None:
        token = served.token()
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(opened(served, token)) for _ in range(20)]
            for each in connections[:-1]:
                assert await ended(each)
            await connections[-1].write_message(json.dumps({"msgid": "1", "msgtype": "SERVER-INFO-REQ"}))
            for _ in range(2):
                await connections[-1].write_message("{}")
            while "SERVER-INFO-REPLY" not in str(said := await connections[-1].read_message()):
                assert said is not None

    asyncio.run(many())


MADE = {"type": "object", "name": "Range1d", "id": "made"}


@pytest.mark.parametrize(
    ("header", "content"),
    [
        ({"num_buffers": 10**9}, {"events": []}),
        ({"msgtype": "PUSH-DOC"}, {"doc": {"version": "3", "title": "", "roots": []}}),
        ({}, {"events": [{"kind": "RootAdded", "model": MADE}]}),
        ({}, {"events": [{"kind": "ModelChanged", "model": {"id": "1"}, "attr": "x", "new": [{"a": MADE}]}]}),
        ({}, {"events": [{"kind": "ColumnsStreamed", "model": {"id": "1"}, "attr": "data", "data": {}}]}),
        ({}, {"events": [7]}),
        ({}, {"events": [{"kind": []}]}),
        ({}, []),
    ],
)
def test_messages_that_no_page_sends_end_the_connection(
    header: dict[str, Any], content: Any, served: Served
) -> None:
    async def talk() -> None:
        async with opened(served, served.token()) as connection:
            for each in ({"msgid": "1", "msgtype": "PATCH-DOC"} | header, {}, content):
                await connection.write_message(json.dumps(each))
            try:
                if "num_buffers" in header:
                    for _ in range(2000):
                        await connection.write_message(json.dumps({"id": "1"}))
                        await connection.write_message(bytes(60_000), binary=True)
            except WebSocketClosedError:
                pass
            assert await ended(connection)

    asyncio.run(talk())
    assert served.get("/view/view.css")[0] == 200


def test_another_page_may_link_here_and_no_more(served: Served) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert served.get(**link)[0] == 200
    others: list[dict[str, str]] = [
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors", "Sec_Fetch_Dest": "image"},
        link | {"Sec_Fetch_Dest": "iframe"},
        {"Origin": "http://["},
        {"Origin": "null"},
    ]
    for each in others:
        assert served.get(**each)[0] == 421


@pytest.mark.parametrize(
    "path", ["/view/%00", "/?bokeh-token=x", "/?bokeh-session-id=x", "/?bokeh-token=%F0"]
)
def test_odd_requests_cost_a_line_each(path: str, served: Served) -> None:
    before = len(served.command.said)
    assert served.get(path)[0] >= 400
    assert "\n " not in served.command.said[before:]


def test_pages_that_are_given_up_leave_time_to_others(served: Served) -> None:
    """More of them at once than there are places and seats to wait, as after a restart of the display."""
    answers = []
    with ExitStack() as stack:
        peers = [
            stack.enter_context(closing(socket.create_connection(("127.0.0.1", served.port))))
            for _ in range(20)
        ]
        process(served).suspend()  # so that it finds all of them
        try:
            for each in peers:
                each.sendall(f"GET / HTTP/1.0\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
        finally:
            process(served).resume()
        while not any(QUEUE in each and "location.reload" in each for each in answers):
            ready = select.select(peers, [], [], PATIENCE_S)[0]
            assert ready, answers
            for each in ready:
                peers.remove(each)
                answers.append(each.makefile("rb").read().decode())
        assert served.get("/view/view.css")[0] == 200


def test_files_are_made_one_at_a_time_beside_the_loop() -> None:
    bands = tuple(Band(f"band {number}", 900.0 + number, 950.0) for number in range(32))
    with Published("preview") as source, display(preview=source.address) as command:
        served = Served(command)
        source.wait()
        source.say(a_start(stream="preview", dtype="float32", scan=(1024, 1024)))
        arrays = {"bands": np.random.default_rng(1).random((4096, len(bands)), np.float32)}
        for number in range(8):
            source.say(Frame("preview", "run-1", number, number * 4096, 1, arrays, bands=bands))
        request = f"GET /snapshot.npz HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode()

        def asked(count: int) -> list[bytes]:
            """What comes of so many at once, in order."""
            with ExitStack() as stack:
                where = "127.0.0.1", served.port
                peers = [
                    stack.enter_context(closing(socket.create_connection(where, 60))) for _ in range(count)
                ]
                for each in peers:
                    each.sendall(request)
                return sorted(each.recv(12).split()[-1] for each in peers)

        wait_until(lambda: asked(1) == [b"200"])
        codes = asked(6)
        assert codes[0] == b"200" and codes[-1] == b"503", codes


def test_passwords_cannot_be_tried_by_the_thousand(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("a long password\n", encoding="utf-8")
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    with display("--password", secret) as command, ThreadPoolExecutor(3 * GUESSES) as guessing:
        served = Served(command)
        begin = time.monotonic()
        guesses = [
            guessing.submit(served.get, "/login", "POST", "password=a+guess", **form)
            for _ in range(3 * GUESSES)
        ]
        assert {each.result()[0] for each in guesses} == {403}
        assert time.monotonic() - begin > 2.9 * WRONG_S
        assert served.get("/login", "POST", "password=a+long+password", **form)[0] == 302


def test_memory_of_runs_that_are_over_comes_back() -> None:
    bands = tuple(Band(f"band {number}", 900.0 + number, 950.0) for number in range(32))
    arrays = {"bands": np.full((4096, len(bands)), np.nan, np.float32)}
    with Published("preview") as source, display(preview=source.address) as command:
        served = Served(command)
        source.wait()
        memory = process(served).memory_info
        before = memory().rss
        for number in range(16):
            run = f"run-{number}"
            source.say(
                a_start(run, stream="preview", dtype="float32", scan=(4096, 4096)),
                Frame("preview", run, 0, 0, 1, arrays, bands=bands),
            )
        for number in range(3):
            source.say(a_start(f"small-{number}", stream="preview", dtype="float32", scan=(4, 4)))
        wait_until(lambda: "run small-2 begins" in command.said)  # before any snapshot of a large one is made
        wait_until(lambda: "small-2" in run_shown(served))
        wait_until(lambda: memory().rss < before + 60e6)
