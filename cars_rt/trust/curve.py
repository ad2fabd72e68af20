"""Who may connect: sockets under CurveZMQ, servers with an allow-list, clients that know their server.

A server that has keys lets nobody in before the handshake shows an allowed key: what comes from others
never reaches the socket. Without keys a socket is bound where only this computer reaches it, unless it is
said that it shall be open.
"""

import asyncio
import logging
import socket as sockets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Literal, Self, TypeAlias, cast

import zmq
import zmq.auth
from zmq.utils.monitor import recv_monitor_message

from cars_rt.sparing import Sparing
from cars_rt.trust.keys import (
    AllowList,
    KeyPair,
    KeysError,
    PublicKey,
    check_curve,
    fingerprint,
    read_pair,
    read_public,
)
from cars_rt.trust.loopback import is_loopback

log = logging.getLogger("cars_rt.security")
log.addFilter(Sparing())  # in a program of somebody's own, too: who is refused without end fills no disk

DOMAIN = b"cars-rt"
CURVE_OVERHEAD = 64  # bytes by which encryption makes a message part longer, at most
HANDSHAKE_MS = 10_000  # who has not said by then which protocol it speaks is cut off
REREAD_S = 1.0  # folders of allowed keys are read again at most so often
GONE = "an address that was gone at once"
EVENTS_AT_ONCE = 256
FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What a socket that is bound needs: its own key pair, and who may connect."""

    own: KeyPair
    allowed: AllowList

    @classmethod
    def load(cls, key: Path | str, allow: Iterable[Path | str]) -> Self:
        """key: NAME.key; allow: .pub files and folders of them. Raises KeysError."""
        check_curve()
        return cls(read_pair(Path(key)), AllowList(map(Path, allow)))


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a socket that connects needs: its own key pair, and the key by which it knows its server."""

    own: KeyPair
    server: PublicKey

    @classmethod
    def load(cls, key: Path | str, server: Path | str) -> Self:
        """key: NAME.key of one's own; server: NAME.pub of whom to connect to. Raises KeysError."""
        check_curve()
        return cls(read_pair(Path(key)), read_public(Path(server)))


# How to bind: with keys; without, where only this computer reaches it (None); without, anywhere.
Access: TypeAlias = ServerKeys | Literal["open"] | None


def is_local(address: str) -> bool:
    """Whether only programs on this computer reach an address, tcp://HOST:PORT."""
    return is_loopback(address.partition("://")[2].rpartition(":")[0].strip("[]"))


def check_local(address: str, how: str) -> None:
    """Raises KeysError if other computers reach the address; how: what to give, then."""
    if not is_local(address):
        raise KeysError(f"other computers can reach {address}: give {how}; 127.0.0.1 needs neither")


def refuse_old_peers(socket: zmq.Socket[bytes]) -> None:
    """Call before binding any socket on tcp: only who speaks ZMTP 3 is let in, as ZeroMQ has since 2013.

    libzmq takes whatever begins otherwise for a peer of ZeroMQ 2.0, also a browser's HTTP request, whose body
    would reach the socket. It refuses them where a ZAP domain is set; without a ZAP handler nobody is asked.
    """
    socket.setsockopt(zmq.ZAP_DOMAIN, DOMAIN)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)


def secure_server(socket: zmq.Socket[bytes], address: str, access: Access) -> "Guard | None":
    """Call before binding a socket to the address. The guard, if there is one, is to be closed first.

    One guarded socket to a context, so give it a context of its own. Raises KeysError.
    """
    refuse_old_peers(socket)
    if access is None:
        check_local(address, 'keys (security=ServerKeys.load(...)) or say security="open"')
        return None
    if access == "open":
        if not is_local(address):
            log.warning("%s is open: whoever reaches it can connect, unknown and unencrypted", address)
        return None
    check_curve()
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    _set_own(socket, access.own)
    # Without this, ZeroMQ lets everybody in who knows the public key while nobody guards the door.
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    return Guard(socket, address, access)


def secure_client(socket: zmq.Socket[bytes], keys: ClientKeys | None) -> None:
    """Call before connecting a socket; with None it stays without keys. Raises KeysError."""
    if keys is None:
        return
    check_curve()
    _set_own(socket, keys.own)
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.server.z85)


def refusal(event: int, value: int, address: str, keys: ClientKeys | None) -> str | None:
    """Why a client's handshake failed, from the event of its monitor; None if it had nothing to do with keys.

    One EVENT_HANDSHAKE_FAILED_NO_DETAIL says little: the other end may just have stopped. Believe several.
    """
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH and keys is not None:
        own = keys.own.public
        return (
            f"{address} refused our key {own.name} ({own.fingerprint}); ask for {own.name}.pub to be "
            "put into what --allow names there"
        )
    if event == zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
        if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
            if keys is None:
                return f"{address} expects keys; give --key and --server-key"
            return (
                f"{address} has no keys, so it is not known who that is; leave out --server-key to trust it"
            )
        if value == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC and keys is not None:
            return f"{address} does not have the key {keys.server.path}; somebody else answers there"
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        if keys is None:
            return (
                f"{address} breaks off the handshake; it expects keys (give --key and --server-key), or is "
                "not a program of CARS-RT"
            )
        return f"{address} breaks off the handshake; it has another key than {keys.server.path}, or none"
    return None


def handshakes(
    monitor: zmq.Socket[bytes], address: str, keys: ClientKeys | None
) -> tuple[bool, str | None, int | None]:
    """Of a client's handshakes since the last call: whether one succeeded, why one failed, if that was for
    keys, and the descriptor of a new connection, -1 where it ended. monitor: of its socket, for
    EVENT_CONNECTED, EVENT_DISCONNECTED, EVENT_HANDSHAKE_SUCCEEDED and FAILED."""
    met, why, descriptor = False, None, None
    while monitor.poll(0):
        event = recv_monitor_message(monitor, zmq.NOBLOCK)
        met |= event["event"] == zmq.EVENT_HANDSHAKE_SUCCEEDED
        why = refusal(event["event"], int(event["value"]), address, keys) or why
        if event["event"] == zmq.EVENT_CONNECTED:
            descriptor = int(event["value"])
        elif event["event"] == zmq.EVENT_DISCONNECTED:
            descriptor = -1
    return met, why, descriptor


class Guard:
    """Lets in who is allowed at one bound socket, in a thread of its own; the others it logs and counts.

    The thread owns ZeroMQ's authentication socket and the monitor of the guarded socket. Not zmq.auth's
    own thread, which needs another package on Windows and cannot tell who comes without a key.
    """

    def __init__(self, socket: zmq.Socket[bytes], address: str, keys: ServerKeys) -> None:
        """Before the socket is bound. Raises KeysError if its context is guarded already."""
        self.refused = 0  # attempts to connect: without a key, for another server's key, not allowed
        self._socket = socket
        self._address = address
        self._own, self._allowed = keys.own.public, keys.allowed
        self._read = time.monotonic()
        self._peers: dict[int, str] = {}  # address of each open connection, by its file descriptor
        self._peer = "?"  # who asks now
        self._failed = ""  # why the connection that is closed next failed
        self._known: set[bytes] = set()  # who was already said to have come
        context = socket.context
        self._auth = zmq.auth.Authenticator(context)
        self._auth.configure_curve_callback(DOMAIN.decode(), self)
        try:
            self._auth.start()
        except zmq.ZMQError as error:
            self._auth.stop()
            raise KeysError(f"{address} cannot be guarded, its context already is: {error}") from None
        self._stop: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self._stopped: zmq.Socket[bytes] = context.socket(zmq.PAIR)
        self._stop.bind(f"inproc://guard-{id(self)}")
        self._stopped.connect(f"inproc://guard-{id(self)}")
        self._monitor: zmq.Socket[bytes] = socket.get_monitor_socket(
            zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | FAILED
        )
        self._thread = Thread(target=self._run, name=f"guard of {address}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let nobody else in. Call it from the socket's thread, before the socket is closed."""
        if self._stop.closed:
            return
        self._socket.disable_monitor()
        with suppress(zmq.Again):  # the thread may have failed
            self._stop.send(b"", zmq.NOBLOCK)
        self._thread.join()
        self._stop.close(0)

    def callback(self, domain: str, key: bytes) -> bool:
        """Asked by zmq.auth in our thread: whether the one who holds this key (Z85) may connect."""
        if time.monotonic() - self._read > REREAD_S:
            self._read = time.monotonic()
            try:
                self._allowed.refresh()
            except KeysError as error:
                log.warning("%s: not all allowed keys can be read: %s", self._address, error)
        who = self._allowed.find(key)
        if who is None:
            self._refuse(self._peer, f"its key {fingerprint(key)} is not allowed")
            return False
        if key not in self._known:
            self._known.add(key)
            log.info("%s: %s (%s) connected from %s", self._address, who.name, who.fingerprint, self._peer)
        return True

    def _run(self) -> None:
        zap = self._auth.zap_socket
        poller = zmq.Poller()
        for each in (self._stopped, zap, self._monitor):
            poller.register(each, zmq.POLLIN)
        try:
            with asyncio.Runner() as runner:
                while True:
                    ready = dict(poller.poll())
                    self._watch()
                    if zap in ready:
                        self._answer(runner)
                    if self._stopped in ready:
                        return
        except zmq.ContextTerminated:
            pass
        finally:
            self._auth.stop()
            self._monitor.close(0)
            self._stopped.close(0)

    def _watch(self) -> None:
        """Read what happened to connections, come what may: unread, it would make ZeroMQ stop and wait."""
        for _ in range(EVENTS_AT_ONCE):
            if not self._monitor.poll(0):
                return
            try:
                event = recv_monitor_message(self._monitor, zmq.NOBLOCK)
                self._note(event["event"], int(event["value"]), event["endpoint"])  # at once: it may be gone
            except zmq.ContextTerminated:
                raise
            except Exception:
                log.exception("%s: the guard did not understand what happened to a connection", self._address)

    def _answer(self, runner: asyncio.Runner) -> None:
        """Somebody shows a key. Whatever goes wrong here keeps out that one alone."""
        parts = self._auth.zap_socket.recv_multipart()
        try:
            self._peer = parts[3].decode("ascii", "replace") if len(parts) > 3 else "?"
            runner.run(self._auth.handle_zap_message(parts))
        except zmq.ContextTerminated:
            raise
        except Exception:
            log.exception("%s: the guard failed when %s connected", self._address, self._peer)
            with suppress(zmq.ZMQError, IndexError):  # it was answered already, or there is nothing to answer
                self._auth.zap_socket.send_multipart([b"1.0", parts[1], b"500", b"failed", b"", b""])

    def _note(self, event: int, value: int, endpoint: bytes) -> None:
        """One thing that happened to a connection. Its end follows a failed handshake."""
        match event:
            case zmq.EVENT_LISTENING:
                self._address = endpoint.decode("ascii", "replace")  # with the port, where it was free
                allowed = len(self._allowed)
                who = "the key that is allowed" if allowed == 1 else f"one of {allowed} keys"
                log.info(
                    "%s: only who has %s can connect; the key here is %s (%s)",
                    self._address, who, self._own.name, self._own.fingerprint,
                )  # fmt: skip
            case zmq.EVENT_ACCEPTED:
                self._peers[value] = _peer_of(value)
            case zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL:
                if value == zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH:
                    self._failed = "it has no key"
                elif value == zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC:
                    self._failed = "it expects another server, or its key is none"
                else:
                    self._failed = "it does not speak CurveZMQ"
            case zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
                self._failed = "it broke off before it showed a key"
            case zmq.EVENT_DISCONNECTED:
                peer, failed = self._peers.pop(value, GONE), self._failed
                self._failed = ""
                if failed:
                    self._refuse(peer, failed)

    def _refuse(self, peer: str, why: str) -> None:
        self.refused += 1
        log.warning("%s: refused %s: %s", self._address, peer, why)


def _set_own(socket: zmq.Socket[bytes], own: KeyPair) -> None:
    socket.setsockopt(zmq.CURVE_PUBLICKEY, own.public.z85)
    socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret)
    limit = cast(int, socket.getsockopt(zmq.MAXMSGSIZE))
    if limit > 0:
        socket.setsockopt(zmq.MAXMSGSIZE, limit + CURVE_OVERHEAD)


def _peer_of(descriptor: int) -> str:
    """The other end's address. Who shows no key may be cut off before we look."""
    try:
        borrowed = sockets.socket(fileno=descriptor)  # of whatever family
    except OSError:
        return GONE
    try:
        return str(borrowed.getpeername()[0])
    except OSError:
        return GONE
    finally:
        borrowed.detach()
