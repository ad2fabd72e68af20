"""HyperSpy's .hspy by RosettaSciIO. An axis that is not uniform is kept point by point."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.export.cube import Cube

UNIFORM = 1e-6  # share of a step by which steps may differ


def write_hspy(cube: Cube, path: Path) -> None:
    """Write the file lazily, chunk by chunk."""
    from rsciio.hspy import file_writer

    axes = [
        _place(name, size, step) for name, size, step in zip(cube.dims, cube.shape, cube.steps, strict=False)
    ]
    axes.append(_spectral(cube.raman_shift))
    for at, axis in enumerate(axes):
        axis |= {"index_in_array": at, "navigate": at < len(axes) - 1, "is_binned": False}
    about: dict[str, Any] = {
        "General": {"title": cube.title},
        "Signal": {"signal_type": "", "quantity": cube.quantity},
    }
    empty: dict[str, Any] = {name: {} for name in ("learning_results", "models", "tmp_parameters")}
    known = {
        name: value for name, value in cube.dataset.attrs.items() if isinstance(value, str | int | float)
    }
    signal = empty | {
        "data": cube.values,
        "axes": axes,
        "metadata": about,
        "original_metadata": {"cars_rt": known},
        "attributes": {"_lazy": True, "ragged": False},
        "package_info": {"package": "hyperspy", "package_version": "2.0"},
    }
    file_writer(str(path), signal, show_progressbar=False)


def _place(name: str, size: int, step: float | None) -> dict[str, Any]:
    return {
        "_type": "UniformDataAxis", "name": name, "size": size, "offset": 0.0, "scale": step or 1.0,
        "units": "um" if step else "",
    }  # fmt: skip


def _spectral(axis: NDArray[np.float64]) -> dict[str, Any]:
    about = {"name": "Raman shift", "units": "1/cm", "size": len(axis)}
    steps = np.diff(axis)
    if np.abs(steps - steps.mean()).max() <= UNIFORM * abs(steps.mean()):
        return about | {"_type": "UniformDataAxis", "offset": float(axis[0]), "scale": float(steps.mean())}
    return about | {"_type": "DataAxis", "axis": axis}
