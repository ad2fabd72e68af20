"""Requests to a running daemon, from scripts and from `cars-rt ctl`.

with cars_rt.remote.Remote() as daemon:
    print(daemon.ask("status")["spectra_out"])
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import zmq

from cars_rt.errors import CarsRtError
from cars_rt.protocol import ProtocolError
from cars_rt.protocol.control import Request, decode_reply, encode_request
from cars_rt.sockets import CONTROL_ADDRESS, connect_control
from cars_rt.sockets.turn import Turn
from cars_rt.trust import tokens
from cars_rt.trust.curve import ClientKeys, why_refused

STEP_S = 0.2
ANSWER_S = 5.0  # a daemon that is there answers at once
CHANGE_S = 600.0  # but compiling a model can take minutes


class RemoteError(CarsRtError, RuntimeError):
    """The daemon refused, or nobody answered; the text says which and why."""


class Remote:
    """One connection to a daemon's control socket. One thread at a time asks; a forked process gets its own.

    A daemon without keys for control wants its token. That of a daemon which the same user started on this
    computer is found by itself; token names the file of another one. Raises StreamError for an impossible
    address, KeysError for keys that cannot be used, TokenError for a file that holds no token.
    """

    _asked: bool  # and not answered yet

    def __init__(
        self,
        address: str = CONTROL_ADDRESS,
        security: ClientKeys | None = None,
        token: Path | str | None = None,
    ) -> None:
        self.address = address
        self._security = security
        self._token = None if token is None else tokens.read(Path(token))
        self._connect()

    def ask(
        self,
        do: str,
        /,
        *,
        timeout_s: float | None = None,
        waiting: Callable[[], None] = lambda: None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Send one request and wait for its result; `waiting` is called meanwhile.

        Raises RemoteError if the daemon refuses or nobody answers in time, ProtocolError for a request
        that does not exist.
        """
        if timeout_s is None:
            timeout_s = CHANGE_S if do in ("reload", "promote") else ANSWER_S
        given = {name: value for name, value in arguments.items() if value is not None}
        if self._turn.forked:  # ZeroMQ's threads stayed in the other process
            self._connect()
        if self._turn.closed:
            raise RemoteError(f"this connection to {self.address} is closed: make another one")
        if not self._turn.take(threading.get_ident()):
            raise RemoteError(
                f"another thread waits for an answer of {self.address} through this connection at this "
                "moment: ask again later, or give each thread a Remote of its own"
            )
        try:
            return self._ask(do, given, timeout_s, waiting)
        except zmq.ZMQError as error:
            raise RemoteError(
                f"the connection to {self.address} is gone ({error}): make another one"
            ) from None
        finally:
            self._turn.give()

    def close(self) -> None:
        """Disconnect. From any thread: one that waits for an answer raises RemoteError within 0.2 s."""
        self._turn.close()

    def _ask(
        self, do: str, given: dict[str, Any], timeout_s: float, waiting: Callable[[], None]
    ) -> dict[str, Any]:
        token = self._token
        if token is None and self._security is None:
            token = tokens.find(self.address)  # each time: a daemon that was started again has a new one
        request = encode_request(Request(do, given, token))
        if self._asked:  # and left before the answer, which a REQ socket does not allow
            self._disconnect()
            self._open()
        self._asked = True
        deadline = time.monotonic() + timeout_s
        sent = False  # who has just been refused has nobody to send to
        while not self._socket.poll(int(STEP_S * 1e3), zmq.POLLIN if sent else zmq.POLLOUT) or not sent:
            if not sent:
                with suppress(zmq.Again):
                    self._socket.send(request, zmq.NOBLOCK)
                    sent = True
                    continue
            waiting()
            if self._turn.closed:
                raise RemoteError(f"this connection to {self.address} was closed before the answer came")
            if time.monotonic() > deadline:
                raise RemoteError(
                    why_refused(self._monitor, self.address, self._security)
                    or f"no daemon answered at {self.address} within {timeout_s:g} s: is `cars-rt run` "
                    f"running there, and is that its --control address (usually {CONTROL_ADDRESS})?"
                )
        answer = self._socket.recv(zmq.NOBLOCK)
        self._asked = False
        try:
            reply = decode_reply(answer)
        except ProtocolError as error:
            raise RemoteError(f"what answered at {self.address} is not a CARS-RT daemon: {error}") from None
        if reply.error is not None:
            raise RemoteError(reply.error)
        return dict(reply.result)

    def _connect(self) -> None:
        self._turn = Turn(self._disconnect)
        self._open()

    def _open(self) -> None:
        self._socket, self._monitor = connect_control(self.address, self._security)
        self._asked = False

    def _disconnect(self) -> None:
        with suppress(zmq.ZMQError):  # somebody ended the context, which waits for these two
            self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
