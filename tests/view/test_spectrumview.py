"""What the spectrum's plot is given, without a browser."""

import numpy as np

from cars_rt.view.page.spectrumview import SpectrumView, legible
from cars_rt.view.scan import Spectrum
from view.test_store import a_scan, bundle

AXIS = np.linspace(400.0, 3200.0, 1401)


def lines(*places: float) -> np.ndarray:
    """A spectrum (p,) with lines at these raman shifts, each a tenth lower than the one before."""
    heights = np.linspace(1, 1 - 0.1 * (len(places) - 1), len(places))
    return sum(
        h * np.exp(-0.5 * ((AXIS - x) / 6) ** 2) for x, h in zip(places, heights, strict=True)
    ).astype(np.float32)  # fmt: skip


def test_labels_do_not_cover_one_another_and_stay_within_the_axes() -> None:
    assert legible(np.array([0.5, 0.52, 0.52, 0.8]), np.array([1.0, 0.99, 0.5, 0.99])).tolist() == [
        True, False, True, True,
    ]  # fmt: skip
    view = SpectrumView(lambda low, high: None)
    view.labelled = True
    view.show(AXIS, Spectrum("one", lines(2900, 1500, 430, 3170)))
    assert view.tops.data["text"] == ["430", "1500", "2900", "3170"]
    assert view.linear.y_range.range_padding > 0.2  # in a low plot, too
    assert view.tops.data["align"] == ["left", "center", "center", "right"]
    both = lines(1500) + 0.99 * lines(1560)
    view.show(AXIS, Spectrum("two", both.astype(np.float32)))
    assert view.tops.data["text"] == ["1500"]
    view.show(AXIS, Spectrum("none", np.full(len(AXIS), np.nan, np.float32)))
    assert list(view.tops.data["text"]) == []


def test_pinned_spectra_are_told_apart() -> None:
    view, scan = SpectrumView(lambda low, high: None), a_scan(3, 2)
    for index in (2, 5, 5):
        values = np.ones((1, 160), np.float32)
        scan.take_bundle(bundle(index, values[:, :1], latest_raman=values[0]))
        assert scan.latest is not None
        view.show(scan.axis, scan.latest)
        view.pin()
    assert view.pinned.data["name"] == ["row 1, column 0", "row 2, column 1", "row 2, column 1 (2)"]
    points = a_scan(None)
    points.take_bundle(bundle(7, values[:, :1], latest_raman=values[0]))
    assert points.latest is not None and points.latest.place == "spectrum 7"


def test_the_legend_names_what_there_is() -> None:
    view = SpectrumView(lambda low, high: None)
    view.show(AXIS, Spectrum("result alone", lines(1000)))
    assert not any(parts["counted"].visible for parts in view._parts)
    view.show(AXIS, Spectrum("both", lines(1000), counts=lines(1000)))
    assert all(parts["counted"].visible for parts in view._parts)
    view.mark_substances(["toluene", "polystyrene"])
    marks = view.marks.data
    assert set(marks["name"]) == {"toluene", "polystyrene"}
    assert len(set(zip(marks["name"], marks["colour"], strict=True))) == 2
