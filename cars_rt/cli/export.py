"""`cars-rt export`: spectra for other programs, and models from training."""

import re
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from cars_rt.cli.app import Logs
from cars_rt.cli.train import export_model
from cars_rt.console import EXIT_USAGE, Logging, fail, log, start_logging

CHECKPOINTS = (".pt", ".pth", ".ckpt")


def export(
    file: Path,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"))],
    to: Literal["hspy", "crikit", "zarr", "tiff", "csv"] | None = None,
    what: Literal["raman", "counts"] | None = None,
    band: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    at: str | None = None,
    plane: int | None = None,
    probe_nm: float | None = None,
    pump_nm: float | None = None,
    axis: Path | None = None,
    overwrite: bool = False,
    name: str | None = None,
    logs: Logs = Logging(),
) -> None:
    """Write spectra for another program, or make a model (ONNX with its card) of a training's checkpoint.

    Example, for HyperSpy: cars-rt export scan.h5 --to hspy -o scan.hspy

    Example, band images for Fiji: cars-rt export scan.h5 --to tiff --band 2850-2930 -o scan.tif

    Example, water beside cells, as a --reference: cars-rt export scan.h5 --what counts --at 0-20,40-63 -o
    water.csv

    Example, a model: cars-rt export cnn/checkpoint.pt -o cnn.onnx

    Parameters
    ----------
    file
        A recording, a result of `cars-rt process` in .h5 or another file of spectra; or the checkpoint that
        `cars-rt train` wrote.
    output
        The file to write, for zarr a folder; of a checkpoint an .onnx file, which `cars-rt run --model` uses.
    to
        hspy (HyperSpy, keeps any axis), crikit (CRIkit2's HDF5), zarr (v3, everything in the file), tiff
        (band images with the size of a pixel), csv (one spectrum or a mean); by the output's name if not
        given.
    what
        raman or counts; raman where there is any, if not given.
    band
        A range of raman shift for tiff, such as 2850-2930 or 2850:2930, in cm-1; once for each image.
    at
        Which spectrum for csv: ROW,COLUMN of a scan or the NUMBER of a spectrum, counted from 0. With the
        first and the last one of each, such as 0-20,40-63, the mean of those; if not given, of all.
    plane
        Which plane of a stack, from 0; all if not given. CRIkit2 takes one.
    probe_nm
        Wavelength of the probe that crikit gets to compute raman shifts with.
    pump_nm
        As for `cars-rt process`.
    axis
        As for `cars-rt process`.
    overwrite
        Replace a file that exists.
    name
        Of a checkpoint: the model's name, as results will carry it; the file's name if not given.
    """
    start_logging(logs)
    if file.suffix.lower() in CHECKPOINTS or (to is None and output.suffix.lower() == ".onnx"):
        of_spectra = {
            "--to": to, "--what": what, "--band": band or None, "--at": at, "--plane": plane,
            "--probe-nm": probe_nm, "--pump-nm": pump_nm, "--axis": axis,
        }  # fmt: skip
        if given := [flag for flag, value in of_spectra.items() if value is not None]:
            fail(f"{', '.join(given)}: a model has none of these; they are of spectra", EXIT_USAGE)
        if output.suffix.lower() != ".onnx":
            fail(f"--output {output}: of a checkpoint comes a model, FILE.onnx", EXIT_USAGE)
        export_model(file, output, name, overwrite=overwrite)
        return
    if name is not None:
        fail("--name is of a checkpoint's model: leave it out", EXIT_USAGE)
    from cars_rt.files.export import KINDS, Wanted
    from cars_rt.files.export import export as export_file

    named = (each for each, of in KINDS.items() if of.ending == output.suffix.lower())
    kind: str | None = to or next(named, None)
    if kind is None:
        fail(f"{output}: say --to {', '.join(KINDS)}", EXIT_USAGE)
    wanted = Wanted(what, tuple(map(_band, band)), _places(at), probe_nm, pump_nm, plane, axis)
    cube = export_file(file, output, kind, wanted, overwrite=overwrite)
    if cube.repeated:
        log.warning(
            "%s: %s%d spectra are left out, since a later one has their place in the scan",
            output,
            "" if plane is None else "in all planes ",
            cube.repeated,
        )
    size = " x ".join(map(str, cube.shape)) + (f", {cube.part}," if cube.part else "")
    log.info("%s: %s of %s as %s", output, cube.name, size, kind)


def _band(text: str) -> tuple[float, float]:
    from cars_rt.physics.band import ends

    try:
        found = ends(text)
    except ValueError:
        found = (0.0, 0.0)
    if not found[0] < found[1]:
        fail(f"--band {text!r}: give two raman shifts in cm-1, such as 2850-2930", EXIT_USAGE)
    return found


def _places(text: str | None) -> tuple[range, ...]:
    parts = [each.strip() for each in (text or "").split(",")]
    found = [re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", each) for each in parts]
    places = tuple(range(int(each[1]), int(each[2] or each[1]) + 1) for each in found if each is not None)
    if text is not None and not (len(places) == len(found) and all(places)):
        fail(
            f"--at {text!r}: give ROW,COLUMN of a scan or the NUMBER of a spectrum, or of each the first and "
            "the last one, such as 0-20,40-63",
            EXIT_USAGE,
        )
    return places
