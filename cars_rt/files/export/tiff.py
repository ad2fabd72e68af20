"""A stack of band images as TIFF, with the size of a pixel, as ImageJ and Fiji read it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cars_rt.files.export.cube import Cube, ExportError

Band = tuple[float, float]


def write_tiff(cube: Cube, path: Path, bands: Sequence[Band]) -> None:
    """Write a page for each band, the mean over it, float32; of a stack a page for each plane. Raises
    ExportError."""
    import tifffile

    if len(cube.dims) < 2:
        raise ExportError("there is no scan, so there are no images; export a spectrum as csv")
    if not bands:
        raise ExportError("give the bands that the images are of, such as --band 2850-2930 --band 1650-1670")
    axis = cube.raman_shift
    within = [(axis >= low) & (axis <= high) for low, high in bands]
    for (low, high), points in zip(bands, within, strict=True):
        if not points.any():
            raise ExportError(
                f"no point of the axis, {axis.min():g} to {axis.max():g} cm-1, is in {low:g}-{high:g}"
            )
    images = np.empty((len(bands), *cube.shape[:-1]), np.float32)
    for part, values in cube.blocks():
        for number, points in enumerate(within):
            images[number][part] = values[..., points].mean(axis=-1)
    names = [f"{low:g}-{high:g} cm-1" for low, high in bands]
    planes = images.shape[1] if len(cube.dims) == 3 else 1
    images = images.reshape(len(bands), planes, 1, *cube.shape[-3:-1]).transpose(1, 0, 2, 3, 4)[:, :, 0]
    step_y, step_x = cube.steps[-2:]
    known = step_x is not None and step_y is not None
    about = {"axes": "ZCYX", "Labels": names * planes, "mode": "grayscale"}
    tifffile.imwrite(
        path,
        images,
        imagej=True,
        resolution=(1 / step_x, 1 / step_y) if step_x and step_y else None,
        metadata=about | ({"unit": "um"} if known else {}),
    )
