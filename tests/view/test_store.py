"""What the display keeps and says, without any browser."""

import json
import threading
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import AXIS, Published, a_start, an_end, wait_until

from cars_rt.physics.fitness import Flag
from cars_rt.protocol import Band, Frame, RunReader, Start
from cars_rt.view import health, region, trace
from cars_rt.view.feed import Feed
from cars_rt.view.grid import Grid, Trail, reduced
from cars_rt.view.health import Facts, Level
from cars_rt.view.page.orders import MOST_ORDERS, Order, OrderError, Orders, read_orders
from cars_rt.view.page.place import Place
from cars_rt.view.peaks import peaks
from cars_rt.view.picture import SCREEN, Picture, Window, rgba
from cars_rt.view.quantity import Kind, Quantity, QuantityError, a_band
from cars_rt.view.region import Region
from cars_rt.view.scan import PASSED, Scan
from cars_rt.view.settings import ViewSettings
from cars_rt.view.store import Store
from cars_rt.view.trace import Curve, Waterfall
from cars_rt.view.world import World
from view.test_health import WELL

BAND = Band("some", 900.0, 1000.0)


def a_scan(rows: int | None, columns: int = 1, most_bytes: float = 1e9, **fields: Any) -> Scan:
    return Scan(a_start(scan=None if rows is None else (rows, columns), **fields), most_bytes)


def raman(index: int, values: np.ndarray, **arrays: np.ndarray) -> Frame:
    return Frame("raman", "run-1", 0, index, 1, {"raman": values.astype(np.float32)} | arrays)


def bundle(index: int, values: np.ndarray, bands: tuple[Band, ...] = (BAND,), **arrays: np.ndarray) -> Frame:
    return Frame("preview", "run-1", 0, index, 1, {"bands": values.astype(np.float32)} | arrays, bands=bands)


@pytest.mark.parametrize(
    ("rows", "columns", "cells"), [(37, 53, 10**6), (37, 53, 200), (8, 700, 90), (500, 3, 64)]
)
def test_cells_are_means_of_their_pixels_however_they_come(rows: int, columns: int, cells: int) -> None:
    random = np.random.default_rng(1)
    values = random.normal(size=(rows * columns, 4)).astype(np.float32)
    grid = Grid(rows, columns, 4, cells * 16)
    assert grid.sums.nbytes <= cells * 16
    index = 0
    while index < len(values):
        count = int(random.integers(1, 3 * columns))
        grid.add(index, values[index : index + count])
        index += count
    image = values.reshape(rows, columns, 4)
    expected = np.stack([reduced(image[..., each], *grid.bin) for each in range(4)], axis=-1)
    np.testing.assert_allclose(grid.mean(slice(None)), expected, rtol=1e-4, atol=1e-5)
    assert grid.counts.sum() == rows * columns


def test_a_scan_far_larger_than_memory_is_kept_within_the_bound() -> None:
    scan = a_scan(4096, 4096, 64e6)
    scan.take_spectra(raman(4096 * 7 + 5, np.ones((3, 160)), counts=np.ones((3, 160), np.float32)))
    assert scan.counts is not None
    assert scan.raman.sums.nbytes + scan.counts.sums.nbytes <= 64e6 and not scan.raman.exact
    scan.take_bundle(bundle(0, np.ones((4096 * 16, 1))))
    assert scan.planes[BAND].sums.nbytes <= 16e6
    picture = Picture(scan, Quantity(BAND))
    assert max(picture.values.shape) <= SCREEN
    assert picture.update(threading.Lock()) == slice(0, 2)
    shown = scan.at(7, 6)
    assert shown is not None and "mean of" in shown.title and shown.pixels == 3
    assert scan.beyond == 0 and Scan(a_start(scan=(2**30, 2**22)), 64e6).raman.sums.nbytes <= 32e6


def test_for_how_long_nothing_comes_is_known_from_the_exposure_and_from_what_came_twice() -> None:
    def see(*pauses: float) -> float:
        for pause in pauses:
            scan._bundled = time.monotonic() - pause
            scan.take_bundle(bundle(0, np.ones((1, 1))))
            scan.take_spectra(raman(0, np.ones((1, 160))))  # right after it, which says nothing
        return scan.between_s

    scan = a_scan(2, 3, exposure_s=8.0)
    assert see(60, *30 * [0.05], 30) == 8  # once is no rule: the instrument was held up
    for plane, pause in (
        (60 * [0.05], 8),
        (200 * [0.05], 8.5),
        (1200 * [0.05], 30),
        (10 * [*18 * [0.05], 1.2], 8),  # each line flies back
    ):
        scan = a_scan(6, 3)
        assert pause <= see(*plane, pause, *plane, 1.1 * pause) < 1.2 * pause
        assert pause <= see(*plane, pause) < 1.2 * pause
        assert pause <= see(*plane, 600, *plane, 180) < 1.2 * pause  # longer ones are no rule either
        assert see(*(len(plane) + 1) * PASSED * 4 * [0.05]) == 0  # and what comes no more is expected no more
    assert a_scan(2, 3).between_s == 0


def test_spectra_beyond_the_scan_are_counted_and_left_out() -> None:
    scan = a_scan(2, 3)
    scan.take_bundle(bundle(4, np.ones((5, 1))))
    scan.take_spectra(raman(4, np.ones((5, 160))))
    assert scan.beyond == 3 and scan.planes[BAND].counts.sum() == scan.raman.counts.sum() == 2


def test_a_run_goes_on_whose_daemon_was_gone_for_a_moment() -> None:
    store, reader = Store(64e6), RunReader("preview")
    start = a_start(stream="preview", dtype="float32", scan=(4, 4))
    store.begin(start)
    reader.accept(start)
    interrupted = reader.interrupt(1)
    assert interrupted is not None
    store.close(interrupted)
    scan = store.scan
    store.begin(replace(start, stream="raman"))
    assert scan is not None and scan.end is not None
    again = next(each for each in reader.accept(replace(start, index=4)) if isinstance(each, Start))
    store.begin(again)
    assert store.scan is scan and scan.end is None and not scan.lost


@pytest.mark.parametrize("scan", [(4, 5), (300, 500), (2**53, 1), (1, 2**53), (2**53, 2**53), None])
def test_no_place_that_a_message_may_name_breaks_the_scan(scan: tuple[int, int] | None) -> None:
    for index in (0, 15, 22, 25, 10**6, 2**53 - 10):
        kept = Scan(a_start(scan=scan), 64e6)
        kept.take_bundle(bundle(index, np.ones((10, 1))))
        kept.take_spectra(raman(index, np.ones((10, 160))))
        inside = 10 if scan is None else min(max(scan[0] * scan[1] - index, 0), 10)
        assert kept.raman.counts.sum() == kept.planes[BAND].counts.sum() == inside


def test_a_message_that_the_display_fails_on_costs_no_more_than_itself() -> None:
    class Failing(Store):
        def bundle(self, frame: Frame) -> None:
            assert frame.sequence
            super().bundle(frame)

    store = Failing(64e6)
    with Published("preview") as source:
        feed = Feed(store, source.address, "preview")
        feed.start()
        source.wait()
        source.say(a_start(stream="preview", dtype="float32"))
        for number in range(2):
            source.say(replace(bundle(number, np.ones((1, 1))), sequence=number))
        wait_until(lambda: store.scan is not None and store.scan.seen == 1)
        feed.close()


def test_spectra_that_are_not_asked_for_now_are_missing_for_a_reason() -> None:
    world = World(ViewSettings(preview="tcp://127.0.0.1:9"))
    feed = Feed(world.store, "tcp://127.0.0.1:9", "raman", wanted=lambda: False)
    world.store.connected["preview"] = True
    feed.start()
    try:
        wait_until(lambda: world.no_spectra == "none are asked for while the daemon has no head-room")
    finally:
        feed.close()


def test_a_daemon_that_is_gone_was_heard_before_that_was_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cars_rt.sockets.subscriber.VANISHED_S", 0.2)
    world = World(ViewSettings(preview="tcp://127.0.0.1:9"))
    store = world.store
    with Published("preview") as source:
        feed = Feed(store, source.address, "preview")
        feed.start()
        source.wait()
        source.say(a_start(stream="preview", dtype="float32"), bundle(0, np.ones((1, 1))))
        wait_until(lambda: store.scan is not None and store.scan.seen == 1)
        wait_until(lambda: store.connected.get("preview"))
        heard = store.quiet_since = store.quiet_since - 3600
        assert world.facts().gone_s == 0
    try:
        wait_until(lambda: store.scan is not None and store.scan.end is not None)
        assert store.quiet_since == heard
        wait_until(lambda: not store.connected["preview"])
        assert "preview" in store.gone_since  # not in the hour of silence, but since it went
        assert world.facts().gone_s < 3600 < world.facts().quiet_s
    finally:
        feed.close()
    feed._note(True, "")
    assert world.facts().gone_s == 0


def test_bundles_that_the_display_missed_are_counted() -> None:
    store, reader = Store(64e6), RunReader("preview")
    feed = Feed(store, "tcp://127.0.0.1:9", "preview")
    start = a_start(stream="preview", dtype="float32", scan=(4, 5), sequence=2, index=4)  # joined late
    end = an_end(5, 20, stream="preview")
    bundles = [replace(bundle(index, np.ones((2, 1))), sequence=number) for number, index in ((2, 4), (4, 9))]
    for message in (start, *bundles, end):
        for event in reader.accept(message):
            feed._take(event, "")
    assert store.scan is not None and store.scan.seen == 4 and store.scan.missed == 3


def test_the_missed_tail_of_a_run_is_not_counted_in_the_next_one() -> None:
    store, reader = Store(64e6), RunReader("preview")
    feed = Feed(store, "tcp://127.0.0.1:9", "preview")
    start = a_start(stream="preview", dtype="float32", scan=(4, 5))
    for event in reader.accept(start):
        feed._take(event, "")
    store.begin(replace(start, stream="raman", run="run-2"))  # that stream is ahead
    for event in reader.accept(an_end(5, 20, stream="preview")):
        feed._take(event, "")
    assert store.scan is not None and store.scan.start.run == "run-2" and store.scan.missed == 0


def test_a_run_that_was_left_does_not_come_back() -> None:
    store, first = Store(64e6), a_start(stream="preview", dtype="float32", scan=(4, 4))
    store.begin(first)
    second = replace(first, run="run-2")
    store.begin(second)
    store.bundle(replace(bundle(0, np.ones((16, 1))), run="run-2"))
    shown = store.scan
    for late in (first, second):  # over a slow connection the other stream tells of both far too late
        store.begin(replace(late, stream="raman"))
    assert shown is not None and shown.seen == 16 and store.scan is shown
    store.begin(replace(first, stream="raman", run="run-3"))  # that stream is ahead
    store.begin(second)
    assert store.scan is not None and store.scan.start.run == "run-3"


def test_a_spectrum_with_two_flags_is_one_spectrum() -> None:
    scan, flags = a_scan(100, 1), np.zeros(100, np.uint8)
    flags[:6] = Flag.SPIKE | Flag.UNLIKE
    scan.take_bundle(bundle(0, np.ones((100, 1)), flags=flags))
    recorded = a_scan(100, 1)
    recorded.take_recorded(raman(0, np.ones((100, 160)), flags=flags))
    for each in (scan, recorded):
        assert dict(each.flagged) == {"spike": 6, "unlike": 6} and each.with_flags == 6
    facts = Facts(**WELL | {"flagged": scan.flagged, "with_flags": scan.with_flags})
    assert health.judge(facts)[0] is Level.GREEN  # 6 of 100


def test_spectra_that_are_left_out_for_a_display_are_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    store = Store(64e6)
    with Published("raman") as source:
        feed = Feed(store, source.address, "raman")
        feed.start()
        source.wait()
        source.say(a_start(stream="raman", dtype="float32"))
        for sequence, index in enumerate((0, 8)):
            source.say(replace(raman(index, np.ones((1, 160))), sequence=sequence))
        wait_until(lambda: store.scan is not None and store.scan.raman.counts.sum() == 2)
        feed.close()
    assert "missing" not in caplog.text


def test_a_trail_is_halved_for_ever() -> None:
    trail = Trail(2, 1e9, 16, 0)
    for index in range(0, 1000, 7):
        trail.add(index, np.repeat(np.arange(index, index + 7), 2).reshape(-1, 2))
    assert trail.shape == (16, 1) and trail.counts.sum() == 1001
    cells = trail.mean(slice(None))[:, 0, 0]
    bins = np.arange(16) * trail.bin[0]
    known = np.isfinite(cells)
    expected = [np.arange(first, min(first + trail.bin[0], 1001)).mean() for first in bins[known]]
    np.testing.assert_allclose(cells[known], expected)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_picture_that_grew_is_the_one_that_is_made_at_once(kind: Kind) -> None:
    lock, random = threading.Lock(), np.random.default_rng(2)
    scan = a_scan(40, 30)
    quantity = Quantity(a_band(1100, 1000), kind, BAND if kind is Kind.RATIO else None)
    growing = Picture(scan, quantity)
    for index in range(0, 900, 45):
        scan.take_spectra(raman(index, random.normal(5, 1, (45, 160))))
        part = growing.update(lock)
        assert part is not None and part.stop - part.start <= 3
        assert growing.update(lock) is None
    whole = Picture(scan, quantity)
    whole.update(lock)
    np.testing.assert_allclose(growing.values, whole.values, rtol=1e-5)
    assert np.isfinite(whole.values[:30]).all() and np.isnan(whole.values[30:]).all()
    window = Picture(scan, quantity, Window(5, 10, 20, 25))
    window.update(lock)
    np.testing.assert_allclose(window.values, whole.values[5:20, 10:25], rtol=1e-5)


def test_a_peak_stands_on_a_line_that_is_straight_in_raman_shift() -> None:
    axis = np.linspace(1.0, 1.5, 50) ** 3 * 800  # steps grow, as with a spectrometer that is linear in nm
    line = (30 - 0.01 * axis).astype(np.float32)
    peak = Quantity(BAND, Kind.PEAK)
    np.testing.assert_allclose(peak.of(line[None], axis), 0, atol=1e-5)
    np.testing.assert_allclose(peak.of(line[None, ::-1], axis[::-1]), 0, atol=1e-5)
    np.testing.assert_allclose(peak.of(line[None, :1], axis[:1]), 0)


def test_the_daemons_band_is_complete_where_spectra_were_thinned() -> None:
    scan = a_scan(10, 10)
    scan.take_bundle(bundle(0, np.arange(100).reshape(-1, 1)))
    scan.take_spectra(raman(0, np.ones((30, 160))))
    assert scan.thinned
    quantity = Quantity(Band("called otherwise", BAND.low, BAND.high))
    picture = Picture(scan, quantity)
    picture.update(threading.Lock())
    np.testing.assert_array_equal(picture.values.ravel(), np.arange(100))
    near = scan.at(4, 2)
    assert near is not None and near.title == "row 2, column 2, nearest kept to row 4, column 2"
    assert scan.at(9, 9) is not None and scan.at(10, 0) is None


def test_holes_of_missed_bundles_are_filled_from_whole_spectra() -> None:
    scan, quantity = a_scan(10, 10), Quantity(BAND)
    for row in range(10):
        scan.take_spectra(raman(10 * row, np.full((10, 160), row)))
        if 3 <= row <= 5:
            scan.missed += 10
        else:
            scan.take_bundle(bundle(10 * row, np.full((10, 1), row)))
    picture = Picture(scan, quantity)
    picture.update(threading.Lock())
    np.testing.assert_array_equal(picture.values, np.arange(10)[:, None] + np.zeros(10))
    thinned = a_scan(10, 10)
    thinned.missed = 10
    thinned.take_spectra(raman(0, np.ones((9, 160))))
    thinned.take_bundle(bundle(10, np.ones((10, 1))))
    assert thinned.grid_of(quantity) is thinned.planes[BAND]
    coarse = a_scan(32, 32, 2 * 4 * 160 * 64)
    coarse.missed = 10  # holes here are better than cells of 4 x 4 pixels everywhere
    coarse.take_spectra(raman(0, np.ones((500, 160))))
    coarse.take_bundle(bundle(10, np.ones((400, 1))))
    assert coarse.raman.bin == (4, 4) and coarse.grid_of(quantity) is coarse.planes[BAND]


def test_a_band_that_is_new_in_mid_run_keeps_what_spectra_know_from_before() -> None:
    scan, new = a_scan(32, 32, 2 * 4 * 160 * 64), Band("new", 1200.0, 1300.0)
    for row in range(20):
        bands = (BAND, new) if row >= 8 else (BAND,)
        scan.take_spectra(raman(32 * row, np.ones((32, 160))))
        assert not row or scan.grid_of(Quantity(BAND)) is scan.planes[BAND]  # though spectra may be ahead
        scan.take_bundle(bundle(32 * row, np.ones((32, len(bands))), bands))
    assert scan.raman.bin == (4, 4) and scan.planes[new].exact
    picture = Picture(scan, Quantity(new))
    picture.update(threading.Lock())
    assert np.isfinite(picture.values).sum() == 5 * 8


@pytest.mark.parametrize(
    ("rows", "most_bytes", "at", "row", "title"),
    [
        (None, 1e9, [3], 3, "spectrum 3"),
        (None, 1e9, [0], 6, "spectrum 0, nearest kept to spectrum 6"),
        (None, 5120, [0, 5], 5, "mean of 2 spectra from spectrum 4"),
        (None, 5120, [0, 5], 7, "mean of 2 spectra from spectrum 4, nearest kept to spectrum 7"),
        (None, 5120, [3, 8], 8, "mean of 2 spectra from spectrum 7"),  # joined at the third
        (16, 1e9, [3], 3, "row 3, column 0"),
        (16, 5120, [3], 2, "mean of 4 × 1 pixels from row 0, column 0"),
        (16, 5120, [3], 9, "mean of 4 × 1 pixels from row 0, column 0, nearest kept to row 9, column 0"),
    ],
)
def test_the_title_names_the_spectrum_that_is_shown(
    rows: int | None, most_bytes: float, at: list[int], row: int, title: str
) -> None:
    scan = a_scan(rows, 1, most_bytes)
    for index in at:
        scan.take_spectra(raman(index, np.ones((1, 160))))
    shown = scan.at(row, 0)
    assert shown is not None and shown.title == title


def test_a_region_is_the_mean_of_its_spectra_also_where_they_are_averaged() -> None:
    values = np.arange(81.0)[:, None] * np.ones(160)  # 9 x 9: cells at the edges have fewer pixels
    for most_bytes in (1e9, 2 * 4 * 160 * 9):
        scan = a_scan(9, 9, most_bytes)
        scan.take_spectra(raman(0, values, counts=values.astype(np.float32)))
        everything, lock = Region(Window(0, 0, 9, 9)), threading.Lock()
        shown = everything.look(scan, lock)
        assert shown is not None and shown.counts is not None and shown.pixels == 81
        np.testing.assert_allclose((shown.raman[0], shown.counts[0]), values.mean())
        if scan.raman.exact:
            assert shown.deviation is not None
            np.testing.assert_allclose(shown.deviation, values.std(axis=0, ddof=1), rtol=1e-6)
        else:
            assert scan.raman.bin == (4, 4) and shown.deviation is None  # that of means is another one
        above = Region(Window(0, 0, 4, 9))
        first = above.look(scan, lock)
        scan.take_spectra(raman(72, values[72:]))  # row 8
        assert above.look(scan, lock) is first and everything.look(scan, lock) is not shown


class SlowLock:
    """As the feed holds it that writes without a pause."""

    def __init__(self, wait_s: float = 0.0) -> None:
        self.lock, self.wait_s, self.held = threading.Lock(), wait_s, 0

    def __enter__(self) -> None:
        time.sleep(self.wait_s)
        self.lock.acquire()
        self.held += 1

    def __exit__(self, *error: object) -> None:
        self.lock.release()


def test_a_region_is_read_some_rows_at_a_time_and_then_left_in_peace(monkeypatch: pytest.MonkeyPatch) -> None:
    scan, place, lock = a_scan(9, 9), Place(), SlowLock(0.01)
    scan.take_spectra(raman(0, np.random.default_rng(4).normal(size=(72, 160))))
    at_once = Region(Window(0, 0, 9, 9)).look(scan, threading.Lock())
    monkeypatch.setattr(region, "AT_ONCE", 2 * 9 * 160)
    place.choose(region=Window(0, 0, 9, 9))
    assert place.is_due(0)
    shown, _ = place.look(scan, lock, 0, 0.1)
    assert shown is not None and at_once is not None and lock.held == 6
    np.testing.assert_array_equal(shown.raman, at_once.raman)
    np.testing.assert_array_equal(shown.deviation, at_once.deviation)
    lock.wait_s = 0.03
    scan.take_spectra(raman(72, np.ones((9, 160))))
    scan.end = an_end(1, 81, stream="preview")
    assert place.is_due(100)  # what came just before the end is looked at, too
    whole, _ = place.look(scan, lock, 100, 0.1)
    assert whole is not None and whole.pixels == 81 and not place.is_due(101.7)
    lock.wait_s = 0
    assert place.look(scan, lock, 200, 0.1) == (whole, False)


def test_the_spectrum_of_a_pixel_is_read_again_where_something_came() -> None:
    scan, place, lock = a_scan(2, 2), Place(), threading.Lock()
    scan.take_spectra(raman(0, np.ones((2, 160))))
    place.choose((1, 0))
    near, _ = place.look(scan, lock, 0, 0.1)
    assert near is not None and "nearest" in near.title and place.look(scan, lock, 2, 0.1)[0] is near
    scan.take_spectra(raman(2, np.ones((2, 160))))
    scan.end = an_end(1, 4, stream="preview")
    own, _ = place.look(scan, lock, 4, 0.1)
    assert own is not None and own.title == "row 1, column 0"


def test_points_become_a_waterfall_on_any_axis() -> None:
    axis = AXIS[::-1].copy()
    scan = Scan(a_start(axis=axis), 1e8)
    values = np.tile(axis.astype(np.float32), (20, 1))
    scan.take_spectra(raman(0, values))
    fall, curve = Waterfall(scan), Curve(scan, Quantity(BAND))
    assert fall.update(threading.Lock()) and curve.update(threading.Lock())
    assert fall.step == 1 and fall.values.shape == (20, 160) and (np.diff(fall.values[0]) > 0).all()
    spectra, values = curve.drawn()
    assert spectra.tolist() == list(range(20)) and 900 < values[3] < 1000
    scan.take_spectra(raman(30, np.tile(axis.astype(np.float32), (10, 1))))
    curve.update(threading.Lock())
    spectra, values = curve.drawn()  # no line from 19 to 30
    assert np.isnan(spectra[20]) and np.isnan(values[20]) and spectra[[19, 21]].tolist() == [19, 30]
    assert np.isfinite(np.delete(values, 20)).all()


@pytest.mark.parametrize("most_bytes", [1e9, 2 * 4 * 160 * 1024])  # of which each two rows become one
def test_points_that_grew_are_those_that_are_read_at_once(
    most_bytes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, scan = threading.Lock(), a_scan(None, 1, most_bytes)
    growing = Waterfall(scan), Curve(scan, Quantity(Band("", 1000, 1100)))
    for index in range(0, 3000, 100):
        values = np.arange(index, index + 100)[:, None] + np.zeros(160)
        scan.take_spectra(raman(index, values[: 100 if index % 700 else 50]))
        assert all(each.update(lock) for each in growing)
    assert not any(each.update(lock) for each in growing)
    for grown, anew in zip(growing, (Waterfall(scan), Curve(scan, growing[1].quantity)), strict=True):
        monkeypatch.setattr(trace, "MOST_AT_ONCE", 64 * grown._depth)
        goes = 0
        while anew.update(lock):
            goes += 1
            assert np.isfinite(anew.values[-1]).all()  # the newest come first
        assert goes > 5 and not anew.behind
        np.testing.assert_array_equal(grown.values, anew.values)
    shown = growing[0].values
    assert growing[0].step == 8 and shown.shape == (375, 160) and shown[2, 0] == 19.5


def test_points_of_a_run_that_was_joined_late_are_counted_from_there() -> None:
    scan, late = a_scan(None), 8 * 3_600_000  # eight hours at a kilohertz
    scan.take_bundle(bundle(late, np.arange(100)[:, None]))
    scan.take_spectra(raman(late - 1, np.arange(99, 200)[:, None] + np.zeros(160)))  # one from before
    shown = scan.at(late + 70, 0)
    assert shown is not None and shown.title == f"spectrum {late + 70}" and shown.raman[0] == 170
    assert scan.at(late - 1, 0) is None and scan.at(70, 0) is None
    fall, curve = Waterfall(scan), Curve(scan, Quantity(BAND))
    fall.update(threading.Lock())
    curve.update(threading.Lock())
    assert (fall.first, fall.step) == (late, 1) and np.isfinite(fall.values).all() and len(fall.values) == 100
    np.testing.assert_array_equal(curve.drawn()[0], late + np.arange(100))


def test_empty_and_absurd_values_break_nothing() -> None:
    lock, scan = threading.Lock(), a_scan(1, 1)
    scan.take_bundle(bundle(0, np.full((1, 1), np.nan), latest_raman=np.full(160, np.nan, np.float32)))
    assert scan.not_finite == 1
    picture = Picture(scan, Quantity(BAND))
    picture.update(lock)
    assert picture.values.shape == (1, 1) and np.isnan(picture.values).all()
    assert len(peaks(np.full(160, np.nan, np.float32))) == 0 and len(peaks(np.zeros(160, np.float32))) == 0
    recorded = a_scan(2, 1)
    recorded.take_recorded(raman(0, np.array([np.ones(160), np.r_[np.inf, np.ones(159)]])))
    assert recorded.not_finite == 1
    red = np.full((2, 2), np.nan, np.float32)
    assert not rgba((red, red, red), [(0, 0)] * 3).any()
    with pytest.raises(QuantityError, match="two numbers in cm"):
        a_band(False, True)
    with pytest.raises(QuantityError, match="outside this axis"):
        Picture(scan, Quantity(Band("", 4000, 5000)))
    assert a_scan(3, 3, step_um=(0.0, 1.0)).step_um is None


@pytest.mark.parametrize("slope", [-1.0, 1.0])
def test_the_ends_of_the_axis_are_no_peaks(slope: float) -> None:
    line = slope * np.linspace(-1, 1, 160) + 3
    assert not len(peaks(line))
    there = line + np.exp(-0.5 * ((AXIS - 1000) / 8) ** 2)
    np.testing.assert_allclose(AXIS[peaks(there)], [1000], atol=5)


def test_peaks_are_where_lines_are() -> None:
    lines = sum(
        height / (1 + ((AXIS - centre) / 8) ** 2) for centre, height in ((900, 1), (1200, 0.5), (1400, 0.3))
    )
    noisy = (lines + np.random.default_rng(3).normal(0, 0.005, len(AXIS))).astype(np.float32)
    np.testing.assert_allclose(AXIS[peaks(noisy)], [900, 1200, 1400], atol=5)


@pytest.mark.parametrize("text", [
    "", "nonsense", "[]", "[1]", "{}", '{"do": "latest"}', '[1, {"do": 7}]', '[1, 2]', "[" * 4000,
    '[1, {"do": "latest"}, {}]', '[1, {"do": "band", "low": NaN}]', json.dumps([1, {"do": "x" * 20_000}]),
])  # fmt: skip
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(OrderError):
        read_orders(text)


def test_orders_wait_in_their_order_and_a_flood_is_refused() -> None:
    orders, kinds = Orders(), ["band", "pin"] * (MOST_ORDERS // 2)
    assert all(orders.add(Order({"do": each})) for each in kinds) and len(orders) == MOST_ORDERS
    assert not orders.add(Order({"do": "latest"}))
    assert [each.do for each in orders.take()] == kinds and not orders


def test_orders_are_read_with_checks() -> None:
    content = {"do": "x", "a": True, "b": 1.5, "c": "w" * 300, "d": [0] * 99, "e": 3, "f": 10**999}
    _, order = read_orders(json.dumps([1, {"do": "latest"}, content]))
    for wrong in (lambda: order.number("a"), lambda: order.number("f"), lambda: order.number("gone"),
                  lambda: order.whole("b", 0, 9),
                  lambda: order.text("c"), lambda: order.items("d"), lambda: order.choice("c", ("u",)),
                  lambda: order.whole("e", 4, 9)):  # fmt: skip
        with pytest.raises(OrderError):
            wrong()
    assert (
        order.whole("e", 0, 9) == 3
        and order.text("gone") == ""
        and order.switch("a")
        and not order.switch("b")
    )
