"""What came of the runs of an instrument: from the receipts and recordings that were written meanwhile."""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cars_rt.files.recording import SUFFIXES, is_partial
from cars_rt.kinds import Outside, in_words
from cars_rt.printable import counted, printable, typed
from cars_rt.room.check import folder_of
from cars_rt.storage import read_text

MOST = 20  # runs that are named one by one
MOST_BYTES = 10_000_000  # of a receipt, or of a recorder's summary
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError)


@dataclass
class Account:
    """What came of the runs of one instrument."""

    lines: list[str] = field(default_factory=list)  # one for each run, and one for the recordings
    lost: bool = False  # whether a receipt or the recorder names spectra that are lost, or cannot be read


def account(receipts: Path | None, output: Path | None, summary: Path | None, since: float) -> Account:
    """Read receipts, recordings and the recorder's summary of one instrument. since: Unix time, s."""
    found = Account()
    made = _written(receipts, {".json"}, since)
    if len(made) > MOST:
        found.lines.append(f"{len(made)} runs; the last {MOST} of them, all receipts are in {receipts}:")
    for path in made:
        try:
            about = json.loads(read_text(path, MOST_BYTES))
            found.lost |= bool(about["lost"])
            if path in made[-MOST:]:
                found.lines.append(_line(about))
        except UNREADABLE:
            found.lost = True
            found.lines.append(f"the receipt {path} cannot be read")
    folder = None if output is None else folder_of(output)
    files = _written(folder, SUFFIXES, since)
    left = [path for path in files if is_partial(path)]
    if files:
        repair = f"; `cars-rt repair {typed(left[0])}` finishes it" if left else ""
        look = f"; `cars-rt view {typed(files[-1])}` shows the last one" if not left else ""
        found.lines.append(f"{counted(len(files), 'recording')} in {folder}{repair}{look}")
    try:
        recorded = json.loads(read_text(summary, MOST_BYTES)) if summary is not None else []
        lost = {cause for each in recorded for counts in each["lost"].values() for cause in counts}
        found.lost |= bool(left or lost - set(Outside))
    except UNREADABLE:
        found.lost = True
    return found


def _line(about: dict[str, Any]) -> str:
    lost = in_words(about["lost"]) or "none"
    counts = f"{about['announced']} spectra announced, {about['received']} received, {about['sent']} sent"
    return printable(f"run {about['run']} {about['reason']}: {counts}; lost: {lost}")


def _written(folder: Path | None, suffixes: set[str] | tuple[str, ...], since: float) -> list[Path]:
    """Files with these endings that were written since then, the oldest first."""
    if folder is None or not folder.is_dir():
        return []
    found = []
    for path in folder.iterdir():
        if path.suffix.lower() in suffixes:
            # A link to nowhere, or a file that has just gone, holds nothing to tell of.
            with suppress(OSError):
                found.append((path.stat().st_mtime, path))
    return [path for at, path in sorted(found) if at >= since]
