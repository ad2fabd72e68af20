"""The command line: flags to settings to one program. Nothing else happens here.

One file per command; programs are imported inside their commands, so that `--help` and errors in the
flags come at once.
"""

import io
import os
import sys
from collections.abc import Sequence

# The processes of a measurement share few cores; a matrix product of the driver must not take them
# all. Has to be set before numpy is imported; engines have threads of their own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Threads of PyTorch on the CPU wait for each other awake for some microseconds, then asleep. By themselves
# they spin for so long that beside other programs a step of training takes ten times as long. Before torch
# is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from cars_rt.cli.app import app, errors_in_one_line
from cars_rt.cli.config import PREFIX
from cars_rt.crash import speak_when_killed
from cars_rt.descriptors import raise_limit
from cars_rt.stops import interrupt_by_all

__all__ = ["app", "main"]

#: One file for each. It is imported when its command is meant, or when all are listed: so each starts with no
#: more than it needs.
COMMANDS = (
    "bench", "build", "calibrate", "check", "ctl", "demo", "doctor", "drive", "evaluate", "export", "keys",
    "listen", "process", "record", "repair", "run", "show", "train", "up", "verify", "view",
)  # fmt: skip
for _each in COMMANDS:
    app.command(f"{__name__}.{_each}:{_each}")


def main() -> None:
    """Run the command that the arguments mean."""
    speak_when_killed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal may know few letters, and so may stderr. In a file of few there is no map, and no TOML.
        sys.stdout.reconfigure(encoding=None if sys.stdout.isatty() else "utf-8", errors="backslashreplace")
    raise_limit()
    with errors_in_one_line():
        _import_meant(sys.argv[1:])
        interrupt_by_all()
        app.meta(exit_on_error=False, print_error=False)


def _import_meant(arguments: Sequence[str]) -> None:
    """Import the command that is meant, or all that help lists where it is for the commands below it."""
    meant = app
    for each in arguments:
        if not each.startswith("-") and each in meant:
            meant = meant[each]
    meant.resolved_commands()
    flags = any(name.startswith(f"{PREFIX}DRIVE_") for name in os.environ)
    if flags or any(each == "drive" or each.startswith("--config") for each in arguments):
        from cars_rt.cli.drive import register_others

        register_others(arguments)
