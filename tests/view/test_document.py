"""What a page turns to when its streams come one after the other; no browser."""

import gc
import json
import time
import weakref
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bokeh.document import Document
from bokeh.models import HoverTool
from helpers import AXIS

from cars_rt.errors import CarsRtError
from cars_rt.protocol import Band
from cars_rt.view.page import document
from cars_rt.view.page.document import Page
from cars_rt.view.page.orders import Order, OrderError
from cars_rt.view.page.pace import Pace
from cars_rt.view.page.wishes import control
from cars_rt.view.picture import SCREEN, Window
from cars_rt.view.quantity import Quantity
from cars_rt.view.settings import ViewSettings
from cars_rt.view.world import World
from view.test_store import a_scan, bundle, raman

FIRST, SECOND = Band("first", 850.0, 900.0), Band("second", 1000.0, 1100.0)
THIRD = Band("third", 1200.0, 1300.0)
KEPT = "No spectrum was kept there"


def a_page() -> Page:
    return Page(Document(), World(ViewSettings(preview="tcp://127.0.0.1:9")))


def ask(page: Page, do: str, **what: Any) -> None:
    page._asked("asked", "", json.dumps([0, {"do": do} | what]))


def beat(page: Page) -> dict[str, Any]:
    """What its browser, which has drawn all before, is told by one beat that is due."""
    page._pace = Pace()
    page._said.say("", False)
    page._guarded_beat()
    told: dict[str, Any] = json.loads(page.talk.said)
    return told


@pytest.mark.parametrize("rows", [None, 4], ids=["points", "a scan"])
def test_bands_that_come_after_the_spectra_are_shown(rows: int | None) -> None:
    page = a_page()
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


def test_the_axis_of_points_says_whether_it_counts_numbers_or_places() -> None:
    page = a_page()
    for numbers, said in ((None, "spectrum"), (np.array([3, 9000]), "place in the list")):
        page.store.scan = scan = a_scan(None)
        scan.numbers = numbers
        scan.take_spectra(raman(0, np.ones((2, len(scan.axis)), np.float32)))
        page._pictures()
        assert page.points.waterfall.yaxis[0].axis_label == page.points.trend.xaxis[0].axis_label == said


def test_curves_that_are_left_out_are_said_to_be() -> None:
    page = a_page()
    page.store.scan = scan = a_scan(None)
    for count, said in ((6, "bands in time"), (20, "bands in time: 6 of 20")):
        bands = tuple(Band(f"b{at}", 850.0 + at, 900.0 + at) for at in range(count))
        scan.take_bundle(bundle(0, np.ones((2, count), np.float32), bands))
        page._pictures()
        assert len(page.points._curves) == 6 and page.points.trend.title.text == said


@pytest.mark.parametrize("rows", [None, 2], ids=["points", "a scan"])
def test_axes_say_what_the_model_gives(rows: int | None) -> None:
    page = a_page()
    for target, said in (("chi3", "scaled in each"), ("counts", "camera counts"), (None, "χNR")):
        page.store.scan = scan = a_scan(rows, model={"target": target} if target else None)
        scan.take_spectra(raman(0, np.ones((2, len(scan.axis)), np.float32)))
        page._pictures()
        plots = [*page.spectrum.plots, *([] if rows else [page.points.trend])]
        assert all(said in plot.left[0].axis_label for plot in plots)
    tips = [name for plot in page.spectrum.plots for name, _ in plot.select_one(HoverTool).tooltips]
    assert tips == 2 * ["cm⁻¹", "result"]  # as in the legend, whatever it is


def test_limits_by_hand_hold_for_one_band_and_for_three() -> None:
    page = a_page()
    page.store.scan = scan = a_scan(2, 2)
    scan.take_bundle(bundle(0, np.ones((4, 2), np.float32), (FIRST, SECOND)))
    beat(page)
    ask(page, "limits", by="hand", ranges=[[0, 2]])
    rgb = [[each.low, each.high, each.name] for each in (FIRST, SECOND, FIRST)]
    for do, what in (("rgb", {"bands": rgb}), ("band", {"low": 850, "high": 900, "kind": "mean"})):
        ask(page, do, **what)
        assert not beat(page)["bad"]
        assert page.map._ranges == [(0.0, 2.0)] * len(page.map._pictures)


def as_now(page: Page) -> dict[str, Any]:
    """What a browser asks where limits are to stay as they are, and once more when it comes back."""
    _, of, ranges = beat(page)["limits"]
    return {"by": "fixed", "of": of, "ranges": ranges}


def test_limits_hold_for_points_too() -> None:
    page = a_page()
    page.store.scan = scan = a_scan(None)

    def see(value: float) -> list[float]:
        index = scan.latest_index + 1
        values = np.linspace(value, value + 1, 160)[None]
        scan.take_spectra(raman(index, values))
        scan.take_bundle(bundle(index, values[:, :1], (FIRST,), latest_raman=values[0].astype(np.float32)))
        page.points._due = 0.0
        limits: list[float] = beat(page)["limits"][2][0]
        assert limits == [page.points.mapper.low, page.points.mapper.high]
        return limits

    automatic = see(1.0)
    assert 1 <= automatic[0] < automatic[1] <= 2
    ask(page, "limits", **as_now(page))
    assert see(5.0) == automatic
    ask(page, "limits", by="hand", ranges=[[-3, 4]])
    assert see(9.0) == [-3.0, 4.0]
    ask(page, "limits", by="auto")
    assert see(9.0)[1] > 5


@pytest.mark.parametrize("three", [False, True], ids=["a map", "rgb"])
def test_limits_as_now_hold_for_that_band_in_the_next_plane_and_run_and_on_a_page_that_comes_back(
    three: bool,
) -> None:
    def see(page: Page, *values: float) -> Any:
        scan.take_spectra(raman(0, np.outer(values, np.linspace(1, 2, 160))))
        scan.take_bundle(bundle(0, np.outer(values, (1, 2, 3)), (FIRST, SECOND, THIRD)))
        page.map._limits_due = 0.0
        told = beat(page)
        assert three or told["limits"][2][0] == [page.map.mapper.low, page.map.mapper.high]
        return told["limits"], told["planes"]

    rgb = {"bands": [[each.low, each.high, each.name] for each in (FIRST, SECOND, THIRD)]}
    page = a_page()
    page.store.scan = scan = a_scan(2)
    assert beat(page)["limits"] == ["auto", "", []]  # there is nothing yet that could stay
    see(page, 1.0, 2.0)
    if three:
        ask(page, "rgb", **rgb)
    asked = as_now(page)
    assert len(asked["ranges"]) == (3 if three else 1)
    ask(page, "limits", **asked)
    ask(page, "planes", count=2, plane=1)
    before = see(page, 5.0, 6.0)
    assert before == (["fixed", asked["of"], asked["ranges"]], [2, 1])
    page.store.scan = scan = a_scan(2)
    assert see(page, 7.0, 8.0) == before
    ask(page, "band", low=850, high=890)
    assert see(page, 7.0, 8.0)[0] != see(page, 3.0, 4.0)[0] and beat(page)["limits"][0] == "auto"
    page = a_page()
    ask(page, "planes", count=2, plane=1)
    ask(page, "limits", **asked)
    if three:
        ask(page, "rgb", **rgb)
    beat(page)
    page.store.scan = scan
    assert see(page, 7.0, 8.0) == before


def test_what_the_user_chose_is_told_as_the_order_for_it() -> None:
    page = a_page()
    page.store.scan = scan = a_scan(2, 1)
    scan.take_spectra(raman(0, np.ones((2, len(scan.axis)))))
    scan.take_bundle(bundle(0, np.ones((2, 1)), (FIRST,)))
    assert beat(page)["chosen"] is None  # it was the first one of the daemon
    rgb = [[each.low, each.high, each.name] for each in (FIRST, SECOND, FIRST)]
    ratio = {"low": 850.0, "high": 900.0, "name": "a", "kind": "ratio", "low2": 1000.0, "high2": 1100.0}
    for do, what in (("rgb", {"bands": rgb}), ("band", ratio)):
        ask(page, do, **what)
        assert beat(page)["chosen"] == {"do": do} | what
    page.choice.choose(Quantity(FIRST), None)
    page._drag_band(990.0, 910.0)
    assert beat(page)["chosen"] == {"do": "band", "low": 910.0, "high": 990.0, "name": "", "kind": "mean"}
    page.store.scan = a_scan(2, 1, axis=AXIS + 2000)
    page.store.scan.take_bundle(bundle(0, np.ones((2, 1)), (FIRST,)))
    assert beat(page)["chosen"] is None


def test_three_bands_of_which_one_is_new_in_mid_run_are_one_picture() -> None:
    page, new = a_page(), Band("new", 1200.0, 1300.0)
    page.store.scan = scan = a_scan(16, 16, 2 * 4 * 160 * 16)  # spectra are kept in cells of 4 x 4 pixels
    scan.take_spectra(raman(0, np.ones((128, len(scan.axis)))))
    scan.take_bundle(bundle(0, np.ones((124, 2)), (FIRST, SECOND)))
    scan.take_bundle(bundle(124, np.ones((4, 3)), (FIRST, SECOND, new)))
    beat(page)
    ask(page, "rgb", bands=[[each.low, each.high, each.name] for each in (FIRST, SECOND, new)])
    assert not beat(page)["bad"]
    (image,) = page.map.colours.source.data["image"]
    assert image.shape == (4, 4) and (image[:2] >> 24 == 255).all()


def test_a_page_hears_from_the_display_also_where_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    page = a_page()
    monkeypatch.setattr(document, "ALIVE_S", 0.0)
    heard = []
    for _ in range(3):  # the browser, as of a hidden tab, has drawn nothing of it
        page.look()
        page._guarded_beat()
        heard.append((page.talk.alive, page._called))
    assert heard == [(1, False), (2, False), (3, False)]
    page.look()
    assert page._called


def test_a_page_says_how_far_it_is_behind() -> None:
    page = a_page()
    for lag_s, said in ((None, "–"), (0.25, "0.25 s behind the camera")):
        assert dict(page._said._health(lag_s)["rows"])["display"] == said


def test_the_lag_is_of_what_came_while_the_page_looked_and_does_not_grow_in_a_pause() -> None:
    page = a_page()
    page.store.scan = scan = a_scan(4, 1)

    def lag(index: int | None = None) -> float | None:
        if index is not None:
            scan.take_bundle(bundle(index, np.ones((1, 1)), (FIRST,)))
            scan.latest_ns = time.time_ns() - 1000**index * 10**9
        beat(page)
        page._is_drawn(page._pace.tick)
        return page._lag_s

    assert lag(0) is None  # it may have been there for long
    first = lag(1)
    assert first is not None and 10**3 <= first == lag() == lag()
    second = lag(2)
    assert second is not None and 10**6 <= second == lag()


def test_losses_are_seen_also_where_the_pictures_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    page = a_page()
    page.store.scan = scan = a_scan(2, 2)
    scan.lost = {"engine": 3}
    monkeypatch.setattr(page, "_pictures", lambda: 1 / 0)
    told = beat(page)
    assert "3 engine" in told["sentence"] and "ZeroDivisionError" in told["message"]
    page._is_drawn(page._pace.tick)  # that it drew this is no reason to try again at once
    assert not page._pace.may_send(page._beaten + 0.9)


@pytest.mark.parametrize(
    ("rows", "columns", "bytes_", "planes", "mixed"),
    [
        (12, 2, 1e9, 2, False),
        (12, 2, 2 * 4 * 160 * 6, 2, True),  # spectra in cells of 4 rows, planes of 6
        (12, 2, 2 * 4 * 160 * 6, 3, False),
        (12, 2, 2 * 4 * 160 * 6, 1, False),
        (2 * SCREEN + 2, 1, 1e9, 2, True),  # the picture has cells of two rows
    ],
)
def test_cells_of_two_planes_are_said_to_be(
    rows: int, columns: int, bytes_: float, planes: int, mixed: bool
) -> None:
    page = a_page()
    page.store.scan = scan = a_scan(rows, columns, bytes_)
    scan.take_spectra(raman(0, np.ones((8, 160))))
    ask(page, "band", low=850, high=900)
    beat(page)
    ask(page, "planes", count=planes, plane=0)
    assert ("Where planes meet, means are of two of them." in beat(page)["words"]) is mixed


def test_the_outline_is_that_of_one_plane_also_of_the_first_one() -> None:
    page = a_page()
    page.store.scan = scan = a_scan(12, 2)
    scan.take_bundle(bundle(0, np.ones((8, 1)), (FIRST,)))
    for planes, plane, rows in ((1, 0, 12), (4, 0, 3), (4, 2, 3), (2, 0, 6), (1, 0, 12)):
        ask(page, "planes", count=planes, plane=plane)
        beat(page)
        assert page.map.outline.data["bottom"] == [rows]


def test_what_is_chosen_in_a_plane_of_a_stack_ends_where_it_does() -> None:
    page = a_page()
    side = SCREEN + 2  # so large that zooming in shows finer cells
    page.store.scan = scan = a_scan(2 * side, side)
    scan.take_bundle(bundle(0, np.ones((1, 2), np.float32), (FIRST, SECOND)))
    beat(page)
    ask(page, "planes", count=2, plane=1)
    beat(page)
    page._select(SimpleNamespace(final=True, geometry={"x0": -3, "y0": -3, "x1": 1.5, "y1": 1.5}))
    assert page.place.region is not None and page.place.region.window == Window(side, 0, side + 2, 2)
    page._zoomed(SimpleNamespace(x0=0, y0=-9, x1=side, y1=8.5))
    assert page.zoom == Window(side, 0, side + 9, side)
    page._tap_map(1.5, -0.5)
    assert page.place.pixel is None and page._said._message == "There is no pixel there."
    page._tap_map(1.5, 0.5)
    ask(page, "move", rows=-2, columns=0)
    beat(page)
    assert page.place.pixel == (side, 1)
    ask(page, "planes", count=2, plane=0)
    ask(page, "move", rows=5, columns=0)
    beat(page)
    assert page.place.pixel == (side - 1, 1)


def test_arrow_keys_go_on_from_what_is_shown() -> None:
    page = a_page()
    page.store.scan = scan = a_scan(9, 9)
    ask(page, "move", rows=0, columns=1)
    scan.take_bundle(bundle(40, np.ones((1, 1)), (FIRST,), latest_raman=np.ones(160, np.float32)))
    beat(page)
    ask(page, "move", rows=1, columns=2)
    beat(page)
    assert page.place.pixel == (5, 6)  # the latest one is in the middle
    page._select(SimpleNamespace(final=True, geometry={"x0": 2.5, "y0": 3.5, "x1": 7.5, "y1": 7.5}))
    ask(page, "move", rows=0, columns=-1)
    beat(page)
    assert page.place.pixel == (3, 1)


def message(page: Page) -> str:
    """What the page says after a beat that is due."""
    page._pace = Pace()
    page.beat()
    said: str = json.loads(page.talk.said)["message"]
    return said


@pytest.mark.parametrize(
    ("do", "wrong", "right", "said"),
    [
        ("planes", {"count": 3, "plane": 0}, {"count": 2, "plane": 0}, "cannot be parted into 3 planes"),
        ("limits", {"by": "fixed", "ranges": [[1]]}, {"by": "fixed", "ranges": [[1, 2]]}, "a range is two"),
        ("limits", {"by": "hand", "ranges": [[3, 1]]}, {"by": "hand", "ranges": [[1, 3]]}, "must be below"),
        ("band", {"low": 1, "high": 2}, {"low": 850, "high": 900}, "lies outside this axis"),
        ("theme", {"name": "pink"}, {"name": "dark"}, "must be one of light, dark"),
    ],
)
def test_a_message_of_what_is_wrong_is_over_once_it_is_mended(
    do: str, wrong: dict[str, Any], right: dict[str, Any], said: str
) -> None:
    page = a_page()
    page.store.scan = scan = a_scan(4, 2)
    scan.take_bundle(bundle(0, np.ones((8, 1)), (FIRST,)))
    assert not message(page)
    ask(page, do, **wrong)
    assert said in message(page)
    for other in ("palette", {"name": "grey"}), ("latest", {}):
        ask(page, other[0], **other[1])
        assert said in message(page)
    ask(page, do, **right)
    assert not message(page)


def test_what_was_said_of_a_run_is_over_in_the_next_one_which_shows_the_chosen_band_where_it_can() -> None:
    page = a_page()

    def begin(shift: float = 0.0) -> str:
        page.store.scan = scan = a_scan(2, 2, axis=AXIS + shift)
        scan.take_bundle(bundle(0, np.ones((4, 1)), (Band("daemon's", 850 + shift, 900 + shift),)))
        said = message(page)
        assert page.choice.what is not None
        return f"{page.choice.what.title.split()[0]}: {said}"

    begin()
    ask(page, "band", low=1000, high=1100, kind="mean")
    assert not message(page)
    assert begin(2000).startswith("daemon's: the band 1000–1100 cm⁻¹ lies outside this axis")
    assert begin(2000) == "daemon's: "  # said once
    assert begin(4000) == "daemon's: "  # what the user did not choose may change without a word
    ask(page, "band", low=1000, high=1100, kind="mean", restored=True)
    assert not message(page) and page.choice.marked[0].low == 4850
    assert begin() == "1000–1100: " and page.choice.marked[0].low == 1000
    page._said.say("record: done (the next run will be recorded)", False)
    assert begin() == "1000–1100: "
    page._said.say("reload: no model is called so", True)
    assert begin() == "1000–1100: reload: no model is called so"


def test_bands_for_the_daemon_are_written_as_elsewhere() -> None:
    def asked(text: str) -> Any:
        return control(Order({"do": "bands", "bands": text}))["bands"]

    assert asked("CH=2800:3050, a b = 1690–1630,") == [["CH", 2800.0, 3050.0], ["a b", 1630.0, 1690.0]]
    assert asked("2850-2930") == [["2850:2930", 2850.0, 2930.0]]
    with pytest.raises(CarsRtError, match="a band is NAME=LOW:HIGH in cm-1, such as CH=2800:3050, not 'CH'"):
        asked("CH")
    with pytest.raises(OrderError, match="give bands as NAME=LOW:HIGH, with commas between"):
        asked(" , ")


@pytest.mark.parametrize("rows", [None, 5], ids=["points", "a scan"])
def test_what_a_page_that_comes_back_had_and_cannot_be_is_left_out_without_a_word(rows: int | None) -> None:
    page = a_page()
    page.store.scan = scan = a_scan(rows)
    scan.take_bundle(bundle(0, np.ones((5, 1)), (FIRST,)))
    assert not message(page)
    for do, what in ("planes", {"count": 3, "plane": 0}), ("band", {"low": 1, "high": 2}):
        ask(page, do, **what, restored=True)
        assert not message(page) and page.stack.planes == 1
        ask(page, do, **what)
        assert message(page)
        page._said.say("", False)
    again = a_page()  # which has no scan yet
    ask(again, "band", low=1, high=2, restored=True)
    assert message(again) == ""
    again.store.scan = scan
    assert message(again) == ""
    page._said.say("asked for", True)
    ask(page, "planes", count=3, plane=0, restored=True)
    assert message(page) == "asked for"


@pytest.mark.parametrize(
    ("settings", "trouble", "said"),
    [
        ({}, "nobody publishes at tcp://here:1", "nobody publishes at tcp://here:1"),
        ({"spectra": "none"}, "", "the display was started with --spectra none"),
        ({}, "", ""),
    ],
)
def test_where_no_whole_spectra_come_the_page_says_why(
    settings: dict[str, Any], trouble: str, said: str
) -> None:
    page = Page(Document(), World(ViewSettings(preview="tcp://127.0.0.1:9", **settings)))
    page.store.scan = scan = a_scan(2, 2)
    page.store.connected |= {"preview": True, "raman": not trouble and not settings}
    page.store.troubles["raman"] = trouble
    scan.take_bundle(bundle(0, np.ones((3, 1)), (FIRST,)))
    assert (f"Whole spectra do not come: {said};" in beat(page)["words"]) is bool(said)
    page._tap_map(1.5, 0.5)
    assert message(page) == (f"No spectrum was kept there: {said}." if said else f"{KEPT} yet.")


def test_a_message_of_a_place_is_over_at_another_one() -> None:
    page = a_page()

    def begin() -> None:
        page.store.scan = scan = a_scan(100, 2)
        scan.take_bundle(bundle(0, np.ones((8, 1)), (FIRST,)))
        scan.take_spectra(raman(0, np.ones((1, 160))))

    begin()
    assert not message(page)
    for x, y, said in (-5, 0.5, "There is no pixel there."), (1.5, 99, "No spectrum was kept there yet."):
        page._tap_map(x, y)
        assert message(page) == said
        page._tap_map(0.5, 0.5)
        assert not message(page)
    page._tap_map(1.5, 99)
    assert message(page)
    begin()
    assert not message(page)
    page._said.say("record: done", False)
    page._tap_map(0.5, 0.5)
    assert message(page) == "record: done"


@pytest.mark.parametrize(
    ("fields", "finer"), [({}, True), ({"step_um": (2.0, 2.0)}, False), ({"axis": AXIS + 1}, False)]
)
def test_the_next_run_is_as_fine_as_the_part_that_is_looked_at(fields: dict[str, Any], finer: bool) -> None:
    page, side = a_page(), 2 * SCREEN

    def begin(**fields: Any) -> None:
        page.store.scan = scan = a_scan(side, side, 64e6, **fields)
        scan.take_bundle(bundle(0, np.ones((4, 1)), (FIRST,)))
        beat(page)

    begin()
    page._zoomed(SimpleNamespace(x0=0, y0=0, x1=100, y1=100))
    beat(page)
    framed = page.talk.framed
    begin(**fields)
    assert (page.map._pictures[0].tall == 1) is finer
    assert (page.talk.framed == framed) is finer  # else all of it is shown again


@pytest.mark.parametrize("rows", [None, 4], ids=["points", "a scan"])
def test_a_run_of_the_other_kind_lets_go_of_the_one_before(rows: int | None) -> None:
    page, seen = a_page(), []
    for each in (rows, None if rows else 4, rows):
        page.store.scan = a_scan(each)
        page.store.scan.take_bundle(bundle(0, np.ones((4, 2), np.float32), (FIRST, SECOND)))
        beat(page)
        seen.append(weakref.ref(page.store.scan))
    gc.collect()
    assert [each() for each in seen] == [None, None, page.store.scan]
