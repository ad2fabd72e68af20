"""What all sockets share: options, errors, how they are bound and get ready to connect."""

import errno

import zmq

from cars_rt.errors import CarsRtError
from cars_rt.protocol import MAX_PAYLOAD_BYTES
from cars_rt.sockets.addresses import Address, AddressError, cannot_bind
from cars_rt.trust.curve import FAILED, Access, ClientKeys, Guard, secure_client, secure_server
from cars_rt.trust.keys import KeysError

# An unplugged cable is found by the kernel. ZeroMQ's own heartbeats must stay off: a subscriber whose
# queue is full answers none and would be cut off, and libzmq 4.3 aborts the process if the heartbeat of
# such a connection falls due after the peer has gone (stream_engine_base.cpp, assertion !_io_error).
KEEPALIVE = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 10,
    zmq.TCP_KEEPALIVE_INTVL: 5,
    zmq.TCP_KEEPALIVE_CNT: 3,
}


class StreamError(CarsRtError, RuntimeError):
    """A socket that cannot be opened, with the reason and the remedy in one sentence."""


class AddressInUseError(StreamError):
    """Another program has the address."""


#: ZeroMQ has numbers of its own for these on Windows.
NUMBERS: dict[int | None, int] = {zmq.EADDRINUSE: errno.EADDRINUSE, zmq.EADDRNOTAVAIL: errno.EADDRNOTAVAIL}
IN_USE = "another program already uses it; stop that one or choose another port"


def configure(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES)  # refused before it is allocated
    for option, value in KEEPALIVE.items():
        socket.setsockopt(option, value)


def bind(socket: zmq.Socket[bytes], address: str, security: Access) -> tuple[str, Guard | None]:
    """Bind a socket, which has a context of its own, since a guard guards one of them to a context. Returns
    the address that it has now and, if it has keys, the guard, which is to be closed first.

    Raises StreamError if it cannot be bound, KeysError if it may not be.
    """
    try:
        checked = Address.to_bind(address)
    except AddressError as error:
        raise StreamError(str(error)) from None
    socket.setsockopt(zmq.IPV6, checked.v6)
    guard = secure_server(socket, str(checked), security)
    try:
        socket.bind(str(checked))
    except zmq.ZMQError as error:
        if guard is not None:
            guard.close()
        kind = AddressInUseError if error.errno == zmq.EADDRINUSE else StreamError
        number = NUMBERS.get(error.errno) or error.errno
        known = OSError(number, error.strerror)
        raise kind(cannot_bind("publish", str(checked), known, IN_USE)) from None
    return socket.getsockopt_string(zmq.LAST_ENDPOINT), guard


def prepare_to_connect(socket: zmq.Socket[bytes], address: str, security: ClientKeys | None) -> str:
    """Configure a socket, and say where it is to connect to, as ZeroMQ takes it.

    ZeroMQ connects to a name that does not exist without a word, and waits for ever. Raises StreamError for
    an impossible address, KeysError for keys that cannot be used.
    """
    configure(socket)
    try:
        checked = Address.to_connect(address)
        socket.setsockopt(zmq.IPV6, checked.resolve())
    except AddressError as error:
        raise StreamError(str(error)) from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StreamError(f"cannot connect to {address}: {reason}") from None
    secure_client(socket, security)
    return str(checked)


def connect_control(
    address: str, security: ClientKeys | None = None
) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """A REQ socket for requests, and its monitor for handshakes. Raises as `prepare_to_connect`."""
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REQ)
    try:
        address = prepare_to_connect(socket, address, security)
    except (StreamError, KeysError):
        socket.close(0)
        raise
    socket.setsockopt(zmq.IMMEDIATE, 1)  # a request is sent only once somebody is there
    events = zmq.EVENT_CONNECTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_SUCCEEDED | FAILED
    monitor: zmq.Socket[bytes] = socket.get_monitor_socket(events)
    socket.connect(address)
    return socket, monitor
