"""Flags of keys, and what they mean together: contradictions are refused before anything starts."""

from dataclasses import dataclass
from pathlib import Path

from cars_rt.trust.curve import Access, ClientKeys, ServerKeys, check_local
from cars_rt.trust.keys import KeysError

OFF = "none"  # in place of an address


@dataclass(frozen=True, kw_only=True)
class PublisherAccess:
    """Flags of a program that publishes."""

    key: Path | None = None
    """Own key pair, NAME.key of `cars-rt keys new`; who connects must know its NAME.pub."""

    allow: tuple[Path, ...] = ()
    """Who may subscribe: a .pub file, or a folder of them; may be repeated. Needs --key."""

    open_to_network: bool = False
    """Publish without keys at an address that other computers reach: everyone there can read it."""

    def server(self, address: str) -> Access:
        """How to bind the address that is published at. Raises KeysError."""
        if self.key is not None and not self.allow:
            raise KeysError("--key without --allow: say who may connect, by a .pub file or a folder of them")
        return self._server(address)

    def _server(self, address: str) -> Access:
        if self.allow and self.open_to_network:
            raise KeysError("--open-to-network and --allow contradict each other: give one of them")
        if self.allow and self.key is None:
            raise KeysError(
                "--allow without --key: give the own key pair, too (`cars-rt keys new` makes one)"
            )
        if self.open_to_network:
            return "open"
        if self.key is not None and self.allow:
            return ServerKeys.load(self.key, self.allow)
        check_local(address, "--key and --allow, or --open-to-network to let everyone there read it")
        return None


@dataclass(frozen=True, kw_only=True)
class ControlAccess:
    """Flags of a program that can be controlled."""

    key: Path | None = None
    """Own key pair, NAME.key of `cars-rt keys new`."""

    control_key: Path | None = None
    """Own key pair for the control socket, if it shall be another one than --key."""

    control_allow: tuple[Path, ...] = ()
    """Who may control it: a .pub file, or a folder of them; may be repeated."""

    control_token: Path | None = None
    """File of the secret by which a request shows that it may control, where that has no keys; made if it is
    not there. By default one that this user alone can read, which `cars-rt ctl` finds by itself."""

    def control(self, address: str) -> Access:
        """How to bind the control socket, which is never open to others without keys. Raises KeysError."""
        self._check_control()
        key = self.control_key or self.key
        if key is not None and self.control_allow:
            return ServerKeys.load(key, self.control_allow)
        check_local(address, "--control-allow and --control-key (or --key)")
        return None

    def _check_control(self) -> None:
        if self.control_key is not None and not self.control_allow:
            raise KeysError("--control-key without --control-allow: say who may control it")
        if self.control_allow and self.control_key is None and self.key is None:
            raise KeysError("--control-allow without --control-key or --key: give the own key pair, too")
        if self.control_allow and self.control_token is not None:
            raise KeysError("--control-token is for control without keys: leave out --control-allow, or it")


@dataclass(frozen=True, kw_only=True)
class DaemonAccess(ControlAccess, PublisherAccess):
    """Flags of the daemon, which also connects to a driver and can be controlled."""

    key: Path | None = None
    """Own key pair, NAME.key of `cars-rt keys new`; who connects must know its NAME.pub. With --allow
    it locks results, whole spectra and preview, also for programs on this computer: they need keys, too."""

    server_key: Path | None = None
    """Public key (.pub) of the driver at --listen; nobody else is believed. Needs --key."""

    def server(self, address: str) -> Access:
        """How to bind --publish. Raises KeysError."""
        if self.key is not None and not (self.allow or self.server_key or self.control_allow):
            raise KeysError(
                "--key without --allow or --server-key: say who may connect (--allow), or whom to connect to"
            )
        self._check_control()
        return self._server(address)

    def client(self) -> ClientKeys | None:
        """How to connect to --listen. Raises KeysError."""
        return _client(self.key, self.server_key, "--server-key")


@dataclass(frozen=True, kw_only=True)
class ClientAccess:
    """Flags of a program that connects to the daemon, or to a driver."""

    key: Path | None = None
    """Own key pair, NAME.key of `cars-rt keys new`; its NAME.pub must be allowed there."""

    server_key: Path | None = None
    """Public key (.pub) of whom it connects to; nobody else is believed. Needs --key."""

    def client(self) -> ClientKeys | None:
        """How to connect. Raises KeysError."""
        if self.key is not None and self.server_key is None:
            raise KeysError("--key without --server-key: give the public key of whom to connect to")
        return _client(self.key, self.server_key, "--server-key")


@dataclass(frozen=True, kw_only=True)
class RecorderAccess(ControlAccess, ClientAccess):
    """Flags of the recorder, which can connect to a driver, too, and can be controlled."""

    key: Path | None = None
    """Own key pair, NAME.key of `cars-rt keys new`; its NAME.pub must be allowed there."""

    raw_server_key: Path | None = None
    """Public key (.pub) of the driver at --raw; nobody else is believed. Needs --key."""

    def raman(self, address: str | None) -> ClientKeys | None:
        """How to connect to the result stream, None or "none" if it is left out. Raises KeysError."""
        if self.key is not None and not (self.server_key or self.raw_server_key or self.control_allow):
            raise KeysError("--key without --server-key or --raw-server-key: give whom to connect to")
        if self.server_key is not None and address in (None, OFF):
            raise KeysError("--server-key is for the result stream, which --raman none leaves out")
        return _client(self.key, self.server_key, "--server-key")

    def raw(self, address: str | None) -> ClientKeys | None:
        """How to connect to the raw stream, None or "none" if it is left out. Raises KeysError."""
        if self.raw_server_key is not None and address in (None, OFF):
            raise KeysError("--raw-server-key without --raw: give the address of the raw stream, too")
        return _client(self.key, self.raw_server_key, "--raw-server-key")


def _client(key: Path | None, server: Path | None, flag: str) -> ClientKeys | None:
    if server is None:
        return None
    if key is None:
        raise KeysError(f"{flag} without --key: give the own key pair, too (`cars-rt keys new` makes one)")
    return ClientKeys.load(key, server)
