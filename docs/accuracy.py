"""Measure models and write the tables and pictures of docs/accuracy.md.

python docs/accuracy.py [MODEL ...] [--measured FOLDER]

Without names: all shipped models. Each is measured on what it was trained on; sections that none of the
models belongs to stay as they are. Run it on a computer that does nothing else.
"""

from pathlib import Path

import cyclopts

from cars_rt.cli.app import progress_bar
from cars_rt.engines import load_model, shipped_models
from cars_rt.engines.model import RATIO
from cars_rt.training.data.bcars import BcarsPairs
from cars_rt.training.data.distribution import DISTRIBUTIONS, measured_by
from cars_rt.training.evaluation.candidates import Candidate, candidate
from cars_rt.training.evaluation.comparison import compare, fits
from cars_rt.training.evaluation.measured import draw_measured, retrieve_measured, spectra_in, table
from cars_rt.training.evaluation.pictures import draw
from cars_rt.training.evaluation.report import markdown

DOCS = Path(__file__).parent
PAGE = DOCS / "accuracy.md"


def fill(section: str, text: str) -> None:
    """Replace what is between the marks of a section."""
    page = PAGE.read_text(encoding="utf-8")
    opening, closing = f"<!-- {section} -->\n", f"<!-- /{section} -->\n"
    before, _, rest = page.partition(opening)
    _, found, after = rest.partition(closing)
    if not found:
        raise SystemExit(f"{PAGE} has no marks {opening.strip()} and {closing.strip()}")
    PAGE.write_text(f"{before}{opening}\n{text}\n{closing}{after}", encoding="utf-8")


def belongs(model: Candidate, protocol: str) -> bool:
    """Whether it was trained on this, if only as cameras see it; one that was not trained belongs wherever
    its result is asked for."""
    if protocol == BcarsPairs.name or not fits(model, protocol):
        return False
    base = measured_by(model.trained_on).removesuffix("-axes")
    return not base or base == protocol.removesuffix("-axes")


def main(*names: str, spectra: int = 1000, measured: Path | None = None) -> None:
    """Fill the page in."""
    chosen = names or tuple(shipped_models())
    models = [candidate(name) for name in chosen]
    with progress_bar() as bar:
        task = bar.add_task("starting")

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        for protocol in DISTRIBUTIONS:
            if of_protocol := [model for model in models if belongs(model, protocol)]:
                evaluations = compare(of_protocol, protocol, spectra, progress=show)
                picture = f"accuracy-{protocol}.png"
                draw(evaluations, DOCS / picture)
                fill(protocol, f"{markdown(evaluations)}\n![{protocol}]({picture})\n")
    if measured is not None:
        loaded = [load_model(name) for name in (*chosen, "kk") if not name.endswith(".pt")]
        for_instruments = [model for model in loaded if model.card.target == RATIO]
        results = retrieve_measured(for_instruments, spectra_in(measured), print)
        draw_measured(results, DOCS / "accuracy-measured.png")
        fill("measured", f"{table(results).markdown()}\n![measured](accuracy-measured.png)\n")


if __name__ == "__main__":
    cyclopts.run(main)
