"""What results of a batch are judged by: what they have to be, and the flags of each spectrum."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines import EngineError, Model
from cars_rt.engines.base import Slab
from cars_rt.physics.fitness import Fitness, Flags
from cars_rt.physics.quantity import RATIO


class Judging:
    """For one model on one axis. dark: the counts (pixels,) that the engine subtracts, if it has any."""

    def __init__(self, model: Model, raman_shift: NDArray[np.float64], dark: Slab | None = None) -> None:
        self.dark = dark
        self._fitness = Fitness(raman_shift)
        self._pixels = len(raman_shift)
        self._ratio = model.card.target == RATIO

    def checked(self, outputs: Mapping[str, Slab], rows: int, most: int, name: str) -> dict[str, Slab]:
        """The first rows of what an engine of this name gave for a slab of `most` rows. Raises EngineError
        for what cannot be."""
        expected = (most, self._pixels)
        for output in outputs.values():
            if output.shape != expected or output.dtype != np.float32:
                raise EngineError(f"{name} gave {output.dtype} {output.shape}, not float32 {expected}")
        arrays = {key: output[:rows] for key, output in outputs.items()}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise EngineError(f"{name} gave values that are not finite")
        return arrays

    def flags(self, counts: Slab, raman: Slab, dark: Slab | None, full_scale: float | None) -> Flags:
        """Of each spectrum: counts and results (k, pixels), the dark (pixels,) that they were computed with,
        and the counts at which the camera saturates, if known."""
        return self._fitness.flags(counts, raman if self._ratio else None, dark, full_scale)
