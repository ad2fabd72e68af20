"""The command line's application, and what its commands share."""

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import App, Parameter
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import cars_rt
from cars_rt.cli.config import PREFIX, ConfigError, check_environment, checked_config
from cars_rt.console import EXIT_USAGE, Logging, console, fail, on_terminal
from cars_rt.installation import install_extra
from cars_rt.printable import printable
from cars_rt.stops import EXIT_INTERRUPTED
from cars_rt.trust.flags import ClientAccess, PublisherAccess

app = App(
    name="cars-rt",
    help=(
        "Remove the non-resonant background from CARS spectra while they are measured.\n\n"
        "A driver publishes camera counts (`drive`), the daemon turns them into Raman spectra (`run`), and "
        "whoever subscribes gets them, such as the recorder (`record`). All of it without an instrument: "
        "`cars-rt demo`. A file that is already there: `cars-rt process`.\n\n"
        "Every flag can be set in the environment (`--model` of `run` is CARS_RT_RUN_MODEL) or in a file "
        "with a table for each command: `cars-rt --config lab.toml run`."
    ),
    version=cars_rt.__version__,
    default_parameter=Parameter(negative=()),
)
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False  # see errors_in_one_line
app.register_install_completion_command(help="Install completion of commands and flags for your shell.")

for _flags in (PublisherAccess, ClientAccess):  # stand among the other flags of the settings they are in
    Parameter(name="*")(_flags)

Summary = Annotated[Path | None, Parameter(help="Write the totals to this JSON file at the end.")]
Logs = Annotated[Logging, Parameter(name="*")]


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Leave with one line and an exit code where something is wrong, with none where nobody reads on."""
    from cyclopts import CycloptsError, UnknownCommandError, UnusedCliTokensError

    from cars_rt.errors import CarsRtError

    with suppress(BrokenPipeError):
        try:
            yield
        except UnknownCommandError as error:
            fail(_no_such_command(error), EXIT_USAGE)
        except UnusedCliTokensError as error:
            left = " ".join(map(str, error.unused_tokens or ()))
            fail(
                f"{printable(left, 80)!r} is too much here; a flag that takes several is given again for "
                "each: --flag A --flag B",
                EXIT_USAGE,
            )
        except (ConfigError, CycloptsError) as error:
            fail(" ".join(str(error).split()), EXIT_USAGE)
        except CarsRtError as error:
            fail(error)
        except OSError as error:  # such as a name that is too long, wherever it is looked for
            if error.filename is None:
                raise
            fail(f"{printable(error.filename, 80)}: {error.strerror}")
        except KeyboardInterrupt:
            fail("interrupted", EXIT_INTERRUPTED)


def _no_such_command(error: cyclopts.UnknownCommandError) -> str:
    """What was typed, and what is probably meant, also where that is a command of a command."""
    where = error.app if error.app is not None and error.app.name[0] != app.name[0] else app
    typed = printable((error.unused_tokens or [""])[0], 64)
    asked = [*app.name[:1], *(where.name[:1] if where is not app else ()), typed]
    paths = {" ".join(path): path[-1] for path in _commands(where)}
    close = difflib.get_close_matches(typed, paths.values(), 1)
    meant = [path for path, last in paths.items() if close == [last]]
    meant = [path for path in meant if len(path.split()) == min(len(each.split()) for each in meant)]
    if typed.startswith("-"):
        hint = f"`{' '.join(asked[:-1])} --help` lists what there is"
    elif meant:
        before = " ".join(asked[:-1])
        hint = f"did you mean {' or '.join(f'`{before} {path}`' for path in meant)}?"
    else:
        hint = f"there are {', '.join(sorted(path for path in paths if ' ' not in path))}"
    return f"there is no such {'flag' if typed.startswith('-') else 'command'} as `{' '.join(asked)}`; {hint}"


def _commands(where: App) -> Iterator[tuple[str, ...]]:
    for name in where:
        if not name.startswith("-"):
            yield (name,)
            yield from ((name, *below) for below in _commands(where[name]))


class Bar(Progress):
    """A bar that goes where the work failed before it came anywhere: what stands there is the error."""

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None and not any(task.completed for task in self.tasks):
            self.live.transient = True
        super().__exit__(kind, error, trace)


def progress_bar(*, transient: bool = False) -> Progress:
    """Shown on terminals only. transient: it goes when the work is done."""
    return Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=transient,
        disable=not on_terminal(),
        refresh_per_second=4,
    )


def needs(module: str, extra: str) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        fail(f"this needs {module}, which is not installed: {install_extra(extra)}")


@app.meta.default
def _with_config(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[
        Path | None, Parameter(help="Read flags from this TOML file.", show_env_var=False)
    ] = None,
) -> None:
    """Take flags from the environment and a file, then run the command."""
    check_environment(os.environ, app)
    sources: list[cyclopts.config.Env | cyclopts.config.Dict] = [cyclopts.config.Env(PREFIX)]
    if config is not None:
        sources.append(cyclopts.config.Dict(checked_config(config, app), source=str(config)))
    app.config = tuple(sources)
    app(tokens, exit_on_error=False, print_error=False)
