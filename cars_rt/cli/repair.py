"""`cars-rt repair`: recordings that were cut short."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cars_rt.cli.app import Logs
from cars_rt.console import EXIT_INCOMPLETE, Logging, fail, log, start_logging


def repair(files: Annotated[tuple[Path, ...], Parameter(negative=())], /, *, logs: Logs = Logging()) -> None:
    """Finish recordings that were cut short: cut to their rows, named, and told how much is in them.

    A recorder that is killed leaves NAME.partial.h5. The next one of that name or folder finishes it, too.
    A recording that is being written is left alone, and so is one that is finished. All of it is read, and
    the exit code is 3 where spectra cannot be, which are named; the rest stays.

    Example: cars-rt repair scan.partial.h5

    Parameters
    ----------
    files
        Recordings, by their partial names or those that they would have had.
    """
    from cars_rt.files.recording import RecordingError
    from cars_rt.files.recording import repair as finish

    start_logging(logs)
    errors, damaged = [], False
    for path in files:
        try:
            contents = finish(path)
        except RecordingError as error:
            errors.append(str(error))
            continue
        done = "" if contents.changed else ", as it was"
        say = log.warning if contents.damage else log.info
        say("%s: %s%s", contents.path, contents.describe(), done)
        damaged |= bool(contents.damage)
    if errors:
        fail("; ".join(errors))
    if damaged:
        sys.exit(EXIT_INCOMPLETE)
