"""The page of a recording in a real Chromium."""

from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from bokeh.document import Document
from files.test_dataset import ended, recorded
from helpers import Command

from cars_rt.view.server import FULL, MOST_PAGES, open_page
from cars_rt.view.settings import ViewSettings
from cars_rt.view.world import World
from view.browser import TWO_FRAMES, Browser, a_browser

pytest.importorskip("xarray", reason="needs the extra files")
pytest.importorskip("dask.array", reason="needs the extra files")

PLANE, PLANES = (1, 7), 5


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    path = ended(recorded(tmp_path_factory.mktemp("recorded") / "scan.h5", scan=PLANE))
    with Command("view", path, "--http", "127.0.0.1:0", "--no-browser") as view:
        yield view


@pytest.fixture(scope="module")
def browser(view: Command) -> Iterator[Browser]:
    with a_browser() as browser:
        view.wait_for("the display is at ")
        browser.open(view.said.partition("the display is at ")[2].split()[0])
        yield browser


def test_the_planes_of_a_recording_are_gone_through(browser: Browser) -> None:
    browser.until(f"document.querySelector('#planes').value === '{PLANES}'")
    browser.page.focus("#plane")
    for _ in range(PLANES - 1):
        browser.page.keyboard.press("ArrowRight")
    browser.until(f"JSON.parse(eyes.model('map').tags[0].said).planes.join() === '{PLANES},{PLANES - 1}'")
    assert browser.image().shape == PLANE


def test_a_display_that_stands_still_is_said_to_be_silent(browser: Browser, view: Command) -> None:
    before, display = browser.text("#health"), psutil.Process(view.process.pid)
    display.suspend()
    try:
        browser.page.evaluate(TWO_FRAMES)
        for _ in range(9):  # seconds, without waiting for them
            browser.page.evaluate("CarsRT.listen()")
        browser.says("#sentence", "Nothing heard from the display for")
        browser.says("#level", "amber")
    finally:
        display.resume()
    browser.says("#sentence", "scan.h5")
    assert browser.text("#health") == before


def test_a_tab_that_was_hidden_for_long_says_once_that_it_draws_again(browser: Browser) -> None:
    before = len(browser.sent)
    browser.page.evaluate(
        """() => {
          const waiting = [], draw = window.requestAnimationFrame
          window.requestAnimationFrame = (then) => waiting.push(then)  // as in a hidden tab, nothing is drawn
          for (let n = 0; n < 500; n++) CarsRT.hear(eyes.model("map").tags[0])
          window.requestAnimationFrame = draw
          for (const each of waiting) draw(each)
        }"""
    )
    browser.page.evaluate(TWO_FRAMES)
    browser.page.evaluate(TWO_FRAMES)
    browser.page.check("#log")
    browser.until("eyes.model('spectrum_log').visible")
    browser.page.uncheck("#log")
    browser.until("!eyes.model('spectrum_log').visible")
    said = [each for each in browser.sent[before:] if "drawn" in str(each)]
    assert 1 <= len(said) < 20


def test_quick_orders_stay_in_order_and_none_takes_others_with_it(browser: Browser) -> None:
    page, before = browser.page, len(browser.sent)
    page.evaluate(
        """() => {
          const map = document.querySelector("#map"), option = document.querySelector("[name=substance]")
          for (const key of ["ArrowUp", "ArrowUp", "p", "ArrowUp", "Escape", "Escape", "p"])
            map.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}))
          const name = option.value
          option.value = "x".repeat(100000)
          option.click();
          [option.value, option.checked] = [name, false]
        }"""
    )
    browser.says("#message", "That is too long")
    page.check("#log")
    browser.until("eyes.model('spectrum_log').visible")
    page.uncheck("#log")
    browser.until("!eyes.model('spectrum_log').visible && document.querySelector('#message').hidden")
    asked = [each["do"] if each["do"] != "move" else each["rows"] for each in browser.asked(before)]
    assert asked == [-2, "pin", -1, "latest", "pin", "log", "log"]


#: Ends the page's connection, and waits for what the page says of it.
CUT = """new Promise((done) => {
  const sentence = document.querySelector("#sentence"), before = sentence.textContent
  const look = () => sentence.textContent !== before && done(sentence.textContent)
  new MutationObserver(look).observe(sentence, {childList: true, characterData: true, subtree: true})
  eyes.socket.close()
})"""
CONTROLS = """["#low", "#high", "#kind", "#low2", "#high2", "#palette", "#by", "#lower", "#upper", "#plane"]
  .map((each) => document.querySelector(each).value).concat(
    [...document.querySelectorAll("input:checked")].map((each) => each.id || each.value)).join()"""


def test_a_page_that_was_cut_off_comes_back_with_its_display_and_what_was_chosen(browser: Browser) -> None:
    page, title = browser.page, "eyes.model('map').title.text"
    page.select_option("#kind", "ratio")
    page.fill("#low2", "1200")
    page.fill("#high2", "1300")
    browser.band(900, 1000, "ratio")
    page.select_option("#palette", "cividis")
    page.select_option("#by", "hand")
    page.fill("#lower", "-1")
    page.fill("#upper", "7")
    page.click("#hand button")
    page.check("#labels")
    page.check("#log")
    page.click("#substances summary")
    page.check("[name=substance][value=toluene]")
    page.click("#theme")
    mapper = "eyes.model('map').renderers[1].glyph.color_mapper"
    plane = "JSON.parse(eyes.model('map').tags[0].said).planes?.join()"
    shown = f"""{title}.includes('1200–1300') && {plane} === '{PLANES},{PLANES - 1}' &&
        {mapper}.high === 7 && {mapper}.palette[0] === '#00204C' &&
        eyes.model('spectrum_log').visible && eyes.data('spectrum', 4, 'x').length > 0 &&
        document.documentElement.dataset.theme === 'dark'"""
    browser.until(shown)
    controls = page.evaluate(CONTROLS)
    page.evaluate("window.before = true")
    page.route(
        "**/view/view.css", lambda route: route.fulfill(status=502)
    )  # a proxy before a display that ended
    assert page.evaluate(CUT).startswith("The connection to the display broke")
    browser.says("#sentence", "The display does not answer")
    assert page.evaluate("window.before")
    page.unroute("**/view/view.css")  # it goes on asking
    browser.until(f"window.before === undefined && window.Bokeh?.documents.length > 0 && {shown}")
    assert page.evaluate(CONTROLS) == controls
    page.select_option("#by", "fixed")
    browser.until("JSON.parse(eyes.model('map').tags[0].said).limits[0] === 'fixed'")
    before = len(browser.sent)
    page.reload()
    browser.until(f"window.Bokeh?.documents.length > 0 && {shown}")
    browser.until("document.querySelector('#by').value === 'fixed'")
    asked = browser.asked(before)
    assert len(asked) == 8 and all(each["restored"] for each in asked)  # which nobody asks for now
    assert "restored" not in page.evaluate("sessionStorage.kept")


def test_a_page_that_finds_no_place_or_to_which_nothing_comes_says_so_and_loads_itself_again(
    browser: Browser,
) -> None:
    world, document = World(ViewSettings(preview="tcp://127.0.0.1:9")), Document()
    world.pages.extend([None] * MOST_PAGES)  # type: ignore[list-item]
    open_page(document, world)
    full, ended = document.template.render(document.template_variables), list[bool]()
    page, address = browser.page.context.browser.new_page(), browser.page.url

    def later(seconds: float) -> None:
        page.wait_for_load_state()
        page.clock.fast_forward(1e3 * seconds)

    def says(text: str) -> None:
        page.wait_for_function(
            "text => document.querySelector('#sentence')?.textContent.includes(text)", arg=text
        )

    def proxy(socket: Any) -> None:
        if ended:
            socket.connect_to_server()
        else:
            socket.close()  # without Upgrade
        ended.append(True)

    page.clock.install()
    page.route(address, lambda route: route.fulfill(body=full, content_type="text/html"))
    page.route("**/bokeh.min.js*", lambda route: route.abort())
    page.route_web_socket("**/ws*", proxy)
    page.goto(address)
    assert page.inner_text("p") == f"{FULL} This page loads itself again in a few seconds."
    page.unroute(address)
    says("The page is loading.")
    for hindered in (True, False):
        later(31)
        says("a proxy on the way does not let its websocket through")
        page.evaluate("window.before = true")
        page.unroute("**/bokeh.min.js*")  # it was cut off once
        later(31)
        later(2)
        page.wait_for_function("window.before === undefined")
        while hindered and not ended:
            page.wait_for_timeout(20)
    says("scan.h5")
    page.close()


def test_nothing_lies_over_that_the_display_has_ended(browser: Browser, view: Command) -> None:
    view.process.kill()
    browser.says("#sentence", "The display does not answer: it has ended")
    banners = "each.shadowRoot?.querySelector('.entries')?.innerText ?? ''"  # Bokeh's own
    assert browser.page.evaluate(f"[...document.body.children].map((each) => {banners}).join('')") == ""
