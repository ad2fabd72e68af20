"""Which files become which: names, patterns and folders to pairs of a source and a target."""

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from glob import has_magic
from pathlib import Path

from cars_rt.files.formats import endings
from cars_rt.files.recording import is_partial
from cars_rt.files.results import is_result
from cars_rt.files.spectra import SpectraError
from cars_rt.storage import StorageError, make_folder

log = logging.getLogger("cars_rt.offline")

#: What becomes of which kind of file where only a folder is given; of any other .h5.
KIND_OF_RESULT = {".csv": ".csv", ".txt": ".csv", ".npz": ".npz", ".npy": ".npz"}


def targets(inputs: Sequence[Path], output: Path) -> list[tuple[Path, Path]]:
    """Which file becomes which; the folder of the results is made if there is none. Raises SpectraError for
    what cannot be, before any work is done."""
    sources = list(dict.fromkeys(each for given in inputs for each in _matching(given)))
    if len(sources) > 1 and not (sources := _no_results(sources)):
        raise SpectraError(f"all of {inputs[0]} ... {inputs[-1]} are results")
    if not output.is_dir():
        is_file = output.suffix != "" and not output.suffix[1:].isdigit()  # a date in a name has dots, too
        if len(sources) == 1 and is_file:
            if output.exists() and sources[0].exists() and output.samefile(sources[0]):
                raise SpectraError(f"{output} is the input; choose another name for the result")
            return [(sources[0], output)]
        if is_file:
            raise SpectraError(
                f"{output} is one file by its name, and there are {len(sources)} inputs: give a folder, or "
                "make one of that name"
            )
    jobs = [
        (each, output / f"{each.stem}-raman{KIND_OF_RESULT.get(each.suffix.lower(), '.h5')}")
        for each in sources
    ]
    made = Counter(_name(target) for _, target in jobs)
    if twice := [target for _, target in jobs if made[_name(target)] > 1]:
        raise SpectraError(f"two of the inputs would become {twice[0]}; process them into two folders")
    for source, target in jobs:
        if target.exists() and any(target.samefile(each) for each in sources):
            raise SpectraError(
                f"{target} is an input, and would be the result of {source}; give another folder"
            )
    try:
        make_folder(output)
    except (StorageError, OSError) as error:
        raise SpectraError(str(error)) from None
    return jobs


def _name(target: Path) -> str:
    """What a file is known by: capital letters may not count."""
    return str(target).casefold() if sys.platform in ("darwin", "win32") else str(target)


def _matching(given: Path) -> list[Path]:
    """The file; of a folder, the files of spectra in it; where there is neither, those that match it as a
    pattern: not every shell does that by itself. Results and partial recordings are no spectra there."""
    known = endings()
    if given.is_dir():
        found = _sources(given.iterdir(), known)
        if not found:
            raise SpectraError(f"no file of spectra is in the folder {given}")
        return found
    if given.exists():
        if given.suffix.lower() not in known:
            raise SpectraError(f"{given}: the file's name must end in one of {', '.join(known)}")
        return [given]
    if not has_magic(str(given)):
        raise SpectraError(f"there is no file or folder {given}")
    pattern = str(given.relative_to(given.anchor))
    found = _sources(Path(given.anchor).glob(pattern), known)
    if not found:
        raise SpectraError(f"no file of spectra matches {given}")
    return found


def _sources(paths: Iterable[Path], known: Sequence[str]) -> list[Path]:
    found = [
        path
        for path in sorted(paths)
        if path.suffix.lower() in known and path.is_file() and not path.name.startswith(".")
    ]
    return _no_results(_without(is_partial, found, "since they are being written, or were"))


def _no_results(paths: Sequence[Path]) -> list[Path]:
    return _without(is_result, paths, "since they are results")


def _without(which: Callable[[Path], bool], paths: Sequence[Path], said: str) -> list[Path]:
    """Those of many files that are not of this kind; the others are told."""
    out = [path for path in paths if which(path)]
    if out:
        others = f" and {len(out) - 1} more" if len(out) > 1 else ""
        log.info("left out, %s: %s%s", said, out[0], others)
    return [path for path in paths if path not in out]
