"""What TensorRT says while it works: errors come through its log alone."""

import logging
from typing import Any

from cars_rt.engines.base import EngineError

log = logging.getLogger("cars_rt.engines.tensorrt")

KEPT = 2  # errors that are told: the first ones say what happened, later ones only where it was noticed
MEMORY = ("out of memory", "outofmemory", "out_of_memory", "insufficient memory", "cudaerrormemoryallocation")


class OutOfMemoryError(EngineError):
    """The GPU has too little memory for what was asked."""


class Messages:
    """The errors since the last `clear`, and the logger that collects them; keep it while it is used."""

    def __init__(self, trt: Any) -> None:
        errors: list[str] = []
        severe = {trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR}

        class Logger(trt.ILogger):  # type: ignore[misc] # of a module that is found at run time
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                line = " ".join(message.split())
                if severity in severe:
                    errors.append(line)
                log.debug("%s: %s", severity, line)

        self._errors = errors
        self.logger = Logger()

    def clear(self) -> None:
        """Forget what was said."""
        self._errors.clear()

    def error(self, what: str) -> EngineError:
        """What went wrong, with TensorRT's own words; OutOfMemoryError where those say so."""
        said = "; ".join(self._errors[:KEPT]) or "it does not say why"
        kind = OutOfMemoryError if any(word in said.lower() for word in MEMORY) else EngineError
        return kind(f"{what}: {said}")
