"""A real Chromium, and the eyes and hands of whoever sits before it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import PATIENCE_S
from numpy.typing import NDArray

#: Whatever was to be drawn by now has been.
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
#: As root in a container, without a GPU; and asking nobody outside.
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

#: Functions within the page: models and views of Bokeh by the name of their figure.
EYES = """
window.eyes = {
  model: (name) => Bokeh.documents[0].get_model_by_name(name),
  data: (name, renderer, column) => {
    const found = eyes.model(name).renderers[renderer].data_source.data[column]
    return [...found].map((each) => typeof each === "object" ? {shape: each.shape, values: [...each]} : each)
  },
  place: (name, x, y) => {
    const view = Bokeh.index.find_one(eyes.model(name))
    const box = view.canvas_view.el.getBoundingClientRect()
    return [box.left + view.frame.x_scale.compute(x), box.top + view.frame.y_scale.compute(y)]
  },
  box: (model) => Bokeh.index.find_one(model).el.getBoundingClientRect(),
  socket: null,  // the page's connection
}
window.WebSocket = class extends WebSocket {
  constructor(...given) { super(...given); eyes.socket = this }
}
"""


def chromium() -> str | None:
    """Where the browser is: CARS_RT_CHROMIUM, or one of the usual names."""
    given = os.environ.get("CARS_RT_CHROMIUM")
    found = [given] if given else [shutil.which(name) for name in NAMES]
    return next((each for each in found if each and Path(each).exists()), None)


class Browser:
    """One page that is open. `requests` are the addresses that it asked for, `sent` what it said since."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.sent: list[str | bytes] = []
        page.set_default_timeout(PATIENCE_S * 1e3)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("websocket", lambda socket: socket.on("framesent", lambda text: self.sent.append(text)))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.add_init_script(EYES)

    def asked(self, begin: int = 0) -> list[dict[str, Any]]:
        """The orders in what it sent, from the message with this number on."""
        content = [json.loads(each) for each in self.sent[begin:] if '"asked"' in str(each)]
        texts = [event["new"] for each in content for event in each["events"] if event.get("attr") == "asked"]
        return [order for text in texts for order in json.loads(text)[1:] if order["do"] != "drawn"]

    def open(self, address: str) -> None:
        """Load the page, and wait until it shows how it is."""
        self.page.goto(address)
        self.until("document.querySelector('#rows')?.children.length > 0")

    def until(self, condition: str) -> None:
        """Wait until this JavaScript is true."""
        self.page.wait_for_function(condition)

    def says(self, where: str, text: str) -> None:
        """Wait until an element contains this text."""
        self.page.wait_for_function(
            "([where, text]) => document.querySelector(where)?.textContent.includes(text)", arg=[where, text]
        )

    def text(self, where: str) -> str:
        return str(self.page.inner_text(where))

    def row(self, name: str) -> str:
        """One of the numbers beside the health line."""
        return self.text(f"#rows [data-name='{name}'] dd")

    def image(self, renderer: int = 1) -> NDArray[Any]:
        """What the map holds: renderer 1 is of numbers, 2 of colours."""
        (found,) = self.page.evaluate(f"eyes.data('map', {renderer}, 'image')")
        values = [np.nan if each is None else each for each in found["values"]]
        return np.array(values, np.float64).reshape(found["shape"])

    def spectrum(self, column: str = "y", renderer: int = 3) -> NDArray[np.float64]:
        """A column of the spectrum: renderer 0 is raw, 3 the result."""
        found = self.page.evaluate(f"eyes.data('spectrum', {renderer}, '{column}')")
        return np.array([np.nan if each is None else each for each in found], np.float64)

    def click(self, name: str, x: float, y: float) -> None:
        """Click at a place of a plot's axes."""
        self.page.mouse.click(*self._settled(name, x, y))

    def _settled(self, name: str, x: float, y: float) -> list[float]:
        """Where on the page a place of a plot's axes is, once it stays there: axes follow what was drawn."""
        place: list[float] = []
        while (now := self.page.evaluate(f"eyes.place('{name}', {x}, {y})")) != place:
            place = now
            self.page.evaluate(TWO_FRAMES)
        return place

    def drag(self, name: str, begin: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag from one place of a plot's axes to another."""
        places = [self._settled(name, x, y) for x, y in (begin, end)]
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        self.page.mouse.move(*places[1], steps=4)
        self.page.mouse.up()

    def band(self, low: float, high: float, kind: str = "mean") -> None:
        """Have the map show this band."""
        self.page.fill("#low", str(low))
        self.page.fill("#high", str(high))
        self.page.select_option("#kind", kind)
        self.page.click("#band-form button[type=submit]")


@contextmanager
def a_browser(width: int = 1400, height: int = 850) -> Iterator[Browser]:
    """A browser with one empty page; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    where = chromium()
    if where is None:
        pytest.skip("no Chromium on this computer (CARS_RT_CHROMIUM names one)")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=where, args=FLAGS)
        try:
            yield Browser(browser.new_page(viewport={"width": width, "height": height}))
        finally:
            browser.close()
