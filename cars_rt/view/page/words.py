"""What the canvas shows, in words: for screen readers, and for everybody below the spectrum."""

import math

from cars_rt.errors import CarsRtError
from cars_rt.view.quantity import Composite, Quantity
from cars_rt.view.scan import Scan, Spectrum


def in_words(
    scan: Scan | None,
    shown: Spectrum | None,
    what: Quantity | Composite | None,
    no_spectra: str = "",
    mixed: bool = False,
) -> str:
    """Whose spectrum it is, the value there, and how much of the scan there is. no_spectra: why none come
    whole. mixed: some means are of two planes of a stack."""
    if scan is None or what is None:
        return "Nothing to show yet."
    words = ["No spectrum to show yet." if shown is None else f"Spectrum: {shown.title}."]
    if shown is not None and isinstance(what, Quantity) and (value := _value(scan, shown, what)) is not None:
        words.append(f"{what.title}: {value:.4g}.")
    if scan.points:
        words.append(f"{scan.seen} spectra so far.")
    elif scan.start.scan is not None:
        rows, columns = scan.start.scan
        words.append(f"Scan of {rows} × {columns} pixels, {scan.seen} seen.")
        if not scan.raman.exact:
            words.append(f"Spectra are kept as means of {scan.raman.bin[0]} × {scan.raman.bin[1]} pixels.")
    if mixed:
        words.append("Where planes meet, means are of two of them.")
    if scan.thinned and scan.kept:
        words.append(f"{100 * scan.kept / max(scan.seen, 1):.0f} % of the spectra were kept whole.")
    if no_spectra:
        words.append(
            f"Whole spectra do not come: {no_spectra}; there are the latest one and the daemon's bands."
        )
    return " ".join(words)


def in_form(what: Quantity | Composite | None) -> list[float | str]:
    """What is shown as the page's form has it: the ends of the band, cm-1, how it becomes a number, the ends
    of the second band if there is one; empty for nothing."""
    if what is None:
        return []
    first = what.red if isinstance(what, Composite) else what
    low, high, *second = (round(end, 2) for band in (first.band, first.other) if band for end in band[1:])
    return [low, high, first.kind.value, *second]


def _value(scan: Scan, shown: Spectrum, what: Quantity) -> float | None:
    try:
        first, second = what.pixels(scan.axis)
    except CarsRtError:  # of another run's axis
        return None
    value = float(what.of(shown.raman[first], scan.axis[first]))
    if second is not None:
        value /= float(what.of(shown.raman[second], scan.axis[second])) or math.nan
    return value
