"""The way from a publisher into ZeroMQ: all subscribers get a message, except those that stopped reading."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import cast

import zmq

from cars_rt.protocol import Part, StreamName

log = logging.getLogger("cars_rt.stream")

NOW, MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
STALL_S = 10.0  # a subscriber that takes nothing for so long has stopped reading
WAIT_S = 0.1  # between two looks at whether a subscriber has stalled
MOMENT_S = 0.001  # such a wait for ZeroMQ's thread costs less than copying a frame into our queue

# ZeroMQ tells only after half of its queue that a subscriber reads. So we follow a message now and then until
# all have taken it; that costs as much as sending it.
FOLLOW_S = 0.05


class Outlet:
    """Hands messages to an XPUB socket, which refuses a message that some subscriber has no room for.

    A subscriber that has had no room, taken nothing and given no sign for stall_s has stopped reading:
    messages pass it over from then on, until it reads again and finds the gap in the sequence.
    """

    def __init__(self, socket: zmq.Socket[bytes], stream: StreamName, stall_s: float, unsent: int) -> None:
        """stall_s: 0 waits for ever for a subscriber that does not read; unsent: messages in ZeroMQ."""
        self.stall_s = stall_s
        self.stalls = 0  # how often a subscriber was found to have stopped reading
        self.patient = True  # False: do not wait for any subscriber any more
        self._socket, self._stream = socket, stream
        self.full_since: float | None = None  # since when some subscriber has had no room
        self._underway: deque[zmq.MessageTracker] = deque(maxlen=unsent)  # messages that we follow
        self._follow_at = 0.0
        self._last: zmq.MessageTracker | None = None  # of the last start or end
        # It skips a check for draft sockets, which costs as much as sending a small part.
        self._send_part = super(zmq.Socket, socket).send
        socket.setsockopt(zmq.XPUB_NODROP, 1)

    @property
    def full_s(self) -> float:
        """For how long some subscriber has had no room, s."""
        return 0.0 if self.full_since is None else time.monotonic() - self.full_since

    def sign(self, at: float) -> None:
        """A subscriber that does not read said then that it means to: it has not stopped."""
        if self.full_since is not None:
            self.full_since = max(self.full_since, at)

    def put(self, parts: Sequence[Part | zmq.Frame], *, hurry: bool = False, must: bool = False) -> bool:
        """Hand over a message; False if some subscriber has no room, and has not stopped reading.

        hurry: do not wait a moment for room, since other messages wait behind it. must: a start or an end,
        which a subscriber without room misses, once nobody is waited for.
        """
        tracker: zmq.MessageTracker | None = None
        if (now := time.monotonic()) >= self._follow_at or must:
            header = zmq.Frame(parts[1], copy=False, track=True)
            tracker, parts = cast(zmq.MessageTracker, header.tracker), [parts[0], header, *parts[2:]]
        if not self._try(parts, hurry):
            if not (must and not self.patient) and not self._stalled():
                return False
            # ZeroMQ now passes over every full subscriber, from this message on until it has read again.
            # Each that reads has emptied its queue meanwhile, and misses nothing.
            self._socket.setsockopt(zmq.XPUB_NODROP, 0)
            self.send_now(parts)
            self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        if tracker is not None:
            self._underway.append(tracker)
            self._follow_at = now + FOLLOW_S
        self.full_since = None
        self._last = tracker if must else self._last
        return True

    @property
    def taken(self) -> bool:
        """Whether the last start or end, and so all before it, has left for all who were not left out."""
        return self._last is None or self._last.done

    def send_now(self, parts: Sequence[Part | zmq.Frame]) -> None:
        """Send at once. send_multipart does the same, but checks each part for longer than sending it takes.

        Raises zmq.Again if some subscriber has no room.
        """
        send, last = self._send_part, len(parts) - 1
        for number, part in enumerate(parts):
            send(part, MORE if number < last else NOW)

    def wait(self, most_s: float) -> None:
        """Wait until ZeroMQ's thread has something to tell, such as that a subscriber has room."""
        if most_s:
            wake = cast(int, self._socket.getsockopt(zmq.FD))
            zmq.zmq_poll([(wake, zmq.POLLIN)], max(int(min(most_s, WAIT_S) * 1e3), 1))
        # A send looks only once in a millisecond at what ZeroMQ's thread has to tell. This always does.
        self._socket.getsockopt(zmq.EVENTS)

    def _try(self, parts: Sequence[Part | zmq.Frame], hurry: bool) -> bool:
        """Whether all subscribers had room, at once or after a moment."""
        try:
            self.send_now(parts)
            return True
        except zmq.Again:
            self.wait(0.0 if hurry or self.full_since is not None else MOMENT_S)
        try:
            self.send_now(parts)
            return True
        except zmq.Again:
            return False

    def _stalled(self) -> bool:
        """Whether some subscriber had no room and took nothing for so long that it has stopped reading."""
        held = [each for each in self._underway if not each.done]
        if self.full_since is None or len(held) < len(self._underway):  # even the slowest took something
            self.full_since = time.monotonic()
        self._underway = deque(held, self._underway.maxlen)
        if not self.stall_s or self.full_s < self.stall_s:
            return False
        self.stalls += 1
        self._underway.clear()  # the stalled subscriber holds these until it reads again
        log.log(
            logging.WARNING if self.stalls == 1 else logging.DEBUG,
            "%s: a subscriber of the %s stream read nothing for %g s: it is left out until it reads again",
            self._socket.getsockopt_string(zmq.LAST_ENDPOINT), self._stream, self.stall_s,
        )  # fmt: skip
        return True
