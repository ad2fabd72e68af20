"""What was found, as data, and what it comes to."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from cars_rt.doctor.impersonal import impersonal
from cars_rt.engines import DEFAULT_MODEL, bundled_models
from cars_rt.engines.registry import REFERENCE

TITLES = {"tensorrt": "TensorRT"}  # of engines, where it is not the name


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The computer and the Python that CARS-RT runs in."""

    cars_rt: str
    system: str
    python: str
    processor: str
    cores: int  # of the computer
    usable_cores: int  # by this process
    realtime: bool  # spectra need not wait for other programs


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """The NVIDIA GPU and its driver, or the reason why there is none."""

    name: str | None = None
    capability: str | None = None  # compute capability, "8.9"
    driver: str | None = None  # its version, "580.65.06"
    driver_cuda: str | None = None  # the newest CUDA that the driver runs, "12.8"
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class ProductState:
    """One of NVIDIA's products that is installed."""

    title: str
    version: str
    cuda: int  # first number of the CUDA that it is built for; 0: not known


@dataclass(frozen=True, kw_only=True)
class Package:
    """One that is used, and its version, or how to install it."""

    name: str
    purpose: str
    version: str | None
    install: str


@dataclass(frozen=True, kw_only=True)
class EngineState:
    """Whether an engine can run here, or why not, with the remedy."""

    name: str
    reason: str | None

    @property
    def available(self) -> bool:
        """Whether it says that it can run here."""
        return self.reason is None


@dataclass(frozen=True, kw_only=True)
class CacheState:
    """The folder of TensorRT's plans and of what `auto` found out."""

    folder: str
    plans: int
    bytes: int  # of all files in it
    choices: int  # records of engines that were tried


@dataclass(frozen=True, kw_only=True)
class PortState:
    """One of the addresses that are used if no others are given."""

    used_for: str
    address: str
    flag: str  # that names another one
    reason: str | None  # why it is not free


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One engine on one model, against the reference."""

    model: str
    engine: str
    reason: str = ""  # why it failed
    difference: float = 0.0  # from the reference, of a spectrum's maximum
    rate: float = 0.0  # spectra/s; 0: not measured
    about: str = ""  # version, device and precision, in the engine's own words
    open_s: float = 0.0  # until it was ready, s
    again_s: float = 0.0  # the same once more, with what it keeps on disk; 0: not tried


class State(StrEnum):
    """What became of an engine."""

    WORKS = "works"
    FAILS = "FAILS"
    NOT_HERE = "not here"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What all trials of one engine come to, in one line."""

    engine: str
    state: State
    text: str


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that was found."""

    machine: Machine
    gpu: GpuState
    products: list[ProductState]
    packages: list[Package]
    engines: list[EngineState]
    cache: CacheState
    ports: list[PortState]
    trials: list[Trial]

    @property
    def verdicts(self) -> list[Verdict]:
        """One for each engine."""
        return [
            verdict(each, [trial for trial in self.trials if trial.engine == each.name])
            for each in self.engines
        ]

    @property
    def healthy(self) -> bool:
        """Whether the reference runs here, and every engine that says it can run here did, and agreed, on
        every shipped model; and whether the reference computes all others."""
        return not self._problems

    @property
    def summary(self) -> str:
        """One line for all of it."""
        if (useless := self._useless) and not self._of_computer:
            found = "; ".join(f"{model} is of no use: {reason}" for model, reason in useless.items())
            return f"{found}; `cars-rt doctor` without --model judges this computer"
        if problems := self._problems:
            return f"NOT HEALTHY: {'; '.join(problems)}"
        models = list(dict.fromkeys(trial.model for trial in self.trials))
        told = (
            DEFAULT_MODEL if DEFAULT_MODEL in models else models[0]
        )  # others are tried where they are named
        best = max((trial for trial in self.trials if trial.model == told), key=lambda trial: trial.rate)
        right = "every model right" if len(models) > 1 else f"{told} right"
        works = f"HEALTHY: {_counted(self.verdicts)} {right}"
        works += f"; {best.model} is fastest on {best.engine}" if best.rate else ""
        return "; ".join([works, *(f"{each.engine} fails on {each.model}" for each in self._of_own)])

    @property
    def _of_own(self) -> list[Trial]:
        """What failed with models of the user's own: that says nothing of this computer."""
        ours = bundled_models()
        return [each for each in self.trials if each.reason and each.model not in ours]

    @property
    def _useless(self) -> dict[str, str]:
        """Models of the user's own that even the reference fails on, and how."""
        return {each.model: each.reason for each in self._of_own if each.engine == REFERENCE}

    @property
    def _problems(self) -> list[str]:
        return [*self._of_computer, *(f"{model} is of no use" for model in self._useless)]

    @property
    def _of_computer(self) -> list[str]:
        absent = [each.name for each in self.engines if each.name == REFERENCE and not each.available]
        ours = bundled_models()
        wrong = {each.engine for each in self.trials if each.reason and each.model in ours}
        failed = [each.engine for each in self.verdicts if each.engine in wrong]
        return [
            *(f"{name}, which all others are judged by, cannot run here" for name in absent),
            *([f"{', '.join(failed)} cannot be trusted here"] if failed else []),
        ]


def verdict(engine: EngineState, trials: list[Trial]) -> Verdict:
    """What the trials of one engine come to."""
    title = TITLES.get(engine.name, engine.name)

    def of(state: State, text: str) -> Verdict:
        return Verdict(engine=engine.name, state=state, text=f"{title}: {state}{text}")

    if engine.reason is not None:
        return of(State.NOT_HERE, f": {engine.reason}")
    if failed := [trial for trial in trials if trial.reason]:
        return of(State.FAILS, "".join(f" on {each.model}: {each.reason};" for each in failed).rstrip(";"))
    difference = max(each.difference for each in trials)
    agrees = f"agrees (within {difference:.1g} of the maximum)"
    text = f", {'is the reference' if engine.name == REFERENCE else agrees}"
    if all(each.rate for each in trials):
        rates = [f"{each.rate:,.0f} with {each.model}" for each in trials]
        text += f", spectra/s: {', '.join(rates)}"
    text += f"; {trials[0].about}"
    return of(State.WORKS, text)


def as_json(report: Report) -> dict[str, Any]:
    """Everything, for programs and to be sent; what it comes to first. Of paths only what tells nothing about
    who works here."""
    found = {
        "healthy": report.healthy,
        "summary": report.summary,
        "verdicts": [asdict(each) for each in report.verdicts],
    } | asdict(report)
    return {name: impersonal(value) for name, value in found.items()}


def _counted(verdicts: list[Verdict]) -> str:
    count = sum(each.state is State.WORKS for each in verdicts)
    return f"the {count} engines here compute" if count > 1 else "the one engine here computes"
