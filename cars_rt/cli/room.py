"""What a file of `cars-rt up` says, as parts of a room, each judged by its own command's flags."""

import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from inspect import BoundArguments, Parameter
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError, MissingArgumentError

from cars_rt.cli.app import app
from cars_rt.cli.config import ConfigError, check_flags, in_environment, meant, read_tables
from cars_rt.cli.drive import drive, register_others
from cars_rt.drivers.registry import driver_class, driver_names
from cars_rt.errors import CarsRtError
from cars_rt.installation import install_extra
from cars_rt.printable import printable
from cars_rt.room.part import Part, Role
from cars_rt.room.wiring import Ends, is_address, wire
from cars_rt.sockets import RAW_ADDRESS
from cars_rt.sockets.addresses import ANY
from cars_rt.trust.flags import OFF

COMMANDS = {Role.RECORDER: "record", Role.DAEMON: "run", Role.VIEW: "view"}
NEEDS = {Role.VIEW: ("bokeh", "view")}  # a package that is none of the core's, and the extra that has it
LABEL = re.compile(r"[A-Za-z0-9_-]{1,32}")
MOST = 16  # instruments
OURS = "log-format"  # of the flags: what the parts say has to be read
#: Folders that are made where the file names none.
FOLDERS = {Role.RECORDER: ("output", "recordings"), Role.DAEMON: ("receipts", "receipts")}


@dataclass(frozen=True)
class Judged:
    """A part, and what its command made of the flags."""

    part: Part
    title: str  # of its table, as it is written in the file
    flags: BoundArguments

    def value(self, flag: str) -> Any:
        """Of a flag, or None where the command has none of this name."""
        return _find(flag.replace("-", "_"), self.flags.arguments)

    def every(self) -> list[Any]:
        """All values, also those that nobody gave."""
        known = self.flags.signature.parameters
        return [self.flags.arguments.get(name, each.default) for name, each in known.items()]

    def files(self) -> list[Path]:
        """Those that its command has to be given."""
        return [each for each in self.flags.args if isinstance(each, Path)]


@dataclass
class Plan:
    """What there is to start, and what is wrong with the file."""

    instruments: list[list[Judged]] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)  # to be made, those above first
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what is left out, and why

    @property
    def judged(self) -> list[Judged]:
        """All parts."""
        return [each for instrument in self.instruments for each in instrument]


@dataclass
class Section:
    """One table of the file, and its command."""

    role: Role
    label: str
    table: dict[str, Any]
    path: tuple[str, ...] = ()  # the command, behind `cars-rt`
    defaults: dict[str, Any] = field(default_factory=dict)  # by flag
    named: bool = True  # whether it is in the file

    @property
    def title(self) -> str:
        """As it is written in the file."""
        return f"[{self.role}.{self.label}]" if self.label else f"[{self.role}]"

    def given(self, flag: str, environment: Mapping[str, str]) -> Any:
        """What the file or the environment says of a flag, or None."""
        for name in (flag, flag.replace("-", "_")):
            if name in self.table:
                return self.table[name]
        prefix = "".join(in_environment(each, "") + "_" for each in self.path)
        return environment.get(in_environment(flag, in_environment(prefix)))


def read_plan(path: Path, environment: Mapping[str, str] = os.environ) -> Plan:
    """The room that a file describes. Raises ConfigError if it cannot be read; all else that is wrong stands
    in `problems`, a sentence each."""
    register_others()
    plan = Plan()
    sections, without = _sections(read_tables(path, "; `cars-rt up --example` prints one"), plan.problems)
    for number, label in enumerate(_labels(sections, plan.problems)):
        roles = [role for role in Role if not {(role, label), (role, "")} & without]
        if Role.DRIVER in roles and not {(Role.DRIVER, label), (Role.DRIVER, "")} & sections.keys():
            continue  # that is said already
        present = [
            sections.get((role, label)) or sections.get((role, "")) or Section(role, label, {}, named=False)
            for role in roles
        ]
        for section in present:
            section.label = label
        present = [section for section in present if section.named or not _lacks(section, plan.notes)]
        sound = [section for section in present if _has_command(section, plan.problems)]
        if len(sound) == len(present):
            plan.instruments.append(_instrument(number, sound, environment, plan))
    return plan


def _sections(
    content: dict[str, Any], problems: list[str]
) -> tuple[dict[tuple[Role, str], Section], set[tuple[Role, str]]]:
    """The tables by role and label, and the roles and labels of parts that shall not be."""
    found: dict[tuple[Role, str], Section] = {}
    without: set[tuple[Role, str]] = set()
    tables = [table for table in content.values() if isinstance(table, dict)]
    named = {label for table in tables for label, inner in table.items() if isinstance(inner, dict)}
    for name, value in content.items():
        if name not in list(Role):
            problems.append(f"[{printable(name, 64)}] is no part of a room{meant(name, Role)}")
            continue
        role = Role(name)
        if isinstance(value, dict) and (off := {label for label in named if value.get(label) is False}):
            without |= {(role, label) for label in off}
            value = {label: inner for label, inner in value.items() if label not in off}
            if not value:
                continue
        if value is False:
            without.add((role, ""))
        elif not isinstance(value, dict):
            problems.append(f"{role} is a part: write its flags under [{role}], or {role} = false for none")
        elif labels := [each for each, inner in value.items() if isinstance(inner, dict)]:
            if flags := [each for each in value if each not in labels]:
                flag, label = printable(flags[0], 64), printable(labels[0], 64)
                problems.append(
                    f"{flag} stands in [{role}] beside [{role}.{label}]; each instrument has its own table"
                )
            for label in labels:
                if not LABEL.fullmatch(label):
                    problems.append(
                        f"[{role}.{printable(label, 64)}]: an instrument's name has letters, digits, - and _"
                    )
                found[role, label] = Section(role, label, dict(value[label]))
        else:
            found[role, ""] = Section(role, "", dict(value))
    if not any(role is Role.DRIVER for role, _ in [*found, *without]):
        problems.append(
            'there is no [driver]; name one, such as name = "simulator" (`cars-rt drive --list` lists them), '
            "or write driver = false if it runs elsewhere"
        )
    if any(role is Role.DAEMON for role, _ in without):
        problems.append("a room has a daemon; for drivers and recorders alone there are their own commands")
    return found, without


def _labels(sections: Iterable[tuple[Role, str]], problems: list[str]) -> list[str]:
    """The instruments. Where there is one, tables without a name are its, too."""
    keys = list(sections)
    labels = list(dict.fromkeys(label for _, label in keys if label))
    unnamed = [role for role, label in keys if not label]
    if len(labels) > MOST:
        problems.append(f"{len(labels)} instruments are more than one computer serves; at most {MOST}")
    if not labels:
        return [""]
    if len(labels) == 1 and unnamed:
        return labels
    for role in unnamed:
        problems.append(
            f"[{role}] does not say whose it is: there are {' and '.join(labels)}, each with programs of its "
            f"own, so write [{role}.{labels[0]}]"
        )
    drivers = [label for role, label in keys if role is Role.DRIVER]
    for label in labels:
        if drivers and label not in drivers:
            problems.append(f"there is no [driver.{label}]{meant(label, drivers)}")
    return labels


def _lacks(section: Section, said: list[str]) -> bool:
    """Whether a package of a part is missing, which is then said."""
    needs = NEEDS.get(section.role)
    if section.role is Role.DRIVER:
        needs = driver_class(section.path[1]).needs
    if needs is None or find_spec(needs[0]) is not None:
        return False
    module, extra = needs
    missing = f"it needs {module}, which is not installed: {install_extra(extra)}"
    said.append(f"{section.title} cannot be: {missing}")
    return True


def _has_command(section: Section, problems: list[str]) -> bool:
    """Find the section's command and its flags, and say what is wrong with it otherwise."""
    called = COMMANDS.get(section.role, "")
    within: App = app
    if section.role is Role.DRIVER:
        if "name" not in section.table and not section.label:
            problems.append(f'{section.title} does not say which driver: name = "simulator", for example')
            return False
        within, called = drive, section.table.pop("name", section.label)
        if called not in driver_names():
            hint = meant(str(called), driver_names())
            problems.append(f"{section.title}: no driver is called {printable(called, 64)!r}{hint}")
            return False
        section.path = ("drive", str(called))
        try:
            if _lacks(section, problems):
                return False
        except CarsRtError as error:  # of a driver's package that is broken
            problems.append(f"{section.title}: {error}")
            return False
    elif _lacks(section, problems):
        return False
    else:
        section.path = (called,)
    command = within[called]
    try:
        check_flags(section.table, command, section.title, " ".join(("cars-rt", *section.path)))
        if OURS in section.table or OURS.replace("-", "_") in section.table:
            raise ConfigError(f"{section.title}: `cars-rt up --{OURS}` says for all how their logs look")
    except ConfigError as error:
        problems.append(str(error))
        return False
    for each in command.assemble_argument_collection(parse_docstring=False):
        default = None if each.field_info.default is Parameter.empty else each.field_info.default
        section.defaults |= {name[2:]: default for name in each.names if name.startswith("--")}
    return True


def _instrument(
    number: int, sections: list[Section], environment: Mapping[str, str], plan: Plan
) -> list[Judged]:
    """The parts of one instrument, with addresses that fit each other."""
    ends = []
    for section in sections:
        defaults = {flag: value for flag, value in section.defaults.items() if is_address(value)}
        if section.role is Role.RECORDER and "raw" in section.defaults:
            defaults["raw"] = RAW_ADDRESS  # the counts are recorded, too
        given = {flag: section.given(flag, environment) for flag in defaults}
        ends.append(Ends(section.role, defaults, {f: str(v) for f, v in given.items() if v is not None}))
    judged: list[Judged] = []
    for section, addresses in zip(sections, wire(number, ends), strict=True):
        extra: dict[str, Any] = dict(addresses)
        if section.role is Role.VIEW:
            # It does without what it cannot find, but for the preview.
            extra = {flag: OFF if address.endswith(f":{ANY}") else address for flag, address in extra.items()}
            if extra.get("preview") == OFF and not section.named:
                plan.notes.append(f"there is no {section.title}: the daemon has no preview for it")
                continue
            if section.given("no-browser", environment) is None and not sys.stderr.isatty():
                extra["no-browser"] = True  # nobody sits before it
        if section.role in FOLDERS:
            flag, name = FOLDERS[section.role]
            if section.given(flag, environment) is None:
                whole = Path(name, section.label)
                plan.folders = list(dict.fromkeys([*plan.folders, Path(name), whole]))
                extra[flag] = str(whole)
        if OURS in section.defaults:
            extra[OURS] = "json"
        tokens = [
            token
            for flag, value in (section.table | extra).items()
            for token in _tokens(flag.replace("_", "-"), value, section.defaults)
        ]
        try:
            _, flags, _ = app.parse_args([*section.path, *tokens], exit_on_error=False, print_error=False)
        except MissingArgumentError as error:
            lacks = error.argument.name.lstrip("-") if error.argument else "a flag"
            plan.problems.append(
                f"{section.title} does not say {lacks}, which `cars-rt {' '.join(section.path)}` needs"
            )
            continue
        except (CycloptsError, CarsRtError) as error:
            plan.problems.append(f"{section.title}: {' '.join(str(error).split())}")
            continue
        waits = section.given("subscribers", environment) is None
        part = Part(
            role=section.role, label=section.label, command=(*section.path, *tokens),
            hearers=_hearers(section.role, judged) if waits else (),
            http=_find("http", flags.arguments) if section.role in (Role.DAEMON, Role.VIEW) else None,
        )  # fmt: skip
        judged.append(Judged(part, section.title, flags))
    return judged


def _hearers(role: Role, before: list[Judged]) -> tuple[Role, ...]:
    """Who subscribes to what a part publishes, so that it waits for them."""
    stream = {Role.DRIVER: "raw", Role.DAEMON: "raman"}.get(role)
    if stream is None:
        return ()
    recorders = [
        each.part.role
        for each in before
        if each.part.role is Role.RECORDER and each.value(stream) not in (None, OFF)
    ]
    daemons = [each.part.role for each in before if role is Role.DRIVER and each.part.role is Role.DAEMON]
    return (*recorders, *daemons)


def _tokens(flag: str, value: Any, defaults: Mapping[str, Any]) -> list[str]:
    """A value of the file as it would be typed."""
    if value is True:
        return [f"--{flag}"]
    if value is False:
        return [f"--no-{flag}"] if defaults.get(flag) is True else []
    if isinstance(value, list):
        return [f"--{flag}={each}" for each in value]
    return [f"--{flag}={value}"]


def _find(name: str, values: Mapping[str, Any]) -> Any:
    """A value by its name among arguments, or within settings that are an argument."""
    if name in values:
        return values[name]
    found = (_find(name, vars(each)) for each in values.values() if hasattr(each, "__dataclass_fields__"))
    return next((each for each in found if each is not None), None)
