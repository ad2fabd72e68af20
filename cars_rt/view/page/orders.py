"""What a browser asks of its page: text from outside, checked before anything is done with it."""

import json
import sys
from typing import Any

from cars_rt.errors import CarsRtError

MAX_LENGTH = 16_384  # characters of what is asked at once
MOST_NAMES = 64
LARGEST = sys.float_info.max  # whole numbers have no bound of their own
MOST_ORDERS = 100  # that wait; a flood beyond is left out


class OrderError(CarsRtError, ValueError):
    """An order that cannot be carried out, in one sentence."""


class Order:
    """One order: `do` and what it holds, read with a check each."""

    def __init__(self, content: Any) -> None:
        """Raises OrderError for what is no order."""
        if not isinstance(content, dict) or not isinstance(content.get("do"), str):
            raise OrderError("that is no order")
        self.do: str = content["do"][:40]
        self._content: dict[str, Any] = content

    def number(self, name: str) -> float:
        """A number. Raises OrderError."""
        value = self._content.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
            raise OrderError(f"{name} must be a number")
        return float(value)

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number from low to high. Raises OrderError."""
        value = self.number(name)
        if value != int(value) or not low <= value <= high:
            raise OrderError(f"{name} must be a whole number from {low} to {high}")
        return int(value)

    def text(self, name: str, most: int = 256) -> str:
        """Text; empty where there is none. Raises OrderError."""
        value = self._content.get(name, "")
        if not isinstance(value, str) or len(value) > most:
            raise OrderError(f"{name} must be text of at most {most} characters")
        return value

    def choice(self, name: str, among: Any) -> str:
        """One of these words. Raises OrderError."""
        value = self.text(name)
        if value not in among:
            raise OrderError(f"{name} must be one of {', '.join(among)}")
        return value

    def switch(self, name: str) -> bool:
        """Whether it is on."""
        return self._content.get(name) is True

    def items(self, name: str, most: int = MOST_NAMES) -> list[Any]:
        """A list. Raises OrderError."""
        value = self._content.get(name, [])
        if not isinstance(value, list) or len(value) > most:
            raise OrderError(f"{name} must be a list of at most {most}")
        return value


def read_orders(text: str) -> list[Order]:
    """What a browser asks at once: a number, by which the same text can come twice, and orders. Raises
    OrderError."""
    if len(text) > MAX_LENGTH:
        raise OrderError(f"more than {MAX_LENGTH} characters are asked at once")
    try:
        content = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise OrderError("that is no order") from None
    if not isinstance(content, list) or len(content) < 2:
        raise OrderError("that is no order")
    return [Order(each) for each in content[1:]]


class Orders:
    """Orders that wait to be carried out."""

    def __init__(self) -> None:
        self._waiting: list[Order] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, order: Order) -> bool:
        """False if there is no room. Of a flood our page sends the last of each kind, so only others get
        there."""
        if len(self._waiting) >= MOST_ORDERS:
            return False
        self._waiting.append(order)
        return True

    def take(self) -> list[Order]:
        """All of them, in order; then none wait."""
        orders, self._waiting = self._waiting, []
        return orders


def _refuse(text: str) -> float:
    raise ValueError(text)
