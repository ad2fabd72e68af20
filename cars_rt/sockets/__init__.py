"""ZeroMQ sockets under the protocol: a publisher binds, subscribers connect, on tcp.

Each object belongs to one thread. Nothing is dropped inside ZeroMQ without being seen. It refuses a message
that a subscriber has no room for (XPUB_NODROP), and the publisher keeps or drops that by its policy. Closing
waits until subscribers have taken what is left. Sequence numbers show the receiver what a broken connection
lost.
"""

from cars_rt.sockets.addresses import (
    CONTROL_ADDRESS,
    PREVIEW_ADDRESS,
    RAMAN_ADDRESS,
    RAW_ADDRESS,
    RECORDER_ADDRESS,
    SPECTRA_ADDRESS,
)
from cars_rt.sockets.backlog import Overload
from cars_rt.sockets.endpoint import (
    AddressInUseError,
    StreamError,
    connect_control,
)
from cars_rt.sockets.outlet import STALL_S
from cars_rt.sockets.publisher import BUFFER_MB, RETRY_S, Publisher, message_bytes
from cars_rt.sockets.subscriber import Subscriber

__all__ = [
    "BUFFER_MB",
    "CONTROL_ADDRESS",
    "PREVIEW_ADDRESS",
    "RAMAN_ADDRESS",
    "RAW_ADDRESS",
    "RECORDER_ADDRESS",
    "RETRY_S",
    "SPECTRA_ADDRESS",
    "STALL_S",
    "AddressInUseError",
    "Overload",
    "Publisher",
    "StreamError",
    "Subscriber",
    "connect_control",
    "message_bytes",
]
