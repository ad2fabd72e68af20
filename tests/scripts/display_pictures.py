"""Makes the pictures of docs/display.md: a scan while it grows, and its recording in the dark theme.

    python tests/scripts/display_pictures.py docs     # writes display.png and display-dark.png there

Look at them before they go anywhere.
"""

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # beside the packages of the tests

from helpers import Command
from view.browser import TWO_FRAMES, Browser, a_browser

from scripts.display_load import Room, display

SIDE, RATE = 128, 250.0
SIZE = 1400, 850  # of the page: a laptop's
BEAD = 36.8, 18.6  # um: a polystyrene bead of the simulated sample
REGION = (13.0, 26.0), (22.0, 33.0)  # within a cell


def seen(browser: Browser, share: float) -> None:
    """Wait until so much of the scan was seen."""
    row = "document.querySelector(\"#rows [data-name='spectra'] dd\")?.textContent"
    browser.until(f"Number((/\\((\\d+) %/.exec({row} ?? '') ?? [0, 0])[1]) >= {100 * share}")


def shoot(browser: Browser, path: Path) -> None:
    """What the page shows, once it is drawn and nothing of it is under the mouse or in focus."""
    browser.page.mouse.move(5, SIZE[1] - 5)
    browser.page.evaluate("document.activeElement?.blur()")
    for _ in range(3):
        browser.page.evaluate(TWO_FRAMES)
    browser.page.screenshot(path=str(path))


def growing(room: Room, path: Path) -> None:
    """The map at a band of polystyrene, and the spectrum of a bead."""
    with display(room) as (_, address), a_browser(*SIZE) as browser:
        browser.open(address)
        with room.driver() as driver:
            seen(browser, 0.3)
            browser.band(994, 1014)
            browser.page.check("#labels")
            browser.click("map", *BEAD)
            seen(browser, 0.65)
            shoot(browser, path)
            assert driver.end(600) == 0, driver.said
        assert room.recorder.end() == 0, room.recorder.said


def recorded(file: Path, path: Path) -> None:
    """Three bands as colours, and the mean of a region."""
    with Command("view", file, "--http", "127.0.0.1:0") as view, a_browser(*SIZE) as browser:
        view.wait_for("the display is at ")
        browser.open(view.said.partition("the display is at ")[2].split()[0])
        browser.says("#sentence", f"{SIDE * SIDE} spectra")
        browser.page.click("#theme")
        browser.page.click("#rgb")
        browser.until("eyes.model('map').renderers[2].visible")
        browser.drag("map", *REGION)
        browser.says("#words", "mean of")
        browser.page.check("#labels")
        browser.page.click("#substances summary")
        for name in ("protein", "lipid"):
            browser.page.check(f"[name=substance][value={name}]")
        browser.page.click("#substances summary")
        browser.says("#peaks", "Peaks at")
        shoot(browser, path)


def main() -> None:
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    with tempfile.TemporaryDirectory() as folder:
        room = Room(Path(folder), RATE, SIDE, 1, engine="auto", counts=True)
        with room.open():
            growing(room, target / "display.png")
        recorded(room.folder / "scan.h5", target / "display-dark.png")
    print(*(os.fspath(target / name) for name in ("display.png", "display-dark.png")))


if __name__ == "__main__":
    main()
