"""How fast recordings are written and how small they get: the recorder's writer alone, fed from memory.

    python tests/scripts/bench_recordings.py --spectra 60000 --folder .

Counts of the simulator and results of `cnn` (1340 points, uint16 and float32), first as chunks into a file in
memory, then as whole recordings on the disk, flushed once a second. Says wall time, and the processor's own:
on a computer that does other things, too, only the second means something.
"""

import argparse
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests

from helpers import a_frame, a_start, an_end
from numpy.typing import NDArray

from cars_rt.accounting import Ledger
from cars_rt.drivers.simulator import SimulatedMicroscope, SimulatorSettings
from cars_rt.engines import compose, load_model, open_engine
from cars_rt.files.recording import Packing, Recording

CHUNK = 256
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "bitshuffle + LZ4": dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4")),
    "bitshuffle + zstd 1": dict(hdf5plugin.Bitshuffle(nelems=0, cname="zstd", clevel=1)),
    "Blosc2 LZ4": dict(hdf5plugin.Blosc2(cname="lz4", clevel=1, filters=hdf5plugin.Blosc2.BITSHUFFLE)),
    "gzip 1 + shuffle": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
}


def spectra(count: int) -> tuple[NDArray[np.float64], NDArray[np.uint16], NDArray[np.float32]]:
    """Axis, counts and results of a scan of the simulator."""
    microscope = SimulatedMicroscope(SimulatorSettings(scan="64x64", rate=0, block=64))
    about = microscope.acquisition()
    counts = np.concatenate(list(islice(microscope.frames(), count // 64)))
    with open_engine("onnxruntime", compose(load_model("cnn"), about.raman_shift), 64) as engine:
        if about.dark is not None:
            engine.set_dark(about.dark)
        results = [engine.run(counts[first : first + 64]).copy() for first in range(0, count, 64)]
    return about.raman_shift, counts, np.concatenate(results)


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Wall and processor time, s."""
    wall, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - busy


def chunks(name: str, values: NDArray[Any], repeats: int = 16) -> None:
    """One array into a file in memory, chunk by chunk."""
    line = f"| {name:12} |"
    for options in FILTERS.values():
        with h5py.File("memory", "w", driver="core", backing_store=False) as file:
            shape = (repeats * len(values), values.shape[1])
            rows = file.create_dataset("rows", shape, values.dtype, chunks=(CHUNK, shape[1]), **options)

            def write(rows: Any = rows) -> None:
                for first in range(0, len(rows), CHUNK):
                    source = first % len(values)
                    rows[first : first + CHUNK] = values[source : source + CHUNK]

            _, busy = timed(write)
            ratio = rows.size * rows.dtype.itemsize / rows.id.get_storage_size()
            line += f" {len(rows) / busy:,.0f}, {ratio:.2f} |"
    print(line)


def recording(folder: Path, packing: Packing, total: int, block: int, data: Any) -> None:
    """A whole recording of counts and results."""
    axis, counts, raman = data
    path = folder / "bench-recordings.h5"
    writer = Recording(path, streams=["raw", "raman"], overwrite=True, packing=packing)
    about: dict[str, Any] = {"spectra": total, "scan": (total // 200, 200), "block": block}
    writer.start(a_start(axis=axis, **about))
    model = {"name": "cnn", "sha256": "0" * 64, "flags": "a"}
    writer.start(a_start(axis=axis, stream="raman", model=model, **about | {"dtype": "float32"}))
    flags, slowest = np.zeros(block, np.uint8), 0.0

    def write() -> None:
        nonlocal slowest
        flushed = time.perf_counter()
        for first in range(0, total, block):
            rows = slice(first % len(counts), first % len(counts) + block)
            writer.append(a_frame(first // block, counts[rows], index=first))
            arrays = {"raman": raman[rows], "flags": flags}
            writer.append(a_frame(first // block, flags, stream="raman", index=first, arrays=arrays))
            if (now := time.perf_counter()) - flushed > 1:
                writer.flush()
                flushed = time.perf_counter()
                slowest = max(slowest, flushed - now)
        writer.flush()

    wall, busy = timed(write)
    for stream in ("raw", "raman"):
        writer.end(an_end(total // block, total, stream=stream), Ledger())
    closing, _ = timed(writer.close)
    size = path.stat().st_size / total
    path.unlink()
    kept = "" if packing.mantissa_bits is None else f", {packing.mantissa_bits} bits"
    print(f"| {packing.compression}{kept} | {total / wall:,.0f} | {total / busy:,.0f} | {size:,.0f} | "
          f"{slowest * 1e3:.0f} ms | {closing * 1e3:.0f} ms |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spectra", type=int, default=40_000)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    data = spectra(1024)
    _, counts, raman = data
    print(f"spectra per second of processor time, and ratio: {', '.join(FILTERS)}")
    chunks("counts", counts)
    chunks("raman", raman)
    chunks("12 bits", Packing("none", 12).rounded(raman))
    print("recording: spectra/s, per second of processor time, bytes for each, slowest flush, closing")
    total = given.spectra // (200 * given.block) * 200 * given.block
    for _ in range(given.rounds):
        for packing in (Packing("none"), Packing("lz4"), Packing("lz4", 12), Packing("gzip")):
            share = 16 if packing.compression == "gzip" else 1
            recording(given.folder, packing, max(total // share // 12_800, 1) * 12_800, given.block, data)


if __name__ == "__main__":
    main()
