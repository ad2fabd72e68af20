"""Requests from outside: one socket of the daemon or the recorder, served by its loop between two turns."""

import logging
import math
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import zmq

from cars_rt.errors import CarsRtError
from cars_rt.protocol.control import Reply, Request, Requests, decode_request, encode_reply
from cars_rt.protocol.limits import MAX_HEADER_BYTES
from cars_rt.sockets.addresses import port_of
from cars_rt.sockets.endpoint import bind, configure
from cars_rt.sockets.inflow import Gate
from cars_rt.trust.curve import Access, Guard
from cars_rt.trust.tokens import Token

log = logging.getLogger("cars_rt.control")

OVERHEAD = 100  # bytes that a part takes on the wire beside its content, at most
AT_ONCE = 16  # requests answered before the loop goes on
QUEUED = 16  # requests of each connection, and answers: a stranger who asks and does not read gets no more
MOST_BYTES = 8_000_000  # of all requests that come at once, and of all answers that wait
RETRY_S = 0.02  # after which answers that wait may be taken
Envelope: TypeAlias = list[bytes]

#: How a request is answered: error or result.
Answer: TypeAlias = Callable[[str | None, Mapping[str, Any]], None]

#: Does what was asked for; the result, or None if the answer comes later. Raises CarsRtError or ValueError.
Perform: TypeAlias = Callable[[Request, Answer], Mapping[str, Any] | None]

#: Counts and logs a mistake of the program's own; in a sentence, what went wrong.
Note: TypeAlias = Callable[[Exception], str]


class Control:
    """A ROUTER socket that takes requests; each gets one reply, some of them later.

    Without keys a request must carry the program's token. Raises StreamError if the address cannot be bound,
    KeysError if it may not be, TokenError if the token cannot be had.
    """

    def __init__(
        self,
        address: str,
        requests: Requests,
        program: str,
        security: Access = None,
        token: Path | None = None,
    ) -> None:
        """requests: what can be asked for. program: its name in answers, such as "daemon". token: file of the
        token, which may exist already; None: this user's own file for the address."""
        self._requests, self._program = requests, program
        self.taken = 0  # bytes of all requests
        self._strangers = 0  # requests without the token
        self._waiting: dict[bytes, deque[Envelope]] = {}  # answers by connection, to who may ask
        self._waiting_bytes = self._dropped = 0
        self._token: Token | None = None
        self._guard: Guard | None = None
        self._context = zmq.Context()  # its own, for `bind`
        self.socket: zmq.Socket[bytes] = self._context.socket(zmq.ROUTER)
        configure(self.socket)
        self.socket.setsockopt(zmq.MAXMSGSIZE, MAX_HEADER_BYTES)
        for way in zmq.RCVHWM, zmq.SNDHWM:
            self.socket.setsockopt(way, QUEUED)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)  # say which answer finds no room
        try:
            self.address, self._guard = bind(self.socket, address, security)
            if self._guard is None:
                self._token = Token(self.address, token)
        except Exception:
            self.close()
            raise

    @property
    def refused(self) -> int:
        """Attempts to connect without an allowed key, and requests without the token, so far."""
        return self._strangers + (self._guard.refused if self._guard is not None else 0)

    def gate(self) -> Gate:
        """For `Inflow`: how much may be on its way into the socket without being a request yet."""
        return Gate("control", port_of(self.address), lambda: MOST_BYTES, lambda: self.taken)

    @property
    def due_s(self) -> float:
        """When to call `serve` though nothing comes."""
        return RETRY_S if self._waiting else math.inf

    def serve(self, perform: Perform, note: Note) -> None:
        """Answer what has come."""
        self._send_waiting()
        for _ in range(AT_ONCE):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK)
                self.taken += sum(map(len, parts)) + OVERHEAD * len(parts)
                *envelope, body = parts
            except zmq.Again:
                return
            except ValueError:
                continue
            self._answer(perform, note, envelope, body)

    def _answer(self, perform: Perform, note: Note, envelope: Envelope, body: bytes) -> None:
        known = self._token is None

        def answer(error: str | None, result: Mapping[str, Any]) -> None:
            self._reply([*envelope, encode_reply(Reply(error, result))], known)

        try:
            request = decode_request(body, self._requests)
            if self._token is not None and not self._token.matches(request.token):
                answer(self._refuse(self._token), {})
                return
            known = True
            result = perform(request, answer)
        except (CarsRtError, ValueError) as error:
            answer(str(error), {})
        except Exception as error:
            answer(f"the {self._program} failed on this request: {note(error)}", {})
        else:
            if result is not None:
                answer(None, result)

    def _reply(self, reply: Envelope, known: bool) -> None:
        """Send it, behind those that wait; known: or let it wait, as for who asks much before reading."""
        peer, size = reply[0], sum(map(len, reply))
        if peer not in self._waiting and self._sent(reply):
            return
        if known and self._waiting_bytes + size <= MOST_BYTES:
            self._waiting.setdefault(peer, deque()).append(reply)
            self._waiting_bytes += size
        elif known:
            self._dropped += 1
            level = logging.WARNING if self._dropped == 1 else logging.DEBUG
            log.log(
                level, "%s: an answer is dropped: who asked does not read, and %d MB wait; more are counted",
                self.address, MOST_BYTES // 1_000_000,
            )  # fmt: skip

    def _send_waiting(self) -> None:
        for peer, replies in list(self._waiting.items()):
            while replies and self._sent(replies[0]):
                self._waiting_bytes -= sum(map(len, replies.popleft()))
            if not replies:
                del self._waiting[peer]

    def _sent(self, reply: Envelope) -> bool:
        """Whether it need not wait: there was room for it, or whoever asked is gone."""
        try:
            self.socket.send_multipart(reply, zmq.NOBLOCK)
        except zmq.Again:
            return False
        except zmq.ZMQError:
            return True
        return True

    def _refuse(self, token: Token) -> str:
        """Count a request without the token. Returns the answer to it."""
        self._strangers += 1
        level = logging.WARNING if self._strangers == 1 else logging.DEBUG
        log.log(
            level, "%s: a request without the token of this start was refused; more are counted", self.address
        )
        return (
            f"this {self._program} answers only who gives its token: ask as the user who started it, or give "
            f"the file {token.path} with --token"
        )

    def close(self) -> None:
        """Give the last replies a moment to leave."""
        if self._token is not None:
            self._token.remove()
        if self._guard is not None:
            self._guard.close()
        self.socket.close(200)
        self._context.term()
