"""What can be asked of a recorder while it runs: each command with the function that does it, in one table.

The arguments were checked when the request was read (see cars_rt.protocol.control). A function returns the
result, or None if the answer comes later; it raises CarsRtError or ValueError: why it cannot be done.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

from cars_rt.files.recorder.piece import Recorded
from cars_rt.files.recorder.recorder import Recorder
from cars_rt.files.recording import RecordingError
from cars_rt.printable import printable
from cars_rt.protocol.control import RECORDER_REQUESTS, Request
from cars_rt.sockets import RECORDER_ADDRESS, AddressInUseError
from cars_rt.sockets.control import Answer, Control
from cars_rt.sockets.inflow import Inflow
from cars_rt.trust.flags import OFF

log = logging.getLogger("cars_rt.recorder")

MOST_FILES = 20  # of the last files, in the status
Result: TypeAlias = Mapping[str, Any] | None
Arguments: TypeAlias = Mapping[str, Any]


class Commands:
    """The control socket of a recorder; none where its settings say so.

    Raises StreamError if the address cannot be bound, KeysError if it may not be, TokenError if the token
    cannot be had. A second recorder that needs no commands goes on without where the usual address is taken.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.control = _control(recorder)
        # Whoever sends without end is cut off.
        self._inflow = Inflow([] if self.control is None else [self.control.gate()])
        self._inflow.start()

    def serve(self) -> None:
        """Answer the requests that have come."""
        if self.control is not None:
            self.control.serve(self._perform, _noted)

    def close(self) -> None:
        """Give the last replies a moment to leave."""
        self._inflow.close()
        if self.control is not None:
            self.control.close()

    def _perform(self, request: Request, answer: Answer) -> Result:
        return COMMANDS[request.do](self.recorder, request.arguments, answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _control(recorder: Recorder) -> Control | None:
    settings, access = recorder.settings, recorder.settings.access
    if settings.control == OFF:
        if recorder.idle:
            raise RecordingError("a recorder that waits for commands needs a --control address")
        return None
    keys = access.control(settings.control)
    try:
        control = Control(settings.control, RECORDER_REQUESTS, "recorder", keys, access.control_token)
    except AddressInUseError:
        if recorder.idle or settings.control != RECORDER_ADDRESS:
            raise
        log.warning(
            "another program has %s, so this recorder takes no commands (--control gives it another "
            "address, --control none says that it shall take none)",
            settings.control,
        )
        return None
    log.info("takes commands at %s", control.address)
    return control


def _start(recorder: Recorder, asked: Arguments, answer: Answer) -> Result:
    piece = recorder.start(asked.get("name"), asked.get("sample"), asked.get("notes"))
    if piece is None:
        return {"path": None, "waits": True, "first": 0}
    return {"path": _shown(piece.recorded.path), "waits": False, "first": piece.first}


def _open(recorder: Recorder, asked: Arguments, answer: Answer) -> Result:
    if not asked.get("path"):
        raise ValueError("open wants the path of the file")
    return {"path": str(recorder.open(asked["path"], asked.get("sample"), asked.get("notes")).absolute())}


def _stop(recorder: Recorder, asked: Arguments, answer: Answer) -> Result:
    if recorder.plan is None and recorder.now is None:
        raise ValueError("nothing is being recorded")
    recorder.finish(lambda files: answer(None, {"files": [_described(each) for each in files]}))
    return None


def _close(recorder: Recorder, asked: Arguments, answer: Answer) -> Result:
    """As stop; of a file whose run has ended already, what became of it."""

    def then(files: list[Recorded]) -> None:
        latest = [] if recorder.latest is None else [recorder.latest.recorded]
        answer(None, _described([*latest, *files][-1]) if latest or files else {"path": None})

    if recorder.plan is None and recorder.now is None:
        then([])
    else:
        recorder.finish(then)
    return None


def _status(recorder: Recorder, asked: Arguments, answer: Answer) -> Result:
    """Counts are spectra, sizes bytes; what is not known is None."""
    open_, plan, disk = recorder.now, recorder.plan, recorder.disk
    piece = open_ or recorder.latest
    disk.refresh()
    minutes = disk.minutes_left if open_ is not None else None
    received = {} if piece is None else {name: each.count for name, each in piece.recording.rows.items()}
    about = piece.about if piece is not None else {} if plan is None else plan.about
    return {
        "state": "recording" if open_ is not None else "waiting" if plan is not None else "idle",
        "recording": open_ is not None,
        "begun_ns": recorder.begun_ns,
        "one_run": recorder.one_run,
        "name": None if plan is None else plan.name,
        "path": None if piece is None else _shown(piece.recorded.path),
        "run": None if piece is None else piece.run,
        "sample": about.get("sample", ""),
        "notes": about.get("notes", ""),
        "first": 0 if piece is None else piece.first,
        "part": 0 if piece is None else piece.recorded.part,
        "planned": None if piece is None else piece.recorded.planned,
        "rows": {} if piece is None else dict(piece.flushed),
        "received": received,
        "bytes": 0 if piece is None else piece.stored_bytes,
        "bytes_per_s": disk.rate if open_ is not None else 0.0,
        "disk_free": disk.free,
        "minutes_left": minutes,
        "folder": str(recorder.folder.absolute()),
        "streams": {
            stream: {"address": source.subscriber.address, "connected": source.connected}
            for stream, source in recorder.sources.items()
        },
        "files": [_described(each) for each in recorder.recorded[-MOST_FILES:]],
        "runs": recorder.runs,
        "incomplete": recorder.incomplete,
        "passed_over": recorder.passed_over,
        "trouble": recorder.trouble,
    }


def _described(recorded: Recorded) -> dict[str, Any]:
    return {**asdict(recorded), "path": _shown(recorded.path)}


def _shown(path: str) -> str:
    return str(Path(path).absolute())


def _noted(error: Exception) -> str:
    text = printable(f"{type(error).__name__}: {error}", 500)
    log.error("a request failed: %s. Please report this", text)
    log.debug("where that was", exc_info=error)
    return text


#: The names and arguments are those of cars_rt.protocol.control.RECORDER_REQUESTS.
COMMANDS: Mapping[str, Callable[[Recorder, Arguments, Answer], Result]] = {
    "record-start": _start,
    "record-stop": _stop,
    "record-open": _open,
    "record-close": _close,
    "record-status": _status,
}
