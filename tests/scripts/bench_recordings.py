"""How fast recordings are written and how small they get: the recorder's writer alone, fed from memory.

    python tests/scripts/bench_recordings.py --spectra 60000 --folder .

Counts of the simulator and results of `cnn` (1340 points, uint16 and float32), first as chunks into a file in
memory, then as whole recordings on the disk, flushed once a second. Says wall time, and the processor's own:
on a computer that does other things, too, only the second means something. With --direct instead: chunks that
HDF5 compresses against those that are compressed before and handed to it as they are, here or in a thread,
turn by turn, with the compressor that HDF5 has itself (on Linux).
"""

import argparse
import ctypes
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
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


class Compressor:
    """bitshuffle with LZ4 as hdf5plugin has it, outside of HDF5: the GIL is free meanwhile."""

    def __init__(self) -> None:
        library = ctypes.CDLL(str(Path(hdf5plugin.PLUGIN_PATH) / "libh5bshuf.so"))
        self._compress, self._bound = library.bshuf_compress_lz4, library.bshuf_compress_lz4_bound
        self._block = library.bshuf_default_block_size
        for function in (self._compress, self._bound, self._block):
            function.restype = ctypes.c_int64
        self._block.argtypes = [ctypes.c_size_t]
        self._bound.argtypes = [ctypes.c_size_t] * 3
        self._compress.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_size_t] * 3

    def chunk(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """As the filter writes it: the size, that of a block, and the blocks."""
        block = self._block(values.itemsize)
        found = np.empty(12 + self._bound(values.size, values.itemsize, block), np.uint8)
        found[:8] = np.frombuffer(values.nbytes.to_bytes(8, "big"), np.uint8)
        found[8:12] = np.frombuffer((block * values.itemsize).to_bytes(4, "big"), np.uint8)
        place = found.ctypes.data + 12
        size = self._compress(values.ctypes.data, place, values.size, values.itemsize, block)
        assert size > 0
        return found[: 12 + size]


def direct(folder: Path, values: NDArray[Any], rounds: int = 9, chunks: int = 64) -> None:
    """Microseconds for each spectrum of the processor's time and of the clock's, medians of the rounds."""
    compressor = Compressor()
    options: dict[str, Any] = dict(hdf5plugin.Bitshuffle(nelems=0, cname="lz4"))
    shape = (CHUNK * chunks, values.shape[1])
    parts = [
        np.ascontiguousarray(values[first : first + CHUNK]) for first in range(0, len(values) - CHUNK, CHUNK)
    ]
    source = [parts[number % len(parts)] for number in range(chunks)]

    def by_hdf5(rows: Any) -> None:
        for number, part in enumerate(source):
            rows[number * CHUNK : (number + 1) * CHUNK] = part

    def before(rows: Any) -> None:
        for number, part in enumerate(source):
            rows.id.write_direct_chunk((number * CHUNK, 0), compressor.chunk(part))

    def in_thread(rows: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            waiting = deque[Future[NDArray[np.uint8]]]()
            for number in range(chunks):
                for each in source[number + len(waiting) : number + 3]:
                    waiting.append(pool.submit(compressor.chunk, each))
                rows.id.write_direct_chunk((number * CHUNK, 0), waiting.popleft().result())

    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for write in (by_hdf5, before, in_thread):
            path = folder / "bench-recordings.h5"
            with h5py.File(path, "w") as file:
                rows = file.create_dataset("rows", shape, values.dtype, chunks=(CHUNK, shape[1]), **options)
                wall, busy = timed(partial(write, rows))
                found.setdefault(write.__name__, []).append((1e6 * busy / shape[0], 1e6 * wall / shape[0]))
            with h5py.File(path) as file:
                assert np.array_equal(file["rows"][-CHUNK:], source[-1])
            path.unlink()
    for name, times in found.items():
        busy, wall = np.median(times, axis=0)
        low = np.min(times, axis=0)
        print(f"| {values.dtype} {name:10} | {busy:.2f} ({low[0]:.2f}) | {wall:.2f} ({low[1]:.2f}) |")


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
    parser.add_argument("--direct", action="store_true", help="chunks that are compressed before")
    given = parser.parse_args()
    data = spectra(1024)
    _, counts, raman = data
    if given.direct:
        print("microseconds for a spectrum, median and least: of the processor, of the clock")
        for values in (counts, raman):
            direct(given.folder, values)
        return
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
