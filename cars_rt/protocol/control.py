"""Requests to a running daemon or recorder and its replies, pure: bytes in, typed values or one error out.

One request is one ZeroMQ message from a REQ or DEALER socket, one msgpack map; so is the reply.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgpack

from cars_rt.kinds import Fault
from cars_rt.protocol.errors import ProtocolError
from cars_rt.protocol.fields import MAGIC, Part, count_of, text_of, unpack
from cars_rt.protocol.limits import MAX_HEADER_BYTES, VERSION

#: What can be asked for, and the arguments of each: name to type; all are optional on the wire.
Requests: TypeAlias = Mapping[str, Mapping[str, type]]

#: Of a daemon.
REQUESTS: Requests = {
    "status": {},
    "reload": {"model": str, "engine": str},  # without one of them, that one stays as it is
    "shadow": {"model": str, "engine": str, "every": int},
    "promote": {},  # the shadow takes over
    "unshadow": {},
    "dark": {"do": str},  # start, stop, clear
    "bands": {"bands": list},  # of [name, low, high]; without it, the present ones are told
    "pause": {},
    "resume": {},
    "flight": {"reason": str},
    "stop": {},
}

#: Of a recorder. No name is one of the daemon's: a stop that reaches the wrong program stops nothing.
RECORDER_REQUESTS: Requests = {
    "record-start": {"name": str, "sample": str, "notes": str},  # until stop: each run a file of this name
    "record-stop": {},
    "record-open": {"path": str, "sample": str, "notes": str},  # one run in exactly this file
    "record-close": {},
    "record-status": {},
}
ALL: Requests = {**REQUESTS, **RECORDER_REQUESTS}


@dataclass(frozen=True, slots=True)
class Request:
    """One request, with the arguments that were given."""

    do: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    token: str | None = field(default=None, repr=False)  # the program's secret


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer: what was asked for, or why not."""

    error: str | None = None
    result: Mapping[str, Any] = field(default_factory=dict)


def encode_request(request: Request) -> bytes:
    """The request as one message. Raises ProtocolError if no receiver would accept it."""
    secret = {} if request.token is None else {"token": request.token}
    try:
        packed: bytes = msgpack.packb({MAGIC: VERSION, "request": request.do, **secret, **request.arguments})
    except (ValueError, OverflowError, TypeError) as error:  # text that is no UTF-8, a number beyond 64 bits
        raise ProtocolError(Fault.FIELD, f"the request cannot be sent: {error}") from None
    decode_request(packed)
    return packed


def decode_request(part: Part, requests: Requests = ALL) -> Request:
    """The request in this message, one of `requests`. Raises ProtocolError, whatever the bytes."""
    header = unpack(part)
    do = text_of(header, "request")
    if do not in requests:
        there = ", ".join(requests)
        if do in ALL:
            there += f"; that is asked of a {'recorder' if do in RECORDER_REQUESTS else 'daemon'}"
        raise ProtocolError(Fault.FIELD, f"no request is called {do[:32]!r}; there are {there}")
    if odd := next((name for name in header if name not in (MAGIC, "request", "token", *requests[do])), ""):
        takes = f"takes {', '.join(requests[do])}" if requests[do] else "takes no arguments"
        raise ProtocolError(Fault.FIELD, f"{do} {takes}, and not {odd[:32]!r}")
    arguments: dict[str, Any] = {}
    for name, kind in requests[do].items():
        value = header.get(name)
        if value is None:
            continue
        if kind is str:
            arguments[name] = text_of(header, name)
        elif kind is int:
            arguments[name] = count_of(header, name)
        elif isinstance(value, kind):
            arguments[name] = value
        else:
            raise ProtocolError(Fault.FIELD, f"{name} must be a {kind.__name__}")
    return Request(do, arguments, None if header.get("token") is None else text_of(header, "token"))


def encode_reply(reply: Reply) -> bytes:
    """The reply as one message. One that would be too long, or holds what no message can, becomes an error
    that says so. Names of files that are no UTF-8 are written with backslashes."""
    content = {"error": reply.error} if reply.error is not None else {"result": dict(reply.result)}
    try:
        packed: bytes = msgpack.packb({MAGIC: VERSION, **content}, unicode_errors="backslashreplace")
    except (ValueError, OverflowError, TypeError) as error:
        return encode_reply(Reply(error=f"the reply cannot be sent: {error}"))
    if len(packed) > MAX_HEADER_BYTES:
        return encode_reply(
            Reply(error=f"the reply has {len(packed)} bytes, the limit is {MAX_HEADER_BYTES}")
        )
    return packed


def decode_reply(part: Part) -> Reply:
    """The reply in this message. Raises ProtocolError, whatever the bytes."""
    header = unpack(part)
    if header.get("error") is not None:
        return Reply(error=text_of(header, "error", MAX_HEADER_BYTES))
    result = header.get("result")
    if not isinstance(result, dict):
        raise ProtocolError(Fault.FIELD, "a reply holds an error or a result")
    return Reply(result=result)
