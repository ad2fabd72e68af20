"""All models by name: the trained ones and the classical."""

from pathlib import Path

from cars_rt.engines import model as trained
from cars_rt.engines.classical import KK, MEM, classical
from cars_rt.engines.model import DEFAULT_MODEL, Model, ModelError


def load_model(name: str = DEFAULT_MODEL, reference: Path | None = None) -> Model:
    """A model that engines run: a shipped one or `kk` by name, or any by the path of its .onnx file.

    reference: a file with spectra of a purely non-resonant sample, for `kk`. Raises ModelError.
    """
    if takes_reference(name):
        return classical(name, reference)
    if name == MEM:
        raise ModelError(f"{MEM} is too slow for this; it is for files: cars-rt process --model {MEM}")
    if reference is not None:
        raise ModelError(f"the model {name} takes no reference; {KK} does, and {MEM} in cars-rt process")
    return trained.load_model(name)


def load_offline(
    name: str = DEFAULT_MODEL, reference: Path | None = None, pump_nm: float | None = None
) -> Model:
    """As `load_model`, and `mem`, which no engine runs. pump_nm: where the reference may be text with an axis
    in nm, see `read_spectra`. Raises ModelError."""
    return classical(name, reference, pump_nm) if name in (KK, MEM) else load_model(name, reference)


def takes_reference(name: str) -> bool:
    """Whether a model that engines run makes use of a measured reference."""
    return name == KK
