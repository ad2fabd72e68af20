"""What all sockets share: options and errors; and the sockets of control."""

import errno

import zmq

from cars_rt.errors import CarsRtError
from cars_rt.protocol import MAX_PAYLOAD_BYTES
from cars_rt.sockets.addresses import Address, AddressError
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


def configure(socket: zmq.Socket[bytes]) -> None:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, MAX_PAYLOAD_BYTES)  # refused before it is allocated
    for option, value in KEEPALIVE.items():
        socket.setsockopt(option, value)


def bind_control(
    context: zmq.Context[zmq.Socket[bytes]], address: str, most_bytes: int, security: Access = None
) -> tuple[zmq.Socket[bytes], Guard | None]:
    """A ROUTER socket for requests of at most `most_bytes`, and its guard if it has keys.

    Raises StreamError if it cannot be bound, KeysError if it may not be.
    """
    socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
    configure(socket)
    socket.setsockopt(zmq.MAXMSGSIZE, most_bytes)
    guard = None
    try:
        address = prepare_to_bind(socket, address)
        guard = secure_server(socket, address, security)
        socket.bind(address)
    except (zmq.ZMQError, KeysError, StreamError) as error:
        if guard is not None:
            guard.close()
        socket.close(0)
        if isinstance(error, zmq.ZMQError):
            raise cannot_bind(address, error) from None
        raise
    return socket, guard


def connect_control(
    address: str, security: ClientKeys | None = None
) -> tuple[zmq.Socket[bytes], zmq.Socket[bytes]]:
    """A REQ socket for requests, and its monitor for handshakes.

    Raises StreamError for an impossible address, KeysError for keys that cannot be used.
    """
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.REQ)
    configure(socket)
    try:
        address = prepare_to_connect(socket, address)
        secure_client(socket, security)
    except (StreamError, KeysError):
        socket.close(0)
        raise
    socket.setsockopt(zmq.IMMEDIATE, 1)  # a request is sent only once somebody is there
    monitor: zmq.Socket[bytes] = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | FAILED)
    socket.connect(address)
    return socket, monitor


def cannot_bind(address: str, error: zmq.ZMQError) -> StreamError:
    """What to raise where an address cannot be bound."""
    kind = StreamError
    match error.errno:
        case zmq.EADDRINUSE:
            kind = AddressInUseError
            reason = "another program already uses it; stop that one or choose another port"
        case zmq.EADDRNOTAVAIL | errno.ENODEV:
            reason = "this computer has no such address; 127.0.0.1 always works"
        case errno.EACCES:
            reason = "the system does not allow it; choose a port above 1023"
        case _:
            reason = str(error)
    return kind(f"cannot publish at {address}: {reason}")


def prepare_to_bind(socket: zmq.Socket[bytes], address: str) -> str:
    """Call before binding: the address as ZeroMQ takes it. Raises StreamError for what is no address."""
    try:
        checked = Address.to_bind(address)
    except AddressError as error:
        raise StreamError(str(error)) from None
    socket.setsockopt(zmq.IPV6, checked.v6)
    return str(checked)


def prepare_to_connect(socket: zmq.Socket[bytes], address: str) -> str:
    """Call before connecting: the address as ZeroMQ takes it. Raises StreamError for an impossible address.

    ZeroMQ connects to a name that does not exist without a word, and waits for ever.
    """
    try:
        checked = Address.to_connect(address)
        socket.setsockopt(zmq.IPV6, checked.resolve())
    except AddressError as error:
        raise StreamError(str(error)) from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StreamError(f"cannot connect to {address}: {reason}") from None
    return str(checked)
