"""kill -9 of what records, at random moments: what is left of its files.

    python tests/scripts/kill_recordings.py --kills 20 --minutes 10    # a recorder at 1,000 spectra/s
    python tests/scripts/kill_recordings.py --writer --kills 60        # its writer alone, at full speed

After each kill what it left is opened with h5py alone: every spectrum that was said to be on disk must be in
it, once, in order, and be the one that was sent. Then it is repaired, and must have the same spectra, and a
map of them. Of the recorder `verify` must name exactly what is missing; it follows one run of counts and
results from kill to kill. The writer makes one recording after the other, with a loss in it, and is killed
while it finishes them, too.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests

from chaos.files import rows_of
from helpers import Command, Published, a_frame, a_start, an_end, wait_until

from cars_rt.accounting import Ledger
from cars_rt.files.extent import mend
from cars_rt.files.filters import load_filters
from cars_rt.files.recording import Packing, Recording, final_path, partial_path, repair
from cars_rt.files.verify import verify
from cars_rt.remote import Recorder, RemoteError
from cars_rt.sockets.free import free_addresses

PIXELS, SCAN, BLOCK = 1340, (20, 150), 10
SPECTRA = SCAN[0] * SCAN[1]  # of one file of the writer
LOST = 1234  # of its results, this one and the nine after it
MET = "writing", "closing", "between two files"
MAIN = {"raw": "counts", "raman": "raman"}
MODEL = {"name": "m", "sha256": "ab" * 32, "flags": "a"}

Index = NDArray[np.int64]


def spectra(index: Index, pixels: int = PIXELS) -> NDArray[np.uint16]:
    """Counts (n, p) like noise, which cannot be mistaken for others."""
    found = _noise(pixels)[index % 500]
    found[:, 0], found[:, -1] = index, index * 40_503 % 65_521
    return found


@cache
def _noise(pixels: int) -> NDArray[np.uint16]:
    return np.random.default_rng(0).integers(0, 4000, (500, pixels), np.uint16)


# -- what is left -----------------------------------------------------------------------------------


def look(path: Path, vouched: dict[str, int] | None = None) -> dict[str, Index]:
    """Which spectra of each stream are in a file, all of them right; vouched: how many must be there."""
    found: dict[str, Index] = {}
    with h5py.File(path) as file:
        for stream, name in MAIN.items():
            if stream in file and "written" in file[stream]:
                index, values = rows_of(file[stream], "index"), rows_of(file[stream], name)
                assert len(values) == len(index) and (np.diff(index) > 0).all(), (path, stream)
                right = np.array_equal(values, spectra(index, values.shape[1]))
                assert right, (path, stream, "not what was sent")
                found[stream] = index
    missing = {stream: rows for stream, rows in (vouched or {}).items() if len(found.get(stream, ())) < rows}
    assert not missing, (path, {stream: len(index) for stream, index in found.items()}, vouched)
    return found


def look_again(path: Path, found: dict[str, Index]) -> dict[str, Index]:
    """The same spectra are in the finished file, and in the map that other programs find; and those behind
    that nobody had vouched for yet, and which are whole. Returns all of them."""
    again = look(path)
    for stream, each in found.items():
        assert np.array_equal(again[stream][: len(each)], each), (path, stream)
    with h5py.File(path) as file:
        data = file["entry/data"]
        for stream, index in again.items():
            shown, there = data[MAIN[stream]][()], data[f"{MAIN[stream]}_measured"][()]
            shown = shown.reshape(-1, shown.shape[-1])[there.ravel() == 1]
            assert np.array_equal(shown, spectra(index, shown.shape[1])), (path, stream, "not in the map")
    return again


# -- a recorder, which follows one run at a rate -----------------------------------------------------


class Sending:
    """Counts and results of one run at a rate, until it is left."""

    def __init__(self, rate: float, pixels: int) -> None:
        self.sources = {"raw": Published("raw"), "raman": Published("raman")}
        self.axis = np.linspace(400, 3200, pixels)
        self.sent, self.planned, self.rate = 0, 10**7, rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        about: dict[str, Any] = {"axis": self.axis, "block": BLOCK, "spectra": self.planned}
        raw, raman = (self.sources[stream].publisher for stream in MAIN)
        raw.open(a_start(**about))
        raman.open(a_start(stream="raman", dtype="float32", model=MODEL, **about))
        begun = time.monotonic()
        while not self._stop.is_set():
            counts = spectra(np.arange(self.sent, self.sent + BLOCK), len(self.axis))
            number = self.sent // BLOCK
            raw.send(a_frame(number, counts), 5.0)
            arrays = {"raman": counts.astype(np.float32), "flags": np.zeros(BLOCK, np.uint8)}
            raman.send(a_frame(number, counts, stream="raman", arrays=arrays), 5.0)
            self.sent += BLOCK
            time.sleep(max(begun + self.sent / self.rate - time.monotonic(), 0))

    def __enter__(self) -> "Sending":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for source in self.sources.values():
            source.__exit__()


def kill_recorder(folder: Path, sending: Sending, compression: str, life_s: float) -> tuple[int, float]:
    """One recorder's life and end: spectra of each stream that it left, and how many seconds' worth were
    sent and not on disk."""
    control = free_addresses(1)[0]
    addresses = [sending.sources[stream].address for stream in MAIN]
    flags = ["--raw", addresses[0], "--raman", addresses[1], "--control", control]
    with Command("record", folder, *flags, "--compression", compression) as program:
        with Recorder(control) as asking:
            wait_until(lambda: _flushed(asking).get("raman"))
            time.sleep(life_s)
            vouched = _flushed(asking)
        program.process.kill()
        sent = sending.sent
        program.end()
    (partial,) = folder.glob("*.partial.h5")
    kept = Path(shutil.copy(partial, folder / "kept"))
    mend(kept)
    found = look(kept, vouched)
    assert all((np.diff(index) == 1).all() for index in found.values()), (partial, "a spectrum is missing")
    with Command("repair", partial) as command:
        assert command.end() == 0, command.said
    path = final_path(partial)
    found = look_again(path, found)
    told = [finding.text for finding in verify(path, path, engine="passthrough") if finding.told]
    for stream, index in found.items():
        gaps = [f"0 to {index[0] - 1}"] * bool(index[0] > 0) + [f"{index[-1] + 1} to {sending.planned - 1}"]
        said = f"{stream}: {len(index)} of {sending.planned} planned spectra are in the file; "
        assert f"{said}missing are spectra {', '.join(gaps)}" in told, (path, told)
    path.unlink()
    return len(found["raw"]), (sent - 1 - int(found["raw"][-1])) / sending.rate


def _flushed(asking: Recorder) -> dict[str, int]:
    """Rows on disk, as the recorder says."""
    try:
        rows: dict[str, int] = asking.status()["rows"]
    except RemoteError:
        return {}  # not there yet
    return rows


# -- its writer, as fast as it can -------------------------------------------------------------------


def write(folder: Path, compression: Any) -> None:
    """One recording after the other; says on stdout what is on disk."""
    axis = np.linspace(600, 3400, PIXELS)
    load_filters()
    for number in range(10**6):
        path = folder / f"{number}.h5"
        recording = Recording(path, streams=list(MAIN), packing=Packing(compression))
        about: dict[str, Any] = {"scan": SCAN, "spectra": SPECTRA, "block": BLOCK}
        recording.start(a_start(axis=axis, **about))
        recording.start(a_start(axis=axis, stream="raman", model=MODEL, **about | {"dtype": "float32"}))
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
        for stream in MAIN:
            recording.end(an_end(SPECTRA // BLOCK, SPECTRA, stream=stream), Ledger())
        print(json.dumps([str(path), "closing"]), flush=True)
        recording.close()
        path.unlink()


def kill_writer(folder: Path, compression: str, wait_s: float) -> str:
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
    left = next((each for each in (partial_path(path), path) if each.exists()), None)
    if left is None:
        assert closing  # it was done, and took the file away
        return MET[2]
    kept = folder / "left.partial.h5"
    shutil.copy(left, kept)
    mend(kept)  # a kill may have come while changes were put in their places, which `repair` does first
    found = look(kept, next((rows for _, rows in reversed(said) if rows != "closing"), {}))
    contents = repair(kept)
    found = look_again(contents.path, found)
    assert contents.rows == {stream: len(index) for stream, index in found.items()}, (contents, found)
    return MET[1] if closing else MET[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--writer", action="store_true", help="the writer alone, at full speed")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=5.0, help="that the recorders live, together")
    parser.add_argument("--rate", type=float, default=1000.0, help="of the run, spectra per second")
    parser.add_argument("--pixels", type=int, default=PIXELS, help="of its spectra")
    parser.add_argument("--compression", choices=["lz4", "gzip", "none"], default="lz4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write is not None:
        write(given.write, given.compression)
        return
    load_filters()
    rng = random.Random(given.seed)
    if given.writer:
        met = Counter[str]()
        for _ in range(given.kills):
            with tempfile.TemporaryDirectory() as folder:
                met[kill_writer(Path(folder), given.compression, rng.uniform(0, 1.5))] += 1
        print(f"{given.kills} kills ({', '.join(f'{count} {what}' for what, count in sorted(met.items()))}): "
              "every flushed spectrum is there, in every file")  # fmt: skip
        return
    shares = [rng.uniform(0, 1) for _ in range(given.kills)]
    lives = [60 * given.minutes * share / sum(shares) for share in shares]
    rows, behind = 0, []
    with tempfile.TemporaryDirectory() as folder, Sending(given.rate, given.pixels) as sending:
        for number, life_s in enumerate(lives, 1):
            left, unwritten_s = kill_recorder(Path(folder), sending, given.compression, life_s)
            rows += left
            behind.append(unwritten_s)
            print(f"{number}: {left} spectra after {life_s:.1f} s, {unwritten_s:.2f} s of them not on disk",
                  flush=True)  # fmt: skip
    print(
        f"{given.kills} of {given.kills} files opened, {rows} spectra of each stream right, everything that "
        f"was vouched for is there; at the kill {np.median(behind):.2f} s (median), at most "
        f"{max(behind):.2f} s of spectra were not on disk; verify named all that is missing"
    )


if __name__ == "__main__":
    main()
