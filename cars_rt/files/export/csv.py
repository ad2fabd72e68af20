"""One spectrum as text, or the mean of some, with what is known of it above."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cars_rt.files.dataset import at_numbers
from cars_rt.files.export.cube import Cube, ExportError
from cars_rt.printable import counted
from cars_rt.protocol import NETWORK_OUTPUTS


def write_csv(cube: Cube, path: Path, at: Sequence[range]) -> str:
    """The spectrum at these places, rows and columns or numbers, the mean where there are several, and that
    of all if no places are given. Returns which it is, in words.

    Columns are the raman shift, the values and, beside one of the results, its deviation, beside counts their
    dark, if the file has it. Raises ExportError.
    """
    columns = {"raman_shift": cube.raman_shift}
    place = ",".join(map(_said, at))
    there = _there(cube, at, place) if at else ()
    if at and all(len(each) == 1 for each in at):
        one = tuple(each.start for each in there)
        if not cube.dataset[f"{cube.name}_measured"].data[one].compute():
            raise ExportError(
                f"there is no spectrum of {cube.name} at {place}: it was not measured, or was lost"
            )
        for name in (cube.name, *(NETWORK_OUTPUTS if cube.name == "raman" else ())):
            if name in cube.dataset:
                columns[name] = np.asarray(cube.dataset[name].data[one].compute(), np.float64)
        where = f"at {place}"
    else:
        total, count = np.zeros(len(cube.raman_shift)), 0
        for _, values in replace(cube, values=cube.values[there]).blocks():
            rows = values.reshape(-1, values.shape[-1])
            rows = rows[~np.isnan(rows).any(axis=1)]
            total, count = total + rows.sum(axis=0, dtype=np.float64), count + len(rows)
        if not count:
            raise ExportError(f"there is no spectrum{f' at {place}' if at else ''} to take the mean of")
        columns[cube.name] = total / count
        where = f"mean of {counted(count, 'spectrum')}{f' at {place}' if at else ''}"
    if cube.name == "counts" and "dark" in cube.dataset:  # which is still in them
        columns["dark"] = np.asarray(cube.dataset["dark"].values, np.float64)
    about = f"# {' '.join(cube.title.split())}: {cube.name} {where}; {cube.name} is {cube.quantity}"
    head = f"{about}\n{','.join(columns)}"
    table = np.column_stack(list(columns.values()))
    np.savetxt(path, table, fmt="%.9g", delimiter=",", header=head, comments="", encoding="utf-8")
    return where


def _said(places: range) -> str:
    return str(places.start) if len(places) == 1 else f"{places.start}-{places.stop - 1}"


def _there(cube: Cube, at: Sequence[range], place: str) -> tuple[slice, ...]:
    """Where in the values the spectra are: those of a list go by their numbers."""
    if cube.dims == ("spectrum",):
        there = at_numbers(cube.dataset, at[0]) if len(at) == 1 else None
        numbers = cube.dataset["spectrum"].values
        if there is None or at[0].stop - 1 > numbers[-1]:
            ends = f", {numbers[0]:.0f} to {numbers[-1]:.0f}" if len(numbers) else ""
            raise ExportError(f"there is no spectrum at {place} of {len(numbers)}{ends}")
        return (there,)
    if len(at) != len(cube.dims) or not all(
        each.stop <= size for each, size in zip(at, cube.shape, strict=False)
    ):
        sizes = " x ".join(map(str, cube.shape[:-1]))
        raise ExportError(f"there is no spectrum at {place} of {sizes}, counted from 0")
    return tuple(slice(each.start, each.stop) for each in at)
