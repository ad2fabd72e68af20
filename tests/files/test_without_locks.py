"""File systems without locks: recorded and processed all the same. In a program of its own, with `no_locks.c`
preloaded."""

import errno
import os
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

if __name__ == "__main__":  # the program
    sys.path.insert(0, str(Path(__file__).parents[1]))

import pytest
from helpers import a_frame, a_start, spectra_of

from cars_rt.engines.registry import REFERENCE
from cars_rt.files.formats import read_spectra
from cars_rt.files.offline import process, retrieval
from cars_rt.files.recording import Recording, RecordingError, partial_path, repair, rows
from cars_rt.files.spectra import SpectraError
from cars_rt.storage import changes

COUNTS = spectra_of(48)


def record(path: Path) -> None:
    """In a file that grows, and which no second one takes for its own."""
    rows.FIRST_ROWS = 8
    recording = Recording(path)
    recording.start(a_start())
    recording.append(a_frame(0, COUNTS))
    recording.flush()
    with pytest.raises(RecordingError, match="may be in use, there are no locks there to tell"):
        Recording(path)
    assert recording.close() == path
    assert (read_spectra(path).counts == COUNTS).all()


def process_twice(source: Path, target: Path) -> None:
    """It goes on where Ctrl-C left it, and deletes nothing that may be in use."""
    retrieval.BATCH, retrieval.LANE_BYTES = 16, 1

    def interrupted(done: int, total: int) -> None:
        if done >= 32:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process(source, target, engine=REFERENCE, progress=interrupted)
    with pytest.raises(SpectraError, match="is in the way, and may be in use: there are no locks there"):
        process(source, target, engine=REFERENCE, model="rnn")
    assert process(source, target, engine=REFERENCE).computed == 16
    assert not partial_path(target).exists()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_files_are_written_and_read_where_there_are_no_locks(number: int, tmp_path: Path) -> None:
    if (compiler := shutil.which("gcc")) is None or not sys.platform.startswith("linux"):
        pytest.skip("has no locks by a library that gcc makes for Linux")
    source, library = Path(__file__).with_name("no_locks.c"), tmp_path / "no_locks.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    (folder := tmp_path / "scans").mkdir()
    environment = {**os.environ, "LD_PRELOAD": str(library), "NO_LOCKS": str(number)}
    done = subprocess.run(
        [sys.executable, __file__, folder], env=environment, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["raman.h5", "scan.h5"]


def repair_what_was_changed(path: Path) -> None:
    """By a program that was killed: `repair` said to run `repair`."""
    whole = path.read_bytes()
    behind = whole[: changes.PAGE] + bytes(8)
    about = struct.pack("<16s3Q", changes.MAGIC, len(whole), 1, zlib.crc32(behind))
    path.write_bytes(bytes(16) + whole[16:] + behind + about)
    with pytest.raises(RecordingError, match="is being changed, or was: there are no locks there to tell"):
        repair(path)
    path.write_bytes(whole)
    assert not repair(path).changed


if __name__ == "__main__":
    record(Path(sys.argv[1]) / "scan.h5")
    process_twice(Path(sys.argv[1]) / "scan.h5", Path(sys.argv[1]) / "raman.h5")
    repair_what_was_changed(Path(sys.argv[1]) / "scan.h5")
