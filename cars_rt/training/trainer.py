"""Training: fresh synthetic spectra every step, checkpoints that resume exactly, weights averaged."""

import contextlib
import csv
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from cars_rt.training.distribution import DISTRIBUTIONS, Batch
from cars_rt.training.networks import NETWORKS
from cars_rt.training.settings import TrainingError, TrainSettings

CHECKPOINT = "checkpoint.pt"
LOG = "log.csv"
CURVE = "curve.png"
BETA = 0.2  # below it errors count squared: the mean of what noise leaves open, not the likelier nothing


@dataclass
class State:
    """Everything a checkpoint holds. The data needs no state: batch i follows from (seed, i)."""

    model: nn.Module
    average: nn.Module
    optimizer: torch.optim.AdamW
    step: int = 0
    seconds: float = 0.0
    history: list[tuple[int, float]] = field(default_factory=list)  # step, mean loss since the last


def loss_function(predicted: Tensor, batch: Batch) -> Tensor:
    """Scalar. Smooth L1 of the error, and of its change over 2 points (4 cm-1), per spectrum in
    units of its strongest line, so that weak spectra count as much as strong ones, but not below
    the noise; points where the excitation has died away count little."""
    noise = batch.noise
    typical = noise.median(1, keepdim=True).values
    scale = 0.01 + typical + 0.5 * batch.raman.abs().amax(1, keepdim=True)
    weight = 1 / (1 + (noise / (0.2 * scale + typical)) ** 2)
    error = (predicted - batch.raman) / scale
    change = 2 * (error[:, 2:] - error[:, :-2])

    def penalty(values: Tensor, weights: Tensor) -> Tensor:
        each = nn.functional.smooth_l1_loss(values, torch.zeros_like(values), beta=BETA, reduction="none")
        return (each * weights).sum() / weights.sum()

    return penalty(error, weight) + 0.5 * penalty(change, weight[:, 1:-1])


def train(settings: TrainSettings, progress: Callable[[int, float], None] | None = None) -> Path:
    """Train, and return the checkpoint's path. `progress(step, loss)` is called at every log line;
    without it a progress bar is shown.

    Ctrl-C (or SIGTERM) saves a checkpoint and raises KeyboardInterrupt. Raises TrainingError for an
    unknown name, a folder that already holds a training (without `resume`), a checkpoint of another
    network, or a loss that is no longer finite (the last good checkpoint stays).
    """
    if settings.network not in NETWORKS:
        raise TrainingError(f"no network is called '{settings.network}'; there are: {', '.join(NETWORKS)}")
    if settings.data not in DISTRIBUTIONS:
        raise TrainingError(f"no data is called '{settings.data}'; there are: {', '.join(DISTRIBUTIONS)}")
    checkpoint = settings.out / CHECKPOINT
    if checkpoint.exists() and not settings.resume:
        raise TrainingError(f"{settings.out} already holds a training; resume it or choose another folder")
    settings.out.mkdir(parents=True, exist_ok=True)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    state = _start(settings)
    if checkpoint.exists():
        _restore(state, settings, checkpoint)
    with _interruptible() as stop, _reporter(settings, state, progress) as report:
        _loop(settings, state, checkpoint, stop, report)
    if stop.is_set():
        raise KeyboardInterrupt
    plot(state.history, settings.out / CURVE)
    return checkpoint


def _start(settings: TrainSettings) -> State:
    torch.manual_seed(settings.seed)
    model, average = NETWORKS[settings.network](), NETWORKS[settings.network]()
    average.load_state_dict(model.state_dict())
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, betas=(0.9, 0.99), weight_decay=settings.weight_decay
    )
    return State(model, average.requires_grad_(False), optimizer)


def _loop(
    settings: TrainSettings,
    state: State,
    checkpoint: Path,
    stop: threading.Event,
    report: Callable[[int, float], None],
) -> None:
    total, count, saved, last = 0.0, 0, time.monotonic(), time.monotonic()
    for batch in _batches(settings, state):
        if stop.is_set():
            break
        for group in state.optimizer.param_groups:
            group["lr"] = settings.learning_rate * _schedule(state.step, settings)
        loss = _step(settings, state, batch)
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss became {loss} at step {state.step}; the checkpoint in {settings.out} "
                "is from before: resume with a smaller learning rate"
            )
        state.step += 1
        now = time.monotonic()
        state.seconds, last = state.seconds + now - last, now
        total, count = total + loss, count + 1
        if state.step % settings.log_every == 0 or state.step == settings.steps:
            state.history.append((state.step, total / count))
            report(*state.history[-1])
            total, count = 0.0, 0
        if now - saved > 60 * settings.checkpoint_minutes:
            save(state, settings, checkpoint)
            saved = now
    save(state, settings, checkpoint)


def _batches(settings: TrainSettings, state: State) -> Iterable[Batch]:
    """The batches from the state's step to the last; they do not depend on the number of workers."""
    data = DISTRIBUTIONS[settings.data](settings.seed, settings.batch, int(getattr(state.model, "stride")))

    return torch.utils.data.DataLoader(
        data,
        batch_size=None,
        sampler=range(state.step, settings.steps),
        num_workers=settings.workers,
        worker_init_fn=_leave_ctrl_c,
    )


def _leave_ctrl_c(_: int) -> None:
    """In a worker: the trainer itself sees to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _step(settings: TrainSettings, state: State, batch: Batch) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        predicted = state.model(batch.spectrum)
    loss = loss_function(predicted.float(), batch)
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    value = float(loss.detach())
    if math.isfinite(value):
        state.optimizer.step()
        decay = min(settings.average, (state.step + 1) / (state.step + 10))
        with torch.no_grad():
            for mean, new in zip(state.average.parameters(), state.model.parameters(), strict=True):
                mean.lerp_(new, 1 - decay)
    return value


def _schedule(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then half a cosine down to 1 %."""
    if step < settings.warmup:
        return (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def save(state: State, settings: TrainSettings, path: Path) -> None:
    """Write the checkpoint atomically: a kill at any moment leaves the old one or the new one."""
    content = {
        "network": settings.network,
        "settings": {key: str(value) if key == "out" else value for key, value in asdict(settings).items()},
        "model": state.model.state_dict(),
        "average": state.average.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "step": state.step,
        "seconds": state.seconds,
        "history": [list(entry) for entry in state.history],
    }
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    temporary.replace(path)


def load(path: Path) -> dict[str, Any]:
    """A checkpoint's content. Raises TrainingError if it is none."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise TrainingError(f"there is no checkpoint at {path}") from None
    except Exception as error:  # torch raises many kinds for a damaged file
        raise TrainingError(f"{path} is not a readable checkpoint: {type(error).__name__}") from error
    if not isinstance(content, dict) or not {"network", "average", "step"} <= content.keys():
        raise TrainingError(f"{path} is not a checkpoint of this program")
    return content


def load_weights(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load weights, or raise TrainingError in one sentence if they are another architecture's."""
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise TrainingError(f"the checkpoint {path} is of another architecture than this network") from None


def _restore(state: State, settings: TrainSettings, path: Path) -> None:
    content = load(path)
    if content["network"] != settings.network:
        other = content["network"]
        raise TrainingError(f"the checkpoint {path} is of network '{other}', not '{settings.network}'")
    load_weights(state.model, content["model"], path)
    load_weights(state.average, content["average"], path)
    state.optimizer.load_state_dict(content["optimizer"])
    state.step, state.seconds = content["step"], content["seconds"]
    state.history = [(int(step), float(loss)) for step, loss in content["history"]]


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, instead of breaking off in the middle of a step."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    old = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _reporter(
    settings: TrainSettings, state: State, progress: Callable[[int, float], None] | None
) -> Iterator[Callable[[int, float], None]]:
    """Writes log.csv and shows progress; a resumed training's log is rewritten up to its checkpoint."""
    bar = Progress(
        TextColumn("training {task.fields[name]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]}"),
        TimeRemainingColumn(),
        disable=progress is not None,
    )
    task = bar.add_task("", total=settings.steps, completed=state.step, name=settings.network, loss="-")
    with bar, (settings.out / LOG).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss"])
        writer.writerows(state.history)

        def report(step: int, loss: float) -> None:
            writer.writerow([step, f"{loss:.6g}"])
            file.flush()
            bar.update(task, completed=step, loss=f"{loss:.4f}")
            if progress is not None:
                progress(step, loss)

        yield report


def plot(history: list[tuple[int, float]], path: Path) -> None:
    """The loss over the steps as a PNG; nothing happens where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.loglog([step for step, _ in history], [loss for _, loss in history])
    axes.set(xlabel="step", ylabel="loss")
    figure.savefig(path, dpi=120)
