"""kill -9 of a recorder at random moments of one run of counts and results: what is left of its files.

python tests/scripts/kill_recorder.py --kills 20 --rate 1000 --pixels 1340 --seconds 30

Each time: the file opens with plain h5py; every row that the recorder had said is on disk is in it and is
what was sent; `repair` finishes it; `verify` names exactly the spectra that are missing.
"""

import argparse
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests

from helpers import Command, Published, a_frame, a_start, wait_until

from cars_rt.files.recording import read_rows
from cars_rt.files.verify import verify
from cars_rt.remote import Recorder, RemoteError
from cars_rt.sockets.free import free_addresses

BLOCK = 10


class Sending:
    """Counts and results of one run at a rate, until it is left; a spectrum says its own number."""

    def __init__(self, rate: float, pixels: int) -> None:
        self.sources = {"raw": Published("raw"), "raman": Published("raman")}
        self.axis = np.linspace(400, 3200, pixels)
        self.sent, self.planned = 0, 10**7
        self._rate, self._stop = rate, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def spectra(self, index: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        """Counts of these spectra (n, p)."""
        numbers = np.arange(len(self.axis))[None, :] * 7 + index[:, None]
        return (numbers % 60_000).astype(np.uint16)

    def _run(self) -> None:
        about = {"axis": self.axis, "block": BLOCK, "spectra": self.planned}
        model = {"name": "m", "sha256": "0" * 64}
        self.sources["raw"].publisher.open(a_start(**about))
        self.sources["raman"].publisher.open(a_start(stream="raman", dtype="float32", model=model, **about))
        begun = time.monotonic()
        while not self._stop.is_set():
            counts = self.spectra(np.arange(self.sent, self.sent + BLOCK))
            number = self.sent // BLOCK
            self.sources["raw"].publisher.send(a_frame(number, counts), 5.0)
            arrays = {"raman": counts.astype(np.float32)}
            self.sources["raman"].publisher.send(a_frame(number, counts, stream="raman", arrays=arrays), 5.0)
            self.sent += BLOCK
            time.sleep(max(begun + self.sent / self._rate - time.monotonic(), 0))

    def __enter__(self) -> "Sending":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for source in self.sources.values():
            source.__exit__()


def check(path: Path, sending: Sending, vouched: dict[str, int]) -> dict[str, tuple[int, int]]:
    """What a killed recorder left: first and last spectrum by stream. Raises AssertionError."""
    found = {}
    with h5py.File(path) as file:  # plain: as any program would
        for stream, main in (("raw", "counts"), ("raman", "raman")):
            index, rows = read_rows(file[stream], "index"), read_rows(file[stream], main)
            assert len(rows) == len(index) >= vouched.get(stream, 0), (path, stream, len(rows), vouched)
            assert (np.diff(index) == 1).all(), (path, stream, "not every spectrum once, in order")
            assert (rows == sending.spectra(index)).all(), (path, stream, "not what was sent")
            found[stream] = (int(index[0]), int(index[-1])) if len(index) else (0, -1)
    return found


def check_verdict(path: Path, sending: Sending, found: dict[str, tuple[int, int]]) -> None:
    """What verify says is missing is what is missing."""
    told = [finding.text for finding in verify(path, path, engine="passthrough") if finding.told]
    for stream, (first, last) in found.items():
        gaps = [f"0 to {first - 1}"] * (first > 0) + [f"{last + 1} to {sending.planned - 1}"]
        said = f"{stream}: {last - first + 1} of {sending.planned} planned spectra are in the file; "
        assert f"{said}missing are spectra {', '.join(gaps)}" in told, (path, told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1000.0, help="spectra per second")
    parser.add_argument("--pixels", type=int, default=1340)
    parser.add_argument("--seconds", type=float, default=30.0, help="longest life of a recorder")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    behind, rows = [], 0
    with tempfile.TemporaryDirectory() as folder, Sending(given.rate, given.pixels) as sending:
        path = Path(folder)
        addresses = [sending.sources[stream].address for stream in ("raw", "raman")]
        for kill in range(given.kills):
            control = free_addresses(1)[0]
            flags = ["--raw", addresses[0], "--raman", addresses[1], "--control", control]
            with Command("record", path, *flags) as program:
                with Recorder(control) as asking:
                    wait_until(lambda asking=asking: flushed(asking).get("raman"))
                    time.sleep(rng.uniform(0, given.seconds))
                    vouched = flushed(asking)
                program.process.kill()
                sent = sending.sent
                program.end()
            (partial,) = path.glob("*.partial.h5")
            found = check(partial, sending, vouched)
            with Command("repair", partial) as repair:
                assert repair.end() == 0, repair.said
            final = partial.with_name(partial.name.replace(".partial", ""))
            assert check(final, sending, vouched) == found
            check_verdict(final, sending, found)
            behind.append((sent - 1 - found["raw"][1]) / given.rate)
            rows += found["raw"][1] - found["raw"][0] + 1
            final.unlink()
            print(f"{kill + 1}: {found}, vouched for {vouched}, {behind[-1]:.2f} s not on disk", flush=True)
    print(
        f"{given.kills} of {given.kills} files opened, {rows} spectra of each stream right, everything that "
        f"was vouched for is there; at the kill {np.median(behind):.2f} s (median), at most "
        f"{max(behind):.2f} s of spectra were not on disk; verify named all that is missing"
    )


def flushed(asking: Recorder) -> dict[str, int]:
    """Rows on disk, as the recorder says."""
    try:
        rows: dict[str, int] = asking.status()["rows"]
    except RemoteError:
        return {}  # not there yet
    return rows


if __name__ == "__main__":
    main()
