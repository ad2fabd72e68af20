"""What all commands share on the terminal: log, status line, stopping, errors."""

import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, NoReturn, Self, TypeAlias

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.live import Live
from rich.logging import RichHandler
from rich.segment import Segment
from rich.text import Text

from cars_rt.printable import printable
from cars_rt.sparing import Sparing
from cars_rt.spool import Spool, spool_stderr
from cars_rt.stops import STOPS
from cars_rt.storage import mkdir, write_text

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]
LogFormat: TypeAlias = Literal["text", "json"]

EXIT_ERROR = 1  # something failed, and one line says what and why
EXIT_USAGE = 2  # a flag, or what the environment or the file of --config says in its place, is none
EXIT_INCOMPLETE = 3  # it worked, but spectra were lost on the way

STOP_WITH_STDIN = "CARS_RT_STOP_WITH_STDIN"  # set: stop when the standard input ends
LINK_SECRET = "CARS_RT_LINK_SECRET"  # the secret in the display's address, if it is not to make one

STOPPING = "stopping: finishing what was received (once more to leave at once)"

TOGETHER_S = 0.2  # signals within that are one wish to stop
STATUS_S = 1.0  # between two readings of the status line
LOGGED_S = 10.0  # between two status lines where there is no terminal to rewrite them on
SAME_S = 60.0, 600.0  # until one that says the same is logged again: the first time, and from then on


class Terminal(Console):
    """Prints text as text: nothing in it is markup, an emoji's name, or a command to the terminal."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)

    def say(self, text: str | Text, style: str | None = None) -> None:
        """Print a sentence: between words on a terminal, which itself breaks within them; else one line. A
        word that is longer than a line, such as a path, stays whole, to be copied."""
        text = Text(text) if isinstance(text, str) else text
        for line in self._lines(text) if self.is_terminal else [text]:
            self.print(line, style=style, soft_wrap=True)

    def _lines(self, text: Text) -> Iterable[Text]:
        """Break a text between words."""
        breaks, column = [], 0
        for word in re.finditer(r"\S+|\s+", text.plain):
            size = cell_len(word[0])
            if word[0].isspace() and "\n" in word[0]:
                column = 0
            elif column and column + size > self.width and not word[0].isspace():
                breaks.append(word.start())
                column = size
            else:
                column += size
        lines = text.divide(breaks)
        for line in lines:
            line.rstrip()
        return lines

    def make_room(self, columns: int = 160) -> None:
        """Let a table have so many columns where there is no terminal that has its own width."""
        if not self.is_terminal:
            self.width = max(self.width, columns)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Whatever is printed comes through here, a table's cells, too."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, None, keep="\n"), segment.style)


class _Lines(logging.Formatter):
    """One line for each record; those of a traceback below it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        return printable(super().formatException(ei), None, keep="\n")


console = Terminal(stderr=True)
log = logging.getLogger("cars_rt")
_json = False  # whether every line on stderr shall be JSON
_spool: Spool | None = None  # where what is said waits for the terminal, if the program does not


@dataclass(frozen=True, kw_only=True)
class Logging:
    """What a program says of what it does."""

    log_level: LogLevel = "info"
    """How much to say."""

    log_format: LogFormat = "text"
    """text for people; json for programs that collect logs: one object on each line."""


def start_logging(settings: Logging, *, spooled: bool = False) -> None:
    """Log to stderr: short on a terminal, with full time stamps elsewhere, or as JSON.

    A JSON line has time (ISO 8601, UTC), level, logger and message, and what a record has in `extra`.
    spooled: the program never waits for the terminal, except for one that rich can only write by calls to
    Windows.
    """
    global _json, _spool
    _json = settings.log_format == "json"
    if spooled and not console.legacy_windows:
        _spool = spool_stderr(_say_left_out)
    handler: logging.Handler = logging.StreamHandler()
    if _json:
        from pythonjsonlogger.json import JsonFormatter

        names = {"levelname": "level", "name": "logger"}
        handler.setFormatter(
            JsonFormatter("%(levelname)s %(name)s %(message)s", rename_fields=names, timestamp="time")
        )
    elif console.is_terminal:
        handler = RichHandler(
            console=console, show_path=False, log_time_format="%H:%M:%S", omit_repeated_times=False
        )
        handler.setFormatter(_Lines("%(message)s"))
    else:
        handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(message)s"))
    handler.addFilter(Sparing())  # who sends without end does not fill the disk with lines about it
    sys.excepthook = _log_uncaught  # in the same format, and as text, whatever is in it
    log.handlers = [handler]
    log.setLevel(settings.log_level.upper())
    log.propagate = False


def _say_left_out(pieces: int) -> None:
    log.warning("%d lines are left out: they could not be written for a while", pieces)


def on_terminal() -> bool:
    """Whether there is a terminal, and lines on it may be drawn again."""
    return console.is_terminal and not _json


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("%s", error or kind.__name__, exc_info=(kind, error, trace))


@contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first Ctrl-C, termination signal or closing of the terminal; a second one leaves
    at once. Those that come together are one: `timeout` sends one to the process and one to its group."""
    asked_at: float | None = None

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked_at
        if asked_at is not None:
            if time.monotonic() - asked_at < TOGETHER_S:
                return
            raise KeyboardInterrupt
        asked_at = time.monotonic()
        stop()  # before anything that may wait for the terminal
        log.info(STOPPING)

    if os.environ.get(STOP_WITH_STDIN):
        threading.Thread(target=_at_end_of_stdin, args=(stop,), daemon=True).start()
    hung_up = getattr(signal, "SIGHUP", None)
    nohup = hung_up is not None and signal.getsignal(hung_up) == signal.SIG_IGN
    before = {each: signal.signal(each, on_signal) for each in STOPS if not (nohup and each == hung_up)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _at_end_of_stdin(stop: Callable[[], None]) -> None:
    """A pipe from the parent ends when the parent does, however it ended, on every system.

    Reads the descriptor: Python aborts at its end if a thread still holds the lock of sys.stdin.
    """
    with suppress(OSError, ValueError):
        while os.read(sys.stdin.fileno(), 1):
            pass
    stop()


class Below:
    """What is drawn anew below all that is printed; on a terminal only."""

    def __init__(self) -> None:
        live = Live(console=console, auto_refresh=False, transient=True)
        self._live = live if on_terminal() else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def draw(self, what: RenderableType) -> None:
        """Draw this in its place, unless the terminal has yet to show much of what was printed."""
        if self._live is not None and not (_spool is not None and _spool.behind):
            self._live.update(what, refresh=True)


class StatusLine(Below):
    """One calm line at the bottom of the terminal; elsewhere a line in the log now and then."""

    def __init__(self) -> None:
        super().__init__()
        # Who describes says what happened since it was asked last, so it is asked only for a line.
        self._every = LOGGED_S if self._live is None else STATUS_S
        self._next = time.monotonic() + self._every
        self._logged, self._again = "", 0.0  # the last line, and when it may be logged once more

    def show(self, describe: Callable[[], str]) -> None:
        """Show what `describe` says, if it is time; call it as often as you like."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        text = describe()
        if self._live is not None:
            self.draw(Text(printable(text), no_wrap=True, overflow="ellipsis"))
        elif text != self._logged or now >= self._again:
            self._again = now + SAME_S[text == self._logged]
            self._logged = text
            log.info(text)


class Rate:
    """Spectra per second since the last reading."""

    def __init__(self) -> None:
        self._total = 0
        self._since = time.monotonic()

    def read(self, total: int) -> float:
        """The rate since the last call, given a total that only grows."""
        now = time.monotonic()
        rate = (total - self._total) / max(now - self._since, 1e-9)
        self._total, self._since = total, now
        return rate


def fail(text: object, code: int = EXIT_ERROR) -> NoReturn:
    """Leave with one line that says what is wrong."""
    if _json:
        log.critical("%s", text, extra={"exit_code": code})
    else:
        console.say(Text.assemble(("cars-rt: ", "bold red"), printable(text)))
    sys.exit(code)


def refuse_target(path: Path | None, flag: str = "--summary") -> None:
    """Leave with one line, before anything is measured, if nothing could be written there at the end."""
    if path is None:
        return
    if path.is_dir():
        fail(f"{flag}: {path} is a folder; name a file")
    if not path.absolute().parent.is_dir():
        fail(f"{flag}: there is no folder {path.parent}; make it ({mkdir(path.parent)}), or name another")


def write_summary(path: Path | None, content: Any) -> None:
    """Write totals as JSON, for programs; nothing if there is no path."""
    if path is None:
        return
    rows = [asdict(each) if is_dataclass(each) and not isinstance(each, type) else each for each in content]
    write_json(path, rows, default=str)


def write_json(path: Path | None, content: Any, default: Callable[[Any], Any] | None = None) -> None:
    """Write JSON, for programs; nothing if there is no path. default: of what JSON does not know."""
    if path is not None:
        with writing(path):
            write_text(path, json.dumps(content, indent=2, default=default) + "\n")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Leave with one line if the file cannot be written."""
    try:
        yield
    except OSError as error:
        fail(f"cannot write {path}: {error.strerror or error}")
