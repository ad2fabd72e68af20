"""What a page turns to when its streams come one after the other; no browser."""

import numpy as np
import pytest
from bokeh.document import Document

from cars_rt.protocol import Band
from cars_rt.view.page.document import Page
from cars_rt.view.settings import ViewSettings
from cars_rt.view.world import World
from view.test_store import a_scan, bundle, raman

FIRST, SECOND = Band("first", 850.0, 900.0), Band("second", 1000.0, 1100.0)


@pytest.mark.parametrize("rows", [None, 4], ids=["points", "a scan"])
def test_bands_that_come_after_the_spectra_are_shown(rows: int | None) -> None:
    page = Page(Document(), World(ViewSettings(preview="tcp://127.0.0.1:9")))
    page.store.scan = scan = a_scan(rows)
    scan.take_spectra(raman(0, np.ones((4, len(scan.axis)), np.float32)))
    page._pictures()
    assert page.choice.what is not None and page.choice.what.title.startswith("everything")
    scan.take_bundle(bundle(0, np.ones((4, 2), np.float32), (FIRST, SECOND)))
    page._pictures()
    assert page.choice.what.title.startswith("first")
    shown = [each.quantity.band for each in page.points._curves]
    assert shown == ([] if rows else [FIRST, SECOND])
    scan.take_bundle(bundle(0, np.ones((4, 1), np.float32), (SECOND,)))
    page._pictures()
    shown = [each.quantity.band for each in page.points._curves]
    assert page.choice.what.title.startswith("first") and shown == ([] if rows else [FIRST, SECOND])
