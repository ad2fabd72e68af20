"""CurveZMQ key pairs as files: NAME.key for its owner alone, NAME.pub for everyone.

The format is that of ZeroMQ certificates, which other languages read, too. Writing is our own because
a secret file must be private from the moment it exists.
"""

import hashlib
import logging
import os
import re
import stat
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import zmq
import zmq.auth
from platformdirs import user_config_path
from zmq.utils import z85

from cars_rt.errors import CarsRtError
from cars_rt.printable import typed
from cars_rt.storage import make_folder, mkdir, replacing

log = logging.getLogger("cars_rt.security")

SECRET, PUBLIC = ".key", ".pub"
MAX_FILE_BYTES = 16_384  # a key file has some 300

_NAME = re.compile(r"\w[\w.-]{0,63}")
_CERTIFICATE = """#   {what} of CARS-RT (ZeroMQ CURVE certificate)
#   {rule}

metadata
    name = {name}
curve
    public-key = "{public}"
"""


class KeysError(CarsRtError, RuntimeError):
    """A key that cannot be used, or keys that are missing, with the remedy in one sentence."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whom a key belongs to, as the file's name says, and the key, 40 characters in Z85."""

    name: str
    z85: bytes
    path: Path = field(compare=False)

    @property
    def fingerprint(self) -> str:
        """128 bits of the key's SHA-256, to be compared by people: 8 groups of 4 hexadecimal digits."""
        return fingerprint(self.z85)


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A program's own key: the public half, which others know it by, and the secret one."""

    public: PublicKey
    secret: bytes = field(repr=False)


def fingerprint(key: bytes) -> str:
    """Of a public key in Z85: 8 groups of 4 hexadecimal digits."""
    digits = hashlib.sha256(z85.decode(key)).hexdigest()[:32]
    return "-".join(digits[first : first + 4] for first in range(0, 32, 4))


def default_folder() -> Path:
    """Where `create` puts keys: in the user's own folder for configuration, which never roams."""
    return user_config_path("cars-rt", appauthor=False, roaming=False) / "keys"


def check_curve() -> None:
    """Raises KeysError if this build of ZeroMQ cannot encrypt."""
    if not zmq.has("curve"):
        raise KeysError(
            "ZeroMQ was built without CURVE here; install pyzmq from its wheels, or libzmq with libsodium"
        )


def create(name: str, folder: Path | None = None, *, overwrite: bool = False) -> KeyPair:
    """Make a key pair: NAME.key, readable by its owner alone, and NAME.pub in the folder.

    On Windows the files inherit the folder's permissions: in the default folder, the user's own.
    Raises KeysError if the name is none, a file exists (unless overwrite), or cannot be written.
    """
    check_curve()
    if not _NAME.fullmatch(name):
        raise KeysError(f"{name!r} is no name for a key: take letters, digits, - and _, such as microscope-1")
    own = folder is None
    folder = default_folder() if folder is None else folder
    secret_path, public_path = folder / f"{name}{SECRET}", folder / f"{name}{PUBLIC}"
    for path in (secret_path, public_path):
        if not overwrite and os.path.lexists(path):
            raise _exists(path)
    public, secret = zmq.curve_keypair()
    about = {"name": name, "public": public.decode()}
    certificate = _CERTIFICATE.format(
        what="SECRET key", rule="Give it to nobody, and do not change who can read it.", **about
    )
    try:
        if own:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        make_folder(folder, mode=0o700)
        _write(secret_path, f'{certificate}    secret-key = "{secret.decode()}"\n', 0o600, overwrite)
        certificate = _CERTIFICATE.format(what="Public key", rule="Give it to whoever asks.", **about)
        _write(public_path, certificate, 0o644, overwrite)
    except FileExistsError as error:
        raise _exists(Path(error.filename)) from None
    except OSError as error:
        raise KeysError(f"cannot write a key in {folder}: {error.strerror or error}") from None
    return KeyPair(PublicKey(name, public, public_path), secret)


def read_pair(path: Path) -> KeyPair:
    """A program's own key pair from NAME.key.

    Raises KeysError if the file is missing, malformed, has no secret key, or others can read it.
    """
    public, secret = _read(path, _own(path))
    if secret is None:
        raise KeysError(f"{path} holds no secret key: give NAME{SECRET}, which was made along with it")
    if os.name == "posix" and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
        raise KeysError(f"others can use the secret key {path} (mode {mode:03o}): chmod 600 {typed(path)}")
    if zmq.curve_public(secret) != public.z85:
        raise KeysError(f"{path} is damaged: its public key does not belong to its secret key")
    return KeyPair(public, secret)


def read_public(path: Path, *, or_pair: bool = False) -> PublicKey:
    """Somebody's public key from NAME.pub. Raises KeysError if it is missing or malformed.

    A file with a secret key is refused, since nobody but its owner should have it, unless or_pair.
    """
    theirs = f"have NAME{PUBLIC} sent by whose it is, where `cars-rt keys new` made it"
    public, secret = _read(path, _own(path) if or_pair else theirs)
    if secret is not None and not or_pair:
        raise KeysError(f"{path} holds a secret key, which nobody else should have: give its NAME{PUBLIC}")
    return public


class AllowList:
    """Public keys of those who may connect: .pub files, and folders of them.

    Folders are read again by `refresh`, so that somebody can be allowed, or no longer, without stopping. A
    file in one that cannot be read keeps out nobody but its owner; hidden ones are passed over.
    Raises KeysError if a key that was named is missing or malformed, a folder has none, or nobody is left.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = tuple(paths)
        self._keys: dict[bytes, PublicKey] = {}
        for path in self.paths:
            if not path.is_dir():
                if path.suffix != PUBLIC and not path.exists():
                    make = f"make it ({mkdir(path)}), and put the {PUBLIC} files of who may connect there"
                    raise KeysError(f"there is no folder {path}: {make}")
                read_public(path)
            elif not _of(path):
                raise KeysError(f"nobody is allowed: {path} has no {PUBLIC} files; copy some there")
        try:
            self.refresh()
        except KeysError as error:
            if not self._keys:
                raise
            log.warning("not all allowed keys can be read: %s", error)

    def find(self, key: bytes) -> PublicKey | None:
        """Who has this public key (Z85), or None if it is not allowed."""
        return self._keys.get(key)

    def refresh(self) -> None:
        """Read the files again. Raises KeysError if one cannot be read; whose it is, is not allowed then."""
        keys: dict[bytes, PublicKey] = {}
        problem: KeysError | None = None
        for path in self._files():
            try:
                key = read_public(path)
            except KeysError as error:
                problem = error
            else:
                keys[key.z85] = key
        self._keys = keys  # at once: another thread may look somebody up
        if problem is not None:
            raise problem

    def _files(self) -> Iterable[Path]:
        for path in self.paths:
            if path.is_dir():
                yield from _of(path)
            else:
                yield path

    def __len__(self) -> int:
        return len(self._keys)


def _of(folder: Path) -> list[Path]:
    """The .pub files of a folder. Hidden ones are other programs' notes, such as a Mac's ._alice.pub."""
    return sorted(path for path in folder.glob(f"*{PUBLIC}") if not path.name.startswith("."))


def _own(path: Path) -> str:
    """The remedy where an own key is not found: a new pair would be of no use if there is one already."""
    made = default_folder() / path.name
    with suppress(OSError):  # a service may not look there
        if made.is_file() and made != path.absolute():
            return f"`cars-rt keys new` put one at {typed(made)}: give that"
    return "`cars-rt keys new NAME` makes one"


def _read(path: Path, hint: str) -> tuple[PublicKey, bytes | None]:
    """What a key file holds, checked. hint: the remedy where it is none."""
    try:
        about = path.stat()
        if stat.S_ISDIR(about.st_mode):
            raise KeysError(f"{path} is a folder, not a key file")
        if not stat.S_ISREG(about.st_mode) or about.st_size > MAX_FILE_BYTES:
            raise KeysError(f"{path} is not a key file; {hint}")
        public, secret = zmq.auth.load_certificate(path)
    except FileNotFoundError:
        raise KeysError(f"there is no key file {path}; {hint}") from None
    except OSError as error:
        raise KeysError(f"cannot read the key file {path}: {error.strerror or error}") from None
    except (ValueError, IndexError):
        raise KeysError(f"{path} is not a key file; {hint}") from None
    for which, key in (("public", public), ("secret", secret)):
        if key is not None and not _is_key(key):
            raise KeysError(f"{path} is damaged: its {which} key is not 40 characters of Z85")
    return PublicKey(path.stem, public, path), secret


def _is_key(key: bytes) -> bool:
    with suppress(ValueError, KeyError, struct.error):  # 85 to the fifth is more than 32 bits hold
        return len(key) == 40 and len(z85.decode(key)) == 32 and z85.encode(z85.decode(key)) == key
    return False


def _write(path: Path, text: str, mode: int, overwrite: bool) -> None:
    """A file that has its mode from its first moment on, and its name when it is complete."""
    with replacing(path, mode=mode, overwrite=overwrite) as file:
        file.write(text.encode("utf-8"))


def _exists(path: Path) -> KeysError:
    return KeysError(f"{path} exists: choose another name, or give --overwrite to make its key useless")
