"""What the page's server takes: so many connections, for so long, and only what a page of ours sends."""

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

from bokeh.application.handlers.function import FunctionHandler
from bokeh.protocol.exceptions import ProtocolError, ValidationError
from bokeh.protocol.receiver import Receiver
from bokeh.server.protocol_handler import ProtocolHandler
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from cars_rt.printable import printable

log = logging.getLogger("cars_rt.view")

MOST_CONNECTIONS = 128  # of HTTP, beside the pages' own
HEAD_S = 10.0  # for the head of a request, and between two of them
BODY_S = 10.0
PING_S = 30.0  # a browser answers within that, also behind a whole page that a slow network still brings it
WAITING = 8  # browsers that wait for their page; it costs the server's loop a fraction of a second
KINDS = ("ModelChanged", "MessageSent")  # of changes that a page sends: of a property, and of an event
NEW = {"object", "type"}  # what would make models here that are not there


class Connections(HTTPServer):
    """Bokeh's HTTP server, with a bound: who came first and has nothing more to say makes room."""

    def initialize(self, *arguments: Any, **options: Any) -> None:
        """As HTTPServer's."""
        super().initialize(*arguments, **options)
        self._open: dict[IOStream, None] = {}

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """A connection comes."""
        there = {each.stream for each in self._connections}  # not those that a page took over
        self._open = {each: None for each in self._open if each in there and not each.closed()}
        while len(self._open) >= MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.close()
        self._open[stream] = None
        super().handle_stream(stream, address)


class Pages(FunctionHandler):  # type: ignore[misc]
    """Makes pages one after the other, with time between them for those that are there."""

    def __init__(self, make: Any) -> None:
        super().__init__(make)
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._took_s = 0.0
        self._left_out: set[str] = set()

    async def on_session_created(self, session_context: Any) -> None:
        """Called before a page is made."""
        if self._waiting >= WAITING:
            self._left_out.add(session_context.id)
            return
        self._waiting += 1
        try:
            async with self._turn:
                await asyncio.sleep(self._took_s)
        finally:
            self._waiting -= 1

    def modify_document(self, doc: Any) -> None:
        """Make one."""
        begin = time.monotonic()
        doc.left_out = doc.session_context.id in self._left_out
        self._left_out.discard(doc.session_context.id)
        super().modify_document(doc)
        self._took_s = time.monotonic() - begin


class WholeMessages(Receiver):  # type: ignore[misc]
    """Takes messages of three parts. Bokeh's own waits for as many more as the first one announces."""

    def _check_complete(self) -> None:
        if not self._partial.complete:
            raise ValidationError("a browser sends no arrays")
        super()._check_complete()


class Changes(ProtocolHandler):  # type: ignore[misc]
    """Passes on changes of what there is."""

    async def handle(self, message: Any, connection: Any) -> Any:
        """As ProtocolHandler's. Raises ProtocolError, which ends the connection."""
        if message.msgtype not in ("PATCH-DOC", "PULL-DOC-REQ", "SERVER-INFO-REQ"):
            raise ProtocolError("a browser does not send that")
        if message.msgtype == "PATCH-DOC":
            events = message.content.get("events") if isinstance(message.content, dict) else None
            if not isinstance(events, list) or not all(map(_is_change, events)):
                raise ProtocolError("a browser changes properties of what there is, and nothing else")
        return await super().handle(message, connection)


def _is_change(event: Any) -> bool:
    return isinstance(event, dict) and event.get("kind") in KINDS and not any(map(_is_new, _maps(event)))


def _is_new(part: dict[str, Any]) -> bool:
    return part.get("type") in NEW


def _maps(content: Any) -> Iterator[dict[str, Any]]:
    """Every map in it, however deep. The parser bounds the depth."""
    waiting = [content]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            yield each
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def receive(socket: Any) -> None:
    """Have a websocket of Bokeh's take these messages and no others."""
    socket.receiver, socket.handler = WholeMessages(socket.receiver._protocol), Changes()


def cut_off(connection: Any) -> None:
    """End a page's connection at once."""
    if (there := connection._socket.ws_connection) is not None and there.stream is not None:
        there.stream.close()


class InASentence(logging.Handler):
    """Says what the server's libraries log in one line; where it was, only with --log-level debug."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log it as ours."""
        text = record.getMessage().split("\n", 1)[0]
        if record.exc_info and (error := record.exc_info[1]) is not None:
            text += f": {type(error).__name__}: {error}"
        log.warning("a request failed: %s", printable(text, 300))
        log.debug("where that was", exc_info=record.exc_info)
