"""Training: fresh synthetic spectra every step, checkpoints that resume exactly, weights averaged."""

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from cars_rt.reference import Reference
from cars_rt.storage import NO_LOCKS, Lock, LockedError, make_folder
from cars_rt.training.checkpoint import Entry, State, kept_reference, load, restore, resumed, save
from cars_rt.training.data.batch import Batch, cropped
from cars_rt.training.data.bcars import POOL_SPECTRA, BcarsPairs
from cars_rt.training.data.distribution import Distribution, background, distribution, measured_by
from cars_rt.training.evaluation.scores import evaluate, retrieve
from cars_rt.training.losses import loss as loss_function
from cars_rt.training.networks import Retrieval, build, inputs
from cars_rt.training.networks.unbiased import Unbiased
from cars_rt.training.optimizer import optimizers
from cars_rt.training.progress import CURVE, plot, reporter
from cars_rt.training.settings import HELD_OUT_SEED, TrainingError, TrainSettings
from cars_rt.training.weights import start_from

log = logging.getLogger("cars_rt.training")

CHECKPOINT = "checkpoint.pt"
LEFT_OUT = 10  # steps in succession whose loss is not finite: then the weights are at fault, not a spectrum
LEAST = {
    "steps": 1, "batch": 1, "log_every": 1, "validate_every": 1, "seed": 0, "threads": 0, "workers": 0,
    "warmup": 0, "weight_decay": 0, "minutes": 0, "checkpoint_minutes": 0,
}  # fmt: skip
BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "learning_rate": (lambda value: value > 0, "above 0"),
    "decay": (lambda value: 0 <= value <= 1, "from 0 to 1"),
    "average": (lambda value: 0 <= value < 1, "0 or more and below 1"),
}
LARGEST_SEED = 2**31 - 1
TRIES = 3  # of going on from the averaged weights then
HELD_OUT, HELD_OUT_BATCHES = 16, 16  # spectra of a batch, which share an axis, and batches
Maker = Callable[[int, int, int], Distribution]


def train(
    settings: TrainSettings,
    progress: Callable[[Entry], None] | None = None,
    given: Collection[str] = (),
) -> Path:
    """Train, and return the checkpoint's path. `progress` is called at every log line; without it a
    progress bar is shown. given: names of settings that hold in a resumed training also where they are as by
    default.

    Ctrl-C (or SIGTERM) saves a checkpoint and raises KeyboardInterrupt. Raises TrainingError for an
    unknown name, a folder that already holds a training (without `resume`) or in which one is under way, a
    checkpoint of another network, or a loss that is no longer finite (the last good checkpoint stays).
    """
    checkpoint = settings.out / CHECKPOINT
    if settings.resume and not checkpoint.exists():
        raise TrainingError(f"{settings.out} holds no training that could be resumed")
    reference = None
    if settings.resume:
        reference = _as_it_began(settings, checkpoint)
    if reference is None and settings.reference:
        reference = background(settings.reference)
    if settings.resume:
        settings = resumed(settings, checkpoint, given)
    _refuse(settings)
    make = distribution(settings.data, reference)
    make_folder(settings.out)
    with _alone(checkpoint):
        if checkpoint.exists() and not settings.resume:
            raise TrainingError(
                f"{settings.out} already holds a training; resume it or choose another folder"
            )
        if settings.threads:
            torch.set_num_threads(settings.threads)
        goes_on = checkpoint.exists()
        state = _start(replace(settings, start=None) if goes_on else settings, make, reference)
        if goes_on:
            restore(state, settings, checkpoint)
        # Not TF32 on a GPU: its 10 bits would not do for phases.
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
        with exact, _interruptible() as stop, reporter(settings, state, progress) as report:
            _loop(settings, state, make, checkpoint, stop, report)
        plot(state.history, settings.out / CURVE)
    if stop.is_set():
        raise KeyboardInterrupt
    return checkpoint


def _as_it_began(settings: TrainSettings, checkpoint: Path) -> Reference | None:
    """The checkpoint's reference, where no other one is named and its file is not to be read again."""
    content = load(checkpoint)
    named = settings.reference
    if named is not None and (named.exists() or str(named) != content["settings"].get("reference")):
        return None
    return kept_reference(content, checkpoint)


@contextlib.contextmanager
def _alone(checkpoint: Path) -> Iterator[None]:
    """Be the only program that trains in a folder: each would write over the other's checkpoint."""
    lock = None
    try:
        lock = Lock(checkpoint.with_name(f".{checkpoint.name}.lock"))
    except LockedError:
        raise TrainingError(
            f"cannot train in {checkpoint.parent}, another training is in it: wait for its end, or choose "
            "another folder"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning("%s: no locks there, so let no second training write into it", checkpoint.parent)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _refuse(settings: TrainSettings) -> None:
    """Raises TrainingError for numbers that nothing can be trained with."""
    for name, least in LEAST.items():
        value = getattr(settings, name)
        if not least <= value < math.inf:
            raise TrainingError(f"{name} must be {least} or more, not {value}")
    for name, (holds, words) in BOUNDS.items():
        value = getattr(settings, name)
        if not (math.isfinite(value) and holds(value)):
            raise TrainingError(f"{name} must be {words}, not {value}")
    if settings.batch > POOL_SPECTRA:
        raise TrainingError(
            f"batch must be {POOL_SPECTRA} or less, not {settings.batch}: so many spectra share their "
            "substances"
        )
    if settings.seed > LARGEST_SEED:
        raise TrainingError(f"seed must be {LARGEST_SEED} or less, not {settings.seed}")
    if settings.seed == HELD_OUT_SEED:
        raise TrainingError(
            f"seed {HELD_OUT_SEED} draws the spectra that models are measured on: choose another"
        )
    if settings.data == BcarsPairs.name and settings.batch % BcarsPairs.rows:
        raise TrainingError(f"{settings.data} takes batches of a multiple of {BcarsPairs.rows} spectra")


def device_of(settings: TrainSettings) -> torch.device:
    """Where to train. Raises TrainingError for a device that is not there."""
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise TrainingError("torch finds no CUDA device; train with --device cpu")
    return torch.device(settings.device)


def mixed(settings: TrainSettings, device: torch.device) -> bool:
    """Whether to compute in bfloat16: where the hardware multiplies matrices of it faster."""
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def _start(settings: TrainSettings, make: Maker, reference: Reference | None) -> State:
    torch.manual_seed(settings.seed)
    device = device_of(settings)
    data = make(settings.seed, 1, 1)
    model, average = (build(settings.network, data.lengths).to(device) for _ in range(2))
    if isinstance(model, Unbiased) != (settings.data == BcarsPairs.name):
        learns = "only from" if isinstance(model, Unbiased) else "nothing from"
        raise TrainingError(f"{settings.network} learns {learns} {BcarsPairs.name}: choose other data")
    if settings.start is not None:
        start_from(model, settings.start)
    average.load_state_dict(model.state_dict())
    average.eval().requires_grad_(False)
    if isinstance(model, Retrieval):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return State(model, average, optimizers(model, settings.learning_rate, settings.weight_decay), reference)


def _loop(
    settings: TrainSettings,
    state: State,
    make: Maker,
    checkpoint: Path,
    stop: threading.Event,
    report: Callable[[Entry], None],
) -> None:
    held_out = distribution(measured_by(settings.data), state.reference)(HELD_OUT_SEED, HELD_OUT, 1)
    if state.step == 0 and settings.start is not None:
        _report(state, None, held_out, report)
    left_out, tries = 0, TRIES
    total, count, saved, last = 0.0, 0, time.monotonic(), time.monotonic()
    for batch in _batches(settings, state, make):
        if stop.is_set():
            break
        if settings.minutes and state.seconds > 60 * settings.minutes:
            break
        loss = _step(settings, state, batch)
        left_out = 0 if math.isfinite(loss) else left_out + 1
        if left_out == LEFT_OUT and tries:
            tries -= 1
            left_out = 0
            _go_back(state)
        elif left_out == LEFT_OUT:
            raise TrainingError(
                f"the loss became {loss} at step {state.step}; the checkpoint in {settings.out} "
                "is from before: resume with a smaller learning rate"
            )
        state.step += 1
        now = time.monotonic()
        state.seconds, last = state.seconds + now - last, now
        if math.isfinite(loss):
            total, count = total + loss, count + 1
        if state.step % settings.log_every == 0 or state.step == settings.steps:
            measured = state.step % settings.validate_every == 0 or state.step == settings.steps
            _report(state, total / max(1, count), held_out if measured else None, report)
            total, count = 0.0, 0
        if now - saved > 60 * settings.checkpoint_minutes:
            save(state, settings, checkpoint)
            saved = now
    # An R2 there may be none: of what was measured nothing may be visible.
    measured_at = (entry.step for entry in state.history if entry.mean_absolute_error is not None)
    if not stop.is_set() and max(measured_at, default=-1) < state.step:
        _report(state, total / count if count else None, held_out, report)
    save(state, settings, checkpoint)


def _go_back(state: State) -> None:
    """To the averaged weights, which changed too little meanwhile to overflow, too."""
    log.warning("step %d: the averaged weights take the place of those that overflow", state.step + 1)
    state.model.load_state_dict(state.average.state_dict())
    for optimizer in state.optimizers:
        optimizer.state.clear()


def _report(
    state: State, loss: float | None, held_out: Distribution | None, report: Callable[[Entry], None]
) -> None:
    entry = Entry(state.step, loss)
    if held_out is not None:
        accuracy = evaluate(retrieve(state.average), held_out, HELD_OUT_BATCHES)
        entry = Entry(state.step, loss, accuracy["median_r2"], accuracy["mean_absolute_error"])
    state.history.append(entry)
    report(entry)


def _batches(settings: TrainSettings, state: State, make: Maker) -> Iterable[Batch]:
    """The batches from the state's step to the last; they do not depend on the number of workers."""
    arguments = settings.seed, settings.batch, state.model.stride
    steps = range(state.step, settings.steps)
    device = device_of(settings)
    if device.type == "cuda":
        return _drawn_there(device, make, arguments, steps)
    return torch.utils.data.DataLoader(
        make(*arguments),  # type: ignore[arg-type]
        batch_size=None,
        sampler=steps,
        num_workers=settings.workers,
        worker_init_fn=_leave_signals,
    )


def _drawn_there(
    device: torch.device, make: Maker, arguments: tuple[int, int, int], steps: Iterable[int]
) -> Iterator[Batch]:
    """A GPU draws its spectra itself, faster than any number of processes brings them."""
    with device:
        data = make(*arguments)
    for index in steps:
        with device:
            batch = data[index]
        yield batch


def _leave_signals(_: int) -> None:
    """In a worker: Ctrl-C and SIGTERM come to the whole group, and the trainer itself sees to them."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _step(settings: TrainSettings, state: State, batch: Batch) -> float:
    model = state.model
    device = next(model.parameters()).device
    torch.manual_seed(settings.seed << 32 | state.step)  # so that dropout resumes exactly, too
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule(state.step, settings, state.seconds)
    batch = batch.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=mixed(settings, device)):
        predicted = model(*inputs(model, batch.spectrum, batch.pitch))
    length = batch.raman.shape[1]
    loss = loss_function(tuple(cropped(values.float(), length) for values in predicted), batch)
    model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    value, steepness = map(float, torch.stack([loss.detach(), norm]).tolist())
    if not math.isfinite(value + steepness):  # as recurrent layers may do, once in a while
        what = "gradient" if math.isfinite(value) else "loss"
        log.warning("step %d is left out: its %s overflowed", state.step + 1, what)
    else:
        for optimizer in state.optimizers:
            optimizer.step()
        decay = min(settings.average, (state.step + 1) / (state.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_([*state.average.parameters()], [*model.parameters()], 1 - decay)
            for old, buffer in zip(state.average.buffers(), model.buffers(), strict=True):
                old.copy_(buffer)
    return value if math.isfinite(steepness) else math.nan


def schedule(step: int, settings: TrainSettings, seconds: float = 0.0) -> float:
    """The learning rate's factor: it rises, stays, and falls to zero in the last `decay` of all steps,
    so that a training can be made longer or shorter while it runs (Hagele et al., arXiv:2405.18392)."""
    rising = (step + 1) / max(1, settings.warmup)
    falling = (settings.steps - step) / max(1.0, settings.decay * settings.steps)
    if settings.minutes:
        left = 1 - seconds / (60 * settings.minutes)
        falling = min(falling, max(0.0, left) / max(1e-6, settings.decay))
    return min(1.0, rising, falling)


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
