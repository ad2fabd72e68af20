"""Results in files: .npz and .csv, made in memory. In .h5 they are recordings: `cars_rt.files.resumed`."""

import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.formats import HDF5
from cars_rt.files.measurement import COLUMNS
from cars_rt.files.spectra import START_NAMES, SpectraError
from cars_rt.files.unreadable import explained
from cars_rt.files.written import is_of_process
from cars_rt.protocol import FLAGS, NETWORK_OUTPUTS
from cars_rt.storage import StorageError, mkdir, refuse_target, replacing
from cars_rt.storage.memory import size as said

KINDS = (".npz", ".h5", ".hdf5", ".csv")
STREAMED = (".h5", ".hdf5")
LARGEST_BYTES = 2**30  # results that are collected for .npz
LARGEST_TEXT_BYTES = 2**27  # the same for .csv, which takes several times as much memory

Arrays = Mapping[str, NDArray[Any]]


class Results:
    """What a file is made of: arrays of one row for each spectrum, appended piece by piece."""

    def __init__(self, total: int, arrays: Arrays, attrs: Mapping[str, Any]) -> None:
        """total: spectra. arrays: those that are no rows, such as raman_shift. attrs: what else is known."""
        self.total, self.arrays, self.attrs = total, dict(arrays), dict(attrs)
        self.written = 0

    def append(self, **rows: NDArray[Any]) -> None:
        """The next rows, of the same arrays each time."""
        for name, values in rows.items():
            if not self.written:
                self.arrays[name] = np.empty((self.total, *values.shape[1:]), values.dtype)
            self.arrays[name][self.written : self.written + len(values)] = values
        self.written += len(next(iter(rows.values())))


def _write_npz(results: Results, file: BinaryIO) -> None:
    attrs = {START_NAMES.get(name, name): value for name, value in results.attrs.items()}
    contents: dict[str, Any] = {**attrs, **results.arrays}
    np.savez(file, **contents)


def _write_csv(results: Results, file: BinaryIO) -> None:
    arrays, attrs = results.arrays, results.attrs
    columns, names = [arrays["raman_shift"]], ["raman_shift"]
    for name in ("raman", *NETWORK_OUTPUTS):
        rows = arrays.get(name, np.empty((0, 0)))
        columns += list(rows)
        names += [name] if len(rows) == 1 else [f"{name}_{row}" for row in range(len(rows))]
    words = [f"model {attrs['model']}"]
    words += [f"{name} {_words(arrays[name])}" for name in (FLAGS, *COLUMNS) if name in arrays]
    for name, value in attrs.items():
        if name not in ("model", "model_sha256", "model_card"):
            words.append(f"{START_NAMES.get(name, name)} {_words(value)}")
    about = f"# {', '.join([*words, 'sha256 ' + attrs['model_sha256']])}"
    header = about + "\n" + ",".join(names)
    np.savetxt(file, np.column_stack(columns), fmt="%.9g", delimiter=",", header=header, comments="",
               encoding="utf-8")  # fmt: skip


@contextmanager
def writing_results(
    path: Path,
    total: int,
    arrays: Arrays,
    attrs: Mapping[str, Any],
    *,
    row_bytes: int,
    overwrite: bool = True,
) -> Iterator[Results]:
    """A file of results in .npz or .csv, complete when the block ends, or not there after an error.

    total: spectra. arrays: raman_shift (p,) and others that are no rows. attrs: model, model_sha256 and what
    else is known. row_bytes: of all rows of a spectrum, to judge what fits in memory. Raises SpectraError.
    """
    writable(path, total * row_bytes, overwrite=overwrite)
    kind = path.suffix.lower()
    try:
        with replacing(path, overwrite=overwrite, durable=False) as file:
            results = Results(total, arrays, attrs)
            yield results
            (_write_npz if kind == ".npz" else _write_csv)(results, file)
    except FileExistsError:
        raise SpectraError(_EXISTS.format(path)) from None
    except SpectraError:
        raise
    except StorageError as error:
        raise SpectraError(str(error)) from None
    except (OSError, RuntimeError) as error:
        raise SpectraError(f"{path} cannot be written: {explained(error)}") from None


def is_result(path: Path) -> bool:
    """Whether a file is one that `process` wrote: it can be made again from its source."""
    try:
        match path.suffix.lower():
            case ".csv":
                with path.open("rb") as file:
                    about = file.readline(LARGEST_TEXT_BYTES)
                    return _ABOUT.fullmatch(about) is not None and file.read(len(_NAMES)) == _NAMES
            case ".npz":
                with zipfile.ZipFile(path) as archive:
                    return {"raman.npy", "model_sha256.npy"} <= set(archive.namelist())
            case ending if ending in HDF5:  # any that is read, whatever name somebody gave it
                return is_of_process(path)
    except (OSError, zipfile.BadZipFile):
        pass
    return False


_ABOUT = re.compile(rb"# model .*, sha256 [0-9a-f]{64}\r?\n")
_NAMES = b"raman_shift,raman"
_EXISTS = "{} exists already; choose another name or give --overwrite"


def writable(path: Path, size: int = 0, *, overwrite: bool = True) -> None:
    """Refuse, before any work is done, a target that cannot be written. size: of the results, bytes.

    Raises SpectraError.
    """
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise SpectraError(f"{path}: the output's name must end in one of {', '.join(KINDS)}")
    try:
        refuse_target(path)
    except StorageError as error:
        raise SpectraError(str(error)) from None
    if not path.parent.is_dir():
        raise SpectraError(f"there is no folder {path.parent}; make it: {mkdir(path.parent)}")
    if not os.access(path.parent, os.W_OK):
        raise SpectraError(f"no permission to write in the folder {path.parent}")
    if not overwrite and path.exists():
        raise SpectraError(_EXISTS.format(path))
    free = shutil.disk_usage(path.parent).free
    if kind in STREAMED and size > free:
        raise SpectraError(
            f"{path}: the results need {said(size)} of room, and {path.parent} has {said(free)}"
        )
    largest = {".npz": LARGEST_BYTES, ".csv": LARGEST_TEXT_BYTES}.get(kind)
    if largest is not None and size > largest:
        raise SpectraError(
            f"{path}: {said(size)} of results are too much for {kind}, which is made in memory; "
            f"write {path.with_suffix('.h5').name} instead"
        )


def _words(value: Any) -> str:
    """Numbers or a text for a comment, without characters that end it or look like the next entry."""
    if isinstance(value, str):
        return " ".join(value.replace(",", ";").split())
    return " ".join(str(each) for each in np.asarray(value).ravel().tolist())
