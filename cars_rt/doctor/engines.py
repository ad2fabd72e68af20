"""The engines: which can run here, and what they make of a model."""

from cars_rt.doctor.report import EngineState, Trial
from cars_rt.engines import (
    Graph,
    compose,
    load_model,
    reason_against,
    retrieving,
    takes_long,
)
from cars_rt.engines.base import usable_cores
from cars_rt.engines.rehearsal import rehearse
from cars_rt.errors import CarsRtError


def read_engines() -> list[EngineState]:
    """Engines that run models, those of other packages too."""
    return [EngineState(name=name, reason=reason_against(name)) for name in retrieving()]


def composed(model: str) -> Graph:
    """A model on its nominal axis. Raises ModelError if it cannot be read or composed."""
    loaded = load_model(model)
    return compose(loaded, loaded.nominal_axis)


def try_engines(model: str, engines: list[str], max_batch: int, *, rates: bool) -> list[Trial]:
    """One model on its nominal axis, on each engine as the daemon would open it.

    Processes of their own do it, so that none that crashes or hangs ends this one.
    """
    try:
        graph = composed(model)
    except CarsRtError as error:
        return [Trial(model=model, engine=name, reason=str(error)) for name in engines]
    threads = max(usable_cores() // 2, 1)
    found = rehearse(graph, engines, max_batch, threads, rates=rates)
    # What compiles for long keeps that on disk: the second time tells what every start but the first takes.
    slow = [name for name, tried in found.items() if not tried.reason and takes_long(name)]
    again = rehearse(graph, slow, max_batch, threads, rates=False)
    return [
        Trial(
            model=model,
            engine=name,
            reason=tried.reason,
            difference=tried.difference,
            rate=tried.rate,
            about=tried.about,
            open_s=tried.open_s,
            again_s=again[name].open_s if name in again else 0.0,
        )
        for name, tried in found.items()
    ]
