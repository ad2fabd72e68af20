"""Processor time: what each part costs, and what they cost together."""

from typing import TypeAlias

from cars_rt.check.load import Load
from cars_rt.check.report import Line, Verdict, compared
from cars_rt.engines.base import usable_cores

#: Processor time of one spectrum, seconds on one core, by what it is spent on.
Costs: TypeAlias = dict[str, float]


def judge_processor(load: Load, costs: Costs, busy: float) -> Line:
    """Driver's sending, daemon and recorder together, if all of them run on this computer.

    busy: how many programs wanted a core in the minute before.
    """
    if not {"engine", "send raw", "record"} <= set(costs):
        return Line(name="processor", verdict=Verdict.NOT_MEASURED, note="a part of it could not be measured")
    both = costs | {"receive raw": 2 * costs["receive raw"]}  # the daemon and the recorder
    shares = {name: cost * load.rate for name, cost in both.items()}
    note = "all parts together, without the driver's own work: engine "
    note += (
        f"{shares['engine']:.2f}, messages {sum(shares.values()) - shares['engine'] - shares['record']:.2f}, "
    )
    note += f"recorder {shares['record']:.2f} cores"
    if busy > usable_cores():
        note += f"; other programs want {busy:.1f} cores, which spoils every number here"
    return compared("processor", sum(shares.values()), float(usable_cores()), "cores", note)
