"""Recordings that were cut short, or that a disk has spoiled: finished, read, and told what is wrong."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from cars_rt.files.hdf5 import attribute, changed, opened
from cars_rt.files.recording.claim import TRIAL, Claim, final_path, is_partial, partial_path
from cars_rt.files.recording.damage import said
from cars_rt.files.recording.errors import InUseError, RecordingError, reason
from cars_rt.files.recording.finish import Contents, finish, tell, told
from cars_rt.files.recording.mended import is_spoiled, mend
from cars_rt.files.recording.settled import count, settle
from cars_rt.files.recording.texts import have_lost_texts
from cars_rt.files.written import DAMAGE, DESCRIBED, is_of_process
from cars_rt.storage import are_under_way, complete

log = logging.getLogger("cars_rt.recording")

NOBODY_TELLS = "there are no locks there to tell, so copy it elsewhere and repair the copy"
MOST_LEFT = 1_000  # partial files of a folder that one start looks at


def repair(path: Path) -> Contents:
    """Finish a recording that was cut short, given its partial name or the one that it would have had, and
    read all of it. One with rows that cannot be read keeps the rest, and is not complete.

    Nothing happens to one that is finished and whole. Raises InUseError if it is still being written,
    RecordingError if it is no recording or cannot be read or written.
    """
    contents = _finished(path)
    with told(contents.path):
        with opened(contents.path) as file:
            counted = count(file)
            damage = said(counted.groups, counted.rows, counted.spoiled)
            same = damage == attribute(file, DAMAGE, "")
        if same:
            return replace(contents, damage=damage)
        with changed(contents.path) as file:
            file.attrs[DAMAGE] = damage
            whole = count(file).whole(file)
            file.attrs.modify("complete", whole)
        return replace(contents, damage=damage, complete=whole, changed=True)


def _finished(path: Path) -> Contents:
    """A recording that is closed and has its name, made so if it was not."""
    if path.is_dir():  # also one that has no name to make another of, such as `.`
        raise RecordingError(f"{path} is a folder: name the recordings in it that were cut short")
    target = final_path(path)
    if not is_partial(path) and not path.exists() and partial_path(path).exists():
        path = partial_path(path)
    try:
        claim = Claim(target)
    except InUseError:
        raise InUseError(
            f"{path} is being recorded by another program: repair it if that has not finished it"
        ) from None
    try:
        with told(path):
            if not is_partial(path):
                return _as_it_was(path, locked=claim.locked)
            if not claim.locked:
                raise InUseError(f"{path} may be in use: {NOBODY_TELLS}")
        return finish(claim, partial=path)
    finally:
        claim.release()


def _as_it_was(path: Path, *, locked: bool) -> Contents:
    """A recording that has its name; a repair may have been killed, or a disk have spoiled some of it."""
    if are_under_way(path) and not locked:
        raise InUseError(f"{path} is being changed, or was: {NOBODY_TELLS}")
    completed = locked and os.access(path, os.W_OK) and complete(path)
    done, whole = not have_lost_texts(path), False
    if done:
        with opened(path) as file:
            counted, as_planned = count(file), bool(attribute(file, "complete"))
            done = DESCRIBED in file.attrs and as_planned == counted.whole(file)
            whole = done and not is_spoiled(file, counted.rows)
    if whole:
        counted.tell(path)
    else:
        with changed(path) as file:
            if mend(file) or not done:
                done, counted = False, settle(file)  # the map is made of what was mended
                as_planned = bool(file.attrs["complete"])
            else:
                counted.tell(path)
    return Contents(path, counted.rows, counted.announced, as_planned, changed=completed or not done)


def repair_all(folder: Path) -> list[Contents]:
    """Finish what killed recorders left in a folder, but not what `process` did; tell of what cannot be."""
    found = []
    left = sorted(each for each in folder.glob("*.partial.*") if not each.name.startswith(TRIAL))
    for path in (each for each in left[:MOST_LEFT] if not is_of_process(each)):
        try:
            contents = _finished(path)
        except InUseError:
            continue
        except RecordingError as error:
            log.warning("%s", error)
        except Exception as error:  # what is spoiled keeps no recorder from starting, whatever it raises
            log.warning("%s is left as it is: %s", path, reason(error))
        else:
            tell(contents)
            found.append(contents)
    return found
