"""A recording in place of a daemon: read piece by piece, so that its map grows as a scan's does."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import cars_rt
from cars_rt.errors import CarsRtError
from cars_rt.files.measurement import RECEIPT, TARGET, judged
from cars_rt.physics.quantity import COUNTS, RATIO
from cars_rt.protocol import BANDS, End, Frame, Reason, Start
from cars_rt.view.store import Store

log = logging.getLogger("cars_rt.view")


class Recorded(threading.Thread):
    """Reads a file into the store. `trouble` is why it could not, in one sentence.

    Raises SpectraError for what is no file of spectra.
    """

    def __init__(self, store: Store, path: Path) -> None:
        super().__init__(name=f"reading {path}", daemon=True)
        self.trouble = ""
        self._store, self._over = store, threading.Event()
        self._data = cars_rt.open(path)
        self._name = "raman" if "raman" in self._data else "counts"
        self.results = self._name == "raman"
        self.start_message, self.planes = _start(self._data, self._name)
        self._places, self._numbers = _laid(self._data, self._name)

    def run(self) -> None:
        store, start = self._store, self.start_message
        store.begin(start)
        assert store.scan is not None
        store.scan.stacked = self.planes
        store.scan.numbers = self._numbers
        low, high = float(start.raman_shift.min()), float(start.raman_shift.max())
        store.scan.bands = tuple(band for band in BANDS if band.high >= low and band.low <= high)
        try:
            for frame in _frames(self._data, self._name, start, self._places):
                if self._over.is_set():
                    return
                store.read(frame)
        except CarsRtError as error:
            log.error("%s", error)
            self.trouble = str(error)
        except Exception as error:  # whatever it is: the page says that not all of the file is shown
            log.exception("%s cannot be read", self.name)
            self.trouble = f"it cannot be read further: {type(error).__name__}: {error}"
        about = judged(self._data[self._name].attrs, RECEIPT, strict=False)
        counted = json.loads(about.get("lost", "{}"))
        reason = str(self._data.attrs.get("reason", Reason.COMPLETE))
        reason = reason if reason in set(Reason) else Reason.COMPLETE
        store.over(
            End("preview", start.run, time.time_ns(), 0, store.scan.seen, Reason(reason), lost=counted)
        )

    def close(self) -> None:
        """Stop reading."""
        self._over.set()
        self.join()


def _start(data: Any, name: str) -> tuple[Start, int]:
    """What the run was, and how many planes it has."""
    values = data[name]
    planes = values.sizes.get("z", 1)
    scan = None
    if "y" in values.sizes:
        scan = int(planes * values.sizes["y"]), int(values.sizes["x"])
    step = data.attrs.get("step_um")
    target = str(values.attrs.get(TARGET, RATIO)) if name == "raman" else COUNTS
    known = isinstance(step, list | tuple | np.ndarray) and len(step) == 2
    return Start(
        stream="preview",
        run=str(data.attrs.get("run", "file"))[:64],
        time_ns=int(data.attrs.get("time_ns", 0)),
        source=str(data.attrs.get("source", "a file")),
        raman_shift=np.asarray(data["raman_shift"].values, np.float64),
        dtype="float32",
        block=1,
        spectra=int(np.prod([size for dim, size in values.sizes.items() if dim != "raman_shift"])),
        scan=scan,
        step_um=(float(step[0]), float(step[1])) if known else None,
        model={"target": target},
    ), int(planes)


def _laid(data: Any, name: str) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Of a list where each spectrum (n,) is laid, which is its number. Where most would be gaps, for which
    what is there would be averaged, they lie one behind the other; then also what they are called."""
    values = data[name]
    if "x" in values.sizes:
        return None, None
    numbers = np.asarray(values[values.dims[0]].values).astype(np.int64)
    measured = data.get(f"{name}_measured")
    there = np.ones(len(numbers), bool) if measured is None else np.asarray(measured.values)
    called = numbers[there]
    if not len(called) or called[-1] - called[0] < 2 * len(called):
        return numbers, None
    return np.cumsum(there) - 1, called


def _frames(data: Any, name: str, start: Start, listed: NDArray[np.int64] | None) -> Iterator[Frame]:
    """The spectra that were measured, in order. listed: where those of a list are laid."""
    dims = [dim for dim in data[name].dims if dim != "raman_shift"]
    columns = data[name].sizes["x"] if "x" in dims else 1
    flat = [each for each in (name, "counts", "flags", f"{name}_measured") if each in data]
    outer = dims[:-1] if len(dims) > 1 else dims
    steps = data[name].chunks[data[name].dims.index(outer[-1])] if data[name].chunks else (1,)
    for plane in range(data[name].sizes.get("z", 1)):
        begin = 0
        for size in steps:
            where = {outer[-1]: slice(begin, begin + size)} | ({"z": plane} if "z" in dims else {})
            part = {each: np.asarray(data[each].isel(where).values) for each in flat}
            spectra = part[name].reshape(-1, start.pixels)
            first = (plane * data[name].sizes.get("y", 0) + begin) * columns
            places = np.arange(first, first + len(spectra))
            numbers = places if listed is None else listed[places]
            measured = part.get(f"{name}_measured", np.ones(len(spectra), bool)).reshape(-1)
            begin += size
            for run in _runs(measured, numbers):
                arrays = {"raman": spectra[run]}
                if "counts" in part and name != "counts":
                    arrays["counts"] = part["counts"].reshape(-1, part["counts"].shape[-1])[run]
                if "flags" in part:
                    arrays["flags"] = part["flags"].reshape(-1)[run]
                yield Frame("raman", start.run, 0, int(numbers[run.start]), start.time_ns, arrays)


def _runs(measured: NDArray[np.bool_], numbers: NDArray[np.int64]) -> Iterator[slice]:
    """Ranges in which it is true and the numbers have no gap."""
    there = np.flatnonzero(measured)
    gaps = np.flatnonzero((np.diff(there) > 1) | (np.diff(numbers[there]) > 1)) + 1
    for part in np.split(there, gaps):
        if len(part):
            yield slice(int(part[0]), int(part[-1]) + 1)
