"""The page in a real Chromium, before a real daemon: what it shows is what was sent."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import h5py
import numpy as np
import pytest
from chaos.programs import addresses
from helpers import AXIS, Command, Published, a_frame, an_end, spectra_of, wait_until

from cars_rt.physics.substances import SUBSTANCES
from view.browser import a_browser
from view.room import COLUMNS, ROWS, STEP_UM, Room

BANDS = ("first=850:900", "second=1000:1100", "third=1300:1400")
OTHER_AXIS = np.linspace(2700, 3100, 120)
LIMITS = "JSON.parse(eyes.model('map').tags[0].said).limits"  # how colours are spread: by, of, ranges


@pytest.fixture(scope="module")
def room() -> Iterator[Room]:
    publish, preview, spectra, control = addresses(4)
    settings = {
        "publish": publish,
        "preview": preview,
        "spectra": spectra,
        "control": control,
        "bands": BANDS,
        "subscribers": 1,
    }
    with ExitStack() as stack:
        browser = stack.enter_context(a_browser())
        raw = stack.enter_context(Published())
        view = stack.enter_context(
            Command(
                "view",
                "--preview",
                preview,
                "--spectra",
                spectra,
                "--control",
                control,
                "--recorder",
                "none",
                "--http",
                "127.0.0.1:0",
                "--no-browser",
            )
        )
        view.wait_for("the display is at ")
        address = view.said.partition("the display is at ")[2].split()[0]
        with ExitStack() as daemon:
            room = Room(raw, settings, view, address, browser, daemon, None)  # type: ignore[arg-type]
            yield room


def test_without_a_daemon_it_says_so_and_waits(room: Room) -> None:
    room.browser.open(room.address)
    room.browser.says("#level", "red")
    room.browser.says("#sentence", "nobody publishes at")
    room.start_daemon()
    room.browser.says("#sentence", "waiting for")
    room.browser.says("#level", "green")


def test_everything_comes_from_this_computer(room: Room) -> None:
    own = (room.address, "data:", "blob:", "ws://127.0.0.1")
    outside = [each for each in room.browser.requests if not each.startswith(own)]
    assert room.browser.requests and not outside
    assert room.browser.errors == []


def test_the_map_grows_and_what_is_missing_is_missing(room: Room) -> None:
    room.begin("one")
    room.rows("one", range(7))
    raman = room.raman("one", 7 * COLUMNS)
    room.browser.until("eyes.data('map', 1, 'image')[0].values.filter(isFinite).length === 7 * 16")
    inside = (AXIS >= 850) & (AXIS <= 900)
    expected = raman[:, inside].mean(axis=1)
    # Whole spectra may come before the bands, and until those are there the map is one of everything.
    wait_until(lambda: np.allclose(room.browser.image()[:7].ravel(), expected, rtol=1e-4, atol=1e-6))
    image = room.browser.image()
    assert image.shape == (ROWS, COLUMNS) and np.isnan(image[7:]).all()
    room.rows("one", range(7, ROWS))
    room.raw.say(an_end(ROWS, ROWS * COLUMNS, "one"))
    room.browser.says("#sentence", f"complete: {ROWS * COLUMNS} spectra, none lost")
    room.browser.until("eyes.data('map', 1, 'image')[0].values.every(isFinite)")
    assert room.browser.row("spectra").startswith(f"{ROWS * COLUMNS} of {ROWS * COLUMNS}")
    across = room.browser.page.evaluate("[eyes.data('map', 1, 'dw')[0], eyes.data('map', 1, 'dh')[0]]")
    assert across == [COLUMNS * STEP_UM[1], ROWS * STEP_UM[0]]  # micrometres


def test_a_click_shows_the_spectrum_of_that_pixel(room: Room) -> None:
    raman = room.raman("one", ROWS * COLUMNS)
    row, column = 5, 11
    room.browser.click("map", (column + 0.5) * STEP_UM[1], (row + 0.5) * STEP_UM[0])
    room.browser.says("#words", f"row {row}, column {column}")
    np.testing.assert_array_equal(room.browser.spectrum().astype(np.float32), raman[row * COLUMNS + column])
    room.browser.page.focus("#map")
    room.browser.page.keyboard.press("ArrowDown")
    room.browser.page.keyboard.press("ArrowLeft")
    room.browser.says("#words", f"row {row + 1}, column {column - 1}")
    np.testing.assert_array_equal(
        room.browser.spectrum().astype(np.float32), raman[(row + 1) * COLUMNS + column - 1]
    )


def test_a_region_shows_its_mean_with_deviation(room: Room) -> None:
    raman = room.raman("one", ROWS * COLUMNS).reshape(ROWS, COLUMNS, -1)
    room.browser.drag("map", (2.5 * STEP_UM[1], 1.5 * STEP_UM[0]), (7.5 * STEP_UM[1], 4.5 * STEP_UM[0]))
    room.browser.says("#words", "mean of 24 spectra, rows 1 to 4, columns 2 to 7")
    title, tools = (f"eyes.box(eyes.model('spectrum').{each})" for each in ("title", "toolbar"))
    assert room.browser.page.evaluate(f"{title}.top >= {tools}.bottom")  # neither lies over the other
    part = raman[1:5, 2:8].reshape(24, -1).astype(np.float64)
    mean, spread = part.mean(axis=0), part.std(axis=0, ddof=1)
    np.testing.assert_allclose(room.browser.spectrum(), mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(room.browser.spectrum("high", 1), mean + spread, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["mean", "sum", "peak", "ratio"])
def test_another_band_redraws_the_whole_map_from_what_was_kept(room: Room, kind: str) -> None:
    raman, page = room.raman("one", ROWS * COLUMNS).astype(np.float64), room.browser.page
    if kind == "ratio":
        page.select_option("#kind", "ratio")
        page.fill("#low2", "1200")
        page.fill("#high2", "1250")
    room.browser.band(1120, 1180, kind)
    inside = (AXIS >= 1120) & (AXIS <= 1180)
    part, axis = raman[:, inside], AXIS[inside]
    line = part[:, :1] + (part[:, -1:] - part[:, :1]) * np.linspace(0, 1, len(axis))
    expected = {
        "mean": part.mean(axis=1),
        "sum": (part * np.gradient(axis)).sum(axis=1),
        "peak": (part - line).max(axis=1),
        "ratio": part.mean(axis=1) / raman[:, (AXIS >= 1200) & (AXIS <= 1250)].mean(axis=1),
    }[kind]
    word = {"mean": "", "ratio": "/"}.get(kind, kind)
    title = "eyes.model('map').title.text"
    room.browser.until(f"{title}.includes('1120–1180') && {title}.includes('{word}')")
    wait_until(
        lambda: np.allclose(room.browser.image().ravel(), expected, rtol=1e-3, atol=1e-5, equal_nan=True)
    )


def test_a_band_is_dragged_in_the_spectrum(room: Room) -> None:
    raman = room.raman("one", ROWS * COLUMNS)
    page, hear = room.browser.page, "CarsRT.hear(eyes.model('map').tags[0])"
    page.select_option("#kind", "ratio")
    page.fill("#low2", "1200")
    page.evaluate(hear)
    page.fill("#high2", "1250")
    room.browser.band(1120, 1180, "ratio")
    room.browser.until("eyes.model('map').title.text.includes('1200–1250')")
    middle = float(room.browser.spectrum().mean())
    room.browser.drag("spectrum", (1001, middle), (1051, middle))
    room.browser.until("Math.abs(Number(document.querySelector('#low').value) - 1001) < 5")
    assert page.input_value("#kind") == "mean" and page.is_hidden("#second")  # as the map is
    page.select_option("#kind", "peak")
    page.evaluate(hear)
    assert page.input_value("#kind") == "peak"  # which is not sent yet
    low, high = (float(page.input_value(f"#{each}")) for each in ("low", "high"))
    assert abs(high - 1051) < 5
    inside = (low <= AXIS) & (high >= AXIS)
    wait_until(
        lambda: np.allclose(room.browser.image().ravel(), raman[:, inside].mean(axis=1), rtol=1e-3, atol=1e-5)
    )


def test_a_band_can_be_chosen_again_and_a_refused_one_is_still_there_to_be_mended(room: Room) -> None:
    page, title = room.browser.page, "eyes.model('map').title.text"
    for _ in range(2):
        page.select_option("#band", label="second 1000–1100")
        room.browser.until(f"{title}.includes('second')")
        room.browser.band(1120, 1180)
        room.browser.until(f"{title}.includes('1120–1180')")
        assert page.input_value("#band") == ""  # choosing what it shows would be no change
    page.select_option("#kind", "ratio")
    page.fill("#low2", "")
    room.browser.band(1130, 1190, "ratio")
    room.browser.says("#message", "low2 must be a number")
    page.select_option("#kind", "mean")
    page.click("#band-form button[type=submit]")
    room.browser.until(f"{title}.includes('1130–1190')")
    room.browser.drag("spectrum", (1001, 0.1), (1051, 0.1))
    room.browser.until("Math.abs(Number(document.querySelector('#low').value) - 1001) < 5")


def test_three_bands_are_red_green_and_blue(room: Room) -> None:
    raman, page = room.raman("one", ROWS * COLUMNS), room.browser.page
    page.click("#rgb")
    room.browser.until(
        "eyes.model('map').renderers[2].visible && eyes.data('map', 2, 'image')[0].shape[0] === 12"
    )
    image = room.browser.image(2).astype(np.uint32)
    assert image.shape == (ROWS, COLUMNS) and (image >> 24 == 255).all()
    green = raman[:, (AXIS >= 1000) & (AXIS <= 1100)].mean(axis=1)
    low, high = np.percentile(green, (1, 99.5))
    expected = np.clip((green - low) / (high - low), 0, 1) * 255
    assert np.abs((image.ravel() >> 8 & 255) - expected).max() <= 2


def test_colours_are_spread_as_wished(room: Room) -> None:
    page = room.browser.page
    room.browser.band(1120, 1180)
    room.browser.until("eyes.model('map').renderers[1].visible")
    page.select_option("#by", "hand")
    page.fill("#lower", "-0.25")
    page.fill("#upper", "2.5")
    page.click("#hand button")
    mapper = "eyes.model('map').renderers[1].glyph.color_mapper"
    room.browser.until(f"{mapper}.low === -0.25 && {mapper}.high === 2.5")
    page.select_option("#palette", "cividis")
    room.browser.until(f"{mapper}.palette[0] === '#00204C'")
    page.fill("#lower", "3")
    page.click("#hand button")
    room.browser.says("#message", "the lower limit must be below the upper one")
    room.browser.until(f"{LIMITS}[0] === 'hand'")
    page.evaluate(  # what was on its way when it was chosen comes after it
        """() => {
            document.querySelector("#by").value = "auto"
            document.querySelector("#by").dispatchEvent(new Event("change"))
            CarsRT.hear(eyes.model("map").tags[0])
        }"""
    )
    room.browser.until(f"{mapper}.high < 2.5")
    assert page.input_value("#by") == "auto" and page.is_hidden("#hand")
    page.focus("#by")
    page.select_option("#by", "fixed")
    room.browser.until(f"{LIMITS}[0] === 'fixed'")
    ends = page.evaluate(f"{LIMITS}[2]")
    page.evaluate(
        "eyes.model('map').tags[0].asked = JSON.stringify([0, {do: 'band', low: 1300, high: 1400}])"
    )
    room.browser.until(f"{LIMITS}[0] === 'auto' && document.querySelector('#by').value === 'auto'")
    room.browser.band(1120, 1180)
    room.browser.until(f"{LIMITS}[0] === 'fixed' && document.querySelector('#by').value === 'fixed'")
    assert page.evaluate(f"{LIMITS}[2]") == ends
    page.select_option("#by", "auto")


def test_labels_of_map_and_colour_bar_have_room_and_are_told_apart(room: Room) -> None:
    label = "eyes.model('map').right[0].formatter.doFormat"
    for ticks, expected in (
        ([0, 0.2, 0.4], ["0", "0.2", "0.4"]),
        ([0.001, 0.0015, 0.002], ["0.0010", "0.0015", "0.0020"]),
        ([-5e-5, 0, 5e-5], ["−5e−5", "0", "5e−5"]),
        ([1.5e-9, 2e-9], ["1.5e−9", "2.0e−9"]),
        ([12346, 12346.5], ["12346.0", "12346.5"]),
        ([2e9, 4e9], ["2e9", "4e9"]),
        ([0.25], ["0.250"]),
        ([2000000, 4000000], ["2000000", "4000000"]),
    ):
        assert room.browser.page.evaluate(f"{label}({ticks})") == expected
    view = "Bokeh.index.find_one(eyes.model('map'))"
    room.browser.until(f"{view}.canvas_view.bbox.width - {view}.frame.bbox.right >= 94")
    assert room.browser.page.evaluate(f"{view}.frame.bbox.left >= 72")


def test_pins_peaks_substances_logarithm_and_the_dark(room: Room) -> None:
    page = room.browser.page
    page.click("#latest")
    room.browser.says("#words", "latest spectrum")
    page.click("#pin")
    room.browser.until("eyes.data('spectrum', 2, 'name').length === 1")
    for _ in range(3):
        page.click("#pin")
    room.browser.until("eyes.data('spectrum', 2, 'name').length === 4")
    legend = "eyes.box(eyes.model('spectrum').above.find((each) => each.type === 'Legend'))"
    room.browser.until(f"{legend}.right <= eyes.box(eyes.model('spectrum')).right")
    page.click("#unpin")
    room.browser.until("eyes.data('spectrum', 2, 'name').length === 0")
    page.check("#labels")
    room.browser.says("#peaks", "Peaks at")
    page.click("#substances summary")
    page.check("[name=substance][value=toluene]")
    toluene = next(each for each in SUBSTANCES if each.name == "toluene")
    strong = [x for x, strength in zip(toluene.position, toluene.strength, strict=True)
              if AXIS.min() <= x <= AXIS.max() and strength >= 0.08 * max(toluene.strength)]  # fmt: skip
    room.browser.until(f"JSON.stringify(eyes.data('spectrum', 4, 'x')) === JSON.stringify({strong})")
    page.check("#log")
    room.browser.until("eyes.model('spectrum_log').visible && !eyes.model('spectrum').visible")
    page.uncheck("#log")
    page.click("#theme")
    room.browser.until("document.documentElement.dataset.theme === 'dark'")
    page.click("#theme")


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(5000, 6000, "lies outside this axis, 800 to 1500"), (900, 900, "must be wider than nothing")],
)
def test_a_band_that_cannot_be_is_refused_and_the_map_stays(
    room: Room, low: float, high: float, said: str
) -> None:
    before = room.browser.page.evaluate("eyes.model('map').title.text")
    room.browser.band(low, high)
    room.browser.says("#message", said)
    assert room.browser.page.evaluate("eyes.model('map').title.text") == before


def test_a_flood_of_clicks_leaves_a_page_that_works(room: Room) -> None:
    sent = room.browser.sent
    before = len(sent)
    room.browser.page.evaluate(
        "for (let n = 0; n < 3000; n++) document.querySelector(n % 2 ? '#latest' : '#pin').click()"
    )
    room.browser.band(1130, 1190)
    room.browser.until("eyes.model('map').title.text.includes('1130–1190')")
    assert len(sent) - before < 300  # behind more the server would not hear that the page is there


def test_who_may_look_may_not_control(room: Room) -> None:
    assert not room.browser.page.query_selector("#control")
    room.browser.page.evaluate(
        "eyes.model('map').tags[0].asked = JSON.stringify([0, {do: 'dark', state: 'clear'}])"
    )
    room.browser.says("#message", "This page may look, not control")


def test_a_loss_turns_the_line_red_with_its_cause(room: Room) -> None:
    room.begin("two", spectra=None)
    room.rows("two", range(2))
    room.rows("two", range(2, 5), skipped=1)
    room.browser.says("#sentence", f"Spectra of this run are lost: {COLUMNS} missing")
    room.browser.says("#level", "red")
    wait_until(lambda: np.isnan(room.browser.image()[2]).all())  # the picture may come after the sentence
    room.raw.say(an_end(6, 6 * COLUMNS, "two"))


def test_the_daemon_dies_and_comes_back_with_another_axis(room: Room) -> None:
    room.browser.page.click("#latest")
    room.stack.close()
    room.browser.says("#sentence", "The daemon is gone")
    wait_until(lambda: room.raw.publisher.serve() or not room.raw.publisher.subscribers)
    room.start_daemon()
    room.browser.until("!document.querySelector('#sentence').textContent.includes('gone')")
    room.begin("three", OTHER_AXIS)
    room.rows("three", range(ROWS), OTHER_AXIS)
    raman = room.raman("three", ROWS * COLUMNS)
    room.browser.says("#message", "lies outside this axis, 2700 to 3100 cm⁻¹; another band is shown")
    wait_until(lambda: np.allclose(room.browser.image().ravel(), raman.mean(axis=1), rtol=1e-3, atol=1e-5))
    wait_until(lambda: len(room.browser.spectrum("x")))  # which comes with each fourth picture of the map
    np.testing.assert_allclose(room.browser.spectrum("x"), OTHER_AXIS, rtol=1e-6)
    room.raw.say(an_end(ROWS, ROWS * COLUMNS, "three"))
    room.browser.says("#level", "green")


def test_another_run_shows_nothing_of_the_one_before(room: Room) -> None:
    room.begin("nothing")
    room.raw.say(an_end(0, 0, "nothing"))
    room.browser.says("#words", "No spectrum to show yet.")
    room.browser.says("#sentence", f"{ROWS * COLUMNS} of its {ROWS * COLUMNS} spectra never came")
    assert len(room.browser.spectrum()) == 0 and np.isnan(room.browser.image()).all()


def test_a_run_that_cannot_be_computed_is_red_until_another_one_is_shown(room: Room) -> None:
    room.begin("coarse", np.linspace(500, 3500, 170))
    room.browser.says("#sentence", "Run coarse cannot be computed: the axis")
    room.raw.say(a_frame(0, spectra_of(COLUMNS, np.linspace(500, 3500, 170)), "coarse"))
    room.raw.say(an_end(1, COLUMNS, "coarse"))
    room.browser.says("#sentence", "Run coarse was not computed: the axis")
    room.browser.says("#sentence", f"Spectra of run coarse are lost: {COLUMNS} engine.")
    room.browser.says("#level", "red")


def test_points_are_a_waterfall_and_curves(room: Room) -> None:
    counts = spectra_of(40)
    room.raw.run("four", counts, block=4)
    raman = room.raman("four", 40)
    # Whole spectra may come before the bands, and until those are there the curve is one of everything.
    first = "(eyes.data('trend', 0, 'name') ?? []).findIndex(name => name.startsWith('first'))"
    room.browser.until(f"eyes.data('trend', 0, 'ys')[{first}]?.values.filter(isFinite).length === 40")
    room.browser.until("eyes.data('waterfall', 0, 'image')[0].shape[0] === 40")
    trend = room.browser.page.evaluate(f"eyes.data('trend', 0, 'ys')[{first}].values")
    inside = (AXIS >= 850) & (AXIS <= 900)
    np.testing.assert_allclose(trend, raman[:, inside].mean(axis=1), rtol=1e-4, atol=1e-6)
    room.browser.click("waterfall", 1100, 17.5)
    room.browser.says("#words", "spectrum 17")
    np.testing.assert_array_equal(room.browser.spectrum().astype(np.float32), raman[17])


def test_snapshots_hold_what_the_page_shows(room: Room, tmp_path: Path) -> None:
    with room.browser.page.expect_download() as download:
        room.browser.page.click("a[href='/snapshot.npz']")
    download.value.save_as(tmp_path / "view.npz")
    with np.load(tmp_path / "view.npz") as file:
        content = dict(file)
    assert str(content["run"]) == "four" and content["map first 850:900"].size >= 40
    np.testing.assert_array_equal(content["raman_shift"], AXIS)


def test_a_password_is_asked_for(room: Room, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("correct horse", encoding="utf-8")
    where = (
        "--preview",
        room.daemon["preview"],
        "--spectra",
        "none",
        "--control",
        "none",
        "--recorder",
        "none",
    )
    with Command("view", *where, "--password", tmp_path / "password", "--http", "127.0.0.1:0") as view:
        view.wait_for("the display is at ")
        page = room.browser.page
        page.goto(view.said.partition("the display is at ")[2].split()[0])
        for given, then in (
            ("wrong horse", "That is not the password."),
            ("correct horse", "Nothing to show yet."),
        ):
            page.fill("[name=password]", given)
            page.keyboard.press("Enter")
            room.browser.says("body", then)


def test_who_may_control_records_from_the_page(room: Room, tmp_path: Path) -> None:
    (recorder,) = addresses(1)
    publish, preview, control = (room.daemon[each] for each in ("publish", "preview", "control"))
    wait_until(lambda: room.raw.publisher.serve() or room.raw.publisher.subscribers)
    where = "--preview", preview, "--spectra", "none", "--control", control, "--recorder", recorder
    with (
        Command("record", tmp_path, "--raman", publish, "--idle", "--control", recorder) as record,
        Command("view", *where, "--allow-control", "--http", "127.0.0.1:0") as view,
    ):
        record.wait_for("takes commands at")
        view.wait_for("the display is at ")
        page = room.browser.page
        room.browser.open(view.said.partition("the display is at ")[2].split()[0])
        room.browser.says("#level", "green")
        page.fill("#bands", "low=900:950, high = 1250–1200,")
        page.click("[data-do=bands]")
        room.browser.says("#message", "bands: done")
        before = len(room.browser.sent)
        page.evaluate("for (let n = 0; n < 2; n++) document.querySelector('[data-state=clear]').click()")
        room.browser.says("#message", "dark: done")
        assert [each["do"] for each in room.browser.asked(before)].count("dark") == 2  # none is left out
        page.click("[data-do=reload]")  # no name: the same model once more
        page.fill("#record-name", "from-the-page")
        page.fill("#record-sample", "a leaf")
        page.click("[data-do=record]")
        room.browser.says("#message", "record: done (the next run will be recorded)")
        room.browser.says("#rows [data-name=recorder] dd", "waits for the next run: from-the-page")
        room.begin("five")
        room.rows("five", range(ROWS))
        room.raw.say(an_end(ROWS, ROWS * COLUMNS, "five"))
        raman = room.raman("five", ROWS * COLUMNS)
        room.browser.says("#words", "Whole spectra do not come: the display was started with --spectra none;")
        room.browser.says("#rows [data-name=recorder] dd", "GB left")
        page.click("[data-do='record stop']")
        room.browser.says("#message", "record stop: done")
        assert record.process.poll() is None
        (path,) = tmp_path.glob("from-the-page*.h5")
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["raman/raman"][()], raman)
            assert file.attrs["sample"] == "a leaf"
        room.browser.until("document.querySelector('#band').options.length > 1")
        assert page.evaluate("[...document.querySelector('#band').options].map((each) => each.text)")[1:] == [
            "low 900–950",
            "high 1200–1250",
        ]
        page.set_viewport_size({"width": 1280, "height": 720})  # where controls leave the least room
        room.raw.run("six", spectra_of(40), block=4)
        room.browser.until("!document.querySelector('#trend').hidden")
        box = "document.querySelector('{}').getBoundingClientRect()"
        bars, trend, footer = (box.format(each) for each in ("#limits-form", "#trend", "footer"))
        assert page.evaluate(f"{box.format('#rgb')}.bottom <= {bars}.top && {trend}.bottom <= {footer}.top")
