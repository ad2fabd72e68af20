"""What a part says: read as it comes, kept in a log file that does not grow without end, and passed on."""

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import IO

from cars_rt.console import STOPPING
from cars_rt.printable import printable
from cars_rt.source import WAITS
from cars_rt.storage import refuse_target

log = logging.getLogger("cars_rt.room")

LOG_BYTES, LOG_FILES = 5_000_000, 4  # size of a part's log, and how many older ones are kept
LONGEST = 100_000  # bytes of a line


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a part."""

    level: int
    text: str
    time: str = ""  # as the part wrote it
    link: bool = False  # it tells people where to look


def read_line(raw: bytes) -> Line:
    """A line as a part writes it: a JSON object, or the text of a library, of a traceback, of wrong flags."""
    text = raw.decode("utf-8", "replace").rstrip()
    try:
        said = json.loads(text)
        level = logging.getLevelNamesMapping().get(str(said["level"]), logging.INFO)
        if WAITS in said:  # for a part that the room starts after it, and starts again
            level = min(level, logging.INFO)
        whole = "\n".join(str(said[name]) for name in ("message", "exc_info") if said.get(name))
        return Line(level, printable(whole, LONGEST, keep="\n"), str(said.get("time", "")), "link" in said)
    except (ValueError, TypeError, KeyError, AttributeError):
        level = logging.ERROR if text.startswith("cars-rt: ") else logging.INFO
        return Line(level, printable(text, LONGEST))


class Said:
    """The log of one part, over all its lives, and its last line."""

    def __init__(self, name: str, folder: Path, pass_on: Callable[[str, Line], None]) -> None:
        """Raises StorageError or OSError if NAME.log cannot be written in the folder."""
        self.name = name
        self.last = Line(logging.INFO, "")
        self.linked = False  # it has told people where to look
        self.path = folder / f"{name}.log"
        refuse_target(self.path)
        self._pass_on = pass_on
        self._file = RotatingFileHandler(
            self.path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8", errors="backslashreplace"
        )
        self._file.handleError = self._failed  # type: ignore[method-assign]
        self._full = False
        self._reader: threading.Thread | None = None

    def listen(self, output: IO[bytes]) -> None:
        """Read a new life of the part until it is silent for ever."""
        self.wait(0)
        self._reader = threading.Thread(target=self._read, args=(output,), name=self.name, daemon=True)
        self._reader.start()

    def wait(self, timeout_s: float) -> None:
        """Wait until all that was said has been read."""
        if self._reader is not None:
            self._reader.join(timeout_s)

    def close(self) -> None:
        """The log is complete."""
        self.wait(1)
        self._file.close()

    def note(self, text: str) -> None:
        """Add a line of ours to those of the part."""
        self._write(Line(logging.INFO, f"-- {text}"))

    def _read(self, output: IO[bytes]) -> None:
        with output:
            while raw := output.readline(LONGEST):
                if not raw.strip():
                    continue
                line = read_line(raw)
                if line.text != STOPPING:  # every part says so at the end
                    self.last = line
                self.linked = self.linked or line.link
                self._write(line)
                self._pass_on(self.name, line)

    def _write(self, line: Line) -> None:
        # A log is read by others than who started the room, and the secret of a link lives as long as that.
        said = line.text.partition("?token=")[0] if line.link else line.text
        text = " ".join(filter(None, (line.time, logging.getLevelName(line.level), said)))
        self._file.handle(logging.makeLogRecord({"msg": text, "levelno": line.level}))

    def _failed(self, record: logging.LogRecord) -> None:
        """Note that the log cannot be written: a full disk does not end the part, whose lines still go on."""
        if not self._full:
            self._full = True
            log.error("%s cannot be written any more; the %s goes on without its log", self.path, self.name)
