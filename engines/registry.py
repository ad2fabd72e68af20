"""The engines by name: those of this package, and those that other packages bring as entry points."""

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from cars_rt.engines.base import Engine, EngineError, usable_cores
from cars_rt.engines.graph import Graph
from cars_rt.plugins import load_class, remedy_for

#: name: module and class; imported only when asked for, since most need packages of their own.
ENGINES = {
    "tensorrt": ("cars_rt.engines.tensorrt.engine", "TensorRT"),
    "openvino": ("cars_rt.engines.openvino", "OpenVino"),
    "openvino-bf16": ("cars_rt.engines.openvino", "OpenVinoBf16"),
    "openvino-gpu": ("cars_rt.engines.openvino", "OpenVinoGpu"),
    "onnxruntime-cuda": ("cars_rt.engines.onnxruntime", "OnnxRuntimeCuda"),
    "onnxruntime": ("cars_rt.engines.onnxruntime", "OnnxRuntime"),
    "torch": ("cars_rt.engines.torch", "Torch"),
    "passthrough": ("cars_rt.engines.passthrough", "Passthrough"),
}
GROUP = "cars_rt.engines"  # of entry points; each is a subclass of Engine under its own name
REFERENCE = "onnxruntime"
AUTO = "auto"


def engine_names() -> list[str]:
    """All engines, usable or not; those of other packages last."""
    return [*ENGINES, *_foreign()]


def engine_class(name: str) -> type[Engine]:
    """The engine of this name. Raises EngineError if there is none, or if its package is broken."""
    foreign = _foreign()
    if name not in ENGINES and name not in foreign:
        raise EngineError(f"no engine is called {name!r}; there are {', '.join([AUTO, *ENGINES, *foreign])}")
    if name in ENGINES:
        module, cls = ENGINES[name]
        found: type[Engine] = getattr(import_module(module), cls)
        return found
    entry = foreign[name]
    loaded: type[Engine] = load_class(entry, Engine, "cars_rt.engines.Engine", EngineError)
    if getattr(loaded, "name", None) != name:
        raise EngineError(f"{entry.value} has another name than its entry point; {remedy_for(entry)}")
    return loaded


def compiled(name: str, graph: Graph, max_batch: int, threads: int, lanes: int = 0) -> Engine:
    """The engine of this name on a graph. lanes: slabs of one that is reentrant, which share the cores among
    them; others have what is usual. Raises EngineError, whatever the engine raises."""
    cls = engine_class(name)
    try:
        if lanes and cls.reentrant:
            return cls(graph, max_batch, lanes, max(usable_cores() // lanes, 1))
        return cls(graph, max_batch, threads=threads)
    except EngineError:
        raise
    except Exception as error:  # of somebody else's engine
        raise EngineError(f"cannot be opened ({type(error).__name__}: {error})") from error


def reason_against(name: str) -> str | None:
    """Why an engine cannot run on this computer, with the remedy, or None if it can. Never raises. One that
    can also answers what else it is asked before it is opened."""
    try:
        cls = engine_class(name)
        reason = cls.unavailable()
        if reason is None:
            cls.last_resort(), cls.fragile()
        return reason
    except EngineError as error:
        return str(error)
    except Exception as error:
        return f"it cannot say whether it works here ({type(error).__name__}: {error})"


def require(name: str) -> None:
    """Raises EngineError unless there is an engine of this name and it can run on this computer."""
    engine_class(name)
    if reason := reason_against(name):
        raise EngineError(f"{name}: {reason}")


def retrieving() -> list[str]:
    """Engines that run models, usable or not, those thought fastest first."""
    return [name for name in engine_names() if _retrieves(name)]


def _retrieves(name: str) -> bool:
    try:
        return engine_class(name).retrieves
    except (EngineError, ImportError):
        return True  # where it is asked for, it says why it cannot


def _foreign() -> dict[str, EntryPoint]:
    """Engines of other packages by name; none takes the name of one of ours."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in ENGINES}
