"""The numbers of a file that are shown, read piece by piece: memory does not grow with the file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cars_rt.files.dataset import at_numbers, of_plane, open_dataset
from cars_rt.files.measurement import TARGET
from cars_rt.physics.fitness import NAMES
from cars_rt.physics.quantity import CAMERA_COUNTS, QUANTITIES, RATIO, Quantity, quantity
from cars_rt.show.bands import WIDTH_CM1, Band, Floats, strongest
from cars_rt.show.errors import ShowError

if TYPE_CHECKING:
    import xarray

PIECE = 2**22  # values that are read at once, about

CLIP = 0.5, 99.5  # percent of the values between which colours run


@dataclass(slots=True)
class Point:
    """One spectrum: where, (row, column) or (number,), and what was measured there."""

    at: tuple[int, ...]
    spectra: dict[str, Floats]  # (p,), by name: counts, raman


@dataclass(slots=True)
class Shown:
    """What is shown of a file: a map (y, x), or a list (n,) where there is no scan."""

    file: str
    main: str  # raman or counts: what the maps are of
    raman_shift: Floats  # (p,), cm-1
    bands: list[Band]
    maps: list[Floats]  # of each band; NaN where no spectrum is
    measured: NDArray[np.bool_]  # in the same shape
    flags: NDArray[np.uint8] | None  # bits, in the same shape
    means: dict[str, Floats]  # (p,), by name: counts, raman
    points: list[Point] = field(default_factory=list)
    step_um: tuple[float, float] | None = None  # of rows, of columns
    about: dict[str, str] = field(default_factory=dict)
    numbers: NDArray[np.int64] | None = None  # of the spectra of a list
    plane: str = ""  # which one of a stack, in words
    result: Quantity = QUANTITIES[RATIO]  # what raman is
    repeated: int = 0  # spectra of the whole file that are not shown, since a later one has their place

    def symbol(self, name: str) -> str:
        """What counts or raman are, for an axis."""
        return (self.result if name == "raman" else CAMERA_COUNTS).symbol

    @property
    def is_map(self) -> bool:
        """Whether a scan drew it."""
        return self.measured.ndim == 2

    @property
    def flagged(self) -> dict[str, int]:
        """Spectra by flag, those that there are."""
        if self.flags is None:
            return {}
        counts = {name: int((self.flags & flag > 0).sum()) for flag, name in NAMES.items()}
        return {name: count for name, count in counts.items() if count}

    def describe(self) -> str:
        """How much there is, in a phrase."""
        there, places = int(self.measured.sum()), self.measured.size
        plane = f"{self.plane}, " if self.plane else ""
        size = " × ".join(map(str, self.measured.shape))
        of = f"{size} = {places} spectra" if self.is_map else f"{places} spectra"
        missing = "" if there == places else f", {places - there} missing"
        if self.repeated:
            missing += f",{' in all planes' if plane else ''} {self.repeated} at the place of a later one"
        flagged = "".join(f", {count} {name}" for name, count in self.flagged.items())
        return f"{plane}{of}{missing}{flagged}"


def read(
    path: Path,
    bands: Sequence[Band] = (),
    at: Sequence[tuple[int, ...]] = (),
    *,
    counts: bool = False,
    plane: int | None = None,
    width: float = WIDTH_CM1,
    pump_nm: float | None = None,
    axis: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Shown:
    """Read what is to be shown. bands: none takes the strongest one. at: (row, column) of a map, (number,) of
    a list. counts: map these, not the results. plane: of a stack, the middle one if not given.
    pump_nm, axis: as `open_dataset` takes them.

    Raises SpectraError for a file that cannot be read, ShowError for what is not in it.
    """
    dataset = open_dataset(path, pump_nm=pump_nm, axis=axis)
    dataset, plane_said = of_plane(dataset, plane)
    if counts and "counts" not in dataset:
        raise ShowError(f"there are no counts in {path}: record them with --raw")
    main = "counts" if counts or "raman" not in dataset else "raman"
    if not dataset[main].size:
        raise ShowError(f"{path} holds no spectra")
    raman_shift = np.asarray(dataset["raman_shift"].values, np.float64)
    for band in bands:
        band.pixels(raman_shift)  # before anything is read
    chosen = list(bands) or [_strongest(dataset, main, raman_shift, width)]
    shown = _read(dataset, main, raman_shift, chosen, progress)
    shown.file = path.name
    if "raman" in dataset:
        shown.result = quantity(dataset["raman"].attrs.get(TARGET))
    shown.repeated = int(dataset.attrs.get("spectra_repeated", 0))
    shown.points = [_point(dataset, each) for each in at]
    shown.plane = plane_said
    return shown


def _strongest(dataset: "xarray.Dataset", main: str, raman_shift: Floats, width: float) -> Band:
    """Of some spectra, spread over the file."""
    lead = dataset[main].dims[0]
    size = int(dataset.sizes[lead])
    some = np.unique(np.linspace(0, size - 1, 16).astype(int))
    values = dataset[main].isel({lead: some}).values.reshape(-1, len(raman_shift))
    return strongest(
        raman_shift, _mean(np.nansum(values, 0, np.float64), np.isfinite(values[:, 0]).sum()), width
    )


def _read(
    dataset: "xarray.Dataset",
    main: str,
    raman_shift: Floats,
    bands: list[Band],
    progress: Callable[[int, int], None],
) -> Shown:
    measured = dataset[f"{main}_measured"].values
    shape = measured.shape
    maps = [np.full(shape, np.nan, np.float32) for _ in bands]
    pixels = [band.pixels(raman_shift) for band in bands]
    names = [name for name in ("counts", "raman") if name in dataset]
    sums = {name: np.zeros(len(raman_shift)) for name in names}
    counted = dict.fromkeys(names, 0)
    lead = dataset[main].dims[0]
    step = max(PIECE // max(int(np.prod(shape[1:], dtype=int)) * len(raman_shift), 1), 1)
    for first in range(0, shape[0], step):
        piece = slice(first, min(first + step, shape[0]))
        for name in names:
            values = dataset[name].isel({lead: piece}).values
            if name == main:
                for image, part in zip(maps, pixels, strict=True):
                    with np.errstate(over="ignore"):  # larger than any camera's: infinite
                        image[piece] = values[..., part].mean(axis=-1, dtype=np.float64)
            flat = values.reshape(-1, len(raman_shift))
            there = np.isfinite(flat).all(axis=1)
            sums[name] += flat[there].sum(axis=0, dtype=np.float64)
            counted[name] += int(there.sum())
        progress(piece.stop, shape[0])
    means = {name: _mean(sums[name], counted[name]) for name in names}
    flags = dataset["flags"].values if "flags" in dataset else None
    return Shown(
        "",
        main,
        raman_shift,
        bands,
        maps,
        measured,
        flags,
        means,
        step_um=_step(dataset),
        about=_about(dataset),
        numbers=dataset["spectrum"].values.astype(np.int64) if "spectrum" in dataset.dims else None,
    )


def _mean(total: Floats, count: int) -> Floats:
    return total / count if count else np.full_like(total, np.nan)


def _step(dataset: "xarray.Dataset") -> tuple[float, float] | None:
    """Where both axes say that they are in um."""
    found = []
    for name in ("y", "x"):
        if name not in dataset.coords or dataset[name].attrs.get("units") != "um" or dataset.sizes[name] < 2:
            return None
        values = dataset[name].values
        found.append(abs(float(values[1] - values[0])))
    return found[0], found[1]


def _about(dataset: "xarray.Dataset") -> dict[str, str]:
    """What a caption says."""
    attrs = dataset.attrs
    known = {name: attrs.get(name) for name in ("sample", "source", "run")}
    known |= {"model": dataset["raman"].attrs.get("model_name") if "raman" in dataset else None}
    known |= {"ended": attrs.get("reason")}
    return {name: text for name, text in known.items() if isinstance(text, str) and text}


def _point(dataset: "xarray.Dataset", at: tuple[int, ...]) -> Point:
    names = [name for name in ("counts", "raman") if name in dataset]
    dims = dataset[names[0]].dims[:-1]
    said = ", ".join(map(str, at))
    if len(at) != len(dims):
        form = "ROW,COLUMN" if len(dims) == 2 else "NUMBER"
        raise ShowError(f"{said} is no point of this file: give it as {form}")
    if dims == ("spectrum",):
        if (there := at_numbers(dataset, range(at[0], at[0] + 1))) is None:
            numbers = dataset["spectrum"].values
            span = f"they go from {numbers[0]:.0f} to {numbers[-1]:.0f}" if len(numbers) else "there are none"
            raise ShowError(f"there is no spectrum {said}: {span}")
        return Point(at, {name: dataset[name].isel(spectrum=there.start).values for name in names})
    for dim, place in zip(dims, at, strict=True):
        if not 0 <= place < dataset.sizes[dim]:
            raise ShowError(f"there is no spectrum at {said}: {dim} goes from 0 to {dataset.sizes[dim] - 1}")
    where = dict(zip(dims, at, strict=True))
    return Point(at, {name: dataset[name].isel(where).values for name in names})


def limits(image: Floats) -> tuple[float, float]:
    """Between which values colours run: without the few brightest and darkest."""
    there = image[np.isfinite(image)]
    if not there.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(there, CLIP))
    return (low, high) if high > low else (low, low + (abs(low) or 1.0))
