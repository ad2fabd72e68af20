"""Where a training stands, on disk and back."""

import logging
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cars_rt.engines.base import hardware
from cars_rt.reference import Reference
from cars_rt.storage import replacing
from cars_rt.training.networks import Published, Retrieval, build
from cars_rt.training.networks.unbiased import Unbiased
from cars_rt.training.settings import TrainingError, TrainSettings

log = logging.getLogger("cars_rt.training")

#: What every checkpoint has, of these types.
PARTS = {"network": str, "settings": dict, "average": dict, "step": int}
#: Of the settings, what a model's card says of its training.
TOLD = (
    "data", "seed", "batch", "learning_rate", "weight_decay", "warmup", "decay", "average", "precision",
)  # fmt: skip
SAME = ("network", "data", "seed", "batch", "start")  # settings that no training changes half-way
KEPT = tuple(
    each.name for each in fields(TrainSettings) if each.name not in ("out", "resume")
)  # that a resumed one has as it began


class Entry(NamedTuple):
    """One line of a training's log; accuracy is of the averaged weights, where it was measured."""

    step: int
    loss: float | None
    median_r2: float | None = None
    mean_absolute_error: float | None = None


@dataclass
class State:
    """Everything a checkpoint holds. The data needs no state: batch i follows from (seed, i)."""

    model: Retrieval | Published
    average: Retrieval | Published
    optimizers: list[torch.optim.Optimizer]
    reference: Reference | None = None  # that narrows the data
    step: int = 0
    seconds: float = 0.0
    history: list[Entry] = field(default_factory=list)


def save(state: State, settings: TrainSettings, path: Path) -> None:
    """Write the checkpoint atomically: a kill at any moment leaves the old one or the new one."""
    content = {
        "network": settings.network,
        "settings": {
            key: str(value) if isinstance(value, Path) else value for key, value in asdict(settings).items()
        },
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "reference": _arrays(state.reference),
        "optimizers": [optimizer.state_dict() for optimizer in state.optimizers],
        "step": state.step,
        "seconds": state.seconds,
        "history": [list(entry) for entry in state.history],
        "hardware": _hardware(next(state.model.parameters()).device),
        "torch": str(torch.__version__).split("+")[0],
    }
    with replacing(path) as file:
        torch.save(content, file)


def _arrays(reference: Reference | None) -> dict[str, Tensor] | None:
    if reference is None:
        return None
    return {
        "raman_shift": torch.from_numpy(reference.raman_shift), "counts": torch.from_numpy(reference.counts)
    }  # fmt: skip


def kept_reference(content: dict[str, Any], path: Path) -> Reference | None:
    """The reference that a checkpoint's data was narrowed by, whatever became of its file. Raises
    TrainingError if it is not there."""
    source = content["settings"].get("reference")
    if source is None:
        return None
    try:
        arrays = content["reference"]
        shift, counts = (arrays[each].numpy() for each in ("raman_shift", "counts"))
    except (AttributeError, KeyError, TypeError):
        raise TrainingError(f"{path} does not hold its reference, {source}: train it again") from None
    return Reference(shift, counts, str(source))


def _hardware(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return hardware()


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's content. Raises TrainingError if it is none."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"there is no checkpoint at {path}") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(f"{path} is not a readable checkpoint: {type(error).__name__}") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), kind) for part, kind in PARTS.items()
    ):
        raise TrainingError(f"{path} is not a checkpoint of this program")
    return content


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights, or raise TrainingError in one sentence if they are another architecture's."""
    try:
        model.load_state_dict(weights)
    except (AttributeError, RuntimeError, TypeError):
        raise TrainingError(f"the checkpoint {path} is of another architecture than this network") from None


def finished(content: dict[str, Any], lengths: list[int], path: Path) -> Retrieval | Published:
    """The network that a checkpoint's averaged weights make, as it is used: `cnn-kk` and `rnn-kk` are set for
    averages then. lengths: of the data. Raises TrainingError for weights of another architecture."""
    network = build(content["network"], lengths)
    load_weights(network, content["average"], path)
    if isinstance(network, Unbiased) and not content.get("calibrated"):
        network.set_for_averages()
    return network.eval()


def resumed(settings: TrainSettings, path: Path, given: Collection[str] = ()) -> TrainSettings:
    """Settings of a training that goes on: what is as by default is as it began, unless its name is `given`.
    Raises TrainingError if they are of another training."""
    began: dict[str, Any] = load(path)["settings"]
    taken: dict[str, Any] = {}
    for name in KEPT:
        now, default = getattr(settings, name), getattr(TrainSettings, name)
        then = began.get(name, default)
        then = Path(then) if name == "reference" and then is not None else then
        if now == then or (name == "device" and then == "cuda" and not torch.cuda.is_available()):
            continue
        if now == default and name not in given:
            taken[name] = then
        elif name in SAME:
            raise TrainingError(f"the training in {path.parent} began with {name} {then}, not {now}")
    if taken:
        log.info("as it began: %s", ", ".join(f"{name} {value}" for name, value in taken.items()))
    return replace(settings, **taken)


def restore(state: State, settings: TrainSettings, path: Path) -> None:
    """Go on where a checkpoint stopped. Raises TrainingError if it is of another training."""
    content = load(path)
    began = kept_reference(content, path)
    if (began and began.sha256) != (state.reference and state.reference.sha256):
        raise TrainingError(
            f"{settings.reference} is another reference than the training in {path.parent} began with"
        )
    load_weights(state.model, content.get("model", {}), path)
    load_weights(state.average, content["average"], path)
    try:
        for optimizer, saved in zip(state.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
            for group in optimizer.param_groups:
                group["weight_decay"] = settings.weight_decay
        state.history = [Entry(*entry) for entry in content["history"]]
        state.step, state.seconds = content["step"], float(content["seconds"])
    except Exception as error:  # torch raises many kinds for what another program wrote
        raise TrainingError(f"{path} cannot be resumed: {error!r}") from None
    if settings.steps < state.step:
        raise TrainingError(
            f"the training in {path.parent} has taken {state.step} steps already: give --steps {state.step} "
            "or more"
        )
