"""`cars-rt doctor`: what this computer has, and whether every engine on it computes every model right."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from cars_rt.daemon.settings import DaemonSettings
from cars_rt.doctor.computer import (
    read_cache,
    read_gpu,
    read_machine,
    read_packages,
    read_ports,
    read_products,
)
from cars_rt.doctor.engines import composed, read_engines, try_engines
from cars_rt.doctor.report import Report, Trial
from cars_rt.engines import bundled_models

__all__ = ["Progress", "Report", "examine"]

Progress: TypeAlias = Callable[[int, int, str], None]  # done, total, what is being tried


def examine(
    models: Sequence[str] = (),
    *,
    rates: bool = True,
    progress: Progress = lambda done, total, text: None,
) -> Report:
    """Look at everything, then try each engine that can run here on each model, in processes of their own.

    models: names of shipped ones or paths; none: all that are shipped, and kk. rates: also measure how fast
    the engines are. What is wrong is in the report; only a model that is named and cannot be one raises
    ModelError, before the trials: no engine and no computer is to blame for it.
    """
    for model in models:
        composed(model)
    engines = read_engines()
    usable = [each.name for each in engines if each.available]
    models = models or bundled_models()
    trials: list[Trial] = []
    for number, model in enumerate(models):
        progress(number, len(models), f"{model} on {', '.join(usable)}")
        trials += try_engines(model, usable, DaemonSettings.max_batch, rates=rates)
    return Report(
        machine=read_machine(),
        gpu=read_gpu(),
        products=read_products(),
        packages=read_packages(),
        engines=engines,
        cache=read_cache(),
        ports=read_ports(),
        trials=trials,
    )
