"""The wire format, version 1, as pure code: bytes in, typed messages or one typed error out."""

from cars_rt.kinds import Fault
from cars_rt.protocol.codec import check_band, decode, encode, topic
from cars_rt.protocol.errors import ProtocolError
from cars_rt.protocol.fields import Part, check_facts
from cars_rt.protocol.layout import FrameWriter
from cars_rt.protocol.limits import MAX_BANDS, MAX_BLOCK, MAX_PAYLOAD_BYTES, MAX_PIXELS, VERSION
from cars_rt.protocol.messages import (
    BANDS,
    DELAYS,
    DEVIATION,
    DTYPES,
    FLAGS,
    NETWORK_OUTPUTS,
    STREAMS,
    Band,
    End,
    Facts,
    Frame,
    Message,
    Reason,
    Start,
    StreamName,
)
from cars_rt.protocol.notice import concerns, encode_notice
from cars_rt.protocol.reader import Closed, Event, RunReader

__all__ = [
    "BANDS",
    "DELAYS",
    "DEVIATION",
    "DTYPES",
    "FLAGS",
    "MAX_BANDS",
    "MAX_BLOCK",
    "MAX_PAYLOAD_BYTES",
    "MAX_PIXELS",
    "NETWORK_OUTPUTS",
    "STREAMS",
    "VERSION",
    "Band",
    "Closed",
    "End",
    "Event",
    "Facts",
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
    "check_band",
    "check_facts",
    "concerns",
    "decode",
    "encode",
    "encode_notice",
    "topic",
]
