"""kill -9 of a program that writes recordings as fast as it can, also while it finishes them.

    python tests/scripts/kill_recordings.py --kills 200 --compression lz4 --seed 7

After each kill what it left is opened with h5py alone, and every spectrum that was flushed must be there, the
right one; then it is repaired, and must have the same spectra and the map. Prints what was found.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests

from chaos.files import rows_of
from helpers import a_frame, a_start, an_end

from cars_rt.accounting import Ledger
from cars_rt.files.hdf5 import load_filters
from cars_rt.files.recording import Packing, Recording, partial_path, repair

PIXELS, SCAN, BLOCK = 1340, (20, 150), 10
SPECTRA = SCAN[0] * SCAN[1]  # of one file
LOST = 1234  # of the results, this one and the nine after it
MET = "writing", "closing", "between two files"
NOISE = np.random.default_rng(0).integers(0, 4000, (500, PIXELS), np.uint16)


def spectra(index: NDArray[np.int64]) -> NDArray[np.uint16]:
    """Counts (n, p) that cannot be mistaken for others."""
    found = NOISE[index % len(NOISE)]
    found[:, 0], found[:, -1] = index, index * 40_503 % 65_521
    return found


def write(folder: Path, compression: Any) -> None:
    """One recording after the other; says on stdout what is on disk."""
    axis, model = np.linspace(600, 3400, PIXELS), {"name": "m", "sha256": "ab" * 32, "flags": "a"}
    load_filters()
    for number in range(10**6):
        path = folder / f"{number}.h5"
        recording = Recording(path, streams=["raw", "raman"], packing=Packing(compression))
        about: dict[str, Any] = {"scan": SCAN, "spectra": SPECTRA, "block": BLOCK}
        recording.start(a_start(axis=axis, **about))
        recording.start(a_start(axis=axis, stream="raman", model=model, **about | {"dtype": "float32"}))
        for first in range(0, SPECTRA, BLOCK):
            counts = spectra(np.arange(first, first + BLOCK))
            recording.append(a_frame(first // BLOCK, counts))
            if first != LOST // BLOCK * BLOCK:
                arrays = {"raman": counts.astype(np.float32), "flags": np.zeros(BLOCK, np.uint8)}
                results = {"stream": "raman", "index": first, "arrays": arrays}
                recording.append(a_frame(first // BLOCK, counts, **results))
            if first // BLOCK % 7 == 0:
                recording.flush()
                flushed = {name: rows.count for name, rows in recording.rows.items()}
                print(json.dumps([str(path), flushed]), flush=True)
        for stream in ("raw", "raman"):
            recording.end(an_end(SPECTRA // BLOCK, SPECTRA, stream=stream), Ledger())
        print(json.dumps([str(path), "closing"]), flush=True)
        recording.close()
        path.unlink()


def look(path: Path) -> dict[str, int]:
    """Spectra by stream, all of them right, with h5py alone."""
    with h5py.File(path) as file:
        found = {}
        for stream, name in (("raw", "counts"), ("raman", "raman")):
            if stream in file and "written" in file[stream]:
                index = rows_of(file[stream], "index")
                values = rows_of(file[stream], name)
                assert len(values) == len(index) and (np.diff(index) > 0).all(), path
                assert np.array_equal(values, spectra(index).astype(values.dtype)), path
                found[stream] = len(index)
        return found


def kill_once(folder: Path, compression: str, wait_s: float) -> str:
    """What the writer was at when it was killed."""
    command = [sys.executable, __file__, "--write", str(folder), "--compression", compression]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline()]
        time.sleep(wait_s)
        writer.kill()
        lines += writer.stdout.readlines()
    said = [json.loads(line) for line in lines if line.endswith("\n")]
    path = Path(said[-1][0])
    closing = said[-1][1] == "closing"
    flushed = next((rows for _, rows in reversed(said) if rows != "closing"), {})
    left = next((each for each in (partial_path(path), path) if each.exists()), None)
    if left is None:
        assert closing  # it was done, and took the file away
        return MET[2]
    kept = folder / "left.partial.h5"
    shutil.copy(left, kept)
    found = look(kept)
    assert all(found[stream] >= rows for stream, rows in flushed.items()), (left, found, flushed)
    contents = repair(kept)
    assert contents.rows == found, (contents, found)
    assert look(contents.path) == found
    with h5py.File(contents.path) as file:
        shown = file["entry/data/counts"][()].reshape(-1, PIXELS)[: found["raw"]]
        assert np.array_equal(shown, spectra(np.arange(found["raw"])))
    return MET[1] if closing else MET[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--compression", choices=["lz4", "gzip", "none"], default="lz4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write is not None:
        write(given.write, given.compression)
        return
    load_filters()
    rng, met = random.Random(given.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as name:
        for _ in range(given.kills):
            folder = Path(name) / "one"
            folder.mkdir()
            met[kill_once(folder, given.compression, rng.uniform(0, 1.5))] += 1
            shutil.rmtree(folder)
    print(f"{given.kills} kills ({', '.join(f'{count} {what}' for what, count in sorted(met.items()))}): "
          "every flushed spectrum is there, in every file")  # fmt: skip


if __name__ == "__main__":
    main()
