"""Which quantity a page shows: what its user chose, or the daemon's first band until then."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cars_rt.protocol import Band
from cars_rt.view.quantity import Composite, Quantity, QuantityError


class Choice:
    """`what` is None until there is an axis."""

    def __init__(self) -> None:
        self.what: Quantity | Composite | None = None
        self._wished: Quantity | Composite | None = None
        self._for_want = False  # it was taken before any band of the daemon was known
        self._bands: tuple[Band, ...] = ()  # of the daemon, as far as they were looked at

    def choose(
        self, what: Quantity | Composite, axis: NDArray[np.float64] | None, *, restored: bool = False
    ) -> None:
        """Take what the user chose. Raises QuantityError for what the axis (p,), if there is one, does not
        have; then nothing changes, but for what is restored: that is tried again at each axis."""
        if restored:
            self._wished = what
            if axis is None:
                return
        if axis is not None:
            _check(what, axis)
        self.what, self._wished, self._for_want = what, what, False

    def turn_to(self, axis: NDArray[np.float64], *, other: bool) -> None:
        """A run on this axis (p,) begins; it is another axis than before. It is what the user chose, where
        the axis has that, or stays what it was, or is everything. Raises QuantityError where the user's
        choice was shown and no longer can be."""
        self._bands = ()
        shown = None if self._for_want else self.what
        if shown is not None and not other:
            return
        for each in (self._wished, shown):
            if each is not None and _fits(each, axis):
                self.what, self._for_want = each, False
                return
        everything = Quantity(Band("everything", float(axis.min()), float(axis.max())))
        self.what, self._for_want = everything, True
        if shown is not None and shown == self._wished:
            _check(shown, axis)

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


def _check(what: Quantity | Composite, axis: NDArray[np.float64]) -> None:
    """Raises QuantityError for what an axis (p,) does not have."""
    for each in _parts(what):
        each.pixels(axis)


def _fits(what: Quantity | Composite, axis: NDArray[np.float64]) -> bool:
    try:
        _check(what, axis)
    except QuantityError:
        return False
    return True
