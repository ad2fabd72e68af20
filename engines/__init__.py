"""Inference engines and the shipped models.

An engine runs the deployment graph of one model on one instrument's axis. `open_engine` picks one by
name, compiles it and checks it against the reference before it serves.
"""

from cars_rt.engines.agreement import TOLERANCE, check
from cars_rt.engines.base import Engine, EngineError
from cars_rt.engines.choice import adopted, open_engine, quick_engines, takes_long
from cars_rt.engines.graph import Graph, axis_for, compose
from cars_rt.engines.library import bundled_models, load_model, load_offline, takes_reference
from cars_rt.engines.model import DEFAULT_MODEL, Card, Model, ModelError, shipped_models
from cars_rt.engines.registry import (
    AUTO,
    ENGINES,
    REFERENCE,
    engine_class,
    engine_names,
    reason_against,
    require,
    retrieving,
)
from cars_rt.engines.rehearsal import give_up

__all__ = [
    "AUTO",
    "DEFAULT_MODEL",
    "ENGINES",
    "REFERENCE",
    "TOLERANCE",
    "Card",
    "Engine",
    "EngineError",
    "Graph",
    "Model",
    "ModelError",
    "adopted",
    "axis_for",
    "bundled_models",
    "check",
    "compose",
    "engine_class",
    "engine_names",
    "give_up",
    "load_model",
    "load_offline",
    "open_engine",
    "quick_engines",
    "reason_against",
    "require",
    "retrieving",
    "shipped_models",
    "takes_long",
    "takes_reference",
]
