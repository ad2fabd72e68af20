"""Models that make use of a measured reference: which spectra it is for, and trained networks behind it."""

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.model import Model, ModelError
from cars_rt.errors import CarsRtError
from cars_rt.physics.quantity import RATIO
from cars_rt.reference import BRIGHT, DARKEST, Reference, read_reference

log = logging.getLogger("cars_rt.engines")


@dataclass(frozen=True, eq=False)
class Referenced(Model):
    """A model with a reference, or without one that is not for the spectra at hand."""

    reference: Reference | None
    full: Self | None = None  # with its reference, where this one does without

    def without(self) -> Self:
        """The same model without its reference."""
        raise NotImplementedError

    def of_source(self, source: str | None) -> Self:
        """A reference shows the envelope of the instrument that it was measured with, and of no other."""
        full = self.full or self
        known = None if full.reference is None else full.reference.instrument
        if source is None or known is None or known == source:
            return full
        return replace(full.without(), full=full)

    @property
    def unused(self) -> str | None:
        """The reference, if it is of another instrument."""
        if self.full is None or self.full.reference is None:
            return None
        reference = self.full.reference
        return (
            f"the reference {reference.source} is not applied: it was measured with {reference.instrument!r}"
        )

    @property
    def nominal_axis(self) -> NDArray[np.float64]:
        """The reference's, if there is one."""
        return super().nominal_axis if self.reference is None else self.reference.raman_shift

    def _on(self, raman_shift: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The reference on an ascending axis, over its mean. Raises ModelError if it does not cover it."""
        try:
            return None if self.reference is None else self.reference.on(raman_shift)
        except CarsRtError as error:
            raise ModelError(str(error)) from None


@dataclass(frozen=True, eq=False)
class Flattened(Referenced):
    """A trained network that sees counts over the reference.

    The ratio that it finds, Im{chi_R} / chi_NR, is the same with any envelope; what the reference takes away
    is the structure of the optics, such as fringes and notches, which looks like lines.
    """

    plain: Model | None = None  # always there; a field with a default, as those before it

    def without(self) -> "Flattened":
        """The same network without the reference."""
        assert self.plain is not None
        return Flattened(**vars(self.plain), reference=None, plain=self.plain)

    def flattening(self, raman_shift: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """What counts on this axis (pixels,) are multiplied by; None: they are not. Raises ModelError."""
        turned = raman_shift[0] > raman_shift[-1]
        if (there := self._on(raman_shift[::-1] if turned else raman_shift)) is None:
            return None
        factor = (1 / there).astype(np.float32)
        return np.ascontiguousarray(factor[::-1]) if turned else factor


def reference_in(path: Path, pump_nm: float | None = None) -> Reference:
    """The reference in a file; path, pump_nm: as `read_reference` takes them. Raises ModelError if it cannot
    be used."""
    try:
        reference = read_reference(path, pump_nm)
    except CarsRtError as error:
        raise ModelError(str(error)) from None
    if reference.dark_pixels:
        log.warning(
            "%s is darker than %g %% of its bright part at %d of %d pixels: counts are divided by that there",
            path, 100 * DARKEST, reference.dark_pixels, len(reference.counts),
        )  # fmt: skip
    return reference


def flattened(model: Model, path: Path, pump_nm: float | None = None) -> Flattened:
    """A trained model behind the reference in a file; path, pump_nm: as `read_reference` takes them. Its hash
    is that of both.

    Raises ModelError if the model takes none or the reference cannot be used.
    """
    card = model.card
    if card.target != RATIO:
        raise ModelError(
            f"the model {card.name} takes no reference: what it gives is scaled by each spectrum, as in the "
            "protocol that it was trained for"
        )
    reference = reference_in(path, pump_nm)
    both = hashlib.sha256(f"{model.sha256} {reference.sha256} {DARKEST} {BRIGHT}".encode()).hexdigest()
    told = replace(
        card,
        description=f"{card.description} Behind a measured reference.",
        training={**card.training, "reference": reference.sha256},
    )
    return Flattened(model.onnx, told, both, reference, plain=model)
