"""One spectrum as text, with what is known of it above."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cars_rt.files.dataset import at_number
from cars_rt.files.export.cube import Cube, ExportError
from cars_rt.protocol import NETWORK_OUTPUTS


def write_csv(cube: Cube, path: Path, at: Sequence[int]) -> None:
    """The spectrum at these places, (row, column) or a number, or the mean of all if none are given.

    Columns are the raman shift, the values and, beside one of the results, its deviation, if the file has it.
    Raises ExportError.
    """
    columns = {"raman_shift": cube.raman_shift}
    if at:
        place, there = ",".join(map(str, at)), _there(cube, at)
        if not cube.dataset[f"{cube.name}_measured"].data[there].compute():
            raise ExportError(
                f"there is no spectrum of {cube.name} at {place}: it was not measured, or was lost"
            )
        for name in (cube.name, *(NETWORK_OUTPUTS if cube.name == "raman" else ())):
            if name in cube.dataset:
                columns[name] = np.asarray(cube.dataset[name].data[there].compute(), np.float64)
        where = f"at {place}"
    else:
        total, count = np.zeros(len(cube.raman_shift)), 0
        for _, values in cube.blocks():
            rows = values.reshape(-1, values.shape[-1])
            rows = rows[~np.isnan(rows).any(axis=1)]
            total, count = total + rows.sum(axis=0, dtype=np.float64), count + len(rows)
        if not count:
            raise ExportError("there is no spectrum to take the mean of")
        columns[cube.name], where = total / count, f"mean of {count} spectra"
    about = f"# {' '.join(cube.title.split())}: {cube.name} {where}; {cube.name} is {cube.quantity}"
    head = f"{about}\n{','.join(columns)}"
    table = np.column_stack(list(columns.values()))
    np.savetxt(path, table, fmt="%.9g", delimiter=",", header=head, comments="", encoding="utf-8")


def _there(cube: Cube, at: Sequence[int]) -> tuple[int, ...]:
    """Where in the values the spectrum is: one of a list goes by its number."""
    place = ",".join(map(str, at))
    if cube.dims == ("spectrum",):
        there = at_number(cube.dataset, at[0]) if len(at) == 1 else None
        if there is None:
            numbers = cube.dataset["spectrum"].values
            ends = f", {numbers[0]:.0f} to {numbers[-1]:.0f}" if len(numbers) else ""
            raise ExportError(f"there is no spectrum at {place} of {len(numbers)}{ends}")
        return (there,)
    if len(at) != len(cube.dims) or not all(0 <= n < size for n, size in zip(at, cube.shape, strict=False)):
        sizes = " x ".join(map(str, cube.shape[:-1]))
        raise ExportError(f"there is no spectrum at {place} of {sizes}, counted from 0")
    return tuple(at)
