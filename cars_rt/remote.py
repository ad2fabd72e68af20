"""Requests to a running daemon or recorder, from scripts and from `cars-rt ctl`.

with cars_rt.remote.Remote() as daemon:
    print(daemon.ask("status")["spectra_out"])

with cars_rt.remote.Recorder() as recorder:
    recorder.open("sample-7/map.h5", sample="liver, slice 7")
    ...  # the measurement
    print(recorder.status()["rows"], recorder.close_file()["path"])
"""

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import zmq

from cars_rt.errors import CarsRtError
from cars_rt.protocol import ProtocolError
from cars_rt.protocol.control import Request, decode_reply, encode_request
from cars_rt.sockets import CONTROL_ADDRESS, RECORDER_ADDRESS, connect_control
from cars_rt.sockets.addresses import port_of
from cars_rt.sockets.turn import Turn
from cars_rt.sockets.unended import Unended
from cars_rt.trust import tokens
from cars_rt.trust.curve import ClientKeys, handshakes, is_local
from cars_rt.trust.tokens import TokenError

STEP_S = 0.2
ANSWER_S = 5.0  # a daemon that is there answers at once,
BUSY_S = 45.0  # unless it reads a model (30 s) or the computer is overloaded: that it is there can be seen;
CHANGE_S = 960.0  # compiling a model can take minutes, 15 at most,
MOST_BYTES = 8_000_000  # of an answer
OVERHEAD = 300  # bytes that it takes on the wire beside its content, at most
FILE_S = 60.0  # and closing a large file on a slow disk is not done at once


class RemoteError(CarsRtError, RuntimeError):
    """What was asked refused, or nobody answered; the text says which and why."""


class BusyError(RemoteError):
    """Who was asked is there, and has not answered in time."""


class Remote:
    """One connection to a daemon's control socket. One thread at a time asks; a forked process gets its own.

    A daemon without keys for control wants its token. That of a daemon which the same user started on this
    computer is found by itself; token names the file of another one here. Raises StreamError for an
    impossible address, KeysError for keys that cannot be used, TokenError for a file that holds no token and
    for a token that another computer would be told in clear.
    """

    _asked: bool  # and not answered yet
    _what: ClassVar[str] = "daemon"
    _program: ClassVar[str] = "run"
    _usual: ClassVar[str] = CONTROL_ADDRESS

    def __init__(
        self,
        address: str | None = None,
        security: ClientKeys | None = None,
        token: Path | str | None = None,
    ) -> None:
        """address: of its control; without it the usual one."""
        self.address = address = self._usual if address is None else address
        self._security = security
        if token is not None and security is None and not is_local(address):
            raise TokenError(
                f"a token is not told to another computer, and {address} may be one: its control wants "
                f"keys; the {self._what} of this computer is at 127.0.0.1"
            )
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
        there_s = answer_s = ANSWER_S if timeout_s is None else timeout_s
        if timeout_s is None:
            answer_s = max(answer_s, CHANGE_S if do in ("reload", "promote") else BUSY_S)
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
            return self._ask(do, given, there_s, answer_s, waiting)
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
        self, do: str, given: dict[str, Any], there_s: float, busy_s: float, waiting: Callable[[], None]
    ) -> dict[str, Any]:
        """there_s: for somebody to be there; busy_s: for the answer of who is there."""
        encode_request(Request(do, given))  # what cannot be is refused before anybody is there
        if self._asked:  # and left before the answer, which a REQ socket does not allow
            self._disconnect()
            self._open()
        self._asked = True
        begun = time.monotonic()
        sent = False  # who has just been refused has nobody to send to
        while not self._socket.poll(int(STEP_S * 1e3), zmq.POLLIN if sent else zmq.POLLOUT) or not sent:
            if not sent and self._socket.poll(0, zmq.POLLOUT):
                with suppress(zmq.Again):
                    request = encode_request(Request(do, given, self._secret()))
                    self._socket.send(request, zmq.NOBLOCK)
                    sent = True
                    continue
            waiting()
            if self._turn.closed:
                raise RemoteError(f"this connection to {self.address} was closed before the answer came")
            self._look()
            # Whatever accepts a connection takes what is sent; only one of ours shakes hands.
            there = sent and self._met
            if there and time.monotonic() - begun > busy_s:
                raise BusyError(
                    self._why
                    or f"the {self._what} at {self.address} is there, but has not answered within "
                    f"{busy_s:g} s: it or the computer is busy; ask again, or give the computer less to do"
                )
            if not there and time.monotonic() - begun > there_s:
                raise RemoteError(
                    self._why
                    or f"no {self._what} answered at {self.address} within {there_s:g} s: is `cars-rt "
                    f"{self._program}` running there, and is that its --control address (usually "
                    f"{self._usual})?"
                )
        answer = self._socket.recv(zmq.NOBLOCK)
        self._taken += len(answer) + OVERHEAD
        self._asked = False
        try:
            reply = decode_reply(answer)
        except ProtocolError as error:
            raise RemoteError(
                f"what answered at {self.address} is not a CARS-RT {self._what}: {error}"
            ) from None
        if reply.error is not None:
            raise RemoteError(reply.error)
        return dict(reply.result)

    def _secret(self) -> str | None:
        """The token to give: of the daemon that is there now, since each start has another one."""
        if self._token is None and self._security is None:
            return tokens.find(self.address)
        return self._token

    def _connect(self) -> None:
        self._turn = Turn(self._disconnect)
        self._open()

    def _open(self) -> None:
        self._socket, self._monitor = connect_control(self.address, self._security)
        self._unended, self._taken, self._looks = Unended(port_of(self.address)), 0, 0
        self._asked = self._met = False
        self._why: str | None = None  # the other end refused us

    def _look(self) -> None:
        """Note whether the other end shook hands, or why not."""
        met, why, descriptor = handshakes(self._monitor, self.address, self._security)
        self._met |= met
        self._why = why or self._why
        if descriptor is not None:
            self._unended.begin(descriptor)
        self._looks += 1
        if self._unended.look(self._taken, self._looks, MOST_BYTES):
            raise RemoteError(
                f"what answered at {self.address} is no CARS-RT {self._what}: its answer does not end, and "
                "was cut off; give the --control address of one"
            )

    def _disconnect(self) -> None:
        with suppress(zmq.ZMQError):  # somebody ended the context, which waits for these two
            self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def begun(answer: Mapping[str, Any]) -> str:
    """What `record-start` answered, in words."""
    if answer.get("waits"):
        return "the next run will be recorded"
    late = f", from spectrum {answer['first']} on" if answer.get("first") else ""
    return f"recording into {answer.get('path')}{late}"


class Recorder(Remote):
    """One connection to a recorder, `cars-rt record`; otherwise as `Remote`, whose errors all methods raise.

    Paths are as the recorder's computer sees them, and lie below the recorder's folder.
    """

    _what = "recorder"
    _program = "record"
    _usual = RECORDER_ADDRESS

    def start(
        self, name: str | None = None, *, sample: str | None = None, notes: str | None = None
    ) -> dict[str, Any]:
        """Record from now on until `stop`, each run into a file of its own.

        name: what the files are called, also with {sample}, {date}, {time}, {run}, {number:03d}; without it
        the recorder's own template. An open run is joined where it is. The answer has `path`, None until
        a run has begun, and `waits`, whether none has.
        """
        return self.ask("record-start", name=name, sample=sample, notes=notes)

    def stop(self) -> dict[str, Any]:
        """Close what is being recorded, on disk: `files`, each as `close_file` answers."""
        return self.ask("record-stop", timeout_s=FILE_S)

    def open(
        self, path: Path | str, *, sample: str | None = None, notes: str | None = None
    ) -> dict[str, Any]:
        """Record the open run, or the next one, into exactly this file, which must not exist: its `path`."""
        return self.ask("record-open", path=str(path), sample=sample, notes=notes)

    def close_file(self) -> dict[str, Any]:
        """Close the file of `open` and wait until it is on disk; also after its run has ended by itself.

        `path`, `run`, `rows` by stream, `lost` by stream and cause, `complete`, `planned`.
        """
        return self.ask("record-close", timeout_s=FILE_S)

    def status(self) -> dict[str, Any]:
        """What it does: `state`, `path`, `rows` on disk, `minutes_left` and more, see docs/protocol.md."""
        return self.ask("record-status")
