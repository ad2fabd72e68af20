"""Totals of a run, as they can be passed on."""

from dataclasses import replace

from cars_rt.accounting import Cause, Kind, Ledger
from cars_rt.protocol.limits import MAX_COUNT
from cars_rt.protocol.messages import End


def countable(end: End, ledger: Ledger) -> End:
    """The end with totals that can be passed on. Near the limit of numbers a total may exceed it. Then
    fewer spectra are said to be missing, never fewer to have come."""
    excess = ledger.spectra + ledger.total_lost - MAX_COUNT
    if excess <= 0:
        return end
    largest = max(ledger.lost, key=lambda cause: ledger.lost[cause])
    ledger.set_lost(Cause(largest), ledger.lost[largest] - excess)
    ledger.problems[Kind.WRONG_TOTALS.value] += 1
    return replace(end, announced=MAX_COUNT, spectra=MAX_COUNT - ledger.lost[Cause.UPSTREAM])
