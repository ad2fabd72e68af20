"""What a page shows as a file to take away: .npz or .h5, with maps, latest spectrum and axis."""

import asyncio
import io
from typing import Any

import h5py
import numpy as np
from tornado.web import RequestHandler

from cars_rt import memory
from cars_rt.view.scan import Scan
from cars_rt.view.world import World

TYPES = {"npz": "application/octet-stream", "h5": "application/x-hdf5"}


def arrays(scan: Scan) -> dict[str, Any]:
    """Axis, the map of each band (rows, columns; NaN where nothing was seen), the latest spectrum.

    Call it under the store's lock.
    """
    content: dict[str, Any] = {"raman_shift": scan.axis}
    for band, grid in scan.planes.items():
        content[f"map {band.name}"] = grid.mean(slice(None))[..., 0]
    if scan.latest is not None:
        content["latest_raman"] = scan.latest.raman
        if scan.latest.counts is not None:
            content["latest_counts"] = scan.latest.counts
    return content


def about(scan: Scan) -> dict[str, Any]:
    """What belongs to it."""
    start = scan.start
    said: dict[str, Any] = {
        "run": start.run,
        "source": start.source,
        "seen": scan.seen,
        "bands": [f"{band.name}={band.low:g}:{band.high:g}" for band in scan.planes],
    }
    if start.scan is not None:
        said["scan"] = list(start.scan)
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
                file.create_dataset(key.replace("/", "_"), data=value)
            for key, value in said.items():
                file.attrs[key] = value
    return buffer.getvalue()


class SnapshotHandler(RequestHandler):
    """Gives the present scan as a file to whoever may see the page."""

    def initialize(self, world: World, turn: asyncio.Lock) -> None:
        self._world, self._turn = world, turn

    async def get(self, form: str) -> None:
        user = getattr(self.application, "auth_provider", None)
        if user is not None and user.get_user is not None and user.get_user(self) is None:
            self.redirect("/login")
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
        with store.lock:
            scan = store.scan
            if scan is None:
                return "", b""
            content, said = arrays(scan), about(scan)
        name = "".join(each if each.isalnum() else "-" for each in scan.start.run[:40])
        file = packed(content, said, form)
        del content  # as large as all maps
        memory.give_back()
        return name, file
