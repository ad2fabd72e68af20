"""Text from elsewhere, made fit for a terminal, a log or a message."""

import shlex
import sys
from collections.abc import Sequence

UNITS = (86_400, "days"), (3_600, "h"), (60, "min"), (1, "s")
NAMED = 10  # numbers of a list; more are counted
LONGEST = 2_000  # characters; no name that means something is longer, and a line of a log stays a line


def printable(text: object, longest: int | None = LONGEST, *, keep: str = "") -> str:
    r"""The text with everything escaped that a terminal would act on instead of showing it.

    What Python calls not printable is written as in its own literals: control characters (so that a text
    stays on its line), escape sequences, marks that turn the direction of writing, halves of surrogate pairs.
    A text beyond `longest` characters is cut and ends with an ellipsis. keep: left alone, such as "\n".
    """
    given = str(text)
    if longest is not None and len(given) > longest:
        given = given[: longest - 1] + "…"
    if given.isprintable():
        return given
    return "".join(each if each.isprintable() or each in keep else _escaped(each) for each in given)


def drawable(text: object) -> str:
    """The text for a picture by matplotlib, which takes what stands between dollars for a formula."""
    return printable(text).replace("$", r"\$")


def typed(text: object) -> str:
    """A path or another word of a command that is printed, as the shell here takes it for one word."""
    if sys.platform != "win32":
        return shlex.quote(str(text))
    word = str(text)
    return f'"{word}"' if any(each in word for each in " &()^,;=") else word


def one_line(error: BaseException, longest: int = 200) -> str:
    """What an error of somebody's library says, on one line and not at any length; if nothing, its class."""
    return " ".join(str(error).split())[:longest] or type(error).__name__


def counted(count: int, one: str) -> str:
    """So many of them, whose plural ends in s or is that of spectrum: "1 recording", "3 spectra"."""
    many = "spectra" if one == "spectrum" else f"{one}s"
    return f"{count} {one if count == 1 else many}"


def listed(numbers: Sequence[int], one: str) -> str:
    """So many of them and which ones, at most ten: "1 pixel (7)"."""
    first = ", ".join(map(str, numbers[:NAMED])) + (", ..." if len(numbers) > NAMED else "")
    return f"{counted(len(numbers), one)} ({first})"


def without_numbers(text: str) -> str:
    """A sentence without its digits, which may be others each time that it is said."""
    return "".join(each for each in text if not each.isdigit())


def lasted(seconds: float) -> str:
    """A time with the unit that suits it: "90 s", "5 min", "3 h", "2 days"."""
    unit, name = next((unit, name) for unit, name in UNITS if seconds >= 2 * unit or unit == 1)
    return f"{seconds / unit:.0f} {name}"


def between(low: float, high: float) -> str:
    """A range with as many digits as its ends need to stand where they are: "2800–3050", "1000.2–1000.4"."""
    near = abs(high - low) / 50
    digits = next(
        (each for each in range(9) if all(abs(round(end, each) - end) <= near for end in (low, high))), 9
    )
    return f"{low:.{digits}f}–{high:.{digits}f}"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
