"""Classical retrieval among the models: not trained, and made for the grid that it runs on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cars_rt.engines.base import Engine, Slab
from cars_rt.engines.graph import Graph
from cars_rt.engines.model import CLASSICAL, Card, ModelError
from cars_rt.engines.referenced import Referenced, reference_in
from cars_rt.engines.sampling import points_for
from cars_rt.engines.scaling import scaled
from cars_rt.engines.tracing import trace
from cars_rt.physics.axis import resampling_matrix
from cars_rt.physics.kramers_kronig import KramersKronig, Settings
from cars_rt.physics.maximum_entropy import MaximumEntropy
from cars_rt.reference import BRIGHT, DARKEST

KK, MEM = CLASSICAL
VERSION = "4"  # a new one whenever results change
STEP = 2.0  # cm-1, of the grid that is used where pixels cannot be taken as they are
PITCH = (0.8, 5.0)  # cm-1, of pixels that can be taken as they are: they resolve lines, and may widen slowly
SHORTEST = 100  # points
LONGEST = 4096  # points; the Hilbert matrix has as many rows and as many columns
METHODS = {KK: "Kramers-Kronig retrieval", MEM: "Maximum entropy retrieval"}


@dataclass(frozen=True, eq=False)
class Classical(Referenced):
    """A retrieval by mathematics: its `onnx` is empty, `for_points` makes it."""

    settings: Settings = field(default_factory=Settings)

    @property
    def most_points(self) -> float:
        """As its matrices are."""
        return LONGEST

    def without(self) -> "Classical":
        """The same retrieval without its reference."""
        return classical(self.card.name)

    def for_points(self, raman_shift: NDArray[np.float64]) -> tuple[bytes, Mapping[str, NDArray[np.float32]]]:
        """Kramers-Kronig retrieval on these points as ONNX, and the matrices that depend on more than their
        number. Raises ModelError as `reference_on` does."""
        points, reference = len(raman_shift), self.reference_on(raman_shift)
        retrieve = KramersKronig(points, step_of(raman_shift), reference, self.settings)
        proto = trace(retrieve, points, "spectrum", "raman", retrieve.of_axis)
        given = {name: np.ascontiguousarray(each, np.float32) for name, each in retrieve.of_axis.items()}
        return bytes(proto.SerializeToString()), given

    def reference_on(self, raman_shift: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The reference, if there is one. Raises ModelError for too many points or points not covered."""
        if len(raman_shift) > LONGEST:
            raise ModelError(
                f"{len(raman_shift)} points over {np.ptp(raman_shift):.0f} cm-1 are too many; the model "
                f"{self.card.name} takes {LONGEST} at most"
            )
        return self._on(raman_shift)


def classical(name: str, reference: Path | None = None, pump_nm: float | None = None) -> Classical:
    """Retrieval by Kramers-Kronig (`KK`) or maximum entropy (`MEM`); reference,
    pump_nm: as `read_reference` takes them.

    Its hash is that of all that the result depends on: method, version, settings and reference.
    Raises ModelError if the reference cannot be used.
    """
    measured = None if reference is None else reference_in(reference, pump_nm)
    settings = Settings()
    made_of: dict[str, Any] = {
        "settings": asdict(settings),
        "reference": None if measured is None else measured.sha256,
    }
    if measured is not None and measured.dark_pixels:
        made_of["darkest"] = [DARKEST, BRIGHT]
    card = Card(
        name=name,
        version=VERSION,
        grid_step_cm1=STEP,
        stride=1,
        min_length=SHORTEST,
        scaling="mean",
        target="ratio",
        description=f"{METHODS[name]}, phase and scale corrected, "
        + ("with a measured reference." if measured else "without a reference."),
        training=made_of,
        accuracy={},
        pitch_cm1=PITCH,
    )
    definition = json.dumps([name, VERSION, STEP, PITCH, made_of], sort_keys=True)
    return Classical(b"", card, hashlib.sha256(definition.encode()).hexdigest(), measured, settings=settings)


class MaximumEntropyEngine(Engine):
    """Computes `MEM` with numpy, a system of equations for each spectrum: too slow for a stream."""

    name: ClassVar[str] = "numpy"

    @classmethod
    def unavailable(cls) -> str | None:
        """Always available."""
        return None

    @classmethod
    def of(cls, model: Classical, raman_shift: NDArray[np.float64], max_batch: int) -> "MaximumEntropyEngine":
        """For the axis (pixels,) of an instrument, cm-1. Raises ModelError as `compose` does."""
        return cls(Graph(b"", raman_shift, model), max_batch, slabs=1)

    def _compile(self, threads: int) -> None:
        model, axis = self.graph.model, self.graph.raman_shift
        assert isinstance(model, Classical)
        shift = points_for(model.card, axis, model.most_points).raman_shift
        reference = model.reference_on(shift)
        self._retrieve = MaximumEntropy(len(shift), step_of(shift), reference, model.settings)
        self._onto_points = resampling_matrix(axis, shift)
        self._onto_pixels = resampling_matrix(shift, axis)
        self._dark = np.zeros(len(axis), np.float32)

    def set_dark(self, dark: Slab) -> None:
        self._dark[:] = dark

    def launch(self, slab: int, rows: int) -> None:
        """Computes at once."""
        pixels = self.inputs[slab][:rows] - self._dark
        spectra, light = scaled(pixels @ self._onto_points, self.graph.raman_shift, pixels)
        self.outputs[slab][:rows] = light * (self._retrieve(spectra) @ self._onto_pixels)

    def wait(self, slab: int) -> None:
        """Nothing is left to wait for."""

    def describe(self) -> str:
        return f"numpy {np.__version__}, CPU, float64"


def step_of(raman_shift: NDArray[np.float64]) -> float:
    """The average step, cm-1: a Hilbert transform does not mind an axis that is stretched slowly."""
    return float(np.ptp(raman_shift)) / (len(raman_shift) - 1)
