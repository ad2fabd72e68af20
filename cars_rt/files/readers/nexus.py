"""Any NXdata with an axis, found as NeXus says: by the chain of `default`, else the first one there is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cars_rt.files.columns import refuse_no_counts
from cars_rt.files.hdf5 import are_whole_numbers, followed, numbers_of, stored
from cars_rt.files.measurement import MOST_WRITTEN
from cars_rt.files.readers.cube import Along, map_of
from cars_rt.files.readers.lazy import of_dataset
from cars_rt.files.readers.scale import Asked, scale_of
from cars_rt.files.spectra import Spectra, SpectraError, WavelengthError
from cars_rt.files.units import is_shift, length_um
from cars_rt.files.unreadable import UNREADABLE, unreadable
from cars_rt.printable import printable

MOST_GROUPS = 1_000  # groups that are looked at
DEEPEST = 6
PLACES = ("x", "y", "z")  # names of axes
TEXTS = 200  # characters of a text in an attribute


def find_data(file: h5py.File) -> h5py.Group | None:
    """The group with class NXdata that the file shows, or of what it shows the only one with spectra, or the
    first.

    Raises SpectraError for several with spectra of which none is shown.
    """
    group: Any = file
    for _ in range(DEEPEST):
        name = text_of(group, "default")
        found = followed(group, name) if name else None
        if not isinstance(found, h5py.Group):
            break
        group = found
        if text_of(group, "NX_class") == "NXdata":
            return group
    found = _data_in(group) or _data_in(file)
    spectra = {where: each for each in reversed(found) if (where := _of_spectra(each))}
    if len(spectra) > 1:
        names = printable(", ".join(sorted(str(each.name) for each in spectra.values())), TEXTS)
        raise SpectraError(
            f"holds {len(spectra)} NXdata with spectra, {names}, and its attribute 'default' shows none; set "
            "it, or copy one into a file of its own"
        )
    return next(iter([*spectra.values(), *found]), None)


def _data_in(group: h5py.Group) -> list[h5py.Group]:
    return [each for each in groups_in(group) if text_of(each, "NX_class") == "NXdata"]


def _of_spectra(group: h5py.Group) -> int:
    """Where the signal of an NXdata lies in the file, if its last axis is a raman shift or a wavelength; else
    0."""
    signal = followed(group, text_of(group, "signal") or _marked(group))
    if not isinstance(signal, h5py.Dataset) or not signal.ndim or (last := _axes(group, signal)[-1]) is None:
        return 0
    unit = unit_of(followed(group, last))
    spectral = is_shift(unit) or (length_um(unit) is not None and not _is_place(last, unit))
    return int(h5py.h5o.get_info(signal.id).addr) if spectral else 0


def read_data(group: h5py.Group, path: Path, asked: Asked) -> Spectra:
    """Spectra of an NXdata. Raises SpectraError."""
    place = printable(str(group.name), TEXTS)
    name = text_of(group, "signal") or _marked(group)
    signal = followed(group, name)
    if not isinstance(signal, h5py.Dataset) or not signal.ndim:
        raise SpectraError(f"has an NXdata without a signal ({place})")
    names = _axes(group, signal)
    refuse_no_counts(name)
    for each in ("", f"{name}_", f"{names[-1]}_"):
        for kind in ("scaling_factor", "offset"):
            if f"{each}{kind}" in group:
                raise SpectraError(
                    f"has {place}/{printable(each, TEXTS)}{kind}, by which its values are converted; write "
                    "them so, without it"
                )
    units = ["" if name is None else unit_of(group.get(name)) for name in names]
    spectral = [at for at, name in enumerate(names) if name is not None and not _is_place(name, units[at])]
    if spectral and spectral[-1] != signal.ndim - 1:
        raise SpectraError(
            f"has spectra along dimension {spectral[-1] + 1} of {signal.ndim} of {place}; it must be the last"
        )
    last = names[-1]
    if not spectral and last is not None and _is_length(last, units[-1]) and asked.needs_own:
        if asked.pump_nm is None:
            raise WavelengthError(
                f"has an axis in {printable(units[-1], TEXTS)} ({place}/{last}): if those are wavelengths, "
                "give what the light is shifted from, such as --pump-nm 785; if places, --axis FILE with the "
                "raman shift of each pixel"
            )
        spectral = [signal.ndim - 1]
    values = None if last is None or not spectral else numbers_of(followed(group, last))
    if values is None and asked.needs_own:
        _refuse_other_length(group, signal, place)
    scale = scale_of(values, units[-1], asked, f"{place}/{last}" if last else place)
    along = [_along(group, name, unit) for name, unit in zip(names[-3:-1], units[-3:-1], strict=True)]
    return Spectra(
        scale.raman_shift,
        of_dataset(signal, path, scale.turned),
        **map_of(path, signal.shape, along),
        of_axis=scale.said,
        turned=scale.turned,
        written=noted(text_of(group, "title")),
    )


def noted(title: str) -> dict[str, str]:
    """A title as what people wrote of the run: it tells samples apart, and no instruments."""
    return {"notes": title[:MOST_WRITTEN]} if title else {}


def groups_in(file: h5py.Group) -> Iterator[h5py.Group]:
    """Groups of a file, nearest first. Links within the file are followed, links to elsewhere are not."""
    waiting, seen = [(file, 0)], 0
    while waiting and seen < MOST_GROUPS:
        group, depth = waiting.pop(0)
        seen += 1
        yield group
        if depth < DEEPEST:
            for name in group:
                if is_own(group, name, h5py.Group):
                    waiting.append((group[name], depth + 1))


def is_own(group: h5py.Group, name: str, kind: type) -> bool:
    """Whether a group or a dataset of this name lies in the file itself."""
    link = group.get(name, getlink=True)
    return isinstance(link, h5py.HardLink) and group.get(name, getclass=True) is kind


def text_of(place: Any, name: str) -> str:
    """An attribute that is text, or the first of several; nothing if there is none."""
    try:
        value = place.attrs.get(name, "") if isinstance(place, h5py.Group | h5py.Dataset) else ""
    except UNREADABLE as error:
        said = f"{place.name} with its {name}"
        raise unreadable(Path(place.file.filename), said, error) from None
    if isinstance(value, np.ndarray):
        value = value.flat[0] if value.size else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def unit_of(place: Any) -> str:
    """The unit of a dataset; other programs write the attribute's name in other letters."""
    if not isinstance(place, h5py.Dataset):
        return ""
    said = (text_of(place, name) for name in place.attrs if name.lower() in ("units", "unit"))
    return next((unit for unit in said if unit), "")


def _marked(group: h5py.Group) -> str:
    """The dataset that files of before 2014 mark as the signal."""
    for name in group:
        found = followed(group, name)
        if isinstance(found, h5py.Dataset) and text_of(found, "signal") == "1":
            return str(name)
    return ""


def _axes(group: h5py.Group, signal: h5py.Dataset) -> list[str | None]:
    """Name of the axis of each dimension of the signal, None where there is none that fits."""
    given = group.attrs.get("axes", signal.attrs.get("axes", ""))
    if isinstance(given, str | bytes):
        text = given.decode("utf-8", "replace") if isinstance(given, bytes) else given
        given = text.strip("[]").replace(",", ":").split(":")
    names = [
        each.decode("utf-8", "replace") if isinstance(each, bytes) else str(each) for each in np.ravel(given)
    ]
    found: list[str | None] = [None] * signal.ndim
    for at, name in enumerate(names):
        dataset = followed(group, name) if name not in ("", ".") else None
        said = np.ravel(group.attrs.get(f"{name}_indices", at))
        place = int(said[0]) if said.size == 1 and are_whole_numbers(said.dtype) else at
        if (
            isinstance(dataset, h5py.Dataset)
            and 0 <= place < signal.ndim
            and dataset.shape == (signal.shape[place],)
        ):
            found[place] = name
    return found


def _refuse_other_length(group: h5py.Group, signal: h5py.Dataset, place: str) -> None:
    """Raises SpectraError if an axis in cm-1 is there, and of another length than the spectra."""
    for name in group:
        if not is_own(group, name, h5py.Dataset):
            continue
        found = stored(group, name, h5py.Dataset)
        if found.ndim == 1 and len(found) != signal.shape[-1] and is_shift(unit_of(found)):
            raise SpectraError(
                f"has an axis of {len(found)} points ({place}/{printable(str(name), TEXTS)}) for spectra of "
                f"{signal.shape[-1]} pixels"
            )


def _is_place(name: str, unit: str) -> bool:
    return not is_shift(unit) and (name.lower() in PLACES or _is_length(name, unit))


def _is_length(name: str, unit: str) -> bool:
    """Whether it is in a unit for places, as wavelengths in micrometres or metres may be, too."""
    return name.lower() not in PLACES and (length_um(unit) or 0) >= 1


def _along(group: h5py.Group, name: str | None, unit: str) -> Along:
    """Distance between the points of an axis, if it is a length and regular, and whether it falls."""
    factor = length_um(unit)
    values = None if name is None or factor is None else numbers_of(followed(group, name))
    if name is None or values is None or factor is None or len(values) < 2:
        return Along(name or "", None, falls=False)
    steps = np.diff(np.asarray(values, np.float64))
    step = float(np.median(np.abs(steps)))
    regular = step > 0 and np.allclose(np.abs(steps), step, rtol=1e-3)
    return Along(name, step * factor if regular else None, falls=bool((steps < 0).all()))
