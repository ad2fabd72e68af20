"""Requests from outside: one socket, served by the loop between two batches."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, cast

import zmq

from cars_rt.daemon.compute.change import Answer
from cars_rt.daemon.mishaps import Mishaps
from cars_rt.errors import CarsRtError
from cars_rt.protocol.control import Reply, Request, decode_request, encode_reply
from cars_rt.protocol.limits import MAX_HEADER_BYTES
from cars_rt.sockets import bind_control
from cars_rt.trust.curve import Access
from cars_rt.trust.tokens import Token

log = logging.getLogger("cars_rt.daemon")

OVERHEAD = 100  # bytes that a part takes on the wire beside its content, at most
AT_ONCE = 16  # requests answered before the loop goes on
Envelope: TypeAlias = list[bytes]

#: Does what was asked for; the result, or None if the answer comes later. Raises CarsRtError or ValueError.
Perform: TypeAlias = Callable[[Request, Answer], Mapping[str, Any] | None]


class Control:
    """A ROUTER socket that takes requests; each gets one reply, some of them later.

    Without keys a request must carry the daemon's token. Raises StreamError if the address cannot be bound,
    KeysError if it may not be, TokenError if the token cannot be had.
    """

    def __init__(self, address: str, security: Access = None, token: Path | None = None) -> None:
        """token: its file, which may be there already; None: this user's own for the address."""
        self.taken = 0  # bytes of all requests
        self._strangers = 0  # requests without the token
        self._token: Token | None = None
        self._context = zmq.Context()  # its own, since a guard guards one socket to a context
        try:
            self.socket, self._guard = bind_control(self._context, address, MAX_HEADER_BYTES, security)
        except Exception:
            self._context.term()
            raise
        self.address = cast(bytes, self.socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        if self._guard is None:
            try:
                self._token = Token(self.address, token)
            except Exception:
                self.close()
                raise

    @property
    def refused(self) -> int:
        """Attempts to connect without an allowed key, and requests without the token, so far."""
        return self._strangers + (self._guard.refused if self._guard is not None else 0)

    def serve(self, perform: Perform, mishaps: Mishaps) -> None:
        """Answer what has come."""
        for _ in range(AT_ONCE):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
                self.taken += sum(map(len, parts)) + OVERHEAD * len(parts)
                *envelope, body = parts
            except zmq.Again:
                return
            except ValueError:
                continue
            self._answer(perform, mishaps, envelope, body)

    def _answer(self, perform: Perform, mishaps: Mishaps, envelope: Envelope, body: bytes) -> None:
        def answer(error: str | None, result: Mapping[str, Any]) -> None:
            try:
                self.socket.send_multipart([*envelope, encode_reply(Reply(error, result))], zmq.NOBLOCK)
            except zmq.ZMQError:
                return  # whoever asked is gone

        try:
            request = decode_request(body)
            if self._token is not None and not self._token.matches(request.token):
                answer(self._refuse(self._token), {})
                return
            result = perform(request, answer)
        except (CarsRtError, ValueError) as error:
            answer(str(error), {})
        except Exception as error:
            answer(f"the daemon failed on this request: {mishaps.note('a request', error)}", {})
        else:
            if result is not None:
                answer(None, result)

    def _refuse(self, token: Token) -> str:
        """Count a request without the token; what it is answered."""
        self._strangers += 1
        level = logging.WARNING if self._strangers == 1 else logging.DEBUG
        log.log(level, "%s: a request without the token was refused; more are counted", self.address)
        return (
            f"this daemon answers only who gives its token: ask as the user who started it, or give the file "
            f"{token.path} with --token"
        )

    def close(self) -> None:
        """Give the last replies a moment to leave."""
        if self._token is not None:
            self._token.remove()
        if self._guard is not None:
            self._guard.close()
        self.socket.close(200)
        self._context.term()
