"""The daemon over HTTP: a page for people, /metrics, /livez, /readyz and /status. Read-only.

A thread of its own answers from the status board and never touches the daemon. What a client can do is
bounded: bytes and seconds for each request, connections at once, connections per second.
"""

import errno
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import urlsplit

from cars_rt.daemon.seen.board import StatusBoard
from cars_rt.daemon.seen.metrics import CONTENT_TYPE, exposition
from cars_rt.daemon.seen.page import POLICY, page
from cars_rt.daemon.seen.plain import plain
from cars_rt.sockets import AddressInUseError, StreamError
from cars_rt.sockets.addresses import ANY, Address, AddressError, cannot_bind
from cars_rt.trust.loopback import is_loopback

log = logging.getLogger("cars_rt.daemon")

MAX_HEAD_BYTES = 8192  # request line and header; there is never a body
REQUEST_S = 5.0  # for a client to say what it wants
REPLY_S = 5.0  # for a client to take the answer
MAX_CONNECTIONS = 16  # at once
PLACE_S = 1.0  # how long a client waits for the place of one that is sent away
PACE_S = 0.01  # between two connections: a client that asks without end leaves the loop its time
PAGE_TYPE = "text/html; charset=utf-8"
FLAG = "--http (or none)"
IN_USE = f"another program already uses it; stop that one, or choose another with {FLAG}"
FRESH_S = 0.1  # so long, one rendering of the metrics serves everybody


class HttpServer:
    """Binds HOST:PORT at once, answers from `start` on. Raises StreamError if it cannot be bound."""

    def __init__(self, address: str) -> None:
        try:
            checked = Address.to_serve(address)
        except AddressError as error:
            raise StreamError(str(error)) from None
        try:
            host, port = "0.0.0.0" if checked.host == ANY else checked.host, checked.port
            family, *_, target = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            self._server = _Server(family, target, host)
        except OSError as error:
            kind = AddressInUseError if error.errno == errno.EADDRINUSE else StreamError
            raise kind(cannot_bind("serve HTTP", address, error, IN_USE, f" with {FLAG}")) from None
        bound_host, self.port = self._server.socket.getsockname()[:2]
        shown = f"[{bound_host}]" if ":" in bound_host else bound_host
        self.address = f"{shown}:{self.port}"
        if not self._server.loopback:
            log.warning("everyone who reaches %s can read the daemon's status and metrics", self.address)
        self._thread: threading.Thread | None = None

    def start(self, board: StatusBoard) -> None:
        """Answer requests from now on, in a thread."""
        self._server.board = board
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.1,), name="http", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Answer nobody any more."""
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(ThreadingTCPServer):
    """A thread for each connection, of which there are few."""

    # Not HTTPServer: it asks the name service for the computer's name, which can take long.
    daemon_threads = True
    block_on_close = False
    request_queue_size = 2 * MAX_CONNECTIONS  # the system's; a client without room tries again after 1 s
    allow_reuse_address = os.name == "posix"  # on Windows it would mean to share the port
    board: StatusBoard

    def __init__(self, family: int, target: Any, host: str) -> None:
        self.address_family = family
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._silent: dict[socket.socket, None] = {}  # that have not said yet what they want, oldest first
        self._silent_lock = threading.Lock()
        self._rendering = threading.Lock()
        self._rendered, self._rendered_at = b"", -FRESH_S
        super().__init__(target, _Handler)
        self.loopback = is_loopback(self.socket.getsockname()[0].partition("%")[0])
        self._name = host.lower()

    def knows(self, host: str) -> bool:
        """Whether a request with this Host header may be answered.

        A web page may have its own name point to this computer and then read what it likes in the
        visitor's browser (DNS rebinding); the Host header gives that away. Programs may leave it out.
        """
        if not self.loopback:
            return True
        try:
            name = urlsplit(f"//{host.strip()}").hostname or ""
        except ValueError:
            return False
        return name == self._name or is_loopback(name)

    def metrics(self) -> bytes:
        """The metrics, at most FRESH_S old."""
        with self._rendering:
            now = time.monotonic()
            if now - self._rendered_at >= FRESH_S:
                self._rendered = exposition(self.board.snapshot, self.board.age_s)
                self._rendered_at = now
            return self._rendered

    def process_request(self, request: Any, client_address: Any) -> None:
        time.sleep(PACE_S)
        if not self._places.acquire(blocking=False):
            # A client that says nothing gives its place to one that asks: a probe without an answer would
            # have the daemon restarted.
            self._dismiss_oldest()
            if not self._places.acquire(timeout=PLACE_S):
                self.shutdown_request(request)
                return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started
            self._places.release()
            raise

    @contextmanager
    def silent(self, connection: socket.socket) -> Iterator[None]:
        """Keep a connection among the silent ones while its client has not said what it wants."""
        with self._silent_lock:
            self._silent[connection] = None
        try:
            yield
        finally:
            with self._silent_lock:
                self._silent.pop(connection, None)

    def _dismiss_oldest(self) -> None:
        with self._silent_lock, suppress(OSError):
            if self._silent:
                connection = next(iter(self._silent))
                del self._silent[connection]
                connection.shutdown(socket.SHUT_RDWR)  # its thread sees the end, and gives the place back

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a request over HTTP failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request, one answer, then the connection is closed."""

    server: _Server
    server_version = "cars-rt"
    sys_version = ""
    error_content_type = "text/plain; charset=utf-8"
    error_message_format = "%(message)s\n"

    def handle(self) -> None:
        self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
        with self.server.silent(self.connection):
            head = self._head()
        self.connection.settimeout(REPLY_S)
        if isinstance(head, HTTPStatus):
            self.send_error(head)
        elif head:
            self.rfile = BytesIO(head)
            self.raw_requestline = self.rfile.readline()
            if self.parse_request():
                self._answer()

    def _head(self) -> bytes | HTTPStatus:
        """Request line and header, or what is wrong with them; empty if the client went away."""
        deadline = time.monotonic() + REQUEST_S
        head = b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            left = deadline - time.monotonic()
            if len(head) > MAX_HEAD_BYTES:
                return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            if left <= 0:
                return HTTPStatus.REQUEST_TIMEOUT
            self.connection.settimeout(left)
            try:
                data = self.connection.recv(MAX_HEAD_BYTES + 1 - len(head))
            except TimeoutError:
                return HTTPStatus.REQUEST_TIMEOUT
            if not data:
                return b""
            head += data
        return head

    def _answer(self) -> None:
        if self.command not in ("GET", "HEAD"):
            self._reply(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD\n", Allow="GET, HEAD")
            return
        if self.headers.defects:  # what follows a line that is no header would go unread
            self._reply(HTTPStatus.BAD_REQUEST, "malformed header\n")
            return
        if not all(self.server.knows(host) for host in self.headers.get_all("Host", [])):
            self._reply(HTTPStatus.MISDIRECTED_REQUEST, "not a name of this computer's own\n")
            return
        board = self.server.board
        match self.path.partition("?")[0]:
            case "/":
                text = page(board.snapshot, board.not_ready())
                self._reply(HTTPStatus.OK, text, PAGE_TYPE, **{"Content-Security-Policy": POLICY})
            case "/metrics":
                self._reply(HTTPStatus.OK, self.server.metrics(), CONTENT_TYPE)
            case "/livez":
                self._probe(board.not_alive())
            case "/readyz":
                self._probe(board.not_ready())
            case "/status":
                about = {"alive": board.not_alive() is None, "tick_age_s": board.age_s}
                text = json.dumps(plain(board.snapshot) | about, indent=1) + "\n"
                self._reply(HTTPStatus.OK, text, "application/json")
            case _:
                self._reply(HTTPStatus.NOT_FOUND, "there are /metrics, /livez, /readyz and /status\n")

    def _probe(self, reason: str | None) -> None:
        status = HTTPStatus.OK if reason is None else HTTPStatus.SERVICE_UNAVAILABLE
        self._reply(status, f"{reason or 'ok'}\n")

    def _reply(
        self,
        status: HTTPStatus,
        text: str | bytes,
        content_type: str = "text/plain; charset=utf-8",
        **header: str,
    ) -> None:
        body = text.encode() if isinstance(text, str) else text
        self.send_response(status)
        header |= {"Content-Type": content_type, "Content-Length": str(len(body)), "Connection": "close",
                   "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}  # fmt: skip
        for key, value in header.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in the base class
        log.debug("http %s: %s", self.client_address[0], repr(format % args))
