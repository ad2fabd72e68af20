"""Which quantity a page shows: what its user chose, or the daemon's first band until then."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cars_rt.protocol import Band
from cars_rt.view.quantity import Composite, Quantity


class Choice:
    """`what` is None until there is an axis."""

    def __init__(self) -> None:
        self.what: Quantity | Composite | None = None
        self._wished: Quantity | Composite | None = None
        self._for_want = False  # it was taken before any band of the daemon was known
        self._bands: tuple[Band, ...] = ()  # of the daemon, as far as they were looked at

    def choose(self, what: Quantity | Composite, axis: NDArray[np.float64] | None) -> None:
        """Take what the user chose. Raises QuantityError for what the axis (p,), if there is one, does not
        have; then nothing changes."""
        if axis is not None:
            for each in _parts(what):
                each.pixels(axis)
        self.what, self._wished, self._for_want = what, what, False

    def turn_to(self, axis: NDArray[np.float64], *, other: bool) -> None:
        """A run on this axis (p,) begins; it is another axis than before. Raises QuantityError if that does
        not have what was chosen; then it is everything."""
        self._bands = ()
        chosen = None if self._for_want else self.what
        if chosen is None or other:
            everything = Quantity(Band("everything", float(axis.min()), float(axis.max())))
            self.what, self._for_want = everything, True
        if chosen is not None and other:
            for each in _parts(chosen):
                each.pixels(axis)
            self.what, self._for_want = chosen, False

    def look_at(self, bands: tuple[Band, ...]) -> tuple[bool, bool]:
        """Whole spectra and the daemon's bands come by two streams, in either order, and bands change.

        Returns whether they have changed, and whether `what` has.
        """
        if bands == self._bands:
            return False, False
        self._bands = bands
        if not bands or not self._for_want:
            return True, False
        self.what, self._for_want = Quantity(bands[0]), False
        return True, True

    @property
    def quantities(self) -> list[Quantity]:
        """All that can be drawn over time: what was chosen, then the daemon's other bands."""
        chosen = list(_parts(self.what)) if self.what is not None else []
        ends = {(each.band.low, each.band.high) for each in chosen}
        return chosen + [Quantity(each) for each in self._bands if (each.low, each.high) not in ends]

    @property
    def wished(self) -> Quantity | Composite | None:
        """What is shown because the user chose it."""
        return self._wished if self._wished == self.what else None

    @property
    def marked(self) -> tuple[Band, Band | None]:
        """The bands that are marked in the spectrum. There must be a choice."""
        assert self.what is not None
        first = self.what.red if isinstance(self.what, Composite) else self.what
        return first.band, first.other


def _parts(what: Quantity | Composite) -> Iterator[Quantity]:
    yield from what.channels if isinstance(what, Composite) else (what,)
