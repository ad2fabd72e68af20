"""Spectra in files: .csv, .npz and .h5 in, the result in the same kinds out."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.errors import CarsRtError
from cars_rt.physics.axis import AxisError, check_raman_shift

KINDS = (".csv", ".txt", ".npz", ".h5", ".hdf5")


class SpectraError(CarsRtError, ValueError):
    """A file that cannot be read or written, with the reason in one sentence."""


@dataclass(frozen=True, eq=False)
class Spectra:
    """Counts as a camera gave them."""

    raman_shift: NDArray[np.float64]  # (p,), cm-1
    counts: NDArray[Any]  # (n, p)
    dark: NDArray[np.float32] | None = None  # (p,)
    scan: tuple[int, int] | None = None  # rows, columns
    full_scale: float | None = None  # counts at which the camera saturates, if known


def read_spectra(path: Path) -> Spectra:
    """Spectra from a file.

    .csv, .txt: raman shift in the first column, one spectrum in each further one. .npz: `spectra`
    (n, p) or (p,) and `raman_shift` (p,), `dark` (p,) if known. .h5: a recording of `cars-rt record`, or
    the same names as in .npz. Raises SpectraError, also for NaN, empty or mismatched arrays.
    """
    read = {".csv": _read_text, ".txt": _read_text, ".npz": _read_npz, ".h5": _read_h5, ".hdf5": _read_h5}
    if path.suffix.lower() not in read:
        raise SpectraError(f"{path}: the file's name must end in one of {', '.join(KINDS)}")
    if not path.is_file():
        raise SpectraError(f"there is no file {path}")
    try:
        spectra = read[path.suffix.lower()](path)
        return _checked(spectra)
    except (SpectraError, AxisError) as error:
        raise SpectraError(f"{path}: {error}") from None
    except Exception as error:  # three formats, and each has its own kinds of errors for a broken file
        raise SpectraError(f"{path} cannot be read: {error}") from None


def write_raman(
    path: Path,
    raman_shift: NDArray[np.float64],
    raman: NDArray[np.float32],
    model: dict[str, str],
    *,
    flags: NDArray[np.uint8] | None = None,
    deviation: NDArray[np.float32] | None = None,
) -> None:
    """Write raman (n, p) with its axis and the model that made it, as .npz, .h5 or .csv.

    flags (n,) and deviation (n, p) are written, too, where there are any. Written beside the target and
    renamed when complete. Raises SpectraError if that fails.
    """
    arrays: dict[str, NDArray[Any]] = {"raman": raman, "raman_shift": raman_shift}
    arrays |= {} if flags is None else {"flags": flags}
    arrays |= {} if deviation is None else {"deviation": deviation}
    write: dict[str, Callable[[Path], None]] = {
        ".npz": lambda target: _write_npz(target, arrays, model),
        ".h5": lambda target: _write_h5(target, arrays, model),
        ".hdf5": lambda target: _write_h5(target, arrays, model),
        ".csv": lambda target: _write_csv(target, arrays, model),
    }
    writable(path, tuple(write))
    partial = path.with_name(f".{path.name}.partial{path.suffix}")
    try:
        write[path.suffix.lower()](partial)
        partial.replace(path)
    except OSError as error:
        raise SpectraError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def writable(path: Path, kinds: tuple[str, ...]) -> None:
    """Refuse, before any work is done, a target that cannot be written. Raises SpectraError."""
    if path.suffix.lower() not in kinds:
        raise SpectraError(f"{path}: the output's name must end in one of {', '.join(kinds)}")
    if path.is_dir():
        raise SpectraError(f"{path} is a folder")
    if not path.parent.is_dir():
        raise SpectraError(f"there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise SpectraError(f"no permission to write in the folder {path.parent}")


def _checked(spectra: Spectra) -> Spectra:
    counts = np.atleast_2d(np.asarray(spectra.counts))
    raman_shift = check_raman_shift(spectra.raman_shift)
    if counts.dtype.kind not in "uif":
        raise SpectraError(f"the spectra are of type {counts.dtype}, not numbers")
    if counts.dtype.kind == "i" or counts.dtype.itemsize > 8 or counts.dtype == np.float16:
        counts = counts.astype(np.float32)
    if counts.ndim != 2 or counts.size == 0:
        raise SpectraError(f"the spectra have the shape {counts.shape}; (spectra, pixels) is needed")
    if counts.shape[1] != len(raman_shift):
        raise SpectraError(f"spectra of {counts.shape[1]} pixels with an axis of {len(raman_shift)}")
    if not np.isfinite(counts).all():
        row, pixel = np.argwhere(~np.isfinite(counts))[0]
        raise SpectraError(f"spectrum {row} is NaN or infinite at pixel {pixel}")
    dark = spectra.dark
    if dark is not None:
        dark = np.asarray(dark, np.float32)
        if dark.shape != raman_shift.shape or not np.isfinite(dark).all():
            raise SpectraError(f"the dark spectrum must be {len(raman_shift)} finite numbers")
    full_scale = spectra.full_scale
    if full_scale is None and counts.dtype.kind == "u":
        full_scale = float(np.iinfo(counts.dtype).max)
    return Spectra(raman_shift, counts, dark, spectra.scan, full_scale)


# -- one kind of file each --------------------------------------------------------------------------


def _read_text(path: Path) -> Spectra:
    rows: list[list[float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words = line.split("#")[0].replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            rows.append([float(word) for word in words])
        except ValueError:
            if rows:
                raise SpectraError(f"line {number} does not hold numbers: {line[:40]!r}") from None
        if rows and len(rows[-1]) != len(rows[0]):
            raise SpectraError(f"line {number} has {len(rows[-1])} columns, the first {len(rows[0])}")
    if not rows or len(rows[0]) < 2:
        raise SpectraError("needs two columns of numbers or more: raman shift, counts")
    table = np.array(rows)
    counts = table[:, 1:].T
    whole = counts.min() >= 0 and counts.max() <= 65_535 and np.array_equal(counts, np.round(counts))
    return Spectra(table[:, 0], np.ascontiguousarray(counts, np.uint16 if whole else np.float32))


def _read_npz(path: Path) -> Spectra:
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise SpectraError("is a single array, not an .npz file")
    with archive as arrays:
        for name in ("spectra", "raman_shift"):
            if name not in arrays:
                raise SpectraError(f"holds no array {name!r}, only {', '.join(sorted(arrays)) or 'nothing'}")
        return Spectra(arrays["raman_shift"], arrays["spectra"], arrays.get("dark"))


def _read_h5(path: Path) -> Spectra:
    with h5py.File(path, "r") as file:
        group = file.get("raw", file)
        name = next((name for name in ("counts", "spectra") if name in group), None)
        if name is None or "raman_shift" not in group:
            raise SpectraError("holds neither raw/counts nor spectra, with raman_shift beside it")
        written = int(group["written"][()]) if "written" in group else len(group[name])
        dark = group["dark"][()] if "dark" in group else None
        scan, full_scale = group.attrs.get("scan"), group.attrs.get("full_scale")
        if "index" in group and not np.array_equal(group["index"][:written], np.arange(written)):
            scan = None  # a part of a scan: played from its beginning, spectra would lie at wrong places
        return Spectra(
            group["raman_shift"][()],
            group[name][:written],
            dark,
            (int(scan[0]), int(scan[1])) if scan is not None and len(scan) == 2 else None,
            None if full_scale is None else float(full_scale),
        )


def _write_npz(path: Path, arrays: dict[str, NDArray[Any]], model: dict[str, str]) -> None:
    with path.open("wb") as file:  # given a name, savez would append .npz to one that ends in .NPZ
        contents: dict[str, Any] = {**arrays, "model": model["name"], "model_sha256": model["sha256"]}
        np.savez(file, **contents)


def _write_h5(path: Path, arrays: dict[str, NDArray[Any]], model: dict[str, str]) -> None:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs["model"] = model["name"]
        file.attrs["model_sha256"] = model["sha256"]


def _write_csv(path: Path, arrays: dict[str, NDArray[Any]], model: dict[str, str]) -> None:
    columns, names = [arrays["raman_shift"]], ["raman_shift"]
    for name in ("raman", "deviation"):
        rows = arrays.get(name, np.empty((0, 0)))
        columns += list(rows)
        names += [name] if len(rows) == 1 else [f"{name}_{row}" for row in range(len(rows))]
    flags = " ".join(str(each) for each in arrays.get("flags", ()))
    about = f"# model {model['name']}, " + (f"flags {flags}, " if flags else "") + f"sha256 {model['sha256']}"
    header = about + "\n" + ",".join(names)
    np.savetxt(path, np.column_stack(columns), fmt="%.9g", delimiter=",", header=header, comments="")
