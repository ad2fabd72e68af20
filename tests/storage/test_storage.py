"""Files in folders that are shared with others: no link followed, no pipe waited for, no lock without end."""

import errno
import logging
import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import PATIENCE_S, a_start

from cars_rt.clock import SourceClock
from cars_rt.console import write_json
from cars_rt.daemon.dark import Dark
from cars_rt.daemon.filing import Filing
from cars_rt.daemon.receipt import Receipt
from cars_rt.engines import EngineError
from cars_rt.engines.tensorrt.plans import Plans
from cars_rt.storage import (
    Lock,
    LockedError,
    StorageError,
    file_name,
    read_bytes,
    replacing,
    write_bytes,
    write_text,
)
from cars_rt.trust.keys import KeysError, create

posix = pytest.mark.skipif(os.name != "posix", reason="needs links, pipes and modes of POSIX")


def in_time(does: Callable[[], object]) -> BaseException | None:
    """What it raises. Fails if it stands still, instead of standing still with it."""
    raised: list[BaseException] = []

    def program() -> None:
        try:
            does()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=program, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "it waits for ever"
    return raised[0] if raised else None


def a_receipt(run: str) -> Receipt:
    return Receipt(
        run=run, reason="complete", announced=1, received=1, sent=1, frames_sent=1, surplus=0, lost={},
        ranges=[], problems={}, made_by=[], flagged={}, stalls=0,
    )  # fmt: skip


def test_file_is_there_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "before\n")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_bytes() == b"before\n" and list(tmp_path.iterdir()) == [path]
    with pytest.raises(FileExistsError) as refused, replacing(path, overwrite=False) as file:
        file.write(b"other")
    assert refused.value.filename == str(path) and path.read_bytes() == b"before\n"
    write_bytes(path, b"after")
    assert path.read_bytes() == b"after" and list(tmp_path.iterdir()) == [path]


@posix
def test_what_is_exchanged_while_it_is_written_does_not_get_the_name(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with pytest.raises(StorageError, match="was exchanged by another program"), replacing(path) as file:
        (new,) = tmp_path.iterdir()
        new.unlink()
        new.write_bytes(b"from somebody else")
        file.write(b"ours")
    assert not path.exists()


@posix
@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_no_program_writes_through_what_lies_under_its_files_name(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    shared = tmp_path / "shared"
    shared.mkdir()

    def plant(name: str) -> None:
        match kind:
            case "link":
                (shared / name).symlink_to(victim)
            case "dangling link":
                (shared / name).symlink_to(tmp_path / "made")
            case "pipe":
                os.mkfifo(shared / name)
            case _:
                (shared / name).mkdir()

    for name in ("run-1.json", "run-1.partial", "summary.json", "x.key", "p.plan", "p.lock"):
        plant(name)
    plans = Plans(shared, tmp_path / "secret")
    for does, error in (
        (lambda: write_text(shared / "run-1.json", "x"), StorageError),
        (lambda: write_json(shared / "summary.json", {}), SystemExit),
        (lambda: create("x", shared), KeysError),
        (lambda: create("x", shared, overwrite=True), KeysError),
        (lambda: plans.store("p", b"plan"), EngineError),
        (lambda: plans.fetch("p", lambda: b"plan"), EngineError),
    ):
        assert isinstance(in_time(does), error)
    assert in_time(lambda: a_receipt("run-1").write(shared)) is None  # costs a warning
    assert victim.read_bytes() == b"precious" and not (tmp_path / "made").exists()


@posix
def test_a_planted_partial_file_does_not_keep_a_receipt_from_being_written(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "abc.partial").symlink_to(victim)
    os.mkfifo(tmp_path / "abc.new")
    assert in_time(lambda: a_receipt("abc").write(tmp_path)) is None
    assert '"run": "abc"' in (tmp_path / "abc.json").read_text() and victim.read_bytes() == b"precious"
    assert not (tmp_path / "abc.json").is_symlink()


def test_receipts_of_runs_with_similar_names_are_different_files(tmp_path: Path) -> None:
    runs = ["a/b", "a_b", "a\\b", "a:b", "A_b", "A_B", "a b", "a.b", "..", ".", "con", "CON", "aux.x", "nul",
            "run.", "run ", "run", "é", "e\u0301", "\x1b[2J", "x" * 64, "x" * 63 + "/", "a_b~0"]  # fmt: skip
    for run in runs:
        a_receipt(run).write(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len({name.lower() for name in names}) == len(runs), names
    for name in names:
        assert name.isascii() and not set(name) & set('<>:"/\\|?*') and len(name) < 120
        assert name.split(".")[0].lower() not in {"con", "aux", "nul"} and not name.endswith((".", " "))
    assert file_name("0b0e6f4e-5d1a-4f06-9f0e-4f7e6f7f2b5d", ".json").startswith("0b0e6f4e-5d1a-4f06-9f0e")


@posix
def test_what_is_no_file_or_too_large_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "large").write_bytes(b"x" * 11)
    for name, why in (
        ("pipe", "no regular file"),
        ("endless", "no regular file"),
        (".", "is a folder"),
        ("large", "has more than"),
    ):
        with pytest.raises(StorageError, match=why):
            read_bytes(tmp_path / name, 10)
    assert read_bytes(tmp_path / "large", 11) == b"x" * 11


HOLD = """
import sys
from pathlib import Path
from cars_rt.storage import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_has_a_limit_and_a_word_and_dies_with_its_program(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "q.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match="is held by another program"):
            Lock(path)
        plans = Plans(tmp_path, tmp_path / "secret", wait_s=1.3)
        with caplog.at_level(logging.INFO, "cars_rt"):
            assert plans.fetch("q", lambda: b"plan") == b"plan"  # built twice rather than never
        assert "waiting for the plan q" in caplog.text and "was held for 1.3 s" in caplog.text
        holder.kill()
    lock = Lock(path, PATIENCE_S)  # as the system gives it back
    with pytest.raises(LockedError):
        Lock(path)  # also within one program
    if sys.platform == "linux":  # where no file can be made: nobody holds it
        with pytest.raises(FileNotFoundError):
            Lock(Path("/proc/x.lock"), 0.1)
    lock.release()
    lock.release()
    assert not path.exists() or os.name == "nt"


@posix
def test_a_secret_that_others_can_read_vouches_for_no_plan(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    Plans(tmp_path / "plans", secret).store("a", b"plan")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    secret.chmod(0o644)
    with pytest.raises(EngineError, match=r"others can use the secret .* \(mode 644\).*: delete it"):
        Plans(tmp_path / "plans", secret)
    secret.unlink()
    assert Plans(tmp_path / "plans", secret).load("a") is None
    secret.unlink()
    os.mkfifo(secret)
    assert isinstance(in_time(lambda: Plans(tmp_path / "plans", secret)), EngineError)


@posix
def test_a_pipe_in_the_place_of_a_plan_is_not_waited_for(tmp_path: Path) -> None:
    plans = Plans(tmp_path, tmp_path / "secret")
    os.mkfifo(plans.path("r"))
    assert isinstance(in_time(lambda: plans.load("r")), EngineError)


@posix
def test_a_dark_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    def measure() -> str:
        start, filing = a_start(), Filing()
        dark = Dark(tmp_path / "folder", filing)
        dark.begin(start, SourceClock())
        for _ in range(2):
            dark.add(np.ones((2, start.pixels), np.uint16), 0)
        name = dark.finish()
        filing.close()
        return name

    name = measure()
    (path,) = (tmp_path / "folder").iterdir()
    path.unlink()
    path.symlink_to(tmp_path / "made")
    assert measure() == name and not (tmp_path / "made").exists()


def test_errors_say_path_and_reason_once(tmp_path: Path) -> None:
    with pytest.raises(StorageError) as refused:
        read_bytes(tmp_path, 1)
    assert str(refused.value) == f"{tmp_path} is a folder, where a file is needed"
    assert (
        refused.value.errno == errno.EISDIR
        and refused.value.strerror == "is a folder, where a file is needed"
    )


WRITES = re.compile(
    r"\.write_(text|bytes)\(|h5py\.File\([^)]*\"[wa]\"|\bopen\([^)]*\"[wax]b?\+?\"|np\.save\w*\((?!')|savefig\("
)
#: Those that write to a file that somebody else opened in the one way, and the logs that grow with a program.
ALLOWED = {
    "bench/report.py", "bench/engine_report.py", "demo/report.py", "training/evaluation/pictures.py",
    "daemon/dark.py", "files/results.py", "training/progress.py", "room/program.py", "rehearsal.py",
    "calibrator/pictures.py", "show/picture.py", "files/offline/parts.py", "view/snapshot.py",
}  # fmt: skip


#: What writes files in that way, and what an export is written by, under another name, before it is renamed.
ELSEWHERE = "storage/", "files/export/"


def test_whole_files_are_written_in_one_way() -> None:
    root = Path(__file__).parents[2]
    for folder in ("cars_rt", "drivers", "engines"):
        for path in (root / folder).rglob("*.py"):
            name = path.relative_to(root / folder).as_posix()
            if not name.startswith(ELSEWHERE) and WRITES.search(text := path.read_text(encoding="utf-8")):
                assert name in ALLOWED and (
                    "replacing" in text or "refuse_target" in text or "BytesIO" in text
                ), path
