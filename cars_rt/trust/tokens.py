"""The secret of a control socket without keys: who can read its file may control the daemon, nobody else.

Whoever is at this computer reaches 127.0.0.1, other users and, through a browser, any web page, too. A page
cannot read a file, and another user not this one.
"""

import hmac
import os
import secrets
import socket
import stat
from contextlib import suppress
from pathlib import Path

from platformdirs import user_state_path

from cars_rt.errors import CarsRtError
from cars_rt.printable import typed
from cars_rt.storage import read_bytes, write_text
from cars_rt.storage.write import PRIVATE
from cars_rt.trust.loopback import is_loopback

MAX_FILE_BYTES = 4_096  # a token has 43 characters
SHORTEST = 16  # characters; fewer could be guessed


class TokenError(CarsRtError, RuntimeError):
    """A token that cannot be read or written, with the remedy in one sentence."""


class Token:
    """The token of one daemon, in a file.

    Without a path it is new with each start, readable by its owner alone, in the user's folder for state, by
    the computer's name and the address at which control is bound; `remove` takes it away. At a path it is
    made if it is not there, and stays: then whoever the file's permissions allow may control. Raises
    TokenError.
    """

    def __init__(self, address: str, path: Path | None = None) -> None:
        """address: as bound, tcp://IP:PORT."""
        self._own = path is None
        self.path = default_path(address) if path is None else path
        if path is not None and os.path.lexists(path):
            self._text = read(path)
            _refuse_public(path)
            return
        self._text = secrets.token_urlsafe(32)
        try:
            if self._own:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_text(self.path, self._text + "\n", mode=PRIVATE, durable=False)
        except OSError as error:
            raise TokenError(
                f"cannot write the token of control, {self.path}: {error.strerror or error}; "
                "name another file with --control-token, or give --control none"
            ) from None

    def matches(self, given: str | None) -> bool:
        """Whether somebody gave this token; how long that takes says nothing of it."""
        return given is not None and hmac.compare_digest(given.encode(), self._text.encode())

    def remove(self) -> None:
        """The daemon ends: nobody else shall be offered its token. A successor's is left alone."""
        if self._own:
            with suppress(OSError, TokenError):
                if read(self.path) == self._text:
                    self.path.unlink()


def default_path(address: str) -> Path:
    """Where the token lies of a daemon of this computer whose control is bound to tcp://IP:PORT. Computers
    that share a user's folder, and containers, have the same addresses of their own."""
    _, _, where = address.partition("://")
    host, _, port = where.rpartition(":")
    name = "-".join(("control", socket.gethostname(), host.strip("[]"), port))
    safe = "".join(letter if letter.isalnum() or letter == "." else "-" for letter in name)
    return user_state_path("cars-rt", appauthor=False, roaming=False) / f"{safe}.token"


def find(address: str) -> str | None:
    """The token of the daemon at tcp://HOST:PORT if it is one of this user's on this computer, or None."""
    host, _, port = address.partition("://")[2].rpartition(":")
    try:
        known = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return None
    for *_, target in known:
        with suppress(TokenError):
            if is_loopback(str(target[0])):  # never told to another computer
                return read(default_path(f"tcp://{target[0]}:{port}"))
    return None


def read(path: Path) -> str:
    """What a token's file holds. Raises TokenError."""
    try:
        content = read_bytes(path, MAX_FILE_BYTES)
    except OSError as error:
        raise TokenError(f"cannot read the token {path}: {error.strerror or error}") from None
    text = content.decode("ascii", "replace").strip()
    if not SHORTEST <= len(text) <= MAX_FILE_BYTES // 4 or not (text.isascii() and text.isprintable()):
        raise TokenError(f"{path} holds no token: at least {SHORTEST} characters in one line, such as of "
                         "`openssl rand -hex 32`")  # fmt: skip
    return text


def _refuse_public(path: Path) -> None:
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o027:
        raise TokenError(
            f"others can use the token {path} (mode {mode:03o}): chmod 600 {typed(path)}, or 640 for its "
            "group"
        )
