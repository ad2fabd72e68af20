"""Which other streams somebody publishes at an address, found out beside a subscriber that hears nothing."""

from contextlib import suppress

import zmq

from cars_rt.protocol import STREAMS, Part, StreamName
from cars_rt.sockets.endpoint import prepare_to_connect
from cars_rt.sockets.subscriber import NOW, UNREAD
from cars_rt.trust.curve import ClientKeys


class Probe:
    """A connection to an address that hears all streams but one.

    It is not the subscriber's own connection: that one sends nothing once it has subscribed. A publisher that
    closes no longer reads, and if something for it comes then, the system throws away what is still on its
    way from there.
    """

    def __init__(self, address: str, stream: StreamName, security: ClientKeys | None) -> None:
        """stream: the one that is not meant. Raises StreamError, KeysError."""
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        try:
            endpoint = prepare_to_connect(self._socket, address, security)
        except Exception:
            self.close()
            raise
        self._socket.setsockopt(zmq.RCVHWM, UNREAD)
        for each in STREAMS:
            if each != stream:
                self._socket.subscribe(f"{each}.")
        self._socket.connect(endpoint)

    def receive(self) -> list[Part] | None:
        """The parts of a message that came, or None."""
        try:
            return list(self._socket.recv_multipart(NOW))
        except zmq.Again:
            return None

    def close(self) -> None:
        """Disconnect at once."""
        with suppress(zmq.ZMQError):  # somebody ended the context
            self._socket.close(0)
