"""`cars-rt check`: before an experiment, what each part can do alone, against what the source demands."""

import os

from cars_rt.check.disk import measure_disk
from cars_rt.check.engine import measure_engine
from cars_rt.check.memory import judge_memory
from cars_rt.check.network import measure_network
from cars_rt.check.processor import Costs, judge_processor
from cars_rt.check.report import Line, Report, Verdict, report_of
from cars_rt.check.settings import CheckError, CheckSettings, Progress, refuse
from cars_rt.check.source import measure_source
from cars_rt.engines import AUTO, engine_class, load_model, takes_reference

__all__ = ["CheckError", "CheckSettings", "Line", "Progress", "Report", "Verdict", "check"]


def check(settings: CheckSettings, progress: Progress = lambda part, done: None) -> Report:
    """Measure everything; takes about five times `settings.seconds`.

    Raises CheckError, StreamError, ModelError or EngineError if a setting is impossible. What does not
    work here and now is a line of the report.
    """
    refuse(settings)
    reference = settings.reference if takes_reference(settings.model) else None  # as the daemon
    model = load_model(settings.model, reference)
    if settings.engine != AUTO:
        engine_class(settings.engine)
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # before we add to it
    source, load = measure_source(settings, progress)
    costs: Costs = {}
    disk, pause_s = measure_disk(settings, load, costs, progress)
    lines = [
        source,
        measure_engine(settings, model, load, costs, progress),
        measure_network(settings, load, costs, progress),
        disk,
        judge_memory(settings, load, pause_s),
        judge_processor(load, costs, busy),
    ]
    return report_of(load, lines)
