"""No network at all: counts minus dark come out as they came in. Measures everything around an engine."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.base import Engine, Slab


class Passthrough(Engine):
    """Copies counts minus dark from the input slab to the output slab; deviations, where the model has
    them, are 0. Never chosen by `auto`."""

    name: ClassVar[str] = "passthrough"
    retrieves: ClassVar[bool] = False

    @classmethod
    def unavailable(cls) -> str | None:
        """Always available."""
        return None

    def _compile(self, threads: int) -> None:
        self._dark = self.inputs[0][0].copy()

    def set_dark(self, dark: Slab) -> None:
        self._dark[:] = dark

    def _set(self, parameters: Mapping[str, NDArray[Any]]) -> bool:
        return True

    def launch(self, slab: int, rows: int) -> None:
        np.subtract(self.inputs[slab][:rows], self._dark, out=self.outputs[slab][:rows])

    def wait(self, slab: int) -> None:
        """Nothing is left to wait for."""

    def describe(self) -> str:
        return "passthrough (no retrieval: counts come out as they came in)"
