"""What came of trying engines, kept on disk, so that the next start need not try them again.

A record only says which engine to open first: whoever opens one still compares it with the reference. It
belongs to all that decides how engines do: model, pixels, batch, threads, the versions of every package that
engines are made of, processor, GPU and driver; where one of them changed there is no record. Failures are
believed for a day, since what was wrong may have been mended, and everything else for a month.

A file is hostile until checked: small, this user's own, JSON, of the facts that it is asked for, with numbers
that can be. One that is not is passed over as if it were not there.
"""

import hashlib
import json
import logging
import math
import os
import platform
import time
from contextlib import suppress
from dataclasses import asdict, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeAlias

from cars_rt.engines.base import EngineError, processor, usable_cores
from cars_rt.engines.graph import Graph
from cars_rt.engines.registry import GROUP
from cars_rt.engines.rehearsal import Tried
from cars_rt.engines.tensorrt.gpu import find_gpu
from cars_rt.engines.tensorrt.plans import default_folder
from cars_rt.engines.tensorrt.product import PRODUCTS
from cars_rt.installation import package_version
from cars_rt.printable import printable
from cars_rt.storage import read_bytes, write_text

log = logging.getLogger("cars_rt.engines")

OFF = "CARS_RT_FORGETFUL"  # environment: nothing is kept or read if it is set
PATTERN = "tried-*.json"
MOST_BYTES, MOST_RECORDS = 100_000, 200
BELIEVED_S, FAILURE_BELIEVED_S = 30 * 86_400.0, 86_400.0
PRIVATE = 0o600
#: Where engines come from, as pip names it; those of other packages beside.
PACKAGES = (
    "cars-rt", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "torch", "cuda-bindings",
    "pycuda", *(name for product in PRODUCTS for name in product.packages),
)  # fmt: skip

Facts: TypeAlias = dict[str, Any]  # plain JSON


def facts(graph: Graph, engines: list[str], max_batch: int, threads: int, *, exactly: bool = False) -> Facts:
    """What a record about these engines belongs to. exactly: to this graph, and not to all of its model that
    are as long: how fast engines are depends on nothing else, but whether a plan is there does."""
    return {
        "model": graph.model.sha256,
        "graph": hashlib.sha256(graph.onnx).hexdigest() if exactly else "",
        "pixels": graph.pixels,
        "outputs": list(graph.outputs),
        "max_batch": max_batch,
        "threads": threads,
        "engines": engines,
        "versions": _versions(),
        "processor": processor(),
        "cores": usable_cores(),
        "system": f"{platform.platform()}, Python {platform.python_version()}",
        "gpu": _gpu(),
    }


def recall(about: Facts) -> dict[str, Tried] | None:
    """What was found earlier for just these facts, or None. Never raises."""
    if OFF in os.environ:
        return None
    path = _path(about)
    try:
        _refuse_strangers(path)
        return _checked(json.loads(read_bytes(path, MOST_BYTES)), about, time.time())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        log.debug("%s is passed over: %s", path, error)
        return None


def remember(about: Facts, found: dict[str, Tried]) -> None:
    """Keep what was found, if that is possible."""
    if OFF in os.environ:
        return
    path = _path(about)
    engines = {
        name: asdict(tried) | {"reason": printable(tried.reason), "about": printable(tried.about)}
        for name, tried in found.items()
    }
    record = {"facts": about, "time": time.time(), "engines": engines}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_text(path, json.dumps(record, indent=1), mode=PRIVATE, durable=False)
        for old in _newest_first(path.parent)[MOST_RECORDS:]:
            old.unlink()
    except OSError as error:
        log.debug("%s cannot be kept, engines are tried again at the next start: %s", path, error)


def forget(about: Facts) -> None:
    """Drop a record, if there is one."""
    with suppress(OSError):
        _path(about).unlink()


def records() -> list[Path]:
    """All records of this user, the newest first. Never raises."""
    try:
        return _newest_first(default_folder())
    except OSError:
        return []


def forget_all() -> None:
    """Drop every record of this user."""
    for path in records():
        with suppress(OSError):
            path.unlink()


def _path(about: Facts) -> Path:
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
    return default_folder() / PATTERN.replace("*", digest)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob(PATTERN), key=lambda path: path.lstat().st_mtime, reverse=True)


def _refuse_strangers(path: Path) -> None:
    """As plans, which are code, it must be of this user; who may change it could have a slow engine taken."""
    if os.name != "posix":
        return
    about = path.lstat()
    if about.st_uid != os.geteuid() or about.st_mode & 0o022:
        raise ValueError("others can write it")


def _checked(record: Any, about: Facts, now: float) -> dict[str, Tried]:
    """The engines of a record. Raises ValueError for one that is not as `remember` writes it."""
    if not isinstance(record, dict) or set(record) != {"facts", "time", "engines"}:
        raise ValueError("it is no record")
    engines, written = record["engines"], record["time"]
    if record["facts"] != about:
        raise ValueError("it is about something else")
    if not isinstance(engines, dict) or set(engines) != set(about["engines"]):
        raise ValueError("it is about other engines")
    found = {name: _tried(entry) for name, entry in engines.items()}
    failed = any(tried.reason for tried in found.values())
    if not _number(written) or not 0 <= now - written <= (FAILURE_BELIEVED_S if failed else BELIEVED_S):
        raise ValueError("it is too old")
    return found


def _tried(entry: Any) -> Tried:
    wanted = {field.name: field.type for field in fields(Tried)}
    if not isinstance(entry, dict) or set(entry) != set(wanted):
        raise ValueError("an engine has other entries")
    for name, kind in wanted.items():
        value = entry[name]
        if kind is str and (not isinstance(value, str) or value != printable(value)):
            raise ValueError(f"{name} is no line of text")
        if kind is float and not _number(value):
            raise ValueError(f"{name} is no number that can be")
    return Tried(**entry)


def _number(value: Any) -> bool:
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    return plain and math.isfinite(value) and value >= 0


def _versions() -> dict[str, str]:
    foreign = {entry.dist.name for entry in entry_points(group=GROUP) if entry.dist is not None}
    found = {package: package_version(package) for package in sorted({*PACKAGES, *foreign})}
    return {package: version for package, version in found.items() if version is not None}


def _gpu() -> str:
    try:
        gpu = find_gpu()
    except EngineError:
        return ""
    return f"{gpu}, driver {gpu.driver}, CUDA {gpu.cuda}"
