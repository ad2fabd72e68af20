"""`cars-rt view`: the live display."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cars_rt.cli.app import Logs, needs
from cars_rt.console import EXIT_USAGE, Logging, fail, start_logging, stopping
from cars_rt.view.settings import ViewSettings

NICE = 5  # the daemon comes first


def view(
    file: Path | None = None,
    *,
    settings: Annotated[ViewSettings, Parameter(name="*")] = ViewSettings(),
    logs: Logs = Logging(),
) -> None:
    """Show in a browser what the daemon sends: the map while it grows, spectra, and whether all is well.

    It is a process of its own, and the daemon does not wait for it. Ctrl-C ends it.

    Example: cars-rt view

    Parameters
    ----------
    file
        A recording, or another file of spectra, to be shown in place of a daemon.
    """
    if file is not None and settings.allow_control:
        fail("--allow-control is for a daemon; a file has nothing to be controlled", EXIT_USAGE)
    needs("bokeh", "view")
    from cars_rt.view.program import view as run_view

    start_logging(logs)
    if sys.platform != "win32":
        os.nice(NICE)
    run_view(settings, stopping, file)
