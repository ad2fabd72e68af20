"""Results of a range of spectra in a file of their own, until all of them are joined.

    NAME.parts/plan.json             which counts, model and engine they are of
    NAME.parts/FIRST-LAST.npz        rows, written at once or not at all

So a process that computes a range may be killed, or compute it twice, and the next one sees what is missing.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.npz import read_npz
from cars_rt.files.spectra import SpectraError
from cars_rt.storage import numbered, replacing, write_text

log = logging.getLogger("cars_rt.offline")

PLAN = "plan.json"
PART_BYTES = 64 * 2**20  # of the results in one part


@dataclass(frozen=True)
class Parts:
    """folder: of the parts. total: spectra. size: of a part."""

    folder: Path
    total: int
    size: int

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """The first spectrum of each part, and the one after its last."""
        return [(first, min(first + self.size, self.total)) for first in range(0, self.total, self.size)]

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Parts that are missing."""
        return [each for each in self.ranges if not self.path(*each).exists()]

    def path(self, first: int, last: int) -> Path:
        """The file of a part."""
        return self.folder / f"{first:012d}-{last:012d}.npz"

    def read(self, first: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Rows of each part from this spectrum on, which is the first of one. Raises SpectraError."""
        for begin, end in self.ranges:
            if begin >= first:
                path = self.path(begin, end)
                rows, _ = read_npz(path, read_npz(path, ())[1])
                if any(len(values) != end - begin for values in rows.values()):
                    raise SpectraError(f"{path} has not the rows of its name; delete it and run again")
                yield rows

    def remove(self) -> None:
        """All of them."""
        shutil.rmtree(self.folder, ignore_errors=True)


def parts_folder(target: Path) -> Path:
    """Where the parts of a result lie."""
    return target.with_name(f"{target.name}.parts")


def planned(
    target: Path, total: int, row_bytes: int, align: int, of: dict[str, str], *, delete_others: bool = False
) -> Parts:
    """The folder for these results, with what an earlier attempt at the same left there; of: what they are
    of. Parts of something else are put aside: they may be of use to another command.

    align: sizes are multiples of this. delete_others: delete those parts. Raises OSError.
    """
    folder = parts_folder(target)
    size = max(PART_BYTES // max(row_bytes, 1) // align, 1) * align
    plan = json.dumps(of | {"total": total, "size": size}, indent=1, sort_keys=True)
    found = folder / PLAN
    if folder.exists() and not (found.is_file() and found.read_text(encoding="utf-8") == plan):
        if not found.is_file() and any(folder.iterdir()):
            raise SpectraError(f"{folder} is a folder of something else; choose another name for the result")
        some, other = any(folder.glob("*.npz")), f"{folder} were of other counts, model or engine, and are"
        if some and not delete_others:
            aside = folder.rename(next(each for each in numbered(folder) if not each.exists()))
            log.warning("%s %s now; named %s they are gone on with", other, aside, folder.name)
        else:
            shutil.rmtree(folder)
            if some:
                log.warning("%s deleted", other)
    folder.mkdir(exist_ok=True)
    write_text(found, plan, durable=False)
    return Parts(folder, total, size)


def write_part(path: Path, rows: dict[str, NDArray[Any]]) -> None:
    """One part, at once. Raises OSError."""
    with replacing(path, durable=False) as file:
        np.savez(file, **rows)  # type: ignore[arg-type]
