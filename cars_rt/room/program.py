"""Programs of a measurement as real processes: started, stopped, and never left running."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from cars_rt.console import STOP_WITH_STDIN
from cars_rt.errors import CarsRtError
from cars_rt.installation import python
from cars_rt.storage import refuse_target

ENVIRONMENT = {"PYTHONUNBUFFERED": "1", STOP_WITH_STDIN: "1"}
#: These need no HTTP from outside, and a daemon at work on this computer may have the port.
UNSEEN = {"CARS_RT_RUN_HTTP": "none"}
#: How flags begin in the environment that are meant for a laboratory's own programs, such as its keys.
THEIRS = ("CARS_RT_DRIVE_", "CARS_RT_RUN_", "CARS_RT_RECORD_", "CARS_RT_VIEW_")
#: Variables by which systemd speaks to this program. The programs that it starts must not answer.
OURS = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}
#: For Popen: what is started gets no Ctrl-C from the terminal.
APART: dict[str, Any] = {"start_new_session": True}
if sys.platform == "win32":
    APART = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
TAIL_LINES = 12  # of a log, shown when its process died


class ProgramError(CarsRtError, RuntimeError):
    """A program failed; the text says which and shows what it said last."""


class Program:
    """One `cars-rt` command in a process of its own.

    It gets no Ctrl-C from the terminal: its starter stops it, in the right order. It stops by itself when its
    starter is gone.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        output: int | IO[bytes] = subprocess.PIPE,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """output: where its output goes; a pipe has to be read (`output`)."""
        self.name = name
        self._process = subprocess.Popen(
            python("-m", "cars_rt", *arguments),
            stdin=subprocess.PIPE,  # never written to; its end tells the program that we are gone
            stdout=output,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in environment.items() if name not in OURS} | ENVIRONMENT,
            **APART,
        )

    @property
    def output(self) -> IO[bytes]:
        """What it says, if that goes into a pipe."""
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, negative for the signal that ended it; None while it runs."""
        return self._process.poll()

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self.code is None

    def stop(self) -> None:
        """Ask it to finish."""
        if not self.running:
            return
        if sys.platform == "win32":
            self._hang_up()  # Ctrl-Break needs a console, and where there is none Python kills at once
        else:
            self._process.terminate()

    def wait(self, timeout_s: float) -> None:
        """Wait until it ended; kill it and raise ProgramError if it does not."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ProgramError(f"the {self.name} did not end within {timeout_s:g} s") from None

    def kill(self) -> None:
        """End it at once."""
        if self.running:
            self._process.kill()
        self._process.wait()
        self._hang_up()

    def _hang_up(self) -> None:
        """Close its standard input, at whose end it stops."""
        if self._process.stdin is not None:
            self._process.stdin.close()


class LoggedProgram(Program):
    """A program whose output goes into a log file of its own, NAME.log, and whose flags are the given ones
    alone."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.log = folder / f"{name}.log"
        refuse_target(self.log)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(THEIRS)}
        with self.log.open("wb") as output:
            super().__init__(name, arguments, output=output, environment=inherited | UNSEEN)

    def check(self) -> None:
        """Raises ProgramError if the process ended with an error."""
        if self.code:
            raise ProgramError(f"the {self.name} died (exit code {self.code}):\n{self.tail()}")

    def tail(self) -> str:
        """What it said last."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])

    def wait(self, timeout_s: float) -> None:
        """Wait as Program does; the error says where the log is."""
        try:
            super().wait(timeout_s)
        except ProgramError as error:
            raise ProgramError(f"{error}; see {self.log}") from None
