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
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from platformdirs import user_cache_path, user_data_path

from cars_rt.engines.base import EngineError
from cars_rt.storage import Lock, LockedError, StorageError, read_bytes, replacing, write_bytes

log = logging.getLogger("cars_rt.engines.tensorrt")

CACHE = "CARS_RT_CACHE"  # environment: the folder, where the user's own one for caches does not suit
SUFFIX = ".plan"
WAIT_S = 300.0  # TensorRT builds the largest plans for some minutes
MOST_BYTES = 2**31  # of a plan; the largest have some 100 MB
ATTEMPTS = 10  # to make or read the secret, where other programs begin at the same moment
PRIVATE = 0o600
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

    def __init__(
        self, folder: Path | None = None, secret: Path | None = None, wait_s: float = WAIT_S
    ) -> None:
        """wait_s: how long another program that builds the same plan is waited for."""
        self.wait_s = wait_s
        self.folder = default_folder() if folder is None else folder
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(
                f"cannot keep plans in {self.folder}: {error.strerror or error}; name a folder in {CACHE}"
            ) from None
        path = default_secret() if secret is None else secret
        try:
            self._secret = _secret(path)
        except OSError as error:
            raise EngineError(
                f"cannot keep the secret of plans, {path}: {error.strerror or error}; let this user write "
                "there, or, on Linux, name a folder in XDG_DATA_HOME"
            ) from None

    def fetch(self, name: str, build: Callable[[], bytes]) -> bytes:
        """The plan of this name, built and kept if there is none or the one there is not sound.

        Processes that want the same plan at once build it once: the others wait. Raises what `build`
        raises. One that cannot be written is built again the next time.
        """
        with self._alone(name):
            plan = self.load(name)
            if plan is None:
                plan = build()
                self.keep(name, plan)
            return plan

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Be the only program that builds this plan, if that comes about within a limited time. Others that
        share the folder could hold the lock for ever, and a plan that is built twice does no harm. Where no
        lock can be made no plan can be kept either."""
        path, what = self.folder / f"{name}.lock", f"the plan {name}, which another program may be building"
        lock = None
        try:
            lock = Lock(path, self.wait_s, what)
        except LockedError:
            log.warning("%s was held for %g s: the plan is built here, too", path, self.wait_s)
        except StorageError as error:  # somebody put it there
            raise EngineError(f"cannot lock {path}: {error.strerror}") from None
        except OSError as error:  # as on a disk that is read-only
            log.warning(
                "%s cannot be locked (%s): the plan is built all the same", path, error.strerror or error
            )
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def load(self, name: str) -> bytes | None:
        """The content of this name, or None if there is none that was written here."""
        path = self.path(name)
        try:
            content = read_bytes(path, MOST_BYTES)
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
        """Write a plan. Raises EngineError if that fails; the file is then as it was before."""
        path = self.path(name)
        try:
            write_bytes(path, self._mac(name, plan) + plan, mode=PRIVATE)
        except OSError as error:
            raise EngineError(f"cannot write the plan {path}: {error.strerror or error}") from None

    def keep(self, name: str, plan: bytes) -> None:
        """Write a plan if that is possible. On a full disk it is built again the next time, and the run goes
        on."""
        try:
            self.store(name, plan)
        except EngineError as error:
            log.warning("%s; it is built again the next time", error)

    def drop(self, name: str) -> None:
        """Forget a plan, if that is possible."""
        with suppress(OSError):
            self.path(name).unlink()

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
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError):
            found = read_bytes(path, SECRET_BYTES)
            _refuse_shared(path)
            if len(found) == SECRET_BYTES:
                return found
            path.unlink()
        with suppress(FileExistsError), replacing(path, mode=PRIVATE, overwrite=False) as file:
            file.write(secrets.token_bytes(SECRET_BYTES))  # another program may have been the first
    raise StorageError(path, "is made and removed again by another program")


def _refuse_shared(path: Path) -> None:
    """Raise EngineError if other users can read or write the secret: it would prove nothing."""
    if os.name != "posix":
        return
    about = path.stat()
    if about.st_mode & 0o077:
        mode = stat.S_IMODE(about.st_mode)
        raise EngineError(
            f"others can use the secret {path} (mode {mode:03o}), so plans may not be of this user: "
            "delete it, and plans are built again"
        )
    if about.st_uid != os.geteuid():
        raise EngineError(f"the secret {path} belongs to another user: delete it, and plans are built again")
