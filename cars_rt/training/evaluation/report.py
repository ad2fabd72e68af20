"""Evaluations as tables, for the terminal and for documents: models in rows, numbers in columns."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table as RichTable

from cars_rt.training.evaluation.comparison import Evaluation
from cars_rt.training.evaluation.metrics import DECADES
from cars_rt.training.evaluation.speed import Speed

QUIET = 0.5  # the load average of a computer that does nothing else


@dataclass(frozen=True)
class Table:
    """Text in cells; the first column is text, the others are numbers."""

    title: str
    columns: list[str]
    rows: list[list[str]]

    def rich(self) -> RichTable:
        """For the terminal; without the title, which may be wider."""
        table = RichTable(box=None, pad_edge=False)
        for number, name in enumerate(self.columns):
            table.add_column(name, justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*row)
        return table

    def markdown(self) -> str:
        """The title in bold and the table, with an empty line after it."""
        ruler = ["---"] + ["---:"] * (len(self.columns) - 1)
        lines = [self.columns, ruler, *self.rows]
        text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"**{self.title}**\n\n{text}\n"


def tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """Everything measured of models on one protocol; at least one evaluation."""
    made = [_accuracy(evaluations), _cases(evaluations), _deviation(evaluations)]
    made += [_linearity(evaluations), _bias(evaluations), _speed(evaluations)]
    return [table for table in made if table.rows]


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """The tables, and on what computer they were measured."""
    made = [table.markdown() for table in tables(evaluations)]
    return "\n".join([*made, conditions(evaluations), ""])


def conditions(evaluations: Sequence[Evaluation]) -> str:
    """A sentence: on what computer it was measured, and whether that did other things meanwhile."""
    first = evaluations[0]
    busy = first.load is not None and first.load > QUIET
    speeds = f"; other programs kept it busy (load {first.load:.1f}): the speeds are rough" if busy else ""
    return f"On {first.hardware}{speeds}."


def _accuracy(evaluations: Sequence[Evaluation]) -> Table:
    first = evaluations[0]
    total, visible = first.accuracy["spectra"], first.accuracy["visible"]
    title = f"{first.protocol}: {total:,} spectra never seen (seed {first.seed})"
    if visible < total:
        title += f"; R2, Pearson and peaks of the {visible:,} whose strongest line exceeds 5 times the noise"
    rows = []
    for each in evaluations:
        a, peaks = each.accuracy, each.accuracy["peaks"]
        low, high = a["quartiles_r2"]
        rows.append([
            each.model, each.trained_on, _cell(a["median_r2"], ".4f"),
            "" if low is None else f"{low:.4f} to {high:.4f}", f"{a['mean_square_error']:.2e}",
            f"{a['mean_absolute_error']:.2e}", _cell(a["median_pearson"], ".4f"),
            *(f"{peaks[kind]:,}" for kind in ("found", "missed", "false")),
        ])  # fmt: skip
    columns = ["model", "trained on", "median R2", "quartiles", "mean MSE", "mean MAE", "median Pearson"]
    return Table(title, [*columns, "peaks found", "missed", "false"], rows)


def _cases(evaluations: Sequence[Evaluation]) -> Table:
    names = list(evaluations[0].cases)
    rows = [
        [each.model, *(f"{each.cases[name]['mean_absolute_error']:.2e}" for name in names)]
        for each in evaluations
        if names
    ]
    return Table("Mean absolute error of each case", ["model", *names], rows)


def _deviation(evaluations: Sequence[Evaluation]) -> Table:
    rows = []
    for each in evaluations:
        for signal in ("reported", "true"):
            if shares := each.accuracy.get(f"within_deviation_by_{signal}"):
                cells = (f"{shares[name]:.1%}" if name in shares else "" for name in DECADES)
                rows.append([each.model, signal, f"{each.accuracy['within_deviation']:.1%}", *cells])
    title = "Points within their deviation (68.3 % is meant), by decade of the signal"
    return Table(title, ["model", "signal", "all", *DECADES], rows)


def _linearity(evaluations: Sequence[Evaluation]) -> Table:
    rows = []
    for each in evaluations:
        if each.linearity is None:
            continue
        for dilution in each.linearity.dilutions:
            rows.append([
                each.model, f"{dilution.substance} {dilution.shift:.0f} cm-1", f"{dilution.slope:.3f}",
                _cell(dilution.r2, ".4f"), f"{dilution.weakest:.0%}",
                _cell(each.linearity.largest_change, ".1e"),
            ])  # fmt: skip
    title = "Dilution from 1 to 0.01 in the simulated microscope: the strongest line against the truth"
    columns = ["model", "line", "slope", "R2", "retrieved at 0.01", "change for counts x 0.1 and x 10"]
    return Table(title, columns, rows)


def _bias(evaluations: Sequence[Evaluation]) -> Table:
    rows = []
    for each in evaluations:
        if each.bias is not None:
            shares, spread = each.bias.retrieved, each.bias.root_mean_square
            rows.append([
                each.model, f"{spread.get(DECADES[0], 0):.1e}",
                *(f"{shares[name]:.1%}" if name in shares else "" for name in DECADES[1:]),
            ])  # fmt: skip
    first = next((each.bias for each in evaluations if each.bias is not None), None)
    drawn = "" if first is None else f"{first.draws} draws of the noise of each of {first.spectra} spectra"
    title = f"The mean over {drawn}, of the truth, by decade of the signal"
    return Table(title, ["model", f"off by, {DECADES[0]}", *DECADES[1:]], rows)


def _cell(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def _speed(evaluations: Sequence[Evaluation]) -> Table:
    first = evaluations[0].speed
    title = f"Spectra per second of {first[0].length} pixels, counts in and raman out"
    rows = [[each.model, *map(_rate, each.speed)] for each in evaluations]
    return Table(title, ["model", *map(_conditions, first)], rows)


def _conditions(speed: Speed) -> str:
    threads = "1 thread" if speed.threads == 1 else f"{speed.threads} threads"
    return f"{threads}, {'one alone' if speed.batch == 1 else f'{speed.batch} at once'}"


def _rate(speed: Speed) -> str:
    return f"{speed.spectra_per_s:,.0f} ({1000 / speed.spectra_per_s:.2f} ms)"
