"""How the shipped models are trained: all at once, on one GPU.

    python -m cars_rt.training.shipping OUT --minutes 7.5

Each is a process of its own that starts from the shipped weights, if there are any, and leaves OUT/NAME.pt,
its weights so far, every minute. `cars-rt export OUT/NAME.pt -o NAME.onnx` makes a model of it.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from cars_rt.installation import python
from cars_rt.training.calibration import SEED, calibrate
from cars_rt.training.checkpoint import Entry, finished, load
from cars_rt.training.data.distribution import distribution, measured_by
from cars_rt.training.networks import Retrieval
from cars_rt.training.settings import TrainSettings
from cars_rt.training.trainer import CHECKPOINT, device_of, train


@dataclass(frozen=True)
class Recipe:
    """What a shipped model learns from."""

    network: str
    data: str
    start: str  # a model's name


RECIPES = {
    "cnn": Recipe("cnn", "bcars", "cnn"),
    "rnn": Recipe("rnn", "bcars", "rnn"),
    "cnn-crimson2024": Recipe("cnn-large", "crimson2024-axes", "cnn-crimson2024"),
    "rnn-crimson2024": Recipe("rnn", "crimson2024-axes", "rnn-crimson2024"),
    "cnn-kk": Recipe("cnn-kk", "bcars-pairs", "cnn-kk"),
    "rnn-kk": Recipe("rnn-kk", "bcars-pairs", "rnn-kk"),
}


def one(name: str, out: Path, arguments: argparse.Namespace) -> None:
    """Train a model, then its deviation, and leave its weights in OUT/NAME.pt."""
    recipe, began = RECIPES[name], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainSettings(
            network=recipe.network,
            data=recipe.data,
            start=recipe.start,
            out=Path(folder) / name,
            minutes=arguments.minutes,
            steps=arguments.steps,
            batch=arguments.batch,
            learning_rate=arguments.learning_rate,
            warmup=300,
            decay=0.45,
            seed=arguments.seed,
            threads=2,
            workers=0,
            checkpoint_minutes=1,
            log_every=arguments.log_every,
            validate_every=arguments.validate_every,
        )

        def show(entry: Entry) -> None:
            after = time.monotonic() - began
            print(
                f"{name}: {after:.0f} s, " + ", ".join(f"{k} {v:.5g}" for k, v in _known(entry)), flush=True
            )
            if (settings.out / CHECKPOINT).exists():
                keep(settings.out / CHECKPOINT, out / f"{name}.pt")

        checkpoint = train(settings, show)
        keep(checkpoint, out / f"{name}.pt")
        content = load(checkpoint)
        make = distribution(measured_by(recipe.data))
        network = finished(content, make(0, 1, 1).lengths, checkpoint)
        assert isinstance(network, Retrieval)
        device = device_of(settings)
        with device:
            data = make(SEED, arguments.batch // 2, 1)
        calibrate(network.to(device), data, steps=arguments.calibration)
        calibrated = {key: value.cpu() for key, value in network.state_dict().items()}
        keep(checkpoint, out / f"{name}.pt", calibrated)
        print(f"{name}: done after {time.monotonic() - began:.0f} s, {content['step']} steps", flush=True)


def keep(checkpoint: Path, to: Path, calibrated: dict[str, torch.Tensor] | None = None) -> None:
    """Write what export needs of a checkpoint."""
    content = load(checkpoint)
    content |= {"optimizers": [], "model": {}}
    if calibrated is not None:
        content |= {"average": calibrated, "calibrated": True}
    temporary = to.with_suffix(".tmp")
    torch.save(content, temporary)
    temporary.replace(to)


def _known(entry: Entry) -> list[tuple[str, float]]:
    return [(key, value) for key, value in entry._asdict().items() if value is not None]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", default=list(RECIPES), help=", ".join(RECIPES))
    parser.add_argument("--minutes", type=float, default=7.5)
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--calibration", type=int, default=400, help="steps")
    parser.add_argument("--log-every", type=int, default=250)
    parser.add_argument("--validate-every", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help="in this process, one after the other")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.alone:
        for name in arguments.names:
            one(name, arguments.out, arguments)
        return 0
    shared = shutil.which("nvidia-cuda-mps-control")  # one GPU, several processes at the same time
    if shared and torch.cuda.is_available():
        subprocess.run([shared, "-d"], check=False)
    options = [each for each in sys.argv[1:] if each not in arguments.names and each != str(arguments.out)]
    environment = os.environ | {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    children = [
        subprocess.Popen(
            python("-m", __spec__.name, str(arguments.out), name, *options, "--alone"),
            env=environment,
        )
        for name in arguments.names
    ]
    failed = sum(child.wait() != 0 for child in children)
    if shared and torch.cuda.is_available():
        subprocess.run([shared], input=b"quit\n", check=False)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
