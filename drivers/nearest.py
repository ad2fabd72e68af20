"""What was probably meant, and what is offered instead."""

import difflib
from collections.abc import Iterable, Sequence


def meant(word: str, known: Iterable[str], shown: int = 12) -> str:
    """A clause for a name that does not exist: the nearest ones, or what there is."""
    names = list(known)
    folded = {name.lower(): name for name in names}
    if near := difflib.get_close_matches(word.lower(), folded, 2, 0.6):
        return "did you mean " + " or ".join(folded[each] for each in near) + "?"
    more = ", ..." if len(names) > shown else ""
    return f"there are {', '.join(names[:shown])}{more}" if names else "there are none"


def offered(
    value: str, allowed: Sequence[str] = (), low: float | None = None, high: float | None = None
) -> str:
    """A clause for a value that cannot be: the nearest that can, or those that can."""
    try:
        number = float(value)
        if low is not None and high is not None:
            return f"the nearest offered is {min(max(number, low), high):g} (from {low:g} to {high:g})"
        nearest = min(allowed, key=lambda each: abs(float(each) - number))
        return f"the nearest offered is {nearest} (of {', '.join(allowed)})"
    except ValueError:
        return meant(value, allowed)
