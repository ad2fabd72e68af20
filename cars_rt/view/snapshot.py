"""What a page shows as a file to take away: .npz or .h5, with maps, latest spectrum and axis."""

import asyncio
import io
from collections.abc import Container, Iterable
from itertools import chain, count
from typing import Any

import h5py
import numpy as np
from tornado.web import RequestHandler

from cars_rt import memory
from cars_rt.protocol import Band
from cars_rt.view.grid import Floats, Grid
from cars_rt.view.picture import AT_ONCE
from cars_rt.view.quantity import Quantity
from cars_rt.view.scan import Scan
from cars_rt.view.world import World

TYPES = {"npz": "application/octet-stream", "h5": "application/x-hdf5"}


def bands(scan: Scan, chosen: Iterable[Band] = ()) -> list[Band]:
    """Those whose maps are taken away: the daemon's, also earlier ones of this run. A recording has no maps
    of a daemon; then they are the bands that the page offers, and `chosen`, where they are on the axis."""
    offered = [band for band in (*scan.bands, *chosen) if _on_axis(scan, band)]
    return list(scan.planes or dict.fromkeys(offered))


def _on_axis(scan: Scan, band: Band) -> bool:
    return bool(band.high >= scan.axis.min() and band.low <= scan.axis.max())


def arrays(scan: Scan, maps: Iterable[Band]) -> dict[str, Any]:
    """Axis, the map of each band (rows, columns; NaN where nothing was seen), the latest spectrum; of a list
    that is laid by places the number of each.

    Call it under the store's lock.
    """
    content: dict[str, Any] = {"raman_shift": scan.axis}
    for band in maps:
        content[f"map {called(band)}"] = _map(scan, band)
    if scan.numbers is not None:
        content["spectrum"] = scan.numbers
    if scan.latest is not None:
        content["latest_raman"] = scan.latest.raman
        if scan.latest.counts is not None:
            content["latest_counts"] = scan.latest.counts
    return content


def _map(scan: Scan, band: Band) -> Floats:
    grid = _where(scan, band)  # some rows at a time, for a whole map's spectra may take all memory once more
    parts = [slice(row, row + AT_ONCE) for row in range(0, grid.shape[0], AT_ONCE)]
    return np.concatenate([scan.values(Quantity(band), grid, rows, slice(None)) for rows in parts])


def _where(scan: Scan, band: Band) -> Grid:
    """Where the map is read: as on the page in the spectra, where these know more than the daemon's map."""
    own = scan.planes.get(band)
    more = scan.plane_of(Quantity(band)) is None and _on_axis(scan, band)
    return scan.raman if own is None or more else own


def called(band: Band) -> str:
    """A name for keys; a band that is computed in place of another one may have the same name."""
    ends = f"{band.low:.12g}:{band.high:.12g}"
    return f"{band.name} {ends}" if band.name else ends


def about(scan: Scan, maps: Iterable[Band]) -> dict[str, Any]:
    """What belongs to it. `bin`: of each map, how many rows and columns of the scan one value stands for."""
    start, maps = scan.start, list(maps)
    said: dict[str, Any] = {
        "run": start.run,
        "source": start.source,
        "seen": scan.seen,
        "bands": [f"{band.name}={band.low:.12g}:{band.high:.12g}" for band in maps],
        "bin": [list(_where(scan, band).bin) for band in maps],
    }
    if start.scan is not None:
        said["scan"] = list(start.scan)
    elif scan.numbers is None:
        said["first"] = scan.first
    if scan.step_um is not None:
        said["step_um"] = list(scan.step_um)
    return said


def packed(scan_arrays: dict[str, Any], said: dict[str, Any], form: str) -> bytes:
    """A file of this form, npz or h5."""
    buffer = io.BytesIO()
    if form == "npz":
        everything: dict[str, Any] = scan_arrays | {key: np.asarray(value) for key, value in said.items()}
        np.savez_compressed(buffer, **everything)
    else:
        with h5py.File(buffer, "w") as file:
            for key, value in scan_arrays.items():
                file.create_dataset(_free(_text(key).replace("/", "_"), file), data=value)
            for key, value in said.items():
                file.attrs[key] = [_text(each) for each in value] if isinstance(value, list) else _text(value)
    return buffer.getvalue()


def _free(name: str, taken: Container[str]) -> str:
    """The name, with a number where another one has it."""
    numbered = (f"{name} ({number})" for number in count(2))
    return next(each for each in chain([name], numbered) if each not in taken)


def _text(value: Any) -> Any:
    """Text that HDF5 can hold; anything else as it is."""
    return value.replace("\0", " ") if isinstance(value, str) else value


class SnapshotHandler(RequestHandler):
    """Gives the present scan as a file to whoever may see the page."""

    def initialize(self, world: World, turn: asyncio.Lock) -> None:
        self._world, self._turn = world, turn

    async def get(self, form: str) -> None:
        user = getattr(self.application, "auth_provider", None)
        if user is not None and user.get_user is not None and user.get_user(self) is None:
            self.set_status(403)  # a form would be taken away as if it were the file
            self.finish("whoever takes away a file has to be let in: load the page again\n")
            return
        if self._turn.locked():  # each takes memory for all maps once more
            self.set_status(503)
            self.finish("somebody takes one away at this moment; try again\n")
            return
        async with self._turn:
            name, content = await asyncio.to_thread(self._made, form)
        if not content:
            self.set_status(404)
            self.finish("there is nothing to take away yet\n")
            return
        self.set_header("Content-Type", TYPES[form])
        self.set_header("Content-Disposition", f'attachment; filename="cars-rt-{name}.{form}"')
        self.finish(content)

    def _made(self, form: str) -> tuple[str, bytes]:
        """Of the present run, its name for a file and the file; empty without a run."""
        store = self._world.store
        shown = [each for page in list(self._world.pages) for each in page.choice.quantities]
        chosen = [band for each in shown for band in (each.band, each.other) if band is not None]
        with store.lock:
            scan = store.scan
            if scan is None:
                return "", b""
            maps = bands(scan, chosen)
            content, said = arrays(scan, maps), about(scan, maps)
        name = "".join(each if each.isalnum() else "-" for each in scan.start.run[:40])
        file = packed(content, said, form)
        del content  # as large as all maps
        memory.give_back()
        return name, file
