"""The demo's programs as real processes: started, watched, stopped, and never left running."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cars_rt.console import STOP_WITH_STDIN
from cars_rt.storage import refuse_target

# Nobody looks at these from outside, and a daemon at work on this computer may have the port.
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", STOP_WITH_STDIN: "1", "CARS_RT_RUN_HTTP": "none"}
TAIL_LINES = 12  # of a log, shown when its process died


class DemoError(RuntimeError):
    """A process of the demo failed; the text says which and shows what it said last."""


class Program:
    """One `cars-rt` command in a process of its own, its output in a log file.

    It gets no Ctrl-C from the terminal: whoever started it stops it, in the right order.
    """

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        refuse_target(self.log)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cars_rt", *arguments],
                stdin=subprocess.PIPE,  # never written to; its end tells them that we are gone
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | ENVIRONMENT,
                **apart,
            )

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def check(self) -> None:
        """Raises DemoError if the process ended with an error."""
        if code := self._process.poll():
            raise DemoError(f"the {self.name} died (exit code {code}):\n{self.tail()}")

    def tail(self) -> str:
        """What it said last."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:])

    def stop(self) -> None:
        """Ask it to finish."""
        if self.running:
            if sys.platform == "win32":
                self._process.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                self._process.terminate()

    def wait(self, timeout_s: float) -> None:
        """Wait until it ended; kill it and raise DemoError if it does not."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise DemoError(f"the {self.name} did not end within {timeout_s:g} s; see {self.log}") from None

    def kill(self) -> None:
        """End it at once."""
        if self.running:
            self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


def free_addresses(count: int) -> list[str]:
    """Addresses on this computer that nobody listens to."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"tcp://127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    finally:
        for each in sockets:
            each.close()
