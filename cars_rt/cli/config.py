"""Flags from elsewhere, the environment and the file of `--config`, checked before any command runs."""

import difflib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cyclopts import App

from cars_rt.console import LINK_SECRET, STOP_WITH_STDIN
from cars_rt.storage import StorageError, read_text

PREFIX = "CARS_RT_"
#: Names in the environment that are no flags: the folder of plans, that nothing is remembered of engines, and
#: what demo and room tell their programs.
OTHERS = {"CARS_RT_CACHE", "CARS_RT_FORGETFUL", LINK_SECRET, STOP_WITH_STDIN}
MOST_BYTES = 2**20  # of a file of flags
MOST_DEPTH = 8  # a command's command has its flags, and a flag its list


class ConfigError(ValueError):
    """A file of flags that cannot be used as it is, with what is probably meant in one sentence."""


def checked_config(path: Path, app: App) -> dict[str, Any]:
    """What a file of flags says. Every table must be a command and every name in it one of its flags, so that
    a slip of the pen is not a flag silently left at its default. Raises ConfigError. Types are checked when
    the command runs."""
    content = read_tables(path, ", which --config names")
    _check_tables(content, app, path, ())
    return content


def read_tables(path: Path, asked: str = "") -> dict[str, Any]:
    """What a TOML file says, within limits. asked: who wants it, to end a sentence. Raises ConfigError."""
    try:
        content = tomllib.loads(read_text(path, MOST_BYTES).removeprefix("\ufeff"))
        if _depth(content) > MOST_DEPTH:
            raise RecursionError
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}{asked}") from None
    except StorageError as error:
        raise ConfigError(f"cannot read the file of flags: {error}") from None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not a text file in UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path} has tables or lists within others, deeper than any flag") from None
    except tomllib.TOMLDecodeError as error:
        hint = "; a path with \\ stands between single quotes" if "\\" in str(error) else ""
        raise ConfigError(f"{path} is not TOML: {error}{hint}") from None
    return content


def _depth(content: Any) -> int:
    """How deep lists and tables lie in each other, without Python's own stack."""
    depth, level = 0, [content]
    while level := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        if depth > MOST_DEPTH:
            break
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def check_environment(environment: Mapping[str, str], app: App) -> None:
    """Every name that begins as ours do must be a flag of some command, or one of the few others that there
    are, for the same reason. Raises ConfigError."""
    ours = sorted(name for name in environment if name.upper().startswith(PREFIX))
    for name in ours:
        if name not in OTHERS and name not in _names(app, PREFIX, name):
            endings = [each.removeprefix(PREFIX) for each in (*OTHERS, *_names(app, PREFIX))]
            close = difflib.get_close_matches(name.upper().removeprefix(PREFIX), endings, 1)
            meant = f"did you mean {PREFIX}{close[0]}?" if close else "`cars-rt COMMAND --help` lists them"
            raise ConfigError(f"{name} in the environment is no flag of any command; {meant}")


def _names(app: App, prefix: str, asked: str | None = None) -> Iterator[str]:
    """What the flags of all commands are called in the environment; or only of those commands that a name
    begins with, since all of them take a while to import."""
    for name in app:
        below = in_environment(name, prefix) + "_"
        if not name.startswith("-") and (asked is None or asked.startswith(below)):
            yield from _names(app[name], below, asked)
    for each in app.assemble_argument_collection(parse_docstring=False) if app.default_command else ():
        yield from (in_environment(name, prefix) for name in each.names if name != "*")


def in_environment(name: str, prefix: str = PREFIX) -> str:
    """What a flag or a command is called there."""
    return prefix + name.lstrip("-").replace("-", "_").replace(".", "_").upper()


def _check_tables(content: dict[str, Any], app: App, path: Path, above: tuple[str, ...]) -> None:
    commands = [name for name in app if not name.startswith("-")]
    for name, value in content.items():
        table = (*above, name)
        if name not in commands:
            where = f"in [{'.'.join(above)}]" if above else "outside of a table"
            if isinstance(value, dict):
                raise ConfigError(f"{path}: [{'.'.join(table)}] is no command{meant(name, commands)}")
            below = [each for each in commands if above and not _is_group(app[each])]
            takers = (each for each in below if f"--{name.replace('_', '-')}" in _flags(app[each]))
            one = next(takers, (below or ["run"])[0])
            there = ".".join((*above, one))
            raise ConfigError(
                f"{path}: {name} stands {where}; put it in the table of a command, such as [{there}]"
            )
        if not isinstance(value, dict):
            raise ConfigError(
                f"{path}: {'.'.join(table)} is a command; write its flags under [{'.'.join(table)}]"
            )
        command = app[name]
        if _is_group(command):
            _check_tables(value, command, path, table)
        else:
            called = " ".join(("cars-rt", *table))
            check_flags(value, command, f"[{'.'.join(table)}]", called, f"{path}: ")


def _flags(command: App) -> set[str]:
    return {
        name for each in command.assemble_argument_collection(parse_docstring=False) for name in each.names
    }


def _is_group(command: App) -> bool:
    """Whether it has commands of its own, and they the flags."""
    return any(not name.startswith("-") for name in command)


def check_flags(content: dict[str, Any], command: App, table: str, called: str, where: str = "") -> None:
    """Every name in a table must be a long flag of the command, and whole numbers whole. table: what the
    file calls it; called: what people type; where: before each sentence. Raises ConfigError."""
    arguments = command.assemble_argument_collection(parse_docstring=False)
    flags = {name[2:]: each.hint for each in arguments for name in each.names if name.startswith("--")}
    # Not the names that turn another flag off; some flags are called no-... themselves.
    off = {f"{prefix}-{flag}" for flag in flags for prefix in ("no", "empty")}
    known = [flag for flag in flags if flag not in off]
    for name, value in content.items():
        flag = name.replace("_", "-")
        if flag not in known:
            raise ConfigError(f"{where}{name} in {table} is no flag of `{called}`{meant(flag, known)}")
        if isinstance(value, dict):
            raise ConfigError(f"{where}{name} in {table} is a table, where a value is meant")
        number = flags[flag] in (int, float) and isinstance(value, (bool, float))
        if number and not (flags[flag] is float and isinstance(value, float)):  # they would be rounded
            kind = "a whole number" if flags[flag] is int else "a number"
            raise ConfigError(f"{where}{name} in {table} is {json.dumps(value)}, where {kind} is meant")


def meant(name: str, known: Iterable[str]) -> str:
    """Which of the known names is probably meant, or which there are, to end a sentence."""
    close = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"
