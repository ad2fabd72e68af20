"""The simulator: a BCARS microscope that scans a phantom, at the rate of a real one."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.drivers.base import Acquisition, Instrument, InstrumentError, Yielded, until
from cars_rt.files.recording import SUFFIXES
from cars_rt.files.unreadable import explained
from cars_rt.physics.microscope import SATURATION, Microscope, Simulator
from cars_rt.physics.phantom import phantom
from cars_rt.physics.substances import SUBSTANCES
from cars_rt.protocol import MAX_BLOCK, MAX_PIXELS
from cars_rt.storage import StorageError, refuse_missing_folder, refuse_target

STEP_UM = (0.5, 0.5)  # as in published BCARS images of cells
TRUTH_ROWS = 256  # spectra whose truth is computed and written at once


@dataclass(frozen=True, kw_only=True)
class SimulatorSettings:
    """Settings of `cars-rt drive simulator`. Raises InstrumentError for what cannot be."""

    rate: float = 1000.0
    """Spectra per second; 0 is as fast as it can."""

    scan: str = "256x256"
    """Rows x columns of the scan, one spectrum each."""

    block: int = 1
    """Spectra per frame: 1 scans point by point, the number of columns line by line."""

    pixels: int = 1340
    """Pixels of the camera."""

    exposure_ms: float = 1.0
    """Exposure of one spectrum; more gives more counts, less noise and, in the end, saturation."""

    seed: int = 0
    """Another seed is another sample and other noise."""

    truth: Path | None = None
    """Write the ground truth to this .h5 file: raman, its noise, concentrations."""

    truth_every: int = 1
    """Write the truth of every n-th spectrum only."""

    def __post_init__(self) -> None:
        parse_scan(self.scan)
        if not 1 <= self.block <= MAX_BLOCK:
            raise InstrumentError(f"--block must be from 1 to {MAX_BLOCK}")
        if not 0 <= self.rate < np.inf:
            raise InstrumentError(f"--rate must be 0 or more, not {self.rate:g}")
        if self.truth_every < 1:
            raise InstrumentError(f"--truth-every must be 1 or more, not {self.truth_every}")
        if self.truth is not None and self.truth.suffix.lower() not in SUFFIXES:
            raise InstrumentError(f"--truth {self.truth} is to be HDF5: name it {self.truth.stem}.h5")
        if not 2 <= self.pixels <= MAX_PIXELS:
            raise InstrumentError(f"--pixels must be from 2 to {MAX_PIXELS}, not {self.pixels}")
        if not 0 < self.exposure_ms < np.inf:
            raise InstrumentError(f"--exposure-ms must be more than 0, not {self.exposure_ms:g}")
        if self.seed < 0:
            raise InstrumentError(f"--seed cannot be negative, such as {self.seed}")


class SimulatedMicroscope(Instrument):
    """A BCARS microscope by physics: scans a phantom of cells, beads and droplets once.

    Example: cars-rt drive simulator --rate 1000 --scan 256x256 --truth truth.h5
    """

    def __init__(self, settings: SimulatorSettings) -> None:
        """Raises InstrumentError for impossible settings."""
        self._settings = settings
        self.scan = parse_scan(settings.scan)
        self.simulator = Simulator(
            Microscope(pixels=settings.pixels, exposure_ms=settings.exposure_ms, seed=settings.seed)
        )
        maps = phantom(*self.scan, seed=settings.seed)
        self._concentrations = np.ascontiguousarray(maps.reshape(len(maps), -1).T)
        self._runs = 0
        self._truth = _Truth(settings.truth, self) if settings.truth else None

    def acquisition(self) -> Acquisition:
        if self._truth and self._runs:
            raise InstrumentError("--truth is of one run: leave --runs at 1")
        if self._truth:
            self._truth.open()
        self._runs += 1
        return Acquisition(
            source=f"simulated BCARS microscope, seed {self._settings.seed}",
            raman_shift=self.simulator.raman_shift,
            dtype="uint16",
            block=self._settings.block,
            spectra=len(self._concentrations),
            scan=self.scan,
            step_um=STEP_UM,
            exposure_s=self._settings.exposure_ms / 1e3,
            full_scale=float(SATURATION),
            dark=self.simulator.dark,
        )

    def frames(self) -> Iterator[Yielded]:
        block, every = self._settings.block, self._settings.truth_every
        begin, rate = time.perf_counter(), self._settings.rate
        for first in range(0, len(self._concentrations), block):
            concentrations = self._concentrations[first : first + block]
            counts = self.simulator.measure(concentrations)
            if rate > 0:
                yield from until(begin + first / rate)
            if self._truth:  # before, as a run that is stopped ends there
                chosen = np.flatnonzero((first + np.arange(len(counts))) % every == 0)
                self._truth.add(first + chosen, concentrations[chosen])
            yield counts

    def close(self) -> None:
        if self._truth:
            self._truth.close()


class _Truth:
    """The ground truth in an HDF5 file, for the spectra that are yielded. It takes the place of an earlier
    one when the run is about to begin: what is refused before costs nothing."""

    def __init__(self, path: Path, microscope: SimulatedMicroscope) -> None:
        self._path, self._scan, self._simulator = path, microscope.scan, microscope.simulator
        self._file: h5py.File | None = None
        self._index: list[NDArray[np.int64]] = []
        self._concentrations: list[NDArray[np.float32]] = []
        self._waiting = 0
        try:
            refuse_missing_folder(path.absolute().parent)
            refuse_target(path)
        except StorageError as error:
            raise InstrumentError(str(error)) from None
        if path.exists() and not _is_truth(path):
            raise InstrumentError(f"--truth {path} is there and holds no truth; choose another name")

    def open(self) -> None:
        """Make the file. Raises InstrumentError."""
        try:
            self._path.unlink(missing_ok=True)
            self._file = file = h5py.File(self._path, "x")
        except OSError as error:
            raise InstrumentError(f"{self._path} cannot be written: {explained(error)}") from None
        pixels, names = len(self._simulator.raman_shift), [substance.name for substance in SUBSTANCES]
        file["raman_shift"] = self._simulator.raman_shift
        file.attrs["substances"] = names
        file.attrs["scan"] = self._scan
        for name, tail, dtype in (
            ("index", (), np.int64),
            ("concentrations", (len(names),), np.float32),
            ("raman", (pixels,), np.float32),
            ("strongest_over_noise", (), np.float32),
        ):
            file.create_dataset(name, (0, *tail), dtype, maxshape=(None, *tail), chunks=(TRUTH_ROWS, *tail))

    def add(self, index: NDArray[np.int64], concentrations: NDArray[np.float32]) -> None:
        """Note spectra (k,) of the scan, with concentrations (k, substances)."""
        if not len(index):
            return
        self._index.append(index)
        self._concentrations.append(concentrations)
        self._waiting += len(index)
        if self._file is not None and self._waiting >= TRUTH_ROWS:
            self._write(self._file)

    def close(self) -> None:
        """Write what is left."""
        if self._file is None:
            return
        if self._waiting:
            self._write(self._file)
        self._file.close()

    def _write(self, file: h5py.File) -> None:
        concentrations = np.concatenate(self._concentrations)
        raman = self._simulator.raman(concentrations)
        strongest = raman.argmax(axis=1)[:, None]
        noise = self._simulator.raman_noise(concentrations)
        ratio = np.take_along_axis(raman, strongest, 1) / np.take_along_axis(noise, strongest, 1)
        columns: dict[str, NDArray[Any]] = {
            "index": np.concatenate(self._index),
            "concentrations": concentrations,
            "raman": raman,
            "strongest_over_noise": ratio[:, 0],
        }
        for name, values in columns.items():
            dataset = file[name]
            dataset.resize(len(dataset) + len(values), axis=0)
            dataset[-len(values) :] = values
        self._index, self._concentrations, self._waiting = [], [], 0


def _is_truth(path: Path) -> bool:
    """Whether a simulator wrote this file, also where it was killed meanwhile: an empty or broken one."""
    if path.stat().st_size == 0:
        return True
    if not h5py.is_hdf5(path):
        return False
    try:
        with h5py.File(path, locking=False) as file:
            return "strongest_over_noise" in file
    except OSError:
        return True


def parse_scan(text: str) -> tuple[int, int]:
    """Rows and columns of "256x256". Raises InstrumentError."""
    rows, _, columns = text.lower().partition("x")
    sizes = [int(size) for size in (rows, columns) if size.isdecimal()]
    if len(sizes) != 2 or min(sizes) < 1 or max(sizes) > 2048:
        raise InstrumentError(f"--scan {text!r}: give rows and columns from 1 to 2048, such as 256x256")
    return sizes[0], sizes[1]
