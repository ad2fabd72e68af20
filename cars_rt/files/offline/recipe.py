"""What is done to counts, and how results are recognised as those of these counts."""

import hashlib
import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cars_rt.engines import AUTO, DEFAULT_MODEL, Model
from cars_rt.files.calibrated import open_calibrated
from cars_rt.files.spectra import Spectra, readable


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the user wants done to counts; can be sent to another process.

    model: as `load_offline` takes it. reference: spectra of a non-resonant sample. engine:
    its name, or auto. pump_nm: of files whose axis is in nm, also of the reference's. axis: a file with the
    axis of one that has none. calibration: as `open_calibrated` takes it.
    """

    model: str = DEFAULT_MODEL
    reference: Path | None = None
    engine: str = AUTO
    pump_nm: float | None = None
    axis: Path | None = None
    calibration: Path | None = None

    def opened(self, source: Path) -> AbstractContextManager[Spectra]:
        """The spectra of a file, read as the recipe says. Raises SpectraError."""
        return open_calibrated(source, self.pump_nm, self.axis, self.calibration)


def made_from(path: Path, spectra: Spectra, model: Model) -> str:
    """What results come from, as text: the counts, by their file's size and time and by a few of them, their
    axis and dark, and the model. Where it is the same, so are the results of the same engine.

    Raises SpectraError for counts that cannot be read."""
    about, last = path.stat(), len(spectra.counts) - 1
    # Copies keep times, and some disks know two seconds: another file may look the same from outside.
    some = [readable(spectra.counts, at, at + 1) for at in sorted({0, last // 2, last})]
    said: dict[str, Any] = {
        "bytes": about.st_size,
        "modified_ns": about.st_mtime_ns,
        "spectra": len(spectra.counts),
        "some": _hashed(np.concatenate(some)),
        "axis": _hashed(spectra.raman_shift),
        "dark": None if spectra.dark is None else _hashed(spectra.dark),
        "full_scale": spectra.saturates_at,
        "model": model.sha256,
    }
    return json.dumps(said, sort_keys=True)


def _hashed(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
