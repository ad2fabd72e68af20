"""What a training is told, and how it fails; without torch, so that the command line can show it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cars_rt.errors import CarsRtError

#: Of the spectra that models are measured on; far from the seeds anybody trains with.
HELD_OUT_SEED = 2_000_003


class TrainingError(CarsRtError):
    """Training or export cannot go on; the message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of `cars-rt train`."""

    network: str = "cnn"
    """Architecture, by name."""

    data: str = "bcars"
    """Distribution of the simulated spectra, by name."""

    reference: Path | None = None
    """Spectra of a purely non-resonant sample such as glass (.csv, .npz, .h5): narrows `bcars` to the
    instrument that measured them."""

    out: Path = Path("training")
    """Folder of the checkpoint, the log and the curve."""

    steps: int = 30_000
    """Batches until the end."""

    minutes: float = 0.0
    """Of training, until the end, if that comes before the last step; 0: however long the steps take."""

    batch: int = 64
    """Spectra per step, all of them new."""

    learning_rate: float = 2e-3
    """At its largest."""

    weight_decay: float = 0.01
    """How fast weights shrink that are not held up."""

    warmup: int = 200
    """Steps in which the learning rate rises."""

    decay: float = 0.4
    """Share of the steps, the last ones, in which the learning rate falls to zero."""

    average: float = 0.998
    """Decay per step of the averaged weights, which are the ones exported."""

    seed: int = 1
    """Of weights and spectra; the same seed gives the same training."""

    threads: int = 0
    """Threads of torch; 0 leaves it to torch."""

    workers: int = 1
    """Processes that draw spectra beside the training; 0 draws them in between. A GPU draws its own."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """bfloat16 is mixed precision; auto takes it where the hardware is faster with it."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; auto takes a CUDA GPU if there is one."""

    start: str | None = None
    """Weights to start from: a checkpoint (.pt), a model's file (.onnx) or a shipped model's name."""

    resume: bool = False
    """Go on from the checkpoint in the folder; what is not given is as the training began."""

    checkpoint_minutes: float = 2.0
    """Between two checkpoints."""

    log_every: int = 50
    """Steps between two lines of the log."""

    validate_every: int = 1000
    """Steps between two measurements of the averaged weights on held-out spectra."""
