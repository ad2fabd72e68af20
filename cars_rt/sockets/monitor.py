"""What happens to the connections of a socket, read by a thread whether anybody asks or not."""

import threading
import time
from collections import deque

import zmq
from zmq.utils.monitor import recv_monitor_message

KEPT = 256  # the newest events that nobody asked for yet; older ones no longer matter
CLOSE_S = 1.0


class Monitor:
    """Keeps a socket's last events.

    libzmq waits for room in the queue of its monitor, in the thread that all sockets of a context share: a
    program that looks at none of its events would stop the others after some 2,000 of them.
    """

    def __init__(self, socket: zmq.Socket[bytes], events: int) -> None:
        """Call it before the socket is connected. events: a mask of zmq.EVENT_..."""
        self._socket = socket
        self._events: deque[tuple[int, int, float]] = deque(maxlen=KEPT)
        pair = socket.get_monitor_socket(events | zmq.EVENT_MONITOR_STOPPED)
        self._thread = threading.Thread(target=self._read, args=(pair,), name="monitor", daemon=True)
        self._thread.start()

    def take(self) -> list[tuple[int, int, float]]:
        """Events since the last call, in order: which, its value, when it came (monotonic time)."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def close(self) -> None:
        """Call it before the socket is closed, from its thread."""
        self._socket.disable_monitor()
        self._thread.join(CLOSE_S)

    def _read(self, pair: "zmq.Socket[bytes]") -> None:
        try:
            while True:
                message = recv_monitor_message(pair)
                if message["event"] == zmq.EVENT_MONITOR_STOPPED:
                    return
                self._events.append((message["event"], int(message["value"]), time.monotonic()))
        except zmq.ZMQError:  # the context ends
            return
        finally:
            pair.close(0)
