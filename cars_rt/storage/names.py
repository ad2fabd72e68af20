"""Names of files made from names that came over the wire."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

MOST_NUMBERS = 100_000  # names that differ only in a number

_PLAIN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,99}")
_KEPT = 32  # characters of a name that is not plain, for people; its hash tells it from others
_HASH = 32  # hexadecimal digits of SHA-256: two names that share them cannot be made
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(\..*)?")  # on Windows


def reserved(name: str) -> bool:
    """Whether Windows keeps this name for itself."""
    return _RESERVED.fullmatch(name.lower()) is not None


def file_name(text: str, suffix: str = "") -> str:
    """A file's name for a text: another text, another name, on every system.

    Lower-case letters, digits and `_.-` stay as they are (so does a run id that is a UUID). Anything else,
    also capital letters, which some file systems do not tell from small ones, and names that Windows
    keeps for itself, becomes what is left of it, `~` and a hash.
    """
    if _PLAIN.fullmatch(text) and not text.endswith(".") and not _RESERVED.fullmatch(text):
        return text + suffix
    left = re.sub(r"[^A-Za-z0-9_.-]", "_", text)[:_KEPT].strip(".") or "_"
    if _RESERVED.fullmatch(left.lower()):
        left = f"_{left}"
    return f"{left}~{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:_HASH]}{suffix}"


def numbered(path: Path) -> Iterator[Path]:
    """The path, then with -2, -3, ... behind its name."""
    yield path
    for number in range(2, MOST_NUMBERS):
        yield path.with_stem(f"{path.stem}-{number}")
