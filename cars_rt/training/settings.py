"""What a training is told, and how it fails; without torch, so that the command line can show it."""

from dataclasses import dataclass
from pathlib import Path

from cars_rt.errors import CarsRtError


class TrainingError(CarsRtError):
    """Training or export cannot go on; the message is a sentence for the user."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Settings of `cars-rt train`."""

    network: str = "cnn"
    """Architecture, by name."""

    data: str = "bcars"
    """Distribution of the simulated spectra, by name."""

    out: Path = Path("training")
    """Folder of the checkpoint, the log and the curve."""

    steps: int = 30_000
    """Batches until the end."""

    batch: int = 128
    """Spectra per step, all of them new."""

    learning_rate: float = 2e-3
    """Of AdamW, at its largest; falls to zero as a cosine."""

    weight_decay: float = 0.01
    """Of AdamW."""

    warmup: int = 300
    """Steps in which the learning rate rises."""

    average: float = 0.999
    """Decay per step of the averaged weights, which are the ones exported."""

    seed: int = 1
    """Of weights and spectra; the same seed gives the same training."""

    threads: int = 0
    """Threads of torch; 0 leaves it to torch."""

    workers: int = 1
    """Processes that draw spectra beside the training; 0 draws them in between."""

    bfloat16: bool = True
    """Mixed precision; twice as fast where the processor has it."""

    resume: bool = False
    """Go on from the checkpoint in the folder."""

    checkpoint_minutes: float = 2.0
    """Between two checkpoints."""

    log_every: int = 50
    """Steps between two lines of the log."""
