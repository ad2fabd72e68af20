"""All models by name: the trained ones and the classical."""

from pathlib import Path

from cars_rt.engines import model as trained
from cars_rt.engines.classical import KK, MEM, classical
from cars_rt.engines.model import DEFAULT_MODEL, Model, ModelError
from cars_rt.engines.referenced import flattened
from cars_rt.physics.quantity import RATIO


def load_model(
    name: str = DEFAULT_MODEL,
    reference: Path | None = None,
    pump_nm: float | None = None,
    *,
    others: tuple[str, ...] = (KK,),
) -> Model:
    """A model that engines run: a shipped one or `kk` by name, or any by the path of its .onnx file.

    reference: a file with spectra of a purely non-resonant sample; pump_nm: where its axis may be in nm, see
    `read_spectra`; others: names that are taken besides shipped ones. Raises ModelError.
    """
    if name == KK:
        return classical(name, reference, pump_nm)
    if name == MEM:
        raise ModelError(f"{MEM} is too slow for this; it is for files: cars-rt process --model {MEM}")
    model = trained.load_model(name, others)
    return model if reference is None else flattened(model, reference, pump_nm)


def bundled_models() -> tuple[str, ...]:
    """The models that engines run and that come with the program, by name."""
    return *sorted(trained.shipped_models()), KK


def load_offline(
    name: str = DEFAULT_MODEL, reference: Path | None = None, pump_nm: float | None = None
) -> Model:
    """A model as `load_model` gives it, or `mem`, which no engine runs. Raises ModelError."""
    if name == MEM:
        return classical(name, reference, pump_nm)
    return load_model(name, reference, pump_nm, others=(KK, MEM))


def takes_reference(name: str) -> bool:
    """Whether a model that engines run makes use of a measured reference. Raises ModelError."""
    return name == KK or (name != MEM and trained.load_model(name, (KK,)).card.target == RATIO)
