"""How fast counts and results are written, and how long a flush takes."""

import os
import shutil
import time
import uuid
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from cars_rt.check.load import Load
from cars_rt.check.processor import Costs
from cars_rt.check.report import Line, Verdict, compared
from cars_rt.check.settings import CheckSettings, Progress
from cars_rt.files.recording import TRIAL, Recording, partial_path
from cars_rt.protocol import Frame, StreamName
from cars_rt.protocol.messages import MAIN_ARRAY

FLUSH_S = 1.0  # as the recorder
DISK_BYTES = 2e9  # written at most, and no more than
DISK_SHARE = 0.25  # this share of what is free


def measure_disk(settings: CheckSettings, load: Load, costs: Costs, progress: Progress) -> tuple[Line, float]:
    """Counts and results into one recording. The line, and the longest time that a flush took."""
    folder = settings.output.absolute()
    path = folder / f"{TRIAL}{uuid.uuid4().hex}.h5"
    try:
        free = shutil.disk_usage(folder).free
        spectra, seconds, slowest = _write(path, load, settings.seconds, free, costs, progress)
    except OSError as error:
        return Line(name="disk", verdict=Verdict.FAILS, note=str(error)), 0.0
    finally:
        for left in (path, partial_path(path)):
            with suppress(OSError):
                left.unlink(missing_ok=True)
    size = load.recorded_bytes
    minutes = free / (size * load.rate) / 60
    note = f"{free / 1e9:.0f} GB free in {folder}: {minutes:,.0f} min; slowest flush {slowest * 1e3:.0f} ms"
    line = compared("disk", load.rate * size / 1e6, spectra * size / seconds / 1e6, "MB/s", note)
    if (planned := (load.start.spectra or 0) * size) > free:
        note += f"; the run needs {planned / 1e9:.0f} GB"
        line = replace(line, verdict=Verdict.FAILS, note=note)
    return line, slowest


def _write(
    path: Path, load: Load, seconds: float, free: int, costs: Costs, progress: Progress
) -> tuple[int, float, float]:
    """Spectra written, the seconds until the disk had them, and the slowest flush. Raises OSError."""
    streams: tuple[StreamName, StreamName] = ("raw", "raman")
    block = load.start.block
    most = max(int(min(DISK_BYTES, free * DISK_SHARE) / load.recorded_bytes / block), 1)
    starts = [replace(load.start_of(stream), spectra=most * block) for stream in streams]
    arrays = [np.resize(load.counts.astype(start.dtype), (block, start.pixels)) for start in starts]
    recording = Recording(path)
    try:
        for start in starts:
            recording.start(start)
        slowest, number, begin, busy = 0.0, 0, time.perf_counter(), time.process_time()
        flushed = begin
        while number < most and (now := time.perf_counter()) < begin + seconds:
            for start, array in zip(starts, arrays, strict=True):
                name = MAIN_ARRAY[start.stream]
                recording.append(
                    Frame(start.stream, start.run, number, number * block, time.time_ns(), {name: array})
                )
            number += 1
            if now - flushed > min(FLUSH_S, seconds / 5):
                recording.flush()
                flushed = time.perf_counter()
                slowest = max(slowest, flushed - now)
                progress("disk", (flushed - begin) / seconds)
        now = time.perf_counter()
        recording.close()
        slowest = max(slowest, time.perf_counter() - now)
        costs["record"] = (time.process_time() - busy) / (number * block)
        with path.open("rb+") as file:  # not the system's memory: the disk
            os.fsync(file.fileno())
        return number * block, time.perf_counter() - begin, slowest
    except BaseException:
        recording.fail()
        raise
