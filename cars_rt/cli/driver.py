"""One driver as a command: its own flags, from its class, and those of every driver."""

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Annotated, Any

from cyclopts import Parameter

from cars_rt.cli.app import Logs, Summary
from cars_rt.console import Logging, start_logging
from cars_rt.drivers import DriveSettings, Instrument, InstrumentError

KEYWORD = inspect.Parameter.KEYWORD_ONLY

Run = Callable[[Callable[[], Instrument], DriveSettings, Any, bool], None]
Conform = Annotated[bool, Parameter(help="Try whether the driver keeps its promises, instead of publishing.")]


def command(make: Callable[..., Instrument], run: Run) -> Callable[..., None]:
    """A function with the flags of `make` and of every driver, which runs the instrument that it makes.

    A parameter of `make` that is a dataclass gives a flag for each of its fields; any other is given by its
    place, such as a file. The help is its docstring. Raises InstrumentError for parameters that cannot be
    flags.
    """
    try:
        own = [_flags(each) for each in inspect.signature(make, eval_str=True).parameters.values()]
    except InstrumentError:
        raise
    except Exception as error:  # of somebody else's driver
        raise InstrumentError(
            f"{make.__qualname__}: its parameters cannot be flags ({type(error).__name__}: {error})"
        ) from None
    defaults = {each.name: each.default for each in own if each.kind is KEYWORD}

    def program(
        *given: Any,
        stream: Annotated[DriveSettings, Parameter(name="*")] = DriveSettings(),
        conform: Conform = False,
        summary: Summary = None,
        logs: Logs = Logging(),
        **settings: Any,
    ) -> None:
        start_logging(logs, spooled=not conform)
        run(partial(make, *given, **defaults | settings), stream, summary, conform)

    every = [each for each in inspect.signature(program).parameters.values() if each.kind is KEYWORD]
    ordered = sorted([*own, *every], key=lambda each: each.kind)
    program.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    program.__annotations__ = {each.name: each.annotation for each in ordered}
    program.__doc__ = inspect.getdoc(make)
    return program


def _flags(parameter: inspect.Parameter) -> inspect.Parameter:
    """One parameter of a driver as the command line takes it."""
    settings = parameter.annotation
    if not (isinstance(settings, type) and is_dataclass(settings)):
        return parameter.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD)
    taken = {each.name for each in fields(DriveSettings)} & {each.name for each in fields(settings)}
    if taken:
        raise InstrumentError(
            f"{settings.__qualname__} has {', '.join(sorted(taken))}, which every driver has; rename it there"
        )
    return parameter.replace(
        kind=KEYWORD,
        annotation=Annotated[settings, Parameter(name="*")],
        default=settings() if parameter.default is inspect.Parameter.empty else parameter.default,
    )
