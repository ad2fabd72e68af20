"""The answer to a subscription to a stream that a publisher does not have: it names the stream that it has.

It has two parts: the topic that was subscribed to, and a header with `cars_rt` and `stream` and no `kind`.
It is no message of a run. Receivers that do not know it refuse it as a malformed one.
"""

from collections.abc import Sequence

import msgpack

from cars_rt.protocol.errors import ProtocolError
from cars_rt.protocol.fields import MAGIC, Part, unpack
from cars_rt.protocol.limits import VERSION
from cars_rt.protocol.messages import STREAMS, StreamName


def concerns(topic: bytes, stream: StreamName) -> bool:
    """Whether a subscription to this prefix asks for messages of the stream."""
    own = f"{stream}.".encode()
    return topic.startswith(own) or own.startswith(topic)


def encode_notice(topic: bytes, stream: StreamName) -> list[Part]:
    """The notice for a subscriber of the topic that `stream` is published here."""
    return [topic, msgpack.packb({MAGIC: VERSION, "stream": stream})]


def decode_notice(parts: Sequence[Part]) -> StreamName | None:
    """Which stream is published there, if this is a notice; None for everything else."""
    if len(parts) != 2:
        return None
    try:
        header = unpack(parts[1])
    except ProtocolError:
        return None
    known = [stream for stream in STREAMS if stream == header.get("stream")]
    return known[0] if known and "kind" not in header else None
