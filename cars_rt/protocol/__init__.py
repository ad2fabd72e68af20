"""The wire format, version 1, as pure code: bytes in, typed messages or one typed error out."""

from cars_rt.protocol.codec import Part, decode, encode, topic
from cars_rt.protocol.errors import Fault, ProtocolError
from cars_rt.protocol.layout import FrameWriter
from cars_rt.protocol.limits import MAX_BLOCK, MAX_PAYLOAD_BYTES, MAX_PIXELS, VERSION
from cars_rt.protocol.messages import (
    DTYPES,
    STREAMS,
    End,
    Frame,
    Message,
    Reason,
    Start,
    StreamName,
    make_frame,
)
from cars_rt.protocol.reader import Closed, Event, RunReader

__all__ = [
    "DTYPES",
    "MAX_BLOCK",
    "MAX_PAYLOAD_BYTES",
    "MAX_PIXELS",
    "STREAMS",
    "VERSION",
    "Closed",
    "End",
    "Event",
    "Fault",
    "Frame",
    "FrameWriter",
    "Message",
    "Part",
    "ProtocolError",
    "Reason",
    "RunReader",
    "Start",
    "StreamName",
    "decode",
    "encode",
    "make_frame",
    "topic",
]
