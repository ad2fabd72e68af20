"""What was probably meant, and what is offered instead."""

import difflib
from collections.abc import Iterable, Sequence

SHOWN = 12  # names of what there is, if there are more


def meant(word: str, known: Iterable[str]) -> str:
    """A clause for a name that does not exist: the nearest ones, or what there is."""
    names = list(known)
    folded = {name.lower(): name for name in names}
    if near := difflib.get_close_matches(word.lower(), folded, 2, 0.6):
        return "did you mean " + " or ".join(folded[each] for each in near) + "?"
    more = ", ..." if len(names) > SHOWN else ""
    return f"there are {', '.join(names[:SHOWN])}{more}" if names else "there are none"


def offered(
    value: str,
    allowed: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
) -> str:
    """A clause for a value that cannot be: the nearest that can, or those that can; "" for one that can."""
    try:
        number = float(value)
        if low is not None and high is not None:
            nearest = min(max(number, low), high)
            if step:
                nearest = low + step * min(round((nearest - low) / step), (high - low) // step)
            steps = f" in steps of {step:.10g}" if step and step != 1 else ""
            clause = f"the nearest offered is {nearest:.10g} (from {low:.10g} to {high:.10g}{steps})"
            return "" if nearest == number else clause
        near = min(allowed, key=lambda each: abs(float(each) - number))
        return "" if value in allowed else f"the nearest offered is {near} (of {', '.join(allowed)})"
    except ValueError:
        return "" if value in allowed else meant(value, allowed)
