"""Orders that hold more than a word: bands, composites, limits, and what daemon and recorder are to do."""

from typing import Any

from cars_rt.daemon.outputs.preview import parse_band
from cars_rt.protocol import Band
from cars_rt.view.page.orders import MAX_LENGTH, Order, OrderError
from cars_rt.view.quantity import Composite, Kind, Quantity, a_band

NAME, NOTE = 64, 1_000  # characters


def quantity(order: Order) -> Quantity:
    """A band, how it becomes a number, and the second band of a ratio. Raises OrderError, QuantityError."""
    kind = Kind(order.choice("kind", list(Kind)) if order.text("kind") else Kind.MEAN)
    band = a_band(order.number("low"), order.number("high"), order.text("name", NAME))
    other = a_band(order.number("low2"), order.number("high2")) if kind is Kind.RATIO else None
    return Quantity(band, kind, other)


def composite(order: Order) -> Composite:
    """Three bands as [low, high, name]. Raises OrderError, QuantityError."""
    given = [each for each in order.items("bands", 3) if _is_band(each)]
    return Composite.of([Quantity(a_band(low, high, str(called)[:NAME])) for low, high, called in given])


def limits(order: Order) -> tuple[str, list[tuple[float, float]], str]:
    """How colours are spread; if not by percentiles, from where to where, one for each channel or one for
    all; and of what with which title. Raises OrderError."""
    by, given = order.choice("by", ("auto", "fixed", "hand")), order.items("ranges", 3)
    if by != "auto" and not (given and all(isinstance(each, list) and len(each) == 2 for each in given)):
        raise OrderError("a range is two numbers")
    ranges = [_ends(Order({"do": order.do, "low": low, "high": high})) for low, high in given]
    return by, ranges, order.text("of", NOTE)


def _ends(order: Order) -> tuple[float, float]:
    low, high = order.number("low"), order.number("high")
    if low >= high:
        raise OrderError("the lower limit must be below the upper one")
    return low, high


def as_order(what: Quantity | Composite | None) -> dict[str, Any] | None:
    """The order that `quantity` or `composite` makes this of; None of None."""
    if what is None:
        return None
    if isinstance(what, Composite):
        bands = [each.band for each in what.channels]
        return {"do": "rgb", "bands": [[each.low, each.high, each.name] for each in bands]}
    order = {"do": "band", **what.band._asdict(), "kind": what.kind.value}
    return order | ({"low2": what.other.low, "high2": what.other.high} if what.other else {})


def control(order: Order) -> dict[str, Any]:
    """The arguments of a request to daemon or recorder. Raises OrderError, SettingsError."""
    match order.do:
        case "dark":
            return {"do": order.choice("state", ("start", "stop", "clear"))}
        case "reload" | "shadow":
            return {"model": order.text("model") or None, "engine": order.text("engine") or None}
        case "bands":
            return {"bands": [list(each) for each in _bands(order.text("bands", MAX_LENGTH))]}
        case "record":
            return {key: order.text(key, NOTE) or None for key in ("name", "sample", "notes")}
    return {}


def _bands(given: str) -> list[Band]:
    """Bands with commas between."""
    bands = [parse_band(each) for each in given.split(",") if each.strip()]
    if not bands:
        raise OrderError("give bands as NAME=LOW:HIGH, with commas between")
    return bands


def _is_band(given: Any) -> bool:
    return isinstance(given, list) and len(given) == 3
