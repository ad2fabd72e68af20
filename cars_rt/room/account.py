"""What came of the runs of an instrument: from the receipts and recordings that were written meanwhile."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from cars_rt.files.recording import SUFFIXES, is_partial
from cars_rt.printable import printable
from cars_rt.storage import read_text

MOST = 20  # runs that are named one by one
MOST_BYTES = 1_000_000  # of a receipt


def account(receipts: Path | None, output: Path | None, since: float) -> Iterator[str]:
    """A line for each run, and one for the recordings. since: Unix time, s."""
    made = _written(receipts, {".json"}, since)
    if len(made) > MOST:
        yield f"{len(made)} runs; the last {MOST} of them, all receipts are in {receipts}:"
    for path in made[-MOST:]:
        with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            yield _line(json.loads(read_text(path, MOST_BYTES)))
    folder = output.parent if output is not None and output.suffix.lower() in SUFFIXES else output
    files = _written(folder, SUFFIXES, since)
    left = [path for path in files if is_partial(path)]
    if files:
        yield f"{len(files)} recordings in {folder}" + (
            f"; `cars-rt repair` finishes {left[0]}" if left else ""
        )


def _line(about: dict[str, Any]) -> str:
    lost = ", ".join(f"{count} {cause}" for cause, count in about["lost"].items()) or "none"
    counts = f"{about['announced']} spectra announced, {about['received']} received, {about['sent']} sent"
    return printable(f"run {about['run']} {about['reason']}: {counts}; lost: {lost}")


def _written(folder: Path | None, suffixes: set[str] | tuple[str, ...], since: float) -> list[Path]:
    """Files of these endings that were written since then, the oldest first."""
    if folder is None or not folder.is_dir():
        return []
    found = [(path.stat().st_mtime, path) for path in folder.iterdir() if path.suffix.lower() in suffixes]
    return [path for at, path in sorted(found) if at >= since]
