"""For all tests: nothing is written to the user's own folders."""

import faulthandler
import gc
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# As `cars-rt` has it: on busy cores the threads of a matrix product wait for each other awake.
# Has to be set before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest

from cars_rt.files.filters import load_filters

#: Files that take a minute and more are begun first: whichever were last would be waited for alone.
LONGEST = (
    *("chaos/test_kills.py", "daemon/test_control.py", "engines/test_tensorrt_build.py"),
    *("programs/test_cli.py", "programs/test_demo.py", "training/test_training.py"),
)

gc.disable()  # until all tests are known: hundreds of thousands of objects, and none of them garbage
load_filters()  # tests look into recordings with h5py alone


@pytest.fixture(autouse=True, scope="session")
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tokens of daemons, also of those that a test kills, lie in a folder of this session, and so does what
    is found out about engines."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARS_RT_CACHE", str(tmp_path_factory.mktemp("cache")))
        if os.name == "posix":
            patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def _own_log() -> Iterator[None]:
    """A command that a test calls in its own process logs to stderr from then on: not in later tests."""
    log = logging.getLogger("cars_rt")
    before = log.handlers, log.level, log.propagate, sys.excepthook
    yield
    log.handlers, level, log.propagate, sys.excepthook = before
    log.setLevel(level)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which file is given to a process first; within a file the order stays."""
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))


def pytest_collection_finish() -> None:
    """What is there by now stays: no test's garbage is looked for among it."""
    gc.freeze()
    gc.enable()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before a test's fixtures: what ends a process that hears no signal does not end a test that says that
    it may take longer; and torch computes on one core. What a test computes itself is small, and several
    cores would wait for each other, on busy ones for seconds, if an earlier test's engine asked for more."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    limit = item.get_closest_marker("timeout")
    if limit is not None and limit.args[0] >= float(item.config.getini("faulthandler_timeout")):
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of a size, such as 90m."""
    folder = tmp_path / "disk"

    def make(size: str) -> Path:
        if not sys.platform.startswith("linux") or os.geteuid() != 0:
            pytest.skip("needs a file system of its own")
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("may not mount one")
        return folder

    yield make
    if folder.is_mount():
        subprocess.run(["umount", "-l", str(folder)], check=False)
