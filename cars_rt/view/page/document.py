"""One browser's page: what it shows, what it is asked, and when it is sent more."""

import json
import logging
import math
import time
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.models import CustomJS

from cars_rt.errors import CarsRtError
from cars_rt.view.page import wishes
from cars_rt.view.page.answers import Answers
from cars_rt.view.page.choice import Choice
from cars_rt.view.page.image import PALETTES
from cars_rt.view.page.limits import Limits
from cars_rt.view.page.mapview import MapView
from cars_rt.view.page.orders import Order, OrderError, Orders, read_orders
from cars_rt.view.page.pace import Pace, pause_s
from cars_rt.view.page.place import Place
from cars_rt.view.page.pointsview import PointsView
from cars_rt.view.page.said import Said
from cars_rt.view.page.spectrumview import LINES, SpectrumView
from cars_rt.view.page.stack import Stack
from cars_rt.view.page.talk import Talk
from cars_rt.view.page.theme import THEMES
from cars_rt.view.page.words import in_form, in_words
from cars_rt.view.picture import SCREEN, Window
from cars_rt.view.quantity import Composite, Kind, Quantity, a_band
from cars_rt.view.scan import Scan
from cars_rt.view.world import World

log = logging.getLogger("cars_rt.view")

MOST_PLANES = 10_000
LATEST = 4  # pictures to one latest spectrum: nobody reads more, and it costs as much to draw as the map
ALIVE_S = 2.0  # so often a page hears from us, also where nothing changes: it cannot tell silence from rest

PLACE = "place"  # messages of what is chosen in the plots
HEAR = "CarsRT.hear(talk)"
FRAME = "for (const plot of plots) plot.reset.emit()"


class Page:
    """One browser. All of it runs in the server's loop."""

    def __init__(self, document: Document, world: World) -> None:
        self.world, self.store, self.document = world, world.store, document
        self.talk = Talk()
        self.limits = Limits()
        self.map = MapView(self._tap_map, self.limits)
        self.points = PointsView(self._tap_points, self.limits)
        self.spectrum = SpectrumView(self._drag_band)
        self.choice = Choice()
        self.place = Place()
        self.scan: Scan | None = None
        self.stack = Stack()
        self.zoom: Window | None = None  # what the browser shows of a scan that is larger than the screen
        self._answers = Answers()
        self._orders = Orders()
        self._said = Said(world)
        self._stale = True  # the pictures are to be made anew
        self._reframe = False  # plots are to show all there is again
        self._pace = Pace()
        self._called = False  # `beat` is under way
        self._beaten = 0.0  # when `beat` last began
        self._alive_due = 0.0
        self._lag_s: float | None = None
        self._shown_ns = self._timed_ns = 0  # when the camera gave what is shown, and that of the last lag
        self.map.plot.on_event("selectiongeometry", self._select)
        self.map.plot.on_event("rangesupdate", self._zoomed)
        self.map.plot.tags = [self.talk]
        self.talk.js_on_change("said", CustomJS(args={"talk": self.talk}, code=HEAR))
        self.talk.js_on_change("alive", CustomJS(code="CarsRT.heard()"))
        # Bokeh's banner would lie over our sentence; and a page that is cut off is loaded anew as a whole.
        document.config.update(notify_connection_status=False, reconnect_session=False)
        document.js_on_event("connection_lost", CustomJS(code="CarsRT.lost()"))
        document.js_on_event("document_ready", CustomJS(args={"talk": self.talk}, code=HEAR))
        self.talk.on_change("asked", self._asked)
        plots = [self.map.plot, *self.spectrum.plots, self.points.waterfall, self.points.trend]
        self.talk.js_on_change("framed", CustomJS(args={"plots": plots}, code=FRAME))
        self._paint("light")
        with document.models.freeze():  # it looks at all models once, not after each root
            for root in plots:
                document.add_root(root)

    def look(self) -> None:
        """Have `beat` called if there is anything to do. This look is cheap; a call through Bokeh is not."""
        now, scan = time.monotonic(), self.store.scan
        new = scan is not self.scan or (scan is not None and scan.touched >= self._beaten)
        new = new or self._stale or self.place.stale or self.points.behind
        due = (new or self._said.due(now)) and self._pace.may_send(now)
        if not self._called and (self._orders or due or now >= self._alive_due):
            self._called = True
            self.document.add_next_tick_callback(self._guarded_beat)

    def _guarded_beat(self) -> None:
        """Call `beat`. A mistake of ours is shown on the page, which goes on."""
        self._called, self._beaten = False, time.monotonic()
        try:
            self.beat()
        except Exception as error:
            log.exception("the page failed")
            self._said.say(f"The display failed ({type(error).__name__}: {error}); see its log.", True)
            self._speak_anyhow(time.monotonic())

    def _speak_anyhow(self, now: float) -> None:
        """Losses are to be seen whatever fails; what failed is tried again a second later."""
        try:
            if self._pace.may_send(now):
                self._speak(now, True)
        except Exception:
            log.exception("nor can the page say so")
        self._pace.rest(now + 1)

    # What the browser asks

    def _asked(self, attribute: str, old: str, new: str) -> None:
        try:
            for order in read_orders(new):
                if order.do == "drawn":
                    self._is_drawn(order.whole("tick", 0, 2**53))
                elif not self._orders.add(order):
                    self._said.say("Too much was asked at once; some of it was left out.", True)
        except OrderError as error:
            self._said.say(str(error), True)

    def _is_drawn(self, tick: int) -> None:
        drawn = self._pace.drawn(tick, time.monotonic(), self._pause())
        if drawn and self._shown_ns not in (0, self._timed_ns):  # else it was drawn before, and nothing came
            self._timed_ns = self._shown_ns
            self._lag_s = max(time.time_ns() - self._shown_ns, 0) / 1e9

    def _pause(self) -> float:
        world = self.world
        return pause_s(busy=world.busy, pages=len(world.pages), crowding=world.crowding())

    def _obey(self) -> None:
        for order in self._orders.take():
            try:
                self._carry_out(order)
                self._said.mended(order.do)
            except CarsRtError as error:
                if not order.switch("restored"):  # else nobody asks for it now: the page was loaded anew
                    self._said.say(str(error), True, order.do)

    def _carry_out(self, order: Order) -> None:
        match order.do:
            case "band":
                self._choose(wishes.quantity(order), order.switch("restored"))
            case "rgb":
                self._choose(wishes.composite(order), order.switch("restored"))
            case "limits":
                self.limits.wish(*wishes.limits(order))
                self._stale = True
            case "palette":
                for view in (self.map, self.points):
                    view.mapper.palette = PALETTES[order.choice("name", PALETTES)]
            case "latest":
                self.place.choose()
                self.map.unmark()
            case "move":
                self._move(*(order.whole(each, -(2**31), 2**31) for each in ("rows", "columns")))
            case "point":
                self._point(order.whole("row", 0, 2**53), order.whole("column", 0, 2**53))
            case "planes":
                planes, plane = order.whole("count", 1, MOST_PLANES), order.whole("plane", 0, MOST_PLANES)
                self.stack.choose(planes, plane, self.scan)
                self.zoom, self._stale, self._reframe = None, True, True
            case "pin":
                self.spectrum.pin()
            case "unpin":
                self.spectrum.unpin()
            case "labels":
                self.spectrum.labelled = order.switch("on")
                self.spectrum.label()
            case "log":
                self.spectrum.set_log(order.switch("on"))
            case "substances":
                self.spectrum.mark_substances([each for each in order.items("names") if each in LINES])
            case "theme":
                self._paint(order.choice("name", THEMES))
            case _:
                self._control(order)

    def _choose(self, what: Quantity | Composite, restored: bool = False) -> None:
        scan = self.store.scan
        self.choice.choose(what, None if scan is None else scan.axis, restored=restored)
        self._stale = True
        self._said.say("", False)

    def _control(self, order: Order) -> None:
        given = wishes.control(order)
        self._said.say(*self._answers.ask(order.do))

        def then(text: str, bad: bool) -> None:  # from another thread
            self.document.add_next_tick_callback(
                lambda: self._said.say(*self._answers.answer(order.do, text, bad))
            )

        self.world.ask(order.do, given, then)

    # What is done in the plots

    # Bokeh calls these at once: what was ordered before is obeyed first.

    def _tap_map(self, x: float, y: float) -> None:
        self._obey()
        if self.scan is not None and math.isfinite(x) and math.isfinite(y):
            self._point(*self.map.pixel(x, y))

    def _tap_points(self, x: float, y: float) -> None:
        self._obey()
        if math.isfinite(y):
            self._point(int(max(y, 0)), 0)

    def _window(self, *ends: Any) -> Window | None:
        """Cells of the plane between two corners on the axes: x0, y0, x1, y1; None where there is no map."""
        known = all(isinstance(end, int | float) and math.isfinite(end) for end in ends)
        if self.scan is None or self.scan.points or not known:
            return None
        x0, y0, x1, y1 = ends
        top, left = self.map.pixel(min(x0, x1), min(y0, y1))
        bottom, right = self.map.pixel(max(x0, x1), max(y0, y1))
        first, end = self.stack.rows(self.scan)
        return Window(top, left, bottom + 1, right + 1).within(end, self.scan.shape[1], first)

    def _point(self, row: int, column: int) -> None:
        scan = self.scan
        if scan is None:
            return
        first, end = self.stack.rows(scan)
        if not (first <= row < end and 0 <= column < scan.shape[1]):
            self._said.say("There is no pixel there.", False, PLACE)
            return
        self.place.choose((row, column))
        if not scan.points:
            self.map.mark(row, column)

    def _move(self, rows: int, columns: int) -> None:
        scan = self.scan
        if scan is None:
            return
        first, end = self.stack.rows(scan)
        row, column = self.place.corner or divmod(max(scan.latest_index, 0), scan.shape[1])
        row = min(max(row, first), end - 1)  # what is chosen may lie in another plane
        self._point(min(max(row + rows, first), end - 1), min(max(column + columns, 0), scan.shape[1] - 1))

    def _select(self, event: Any) -> None:
        self._obey()
        window = self._window(*(event.geometry.get(each) for each in ("x0", "y0", "x1", "y1")))
        if event.final and window is not None:
            self.place.choose(region=window)
            self.map.mark_region(window.top, window.left, window.bottom, window.right)

    def _drag_band(self, x0: float, x1: float) -> None:
        self._obey()
        try:
            what, kind = self.choice.what, Kind.MEAN
            if isinstance(what, Quantity) and what.kind is not Kind.RATIO:
                kind = what.kind
            self._choose(Quantity(a_band(x0, x1), kind))
        except CarsRtError as error:
            self._said.say(str(error), True, "band")

    def _zoomed(self, event: Any) -> None:
        scan = self.scan
        if scan is None or max(scan.shape[0] // self.stack.planes, scan.shape[1]) <= SCREEN:
            return
        zoom = self._window(event.x0, event.y0, event.x1, event.y1)
        if zoom is not None and zoom != self.zoom:
            self.zoom, self._stale = zoom, True

    # What is sent

    def beat(self) -> None:
        """Send what is new, if the browser has drawn what it was sent before; and that we are there."""
        self._obey()
        now = time.monotonic()
        if self._pace.may_send(now):
            sent = self._pictures() | self._spectrum(now)
            self._speak(now, sent)
        if now >= self._alive_due:
            self._alive_due = now + ALIVE_S
            self.talk.alive += 1

    def _pictures(self) -> bool:
        scan = self.store.scan
        if scan is None:
            return False
        if scan is not self.scan:
            with self.store.lock:
                known = bool(scan.bands) or scan.raman.version > 0
            if not known and scan.end is None:
                return False
            self._new(scan)
        with self.store.lock:
            bands = scan.bands
        others, another = self.choice.look_at(bands)
        if another or (others and scan.points):
            self._stale = True
        if self._stale:
            self._stale = False
            if scan.points:
                self.points.show(scan, self.choice.quantities)
            else:
                assert self.choice.what is not None
                first, end = self.stack.rows(scan)
                self.map.show(scan, self.choice.what, (first, end - first), self.zoom)
            if self._reframe:
                self._reframe = False
                self.talk.framed += 1
            self.spectrum.mark_bands(*self.choice.marked)
        self._shown_ns = scan.latest_ns if scan.end is None else 0
        return self.points.update(self.store.lock) if scan.points else self.map.update(self.store.lock)

    def _new(self, scan: Scan) -> None:
        """Turn to another run. What was chosen stays where its axis allows."""
        before = self.scan
        other_axis = before is None or not np.array_equal(before.axis, scan.axis)
        other_shape = before is None or before.shape != scan.shape
        self.stack.turn_to(scan, other_shape=other_shape)
        self._reframe = before is None or other_axis or other_shape or before.step_um != scan.step_um
        if self._reframe:
            self.zoom = None
        self.scan, self._stale = scan, True
        self._lag_s, self._timed_ns = None, scan.latest_ns  # which may have been there for long
        self._said.turn()
        self.place.choose()
        (self.map if scan.points else self.points).clear()
        self.spectrum.clear()
        self.spectrum.of(scan.start.model)
        try:
            self.choice.turn_to(scan.axis, other=other_axis)
        except CarsRtError as error:
            self._said.say(f"{error}; another band is shown until there is one that has it.", True, "band")

    def _spectrum(self, now: float) -> bool:
        scan = self.scan
        if scan is None or not self.place.is_due(now):
            return False
        if self.place.stale:
            self._said.mended(PLACE)
        shown, changed = self.place.look(scan, self.store.lock, now, LATEST * self._pause())
        if changed and shown is None:
            why = f": {reason}" if (reason := self.world.no_spectra) else " yet"
            self._said.say(f"No spectrum was kept there{why}.", False, PLACE)
        elif changed:
            self._said.mended(PLACE)
        if shown is None or shown is self.spectrum.shown:
            return False
        self.spectrum.show(scan.axis, shown)
        return True

    def _speak(self, now: float, sent: bool) -> None:
        if not sent and not self._said.due(now):
            return
        what = self.choice.what
        scan = self.scan
        view = self.points if scan and scan.points else self.map
        shown = {
            "points": bool(scan and scan.points),
            "words": in_words(scan, self.spectrum.shown, what, self.world.no_spectra, self._mixed()),
            "peaks": [round(each) for each in self.spectrum.peaks()],
            "limits": [self.limits.by(view.title), view.title, view.ranges],
            "planes": None if scan is None or scan.points else [self.stack.planes, self.stack.plane],
            "title": what.title if what else "",
            "form": in_form(what),
            "chosen": wishes.as_order(self.choice.wished),
            "theme": self._theme,
        }
        running = scan is not None and scan.end is None
        told = self._said.tell(now, shown, self._lag_s if running else None, sent)
        if told is not None:
            self.talk.said = json.dumps(told | {"tick": self._pace.sent(now)})

    def _mixed(self) -> bool:
        """Whether cells lie across the border of two planes of a stack."""
        if self.scan is None or self.scan.points or self.stack.planes == 1:
            return False
        rows = self.scan.shape[0] // self.stack.planes
        return any(rows % tall for tall in (self.scan.raman.bin[0], self.map.tall))

    def _paint(self, theme: str) -> None:
        self._theme = theme
        for view in (self.map, self.points, self.spectrum):
            view.paint(THEMES[theme])
