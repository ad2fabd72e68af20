"""`cars-rt view`: the live display."""

import os
import sys
from typing import Annotated

from cyclopts import Parameter

from cars_rt.cli.app import Logs, app, needs
from cars_rt.console import Logging, start_logging, stopping
from cars_rt.view.settings import ViewSettings

NICE = 5  # the daemon comes first


@app.command
def view(
    *,
    settings: Annotated[ViewSettings, Parameter(name="*")] = ViewSettings(),
    logs: Logs = Logging(),
) -> None:
    """Show in a browser what the daemon sends: the map while it grows, spectra, and whether all is well.

    It is a process of its own, and the daemon does not wait for it. Ctrl-C ends it.

    Example: cars-rt view
    """
    needs("bokeh", "view")
    from cars_rt.view.program import view as run_view

    start_logging(logs)
    if sys.platform != "win32":
        os.nice(NICE)
    run_view(settings, stopping)
