"""How much memory `cars-rt process` takes for a large recording, and how fast it is beside its engine alone.

    python tests/scripts/process_memory.py --gigabytes 20 --engine passthrough
    python tests/scripts/process_memory.py --gigabytes 0.2 --rate

The recording is sparse: it announces its counts and holds few of them, so that it takes no room on the disk;
its results do, four bytes for two and as many again of deviations. Each run is a process of its own, whose
largest resident memory the system tells. With --rate the engine alone and `process`, from its first spectrum
to its closed file, take turns in one process on counts that are there, and the ratio of their rates is the
figure.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as `cars-rt` has it

import h5py
import numpy as np

PIXELS = 1340
AXIS = np.linspace(400, 3200, PIXELS)
TURNS = 3
#: The program, which tells at its end what it had in memory at most; what the system tells of a child that
#: has ended includes its parent's.
TELLING = """
import atexit, re, sys
from pathlib import Path
atexit.register(lambda: print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
from cars_rt.cli import main
main()
"""


def make(path: Path, spectra: int, *, there: bool) -> None:
    """A recording of as many spectra; there: with counts in it."""
    random = np.random.default_rng(1)
    mean = 4000 * np.exp(-(((AXIS - 1800) / 900) ** 2)) + 300
    with h5py.File(path, "w") as file:
        file["raman_shift"] = AXIS
        counts = file.create_dataset("spectra", (spectra, PIXELS), "u2", chunks=(200, PIXELS))
        for first in range(0, spectra if there else 200, 200):
            rows = counts[first : first + 200].shape
            counts[first : first + 200] = random.poisson(mean, rows)


def peak_of(source: Path, target: Path, engine: str, model: str = "cnn") -> tuple[float, float]:
    """Largest resident memory of a process in GB, and its seconds. On Linux."""
    command = [sys.executable, "-c", TELLING, "process", source, "-o", target, "--engine", engine]
    command += ["--model", model]
    begun = time.perf_counter()
    done = subprocess.run([str(each) for each in command], stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1]) * 1024 / 1e9, time.perf_counter() - begun


def rates(source: Path, target: Path, engine: str) -> tuple[float, float, float, float]:
    """Spectra per second of the engine alone and of `process`, one after the other, then the same per second
    of a processor's time."""
    from cars_rt.engines import compose, load_model, open_engine
    from cars_rt.files.offline import process

    with h5py.File(source) as file:
        counts = file["spectra"][:].astype(np.float32)
    with open_engine(engine, compose(load_model(), AXIS), 64) as opened:
        opened.retrieve(counts[:256])
        begun = np.array([time.perf_counter(), time.process_time()])
        for first in range(0, len(counts), 64):
            opened.retrieve(counts[first : first + 64])
        alone = len(counts) / (np.array([time.perf_counter(), time.process_time()]) - begun)
    started: list[tuple[float, float]] = []

    def progress(done: int, total: int) -> None:
        started.append((time.perf_counter(), time.process_time()))

    process(source, target, engine=engine, progress=progress)
    whole = len(counts) / (np.array([time.perf_counter(), time.process_time()]) - started[0])
    return alone[0], whole[0], alone[1], whole[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0, help="of counts")
    parser.add_argument("--engine", default="onnxruntime")
    parser.add_argument("--model", default="cnn", help="kk gives no deviations, which take half of the room")
    parser.add_argument(
        "--rate", action="store_true", help="compare the rate with the engine's, on real counts"
    )
    parser.add_argument("--folder", type=Path, help="where; a temporary folder if not given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        source, target = Path(folder) / "in.h5", Path(folder) / "out.h5"
        spectra = int(given.gigabytes * 1e9 / (2 * PIXELS))
        make(source, spectra, there=given.rate)
        if given.rate:
            found = np.array([rates(source, target, given.engine) for _ in range(TURNS)])
            for alone, whole, alone_cpu, whole_cpu in found:
                print(
                    f"engine alone {alone:.0f} spectra/s, process {whole:.0f}: {whole / alone:.1%}; "
                    f"of processor's time {whole_cpu / alone_cpu:.1%}"
                )
            ratios = np.median(found[:, 1::2] / found[:, ::2], axis=0)
            print(f"median of {TURNS}: {ratios[0]:.1%}, of processor's time {ratios[1]:.1%}")
            return
        peak, seconds = peak_of(source, target, given.engine, given.model)
        with h5py.File(target) as file:
            assert len(file["raman/raman"]) == spectra
        print(
            f"{spectra} spectra, {given.gigabytes:g} GB of counts, {target.stat().st_size / 1e9:.1f} GB of "
            f"results: {peak:.2f} GB resident at most, {spectra / seconds:.0f} spectra/s with its start"
        )


if __name__ == "__main__":
    main()
