"""`cars-rt show`: pictures of a file."""

import shutil
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cars_rt.cli.app import Logs, needs, progress_bar
from cars_rt.console import Logging, fail, log, start_logging
from cars_rt.printable import typed
from cars_rt.show.bands import WIDTH_CM1


def show(
    file: Path,
    *,
    band: tuple[str, ...] = (),
    at: tuple[str, ...] = (),
    out: Annotated[Path | None, Parameter(name=("--out", "--output", "-o"))] = None,
    width: float = WIDTH_CM1,
    counts: bool = False,
    plane: int | None = None,
    pump_nm: float | None = None,
    axis: Path | None = None,
    dpi: int = 150,
    logs: Logs = Logging(),
) -> None:
    """Show what is in a file: maps at bands, mean spectra, spectra at points, flags.

    Without --out in the terminal, with it as a picture. A recording may still be written.

    Example, three bands as red, green and blue: cars-rt show scan.h5 --band 1003,2850,2930 --out map.png

    Parameters
    ----------
    file
        A recording, a result of `process` in .h5, or whatever else that reads.
    band
        What maps are of: CENTRE or LOW:HIGH in cm-1, NAME= before it or not, several with commas. Three make
        one map of red, green and blue. Without any, the strongest one.
    at
        Points whose spectra are shown: ROW,COLUMN of a map, NUMBER of a list; may be repeated.
    out
        The picture, .png, .svg or .pdf.
    width
        Of bands that are given by their centre, in cm-1.
    counts
        Map the counts, not the results.
    plane
        Which plane of a stack, from 0; the middle one if not given.
    pump_nm
        As for `cars-rt process`.
    axis
        As for `cars-rt process`.
    dpi
        Points per inch of a .png.
    """
    start_logging(logs)
    for module in ("xarray", "dask"):
        needs(module, "files")
    if out is not None:
        needs("matplotlib", "demo")
    from cars_rt.show import parse_bands, read

    points = [_point(each) for each in at]
    with progress_bar() as bar:
        task = bar.add_task(file.name, total=None)
        shown = read(
            file, parse_bands(band, width), points, counts=counts, plane=plane, width=width, pump_nm=pump_nm,
            axis=axis,            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
        bar.update(task, visible=False)
    if out is not None:
        from cars_rt.console import writing
        from cars_rt.show.picture import draw

        with writing(out):
            draw(shown, out, dpi)
        log.info("%s: %s", out, shown.describe())
        return
    from rich.console import Console

    from cars_rt.show.terminal import render

    output = Console(highlight=False)
    columns, lines = shutil.get_terminal_size()
    height = max(lines - 6, 12)
    output.print(
        render(shown, min(output.width, columns) - 1, height, colour=output.color_system is not None)
    )
    command = f"cars-rt show {typed(file)} --out {typed(file.with_suffix('.png').name)}"
    output.print(f"a picture of it: {command}", style="dim", markup=False, soft_wrap=True)


def _point(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        fail(f"--at {text} is no point: give ROW,COLUMN as whole numbers, or the NUMBER of a spectrum", 2)
