"""`cars-rt view` as a program: world, server, browser."""

import gc
import logging
import os
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from cars_rt.view.guard import InASentence
from cars_rt.view.server import PageServer
from cars_rt.view.settings import ViewSettings
from cars_rt.view.world import World

log = logging.getLogger("cars_rt.view")


def view(
    settings: ViewSettings,
    stopping: Callable[[Callable[[], None]], AbstractContextManager[None]],
    file: Path | None = None,
) -> None:
    """Serve the page until `stopping` says so. Raises CarsRtError where that cannot be."""
    for name in ("bokeh", "tornado"):
        library = logging.getLogger(name)
        library.setLevel(logging.ERROR)
        library.handlers[:] = [InASentence()]
        library.propagate = False
    world = World(settings, file)
    server = PageServer(world, settings)
    try:
        world.start()
        log.info("the display is at %s", server.link, extra={"link": server.link})
        if not settings.no_browser and has_screen():
            threading.Thread(target=webbrowser.open, args=(server.link,), daemon=True).start()
        gc.freeze()  # each page that is given up has all objects looked through, of which most stay for good
        with stopping(server.stop):
            server.serve()
    finally:
        world.close()


def has_screen() -> bool:
    """Whether a browser has a screen to appear on. One that runs in the terminal would be no help."""
    if sys.platform in ("win32", "darwin"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
