"""Plans on disk, each made once per model, product, GPU, precision and batch.

A plan holds code that the GPU's driver and the host run, so only plans are loaded that this user's CARS-RT
wrote: each file begins with an HMAC of its key and content, made with a secret that only this user can
read. That protects against a plan that somebody else put into the folder, also one that was renamed, and
against a damaged disk. It does not against a program that runs as this user: such a one can read the secret.
"""

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock
from platformdirs import user_cache_path, user_data_path

from cars_rt.engines.base import EngineError

log = logging.getLogger("cars_rt.engines.tensorrt")

CACHE = "CARS_RT_CACHE"  # environment: the folder, where the user's own one for caches does not suit
SUFFIX = ".plan"
SECRET_BYTES = MAC_BYTES = hashlib.sha256().digest_size


def default_folder() -> Path:
    """Where plans are kept: CARS_RT_CACHE, or the user's folder for caches."""
    if named := os.environ.get(CACHE):
        return Path(named)
    return user_cache_path("cars-rt", appauthor=False) / "plans"


def default_secret() -> Path:
    """The file with the secret, apart from the plans: a cache may be shared, this may not."""
    return user_data_path("cars-rt", appauthor=False, roaming=False) / "plans.secret"


class Plans:
    """The folder of plans. Files and folder are readable by their owner alone, and written at once.

    Raises EngineError if the folder or the secret can be neither read nor made.
    """

    def __init__(self, folder: Path | None = None, secret: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._secret = _secret(default_secret() if secret is None else secret)
        except OSError as error:
            raise EngineError(
                f"cannot keep plans in {self.folder}: {error.strerror or error}; name a folder in {CACHE}"
            ) from None

    def fetch(self, name: str, build: Callable[[], bytes]) -> bytes:
        """The plan of this name, built and kept if there is none or the one there is not sound.

        Processes that want the same plan at once build it once: the others wait. Raises what `build`
        raises. One that cannot be written is built again the next time.
        """
        with _locked(self.folder / f"{name}.lock"):
            plan = self.load(name)
            if plan is None:
                plan = build()
                self.keep(name, plan)
            return plan

    def load(self, name: str) -> bytes | None:
        """The content of this name, or None if there is none that was written here."""
        path = self.path(name)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EngineError(f"cannot read the plan {path}: {error.strerror or error}") from None
        plan = content[MAC_BYTES:]
        if hmac.compare_digest(content[:MAC_BYTES], self._mac(name, plan)):
            return plan
        log.warning("%s is damaged or was not written here: it is built again", path)
        return None

    def store(self, name: str, plan: bytes) -> None:
        """Keep a plan: all of it or, if that fails (EngineError), as it was before."""
        path = self.path(name)
        try:
            _write(path, self._mac(name, plan) + plan)
        except OSError as error:
            raise EngineError(f"cannot write the plan {path}: {error.strerror or error}") from None

    def keep(self, name: str, plan: bytes) -> None:
        """Store a plan if that is possible: a full disk costs the time to build it, not the run."""
        try:
            self.store(name, plan)
        except EngineError as error:
            log.warning("%s; it is built again the next time", error)

    def path(self, name: str) -> Path:
        """Where the plan of this name is, or would be."""
        return self.folder / f"{name}{SUFFIX}"

    def _mac(self, name: str, plan: bytes) -> bytes:
        mac = hmac.new(self._secret, name.encode() + b"\0", hashlib.sha256)
        mac.update(plan)
        return mac.digest()


def _secret(path: Path) -> bytes:
    """This user's secret; made the first time. One that is too short is made anew."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        with suppress(FileNotFoundError):
            found = path.read_bytes()
            if len(found) == SECRET_BYTES:
                return found
        made = secrets.token_bytes(SECRET_BYTES)
        _write(path, made)
        return made


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Alone among the processes that name this file; the system opens the lock of one that dies."""
    lock = FileLock(path, mode=0o600)
    try:
        lock.acquire()
    except OSError as error:
        raise EngineError(f"cannot write {path}: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


def _write(path: Path, content: bytes) -> None:
    """A file that only its owner can read from its first moment on, and that is there at once."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}.new")
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
