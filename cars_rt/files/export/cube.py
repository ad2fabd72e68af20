"""What is exported: one array of a file in the shape of its scan, with what is known of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.errors import CarsRtError
from cars_rt.files.dataset import of_plane, open_dataset


class ExportError(CarsRtError, ValueError):
    """An export that cannot be made, with the reason in one sentence."""


@dataclass(frozen=True, eq=False)
class Cube:
    """values: dask array (..., p), float32, NaN where nothing was measured. raman_shift: (p,), cm-1.
    dims: names of the leading dimensions. steps: um of each of them, None where they are no lengths. part:
    what of it was written, in words, if not all."""

    name: str
    values: Any
    raman_shift: NDArray[np.float64]
    dims: tuple[str, ...]
    steps: tuple[float | None, ...]
    dataset: Any
    part: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the values."""
        return tuple(self.values.shape)

    @property
    def repeated(self) -> int:
        """How many spectra are not among the values, since a later one has their place."""
        return int(self.dataset.attrs.get("spectra_repeated", 0))

    @property
    def title(self) -> str:
        """What is known of the run, for people."""
        return (
            f"{self.dataset.attrs.get('source', '')} {self.dataset.attrs.get('run', '')}".strip() or self.name
        )

    @property
    def quantity(self) -> str:
        """What the values are."""
        return str(self.dataset[self.name].attrs["long_name"])

    def blocks(self) -> Iterator[tuple[tuple[slice, ...], NDArray[np.float32]]]:
        """The values piece by piece, as they are read from the file, each with its place."""
        from dask.array.core import slices_from_chunks

        for part in slices_from_chunks(self.values.chunks):  # type: ignore[no-untyped-call]
            yield part[:-1], np.asarray(self.values[part].compute(scheduler="synchronous"), np.float32)


def open_cube(
    path: Path,
    what: str | None = None,
    pump_nm: float | None = None,
    plane: int | None = None,
    axis: Path | None = None,
) -> Cube:
    """what: raman or counts; if not given, raman where there is any. pump_nm, axis: as
    `open_dataset` takes them. plane: of a stack, all if not given. Raises SpectraError, ExportError."""
    dataset = open_dataset(path, pump_nm=pump_nm, axis=axis)
    if plane is not None:
        dataset, _ = of_plane(dataset, plane)
    there = [name for name in ("raman", "counts") if name in dataset]
    name = what or there[0]
    if name not in dataset or "raman_shift" not in dataset[name].dims:
        raise ExportError(f"{path} holds no {name}, only {', '.join(there)}")
    array = dataset[name]
    if not array.size:
        raise ExportError(f"{path} holds no spectra")
    dims = tuple(str(each) for each in array.dims[:-1])
    step_um = dict(zip(("y", "x"), dataset.attrs.get("step_um") or (), strict=False))
    steps = tuple(step_um.get(each) for each in dims)
    return Cube(name, array.data, np.asarray(dataset["raman_shift"].values, np.float64), dims, steps, dataset)
