"""What a browser is told in words and numbers: how the instrument is, what is shown, and a message."""

from dataclasses import replace
from typing import Any

from cars_rt.printable import printable
from cars_rt.view import health
from cars_rt.view.world import World

#: Kinds of order that another run may bear.
OF_A_RUN = ("band", "rgb", "planes")
HEALTH_S = 0.5  # between two looks at the numbers


class Said:
    """What one browser was told last, and whether it is to be told more."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._message, self._bad = "", False
        self._unsaid = False  # the message is to be told
        self._about: str | None = None  # what it is about, such as the kind of order that it refuses
        self._told: dict[str, Any] = {}
        self._due = 0.0  # when the numbers are looked at again

    def say(self, text: str, bad: bool, about: str | None = None) -> None:
        """Have a message told. bad: something failed. about: such as the kind of order that it refuses."""
        self._message, self._bad, self._unsaid, self._about = text, bad, True, about

    def mended(self, about: str) -> None:
        """A message about this is over: an order of the kind was carried out."""
        if about == self._about:
            self.say("", False)

    def turn(self) -> None:
        """Another run is shown. What was said of the one before is over, and a request that was answered has
        done what it announced; what failed stays to be read, but where another axis or shape mends it."""
        if not self._bad or self._about in OF_A_RUN:
            self.say("", False)

    def due(self, now: float) -> bool:
        """Whether there may be something to tell: a message, or other numbers."""
        return self._unsaid or now >= self._due

    def tell(
        self, now: float, shown: dict[str, Any], lag_s: float | None, anyhow: bool
    ) -> dict[str, Any] | None:
        """Everything that the browser is to know now; None if it knows all of that, unless it is told anyhow.

        shown: what its page shows. lag_s: how far that is behind the camera, while a run is open.
        """
        told = self._told | shown | {"message": printable(self._message, 500), "bad": self._bad}
        if now >= self._due:
            self._due = now + HEALTH_S
            told |= self._health(lag_s)
        if told == self._told and not (self._unsaid or anyhow):
            return None
        self._told, self._unsaid = told, False
        return told

    def _health(self, lag_s: float | None) -> dict[str, Any]:
        world = self._world
        facts = replace(world.facts(), lag_s=lag_s)
        level, sentence = health.judge(facts)
        rows = health.rows(facts)
        scan = world.store.scan
        return {
            "level": level.value,
            "sentence": printable(sentence),
            "rows": [[key, printable(text, 300)] for key, text in rows],
            "flags": [round(each, 3) for each in world.flags_over_time()],
            "daemon_bands": [] if scan is None else [list(each) for each in scan.bands],
        }
