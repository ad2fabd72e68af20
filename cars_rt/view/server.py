"""The page's server, Bokeh's: refuses pages of other hosts and origins, and who lacks the password."""

import asyncio
import hashlib
import hmac
import logging
import os
import secrets
import socket
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from bokeh.application import Application
from bokeh.core.templates import FILE
from bokeh.document import Document
from bokeh.server.auth_provider import NullAuth
from bokeh.server.server import BaseServer
from bokeh.server.tornado import BokehTornado
from jinja2 import Template
from tornado.httputil import HTTPServerRequest
from tornado.ioloop import IOLoop, PeriodicCallback
from tornado.netutil import bind_sockets
from tornado.web import OutputTransform, RequestHandler, StaticFileHandler

from cars_rt.console import LINK_SECRET
from cars_rt.physics.substances import SUBSTANCES
from cars_rt.printable import printable
from cars_rt.sockets.addresses import EVERYWHERE, Address, cannot_bind
from cars_rt.storage import read_bytes
from cars_rt.trust.loopback import is_loopback
from cars_rt.view import guard
from cars_rt.view.page.document import Page
from cars_rt.view.page.image import PALETTES
from cars_rt.view.quantity import Kind
from cars_rt.view.settings import ViewError, ViewSettings
from cars_rt.view.snapshot import SnapshotHandler
from cars_rt.view.world import World

log = logging.getLogger("cars_rt.view")

LOOK_MS = 20  # how often each page is asked whether it has to be sent more: each picture waits for that
MOST_PAGES = 32  # browsers at once
MOST_SOCKETS = 2 * MOST_PAGES  # also of those that found no place
MESSAGE_BYTES = 64 * 1024  # a browser sends orders, no data
BODY_BYTES = 64 * 1024
COOKIE = "cars_rt_view_{port}"  # cookies know no ports, and displays of one computer each have a secret
DAYS = 1  # for which who has given the password is let in; whoever had the address, while its secret lives:
LONGEST_DAYS = 400  # browsers keep nothing for longer
SHORTEST = 8  # characters of a password
WRONG_S = 1.0  # how long the answer to a wrong password takes
ROUNDS = 100_000  # of the cookie's key: who has a cookie cannot try passwords by the million
GUESSES = 4  # that are judged at once; the others wait, and are forgotten where who asked does not
FULL = "This display serves as many browsers as it can already: close one."
QUEUE = "Many browsers ask this display at once, and it makes their pages one after the other."
#: Everything comes from this server. Bokeh makes functions of text in the page, so scripts may be evaluated.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
        "style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; connect-src 'self' ws: wss:; frame-ancestors 'none'; "
        "form-action 'self'; "
        "base-uri 'none'; object-src 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers send the form of the login as from nowhere
}


class _Headers(OutputTransform):
    """Adds HEADERS to each answer."""

    def transform_first_chunk(
        self, status_code: int, headers: Any, chunk: bytes, finishing: bool
    ) -> tuple[int, Any, bytes]:
        for key, value in HEADERS.items():
            headers[key] = value
        return status_code, headers, chunk


class _Refused(RequestHandler):
    def initialize(self, status: int, text: str) -> None:
        self._status, self._text = status, text

    def prepare(self) -> None:
        self.set_status(self._status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(self._text + "\n")


class _Login(RequestHandler):
    """Takes the secret, from a form or, as in the address that the program says, from the query."""

    def initialize(
        self, secret: str, cookie: str, days: int, turn: asyncio.Semaphore, page: Template, known: bool
    ) -> None:
        """known: to people, as their password; else it stands in the address that the program says."""
        self._secret, self._cookie, self._turn, self._page, self._known = secret, cookie, turn, page, known
        self._days, self._gone = days, False

    def on_connection_close(self) -> None:
        self._gone = True

    async def get(self) -> None:
        given = self.get_query_argument("token", "")
        if given:
            await self._judge(given)
        else:
            self._form("")

    async def post(self) -> None:
        await self._judge(self.get_body_argument("password", ""))

    async def _judge(self, given: str) -> None:
        async with self._turn:
            if self._gone:
                return
            if hmac.compare_digest(given.encode(), self._secret.encode()):
                self.set_signed_cookie(
                    self._cookie, "in", expires_days=self._days, httponly=True, samesite="Strict"
                )
                self.redirect("/")
                return
            log.warning("a wrong password from %s", self.request.remote_ip)
            await asyncio.sleep(WRONG_S)
        self.set_status(403)
        self._form("That is not the password." if self._known else "That address is of an earlier start.")

    def _form(self, said: str) -> None:
        self.finish(self._page.render(said=said, known=self._known))


class _Secret(NullAuth):  # type: ignore[misc]
    """Lets only those see the page who have given the secret. Its login page stands among the other patterns,
    since it has arguments."""

    def __init__(self, cookie: str, days: int) -> None:
        super().__init__()
        self._cookie, self._days = cookie, days

    @property
    def get_user(self) -> Callable[[Any], str | None]:
        def user(handler: Any) -> str | None:
            return "in" if handler.get_signed_cookie(self._cookie, max_age_days=self._days) == b"in" else None

        return user

    @property
    def login_url(self) -> str:
        return "/login"


class _Tornado(BokehTornado):  # type: ignore[misc]
    """Answers only requests for one of our names."""

    names: frozenset[str] = frozenset()

    def find_handler(self, request: HTTPServerRequest, **given: Any) -> Any:
        said = ""
        if request.host.lower() not in self.names:
            said = (
                f"{request.host[:100]!r} is not a name of this display; `cars-rt view --host NAME:PORT` "
                "adds one"
            )
        if not said and _foreign(request, self.names):
            said = "another page may not ask this display"
        if said:
            return self.get_handler_delegate(request, _Refused, {"status": 421, "text": said})
        return super().find_handler(request, **given)

    def new_connection(self, protocol: Any, socket: Any, application_context: Any, session: Any) -> Any:
        """A page's connection. It has one: the newest, since the one before may have been cut on the way."""
        guard.receive(socket)
        for number, each in enumerate(list(self._clients)):
            if each._session is session or number >= MOST_SOCKETS:
                guard.cut_off(each)
        return super().new_connection(protocol, socket, application_context, session)


class PageServer:
    """Serves the pages of a world. Raises ViewError where it cannot be."""

    def __init__(self, world: World, settings: ViewSettings) -> None:
        where = Address.to_serve(settings.http)
        host = "" if where.host == "*" else where.host
        try:
            sockets = bind_sockets(where.port, host)
        except OSError as error:
            used = "another program uses it, such as a second `cars-rt view`: look at http://"
            used += f"{settings.http}/, or choose another address with --http"
            raise ViewError(
                cannot_bind("serve the page", settings.http, error, used, " with --http")
            ) from None
        self.port = int(sockets[0].getsockname()[1])
        if where.port == 0 and len(sockets) > 1:  # localhost is 127.0.0.1 and ::1, which got different ports
            for each in sockets[1:]:
                each.close()
            sockets = sockets[:1]
        secret = self._secret(settings)
        local = is_loopback(where.host)
        self.address = f"http://{_shown(where.host)}:{self.port}/"
        #: The address to open: with the secret, where the program made it itself.
        self.link = (
            f"{self.address}login?token={quote(secret)}"
            if secret and settings.password is None
            else self.address
        )
        folder = Path(str(files("cars_rt.view.page")))
        patterns: list[Any] = [
            (r"/view/(.*)", StaticFileHandler, {"path": str(folder / "static")}),
            (r"/snapshot\.(npz|h5)", SnapshotHandler, {"world": world, "turn": asyncio.Lock()}),
        ]
        options: dict[str, Any] = {}
        if secret:
            login = Template((folder / "login.html").read_text(encoding="utf-8"))
            cookie = COOKIE.format(port=self.port)
            known = settings.password is not None
            days = DAYS if known else LONGEST_DAYS
            given = {"secret": secret, "cookie": cookie, "days": days, "turn": asyncio.Semaphore(GUESSES)}
            given |= {"page": login, "known": known}
            patterns.append((r"/login", _Login, given))
            options = {"auth_provider": _Secret(cookie, days), "cookie_secret": _key(secret)}
        names = _names(where.host, self.port, settings.host)
        page = Application(guard.Pages(lambda document: open_page(document, world)))
        tornado = _Tornado(
            {"/": page},
            extra_patterns=patterns,
            sign_sessions=True,
            secret_key=secrets.token_bytes(32),
            websocket_max_message_size_bytes=MESSAGE_BYTES,
            websocket_ping_interval=guard.PING_S,
            websocket_ping_timeout=guard.PING_S,
            transforms=[_Headers],
            extra_websocket_origins=list(names),
            include_headers=[],
            include_cookies=[],
            log_function=_log_request,
            **options,
        )
        tornado.names = names
        http = guard.Connections(
            tornado,
            max_body_size=BODY_BYTES,
            max_header_size=BODY_BYTES,
            idle_connection_timeout=guard.HEAD_S,
            body_timeout=guard.BODY_S,
        )
        http.add_sockets(sockets)
        self.loop = IOLoop.current()
        self._world = world
        self._server = BaseServer(self.loop, tornado, http)
        if not local:
            log.warning(
                "the page at %s is not encrypted: who listens to the network sees it and the password; put a "
                "reverse proxy with TLS before it",
                self.address,
            )

    @staticmethod
    def _secret(settings: ViewSettings) -> str:
        """The secret; empty: none is needed. Nobody may control without one."""
        if settings.password is not None:
            return _password(settings.password)
        made = os.environ.get(LINK_SECRET) or secrets.token_urlsafe(24)
        return made if settings.allow_control else ""

    def serve(self) -> None:
        """Answer until `stop`. In the thread that made it."""
        self._server.start()
        beat = PeriodicCallback(self._look, LOOK_MS)
        beat.start()
        self.loop.start()
        beat.stop()
        self._server.stop(wait=False)

    def _look(self) -> None:
        for page in list(self._world.pages):
            page.look()

    def stop(self) -> None:
        """From any thread, or a signal handler."""
        self.loop.add_callback_from_signal(self.loop.stop)


def open_page(document: Document, world: World) -> None:
    """A browser comes."""
    folder = files("cars_rt.view.page")
    document.title = "CARS-RT"
    why = FULL if len(world.pages) >= MOST_PAGES else QUEUE if getattr(document, "left_out", False) else ""
    if why:
        document.template = Template((folder / "full.html").read_text(encoding="utf-8"))
        document.template_variables["why"] = why
        return
    page = Page(document, world)
    world.pages.append(page)
    document.on_session_destroyed(lambda context: world.pages.remove(page))
    document.template = Template((folder / "index.html").read_text(encoding="utf-8"))
    document.template_variables.update(
        base=FILE,
        # Within the page: a file may not come through.
        script=(folder / "view.js").read_text(encoding="utf-8"),
        palettes=list(PALETTES),
        kinds=[each.value for each in Kind],
        control=world.settings.allow_control,
        substances=[each.name for each in SUBSTANCES],
        file=world.file,
    )


def _foreign(request: HTTPServerRequest, names: frozenset[str]) -> bool:
    """Whether a page of another origin asks. A link to this display is no request of that page."""
    origin, headers = request.headers.get("Origin"), request.headers
    if origin is not None:
        try:
            return urlsplit(origin).netloc.lower() not in names
        except ValueError:  # no address
            return True
    link = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    return headers.get("Sec-Fetch-Site") == "cross-site" and not link


def _log_request(handler: RequestHandler) -> None:
    log.debug("%d %s %s", handler.get_status(), handler.request.method, handler.request.path)


def _shown(host: str) -> str:
    """The host in the address of a page that is served at it."""
    host = EVERYWHERE.get(host, host)
    return f"[{host}]" if ":" in host else host


def _names(host: str, port: int, more: tuple[str, ...]) -> frozenset[str]:
    """Host headers by which browsers may ask, in lower case."""
    found = {_shown(host)} | ({"localhost", "127.0.0.1", "[::1]"} if is_loopback(host) else set())
    if host in EVERYWHERE:
        own = socket.gethostname()
        found = {"localhost", "127.0.0.1", "[::1]", own}
        try:
            found.add(socket.getfqdn())
            for *_, address in socket.getaddrinfo(own, None):
                found.add(f"[{address[0]}]" if ":" in str(address[0]) else str(address[0]))
        except (OSError, UnicodeError):  # the latter for a name of more than 63 letters
            log.warning(
                "this computer's own name %s is not resolved, so its addresses are unknown: give the one "
                "that browsers use, with --host HOST:%d",
                printable(own),
                port,
            )
    bare = {
        each.rpartition(":")[0] for each in more if each.endswith((":80", ":443"))
    }  # browsers leave it out
    names = {f"{each}:{port}" for each in found} | set(more) | bare
    return frozenset(each.lower() for each in names | (found if port == 80 else set()))


def _key(secret: str) -> str:
    """Of the cookie: the same after each start with that secret, so that open pages come back."""
    return hashlib.pbkdf2_hmac("sha256", secret.encode(), b"cars-rt view: cookie", ROUNDS).hex()


def _password(path: Path) -> str:
    try:
        text = read_bytes(path, BODY_BYTES).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ViewError(
            f"cannot read the password {path}: {getattr(error, 'strerror', None) or error}"
        ) from None
    if len(text) < SHORTEST or not text.isprintable():
        raise ViewError(f"{path} holds no password: one line of at least {SHORTEST} characters")
    return text
