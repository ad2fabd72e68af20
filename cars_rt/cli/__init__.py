"""The command line: flags to settings to one program. Nothing else happens here.

One file per command; programs are imported inside their commands, so that `--help` and errors in the
flags come at once.
"""

import io
import os
import sys

# The processes of a measurement share few cores; a matrix product of the driver must not take them
# all. Has to be set before numpy is imported; engines have threads of their own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Threads of PyTorch on the CPU wait for each other awake for some microseconds, then asleep. By themselves
# they spin for so long that beside other programs a step of training takes ten times as long. Before torch
# is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from cars_rt.cli import (  # noqa: F401 - registers the commands
    bench,
    build,
    calibrate,
    check,
    ctl,
    ctl_record,
    demo,
    doctor,
    drive,
    evaluate,
    export,
    files,
    keys,
    listen,
    process,
    run,
    show,
    train,
    up,
    view,
)
from cars_rt.cli.app import app, errors_in_one_line
from cars_rt.crash import speak_when_killed
from cars_rt.descriptors import raise_limit

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of `cars-rt`."""
    speak_when_killed()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file may know few letters; so does stderr
    raise_limit()
    if drive.may_be_meant(sys.argv[1:], os.environ):
        drive.register_others(sys.argv[1:])
    with errors_in_one_line():
        app.meta(exit_on_error=False, print_error=False)
