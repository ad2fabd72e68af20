"""What recordings are called. Names come over a socket, too, and lead nowhere but into our folder."""

import os
import re
import string
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cars_rt.files.recording import SUFFIXES, Claim, InUseError, RecordingError, refuse_unwritable
from cars_rt.printable import printable
from cars_rt.protocol import Start
from cars_rt.storage.names import reserved

DEFAULT = "{date}-{time}-{run}"
FIELDS = ("sample", "date", "time", "run", "source", "number")
SPEC = re.compile(r"(0[1-9])?d?")  # of {number}: nothing, d, 03d
LONGEST = 200  # bytes of a name; file systems take 255, and `.partial` and the like are added
MOST = 10**9  # recordings of one name
BAD = set('/\\:*?"<>|')  # in a file's name, on one system or another

Values = Mapping[str, str]


def check_name(name: str) -> str:
    """The name, if it is one that a recording may have on every system. Raises RecordingError."""
    shown, stem = printable(name, 80), name
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    if not stem:
        raise RecordingError("a recording needs a name")
    if found := sorted(set(name) & BAD) or [letter for letter in name if not letter.isprintable()]:
        raise RecordingError(
            f"a recording cannot be called {shown}: {printable(found[0])} is no part of a name"
        )
    if stem.startswith(".") or stem[-1] in ". " or stem.endswith(".partial") or reserved(name):
        raise RecordingError(f"a recording cannot be called {shown}: choose another name")
    if len(name.encode("utf-8", "surrogatepass")) > LONGEST:
        raise RecordingError(f"the name {printable(name, 40)} is longer than {LONGEST} bytes")
    return name


def below(folder: Path, text: str) -> Path:
    """The file of this path, from the recorder's folder on. Raises RecordingError if it is not below that."""
    shown = printable(text, 200)
    if "\0" in text or Path(text).suffix.lower() not in SUFFIXES:
        raise RecordingError(f"{shown} is no recording's path: it must end in {' or '.join(SUFFIXES)}")
    path = folder / text
    check_name(path.name)
    try:
        parent = path.parent.resolve()  # not even links may lead elsewhere
        inside = parent.is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        inside = False
    if not inside:
        raise RecordingError(
            f"{shown} is not below {folder.absolute()}, and the recorder writes nowhere else"
        )
    return parent / path.name


def make_way(folder: Path, path: Path) -> None:
    """Make the folders that lead from the recorder's own, which must be there, to a file of `below`.
    Raises RecordingError, also where nothing can be written there."""
    at = folder.resolve()
    for name in path.parent.relative_to(at).parts:
        at /= name
        if not at.is_dir():
            check_name(name)
            try:
                at.mkdir()
            except OSError as error:
                raise RecordingError(f"cannot make the folder {at}: {error.strerror or error}") from None
    refuse_unwritable(at)


class Template:
    """A name with places for what is known when the run begins. Raises RecordingError if it cannot be."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._suffix = next((each for each in SUFFIXES if text.endswith(each)), SUFFIXES[0])
        try:
            parsed = list(string.Formatter().parse(text.removesuffix(self._suffix)))
        except ValueError as error:
            raise RecordingError(f"the name {printable(text, 80)} cannot be read: {error}") from None
        self._parts: list[tuple[str, str | None, str]] = []  # text, then a field of this format
        for literal, field, spec, conversion in parsed:
            if field is not None:
                known = field in FIELDS and not conversion
                if not known or not SPEC.fullmatch(spec or "") or (spec and field != "number"):
                    raise RecordingError(
                        f"the name {printable(text, 80)} has a field that is none; there are "
                        f"{', '.join(f'{{{each}}}' for each in FIELDS)}, and {{number:03d}}"
                    )
            self._parts.append((literal, field, spec or ""))
        check_name(self._said(dict.fromkeys(FIELDS, "x"), 1))

    @property
    def fields(self) -> set[str]:
        """The fields that it has places for."""
        return {field for _, field, _ in self._parts if field}

    def check(self, sample: str) -> None:
        """Raises RecordingError for what would only be found when a run begins."""
        if "sample" in self.fields and not sample:
            raise RecordingError(f"the name {self.text} has {{sample}} in it: say which with --sample")
        values = dict.fromkeys(FIELDS, "x" * 20) | {"sample": plain(sample)}
        check_name(self._said(values, 1))

    def claim(self, folder: Path, values: Values) -> Claim:
        """A free file for this run. Raises RecordingError."""
        try:  # who names runs and sources is not who chose the template: no name of theirs ends the recording
            check_name(self._said(values, 1))
        except RecordingError:
            values = {**values, "source": "source", "run": "run"}
        if "number" not in self.fields:
            return Claim.unused(folder / check_name(self._said(values, 0)))
        for number in range(self._highest(folder, values) + 1, MOST):
            path = folder / check_name(self._said(values, number))
            try:
                claim = Claim(path)
            except InUseError:
                continue
            if not claim.taken:
                return claim
            claim.release()
        raise RecordingError(f"all numbers of {self.text} are taken in {folder}")

    def _said(self, values: Values, number: int) -> str:
        return self._joined(values, str, lambda spec: format(number, spec)) + self._suffix

    def _joined(self, values: Values, text: Callable[[str], str], number: Callable[[str], str]) -> str:
        def pieces() -> Iterator[str]:
            for literal, field, spec in self._parts:
                yield text(literal)
                if field is not None:
                    yield number(spec) if field == "number" else text(values[field])

        return "".join(pieces())

    def _highest(self, folder: Path, values: Values) -> int:
        """The number of the last file of this name, whether finished or not; 0 if there is none."""
        named = re.compile(
            self._joined(values, re.escape, lambda _: r"(\d{1,9})") + r"(?:-part\d+)?(?:\.partial)?\.\w+"
        )
        found = (named.fullmatch(each.name) for each in os.scandir(folder))
        return max((int(each[1]) for each in found if each), default=0)


def values_of(start: Start, sample: str) -> Values:
    """What the fields of a template are in this run."""
    try:
        began = time.localtime(start.time_ns / 1e9)
        date, clock = time.strftime("%Y%m%d", began), time.strftime("%H%M%S", began)
    except (OverflowError, ValueError, OSError):  # a time that the system's calendar does not reach
        date, clock = "undated", "untimed"
    run = "".join(letter for letter in start.run if letter.isascii() and letter.isalnum())[:8]
    return {
        "sample": plain(sample),
        "date": date,
        "time": clock,
        "run": run or "run",
        "source": plain(start.source),
    }


def plain(text: str) -> str:
    """As part of a file's name: what cannot stand there becomes a dash."""
    kept = "".join(letter if letter.isalnum() or letter in "_+=,()@%#-." else "-" for letter in text)
    return re.sub(r"-{2,}", "-", kept).strip("-.")[:60] or "x"
