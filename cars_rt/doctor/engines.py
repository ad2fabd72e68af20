"""The engines: which can run here, and what they make of a model."""

from cars_rt.doctor.report import EngineState, Trial
from cars_rt.engines import compose, load_model, reason_against, retrieving
from cars_rt.engines.base import usable_cores
from cars_rt.engines.rehearsal import rehearse
from cars_rt.errors import CarsRtError


def read_engines() -> list[EngineState]:
    """Engines that run models, those of other packages too."""
    return [EngineState(name=name, reason=reason_against(name)) for name in retrieving()]


def try_engines(model: str, engines: list[str], max_batch: int, *, rates: bool) -> list[Trial]:
    """One model on its nominal axis, on each engine as the daemon would open it.

    Processes of their own do it, so that none that crashes or hangs ends this one.
    """
    try:
        loaded = load_model(model)
        graph = compose(loaded, loaded.nominal_axis)
    except CarsRtError as error:
        return [Trial(model=model, engine=name, reason=str(error)) for name in engines]
    found = rehearse(graph, engines, max_batch, max(usable_cores() // 2, 1), rates=rates)
    return [
        Trial(
            model=model,
            engine=name,
            reason=tried.reason,
            difference=tried.difference,
            rate=tried.rate,
            about=tried.about,
        )
        for name, tried in found.items()
    ]
