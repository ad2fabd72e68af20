"""What is taken away as a file; no browser."""

import io
import json
from types import SimpleNamespace

import h5py
import numpy as np
from bokeh.document import Document
from helpers import AXIS

from cars_rt.protocol import Band
from cars_rt.view.page.document import Page
from cars_rt.view.scan import Scan
from cars_rt.view.settings import ViewSettings
from cars_rt.view.snapshot import SnapshotHandler
from cars_rt.view.world import World
from view.test_store import a_scan, bundle, raman


def taken_away(
    scan: Scan, chosen: tuple[float, float] | None = None, form: str = "npz"
) -> dict[str, np.ndarray]:
    world = World(ViewSettings(preview="tcp://127.0.0.1:9"))
    world.store.scan = scan
    world.pages.append(page := Page(Document(), world))
    if chosen is not None:
        low, high = chosen
        page._asked("asked", "", json.dumps([0, {"do": "band", "low": low, "high": high, "kind": "mean"}]))
        page.beat()
    _, file = SnapshotHandler._made(SimpleNamespace(_world=world), form)
    if form == "h5":
        with h5py.File(io.BytesIO(file)) as content:
            return {key: each[()] for key, each in content.items()} | dict(content.attrs)
    with np.load(io.BytesIO(file)) as content:
        return dict(content)


def test_a_recording_has_a_map_of_each_band_that_the_page_offers_or_shows() -> None:
    scan, values = a_scan(100, 3), np.arange(300 * 160).reshape(300, 160)
    scan.bands = (Band("first", 850.0, 900.0),)
    scan.take_recorded(raman(0, values))
    content = taken_away(scan, (1000, 1100.5))
    for key, (low, high) in {"first 850:900": (850, 900), "1000:1100.5": (1000, 1100.5)}.items():
        expected = values[:, (low <= AXIS) & (high >= AXIS)].mean(axis=1)
        np.testing.assert_allclose(content[f"map {key}"].ravel(), expected, rtol=1e-6)
    assert list(content["bands"]) == ["first=850:900", "=1000:1100.5"]


def test_a_map_has_what_the_page_shows_of_a_band_that_was_set_in_mid_run() -> None:
    old, new = Band("old", 850.0, 900.0), Band("new", 1000.0, 1100.0)
    scan = a_scan(16, 2, 2 * 4 * 160 * 16)
    for row in range(16):
        bands = (old, new) if row >= 12 else (old,)
        scan.take_spectra(raman(2 * row, np.full((2, 160), row)))
        scan.take_bundle(bundle(2 * row, np.full((2, len(bands)), row), bands))
    content = taken_away(scan)
    np.testing.assert_array_equal(content["map old 850:900"], np.arange(16)[:, None] + np.zeros(2))
    np.testing.assert_array_equal(content["map new 1000:1100"], np.arange(0.5, 16, 2)[:, None] + np.zeros(2))
    np.testing.assert_array_equal(content["bin"], [[1, 1], [2, 1]])
    assert taken_away(scan, form="h5")["bin"].shape == (2, 2)


def test_bands_of_the_same_name_are_told_apart() -> None:
    scan = a_scan(2, 1)
    for index, high in enumerate((3050.0, 3000.0)):
        scan.take_bundle(bundle(index, np.full((1, 1), high), (Band("CH", 2800.0, high),)))
    content = taken_away(scan)
    np.testing.assert_array_equal(content["map CH 2800:3050"].ravel(), [3050, np.nan])
    np.testing.assert_array_equal(content["map CH 2800:3000"].ravel(), [np.nan, 3000])


def test_names_that_hdf5_cannot_hold_are_taken_away_all_the_same() -> None:
    scan = a_scan(2, 1, source="camera\0" + 9 * "x")  # as a buffer of C has it
    bands = tuple(Band(name, 850.0, 900.0) for name in ("a\0/b", "a _b", "a /b"))
    scan.take_bundle(bundle(0, np.tile([1.0, 2.0, 3.0], (2, 1)), bands))
    content = taken_away(scan, form="h5")
    assert content["source"] == "camera xxxxxxxxx"
    for number, key in enumerate(("", " (2)", " (3)"), 1):
        np.testing.assert_array_equal(content[f"map a _b 850:900{key}"].ravel(), [number, number])
