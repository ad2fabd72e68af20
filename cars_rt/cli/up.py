"""`cars-rt up`: the programs of a room by one command and one file."""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cyclopts.config import Dict

from cars_rt.cli.app import Logs, app
from cars_rt.cli.config import ConfigError
from cars_rt.cli.room import Judged, Plan, read_plan
from cars_rt.console import (
    EXIT_ERROR,
    EXIT_INCOMPLETE,
    EXIT_USAGE,
    Logging,
    Terminal,
    fail,
    log,
    start_logging,
    stopping,
)
from cars_rt.errors import CarsRtError
from cars_rt.printable import printable, typed
from cars_rt.room.part import Part, Role
from cars_rt.room.restarts import LIMIT
from cars_rt.stops import EXIT_INTERRUPTED
from cars_rt.storage import StorageError, make_folder


def up(
    file: Path = Path("lab.toml"),
    *,
    check: bool = False,
    example: bool = False,
    log_folder: Path | None = None,
    restarts: int = LIMIT,
    verbose: bool = False,
    logs: Logs = Logging(),
) -> None:
    """Start driver, daemon, recorder and display of a room, as a file describes it, and keep them at work.

    Who listens is started before who speaks, so that nothing is missed. What dies is started again, after
    pauses that grow, and said. Ctrl-C ends all of them along the stream, so that nothing is lost; so does a
    driver that has measured what it was to. The exit code is 0 if everything arrived, 3 if something was lost
    or had to be started again, 1 if it died too often.

    Example, the whole file for one instrument: [driver] and, on the next line, name = "simulator"

    Parameters
    ----------
    file
        TOML with [driver], [daemon], [recorder] and [view]: the flags of `drive`, `run`, `record` and `view`.
        Its paths count from its own folder.
    check
        Say what would go wrong, a sentence each, and start nothing.
    example
        Print a file with explanations, and start nothing.
    log_folder
        Folder for what the parts say, PART.log each, cut when it is large; made if it is not there. Without
        this flag it is logs, in the file's own folder.
    restarts
        Restarts in a row after which a part that dies again is given up; one that lived for a minute begins
        anew.
    verbose
        Show all that the parts say, not their warnings alone; where there is no terminal it is always all.
    """
    if example:
        from cars_rt.room.example import EXAMPLE

        print(EXAMPLE, end="")
        return
    start_logging(logs, spooled=True)
    if restarts < 0:
        raise ConfigError("--restarts cannot be negative")
    # What --config says is for this command; the parts have their flags from the file and the environment.
    app.config = tuple(each for each in app.config or () if not isinstance(each, Dict))
    plan = read_plan(file)
    # From there on the file's paths count; those that are said are typed from here.
    folder = Path() if file.absolute().parent == Path.cwd() else file.absolute().parent
    log_folder = folder / "logs" if log_folder is None else log_folder.absolute()
    os.chdir(folder)
    problems = [*plan.problems, *_troubles(plan, log_folder)]
    out = Terminal()  # what --check finds is what was asked for
    for problem in problems:
        if not check:
            log.error("%s", problem)
        else:
            out.say(printable(problem), style="red")
    if problems:
        many = len(problems) > 1
        mistakes, things = (
            (f"{len(problems)} mistakes", f"{len(problems)} things are") if many else ("a mistake", "that is")
        )
        what = f"{file} has {mistakes}" if plan.problems else f"{file} cannot be started: {things} in the way"
        fail(f"{what}; nothing was started", EXIT_USAGE if plan.problems else EXIT_ERROR)
    for note in plan.notes:
        log.info("%s", note)
    if check:
        for each in plan.judged:
            out.print(f"{each.part.name}: cars-rt {' '.join(map(typed, each.part.command))}", soft_wrap=True)
        out.print(f"{printable(file)} is sound: {len(plan.judged)} parts can be started", style="green")
        return
    sys.exit(_serve(plan, folder, log_folder, restarts, verbose))


def _troubles(plan: Plan, log_folder: Path) -> Iterator[str]:
    """What the computer has against it."""
    from cars_rt.daemon.settings import DaemonSettings
    from cars_rt.room import check
    from cars_rt.room.wiring import BINDS

    yield from check.addresses(
        [
            (each.title, flag, address)
            for each in plan.judged
            for flag in BINDS[each.part.role]
            if isinstance(address := each.value(flag), str)
        ]
    )
    for each in plan.judged:
        title, folders = each.title, {}
        for flag in ("receipts", "flight"):
            if (path := each.value(flag)) is not None and not path.is_dir():
                folders[path.parent] = f"{title}: --{flag}"
        if each.part.role is Role.RECORDER and (output := each.value("output")) is not None:
            folders[check.folder_of(output)] = f"{title}: --output"
        yield from check.folders(folders, plan.folders)
        if each.part.role is Role.DRIVER:
            given = [each.value(flag) for flag in ("calibration", "system")]
            wanted = [*each.files(), *(path for path in given if isinstance(path, Path))]
            gone = [path for path in wanted if not path.exists()]
            yield from (f"{title}: there is no file {path}" for path in gone)
            if not gone:
                yield from (f"{title}: {said}" for said in check.instrument(each.every()))
        settings = each.flags.arguments.get("settings")
        if isinstance(settings, DaemonSettings):
            yield from (f"{title}: {said}" for said in check.computing(settings))
        yield from (f"{title}: {said}" for said in check.keys(each.flags.arguments.values()))
    for parts in plan.instruments:
        outputs, runs = ([value for each in parts if (value := each.value(flag)) is not None]
                         for flag in ("output", "runs"))  # fmt: skip
        if outputs and check.folder_of(outputs[0]) != outputs[0] and any(count != 1 for count in runs):
            takes = f"{parts[0].title}: --output {outputs[0]} takes one run"
            yield f"{takes}, and the driver makes more: give a folder"
    yield from check.folders({log_folder.parent: "--log-folder"}, [])


def _serve(plan: Plan, folder: Path, log_folder: Path, restarts: int, verbose: bool) -> int:
    from cars_rt.daemon.seen.notify import Notifier
    from cars_rt.room.account import account
    from cars_rt.room.instrument import Instrument
    from cars_rt.room.keeper import Keeper
    from cars_rt.room.restarts import Restarts
    from cars_rt.room.room import Room
    from cars_rt.room.said import Said
    from cars_rt.room.shown import Shown

    try:
        for each in (*plan.folders, log_folder):
            make_folder(each)
    except (StorageError, OSError) as error:
        raise CarsRtError(f"a folder cannot be made: {error}") from None
    begun = time.time()
    shown, notifier = Shown(everything=verbose), Notifier()

    def keeper(each: Judged) -> Keeper:
        said = Said(each.part.name, log_folder, shown.line)
        return Keeper(_summing(each, log_folder), said, Restarts(restarts))

    room = Room([Instrument([keeper(each) for each in parts]) for parts in plan.instruments])

    def tell() -> None:
        shown.refresh(room.instruments)
        notifier.say(room.describe(), ready=room.ready, stopping=room.stopping)

    log.info("%s; their logs are in %s", room.describe(), log_folder)
    try:
        with shown, stopping(room.stop):
            code = room.serve(tell)
    except KeyboardInterrupt:
        fail("left at once: parts were killed, and what was on its way is lost", EXIT_INTERRUPTED)
    finally:
        notifier.close()
    for parts in plan.instruments:
        recorder = next((each for each in parts if each.part.role is Role.RECORDER), None)
        receipts = next((value for each in parts if (value := each.value("receipts")) is not None), None)
        output = None if recorder is None else recorder.value("output")
        found = account(
            None if receipts is None else folder / receipts,
            None if output is None else folder / output,
            None if recorder is None else _summary(recorder, log_folder),
            begun,
        )
        for line in found.lines:
            log.info("%s%s", f"{parts[0].part.label}: " if parts[0].part.label else "", line)
        if found.lost and not code:
            code = EXIT_INCOMPLETE
    for line in room.last_words():
        log.warning("%s", line)
    if code == EXIT_ERROR:
        fail("a part died too often; see above, and the logs")
    if code:
        log.warning("ended; not everything arrived, or a part had to be started again: see above")
    else:
        log.info("ended; nothing that was measured was lost")
    return code


def _summary(recorder: Judged, log_folder: Path) -> Path:
    """Where a recorder says what it recorded."""
    return recorder.value("summary") or log_folder / f"{recorder.part.name}.json"


def _summing(judged: Judged, log_folder: Path) -> Part:
    """A part as it is started: a recorder says at its end what it recorded."""
    if judged.part.role is not Role.RECORDER:
        return judged.part
    path = _summary(judged, log_folder)
    path.unlink(missing_ok=True)
    more = () if judged.value("summary") else (f"--summary={path}",)
    return replace(judged.part, command=(*judged.part.command, *more))
