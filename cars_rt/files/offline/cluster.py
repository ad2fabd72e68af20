"""`cars-rt process --scheduler`: the ranges of a file computed by the workers of a Dask cluster.

Each range becomes a part (see `parts`), so a worker that is killed loses nothing but what it was doing, Dask
gives that to another one, and a second run does what the first one did not come to. When all are there they
are joined here to the same file that `process` writes alone.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cars_rt.engines import Model
from cars_rt.errors import CarsRtError
from cars_rt.files.offline.parts import Parts, planned
from cars_rt.files.offline.recipe import Recipe, made_from
from cars_rt.files.offline.retrieval import BATCH, Maker
from cars_rt.files.offline.worker import Task, compute, maker_of
from cars_rt.files.resumed import Filled, Origin, resuming
from cars_rt.files.spectra import Spectra, SpectraError
from cars_rt.installation import install_extra
from cars_rt.physics.fitness import named
from cars_rt.printable import printable
from cars_rt.protocol import FLAGS

ANSWER_S = 10.0  # for a scheduler to answer
WORKERS_S = 60.0  # for a first worker to be there
SAME = ("dask", "distributed", "numpy")  # packages that must agree in their versions


def process_on_cluster(
    address: str,
    source: Path,
    target: Path,
    spectra: Spectra,
    model: Model,
    recipe: Recipe,
    origin: Callable[[Maker], Origin],
    *,
    overwrite: bool,
    delete_others: bool,
    progress: Callable[[int, int], None],
) -> tuple[Maker, Filled]:
    """Compute what is missing and join it; what made it, and what became of it.

    origin: what the results say of where they come from, by what made them. Raises SpectraError.
    """
    total = len(spectra.counts)
    expected = made_from(source, spectra, model)
    task = Task(source.resolve(), _absolute(recipe), expected)
    with _connected(address) as client:
        maker = _told(lambda: client.submit(maker_of, task, pure=False).result())
        task = replace(task, recipe=replace(task.recipe, engine=maker.engine))
        row_bytes = 4 * len(spectra.raman_shift) * len(maker.outputs)
        told = {"made_from": expected, "engine": maker.description}
        parts = planned(target.resolve(), total, row_bytes, BATCH, told, delete_others=delete_others)
        computed = _compute(client, task, parts, progress)
    flagged = Counter[str]()
    with resuming(
        target, total, origin(maker), align=parts.size, overwrite=overwrite, delete_others=delete_others
    ) as results:
        for rows in parts.read(results.written):
            flagged.update(named(rows[FLAGS]))
            results.append(rows)
    parts.remove()
    return maker, Filled(computed, flagged, str(results.without))


def _compute(client: Any, task: Task, parts: Parts, progress: Callable[[int, int], None]) -> int:
    """Everything that is missing; how many spectra."""
    from distributed import as_completed

    missing = parts.missing
    wanted = sum(last - first for first, last in missing)
    done = parts.total - wanted
    progress(done, parts.total)
    tasks = [replace(task, first=first, last=last, part=parts.path(first, last)) for first, last in missing]
    futures = client.map(compute, tasks, pure=False, retries=2) if tasks else []
    try:
        for future in as_completed(futures, loop=client.loop):  # type: ignore[no-untyped-call]
            done += _told(future.result)
            progress(done, parts.total)
    except BaseException:
        client.cancel(futures)
        raise
    return wanted


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of the scheduler, which has a worker and the same packages. Raises SpectraError."""
    try:
        from distributed import Client
    except ImportError:
        raise SpectraError(f"--scheduler needs distributed: {install_extra('cluster')}") from None
    try:
        client = Client(address, timeout=ANSWER_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        said = printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 120)
        raise SpectraError(
            f"no Dask scheduler answers at {address} ({said}); start one with `dask scheduler` or "
            "leave --scheduler out"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKERS_S)
        except TimeoutError:
            raise SpectraError(
                f"the scheduler at {address} has no worker; start some: dask worker {address} --nthreads 1"
            ) from None
        _refuse_other_versions(client)
        yield client


def _refuse_other_versions(client: Any) -> None:
    """Results of another release, or packages that do not understand each other, before any work is done."""
    found = client.get_versions()
    mine = found["client"]["packages"]
    for name, other in {"the scheduler": found["scheduler"], **found["workers"]}.items():
        theirs = (other or {}).get("packages", {})
        for package in SAME:
            there, here = theirs.get(package), mine.get(package)
            if there != here:
                raise SpectraError(
                    f"{name} has {package} {there}, and here it is {here}; install the same one everywhere"
                )
    ours = version("cars-rt")
    for name, release in _told(lambda: client.run(version, "cars-rt")).items():
        if release != ours:
            raise SpectraError(
                f"{name} has cars-rt {release}, and here it is {ours}: install the same release"
            )


def _told(function: Callable[[], Any]) -> Any:
    """What a worker returns; what goes wrong there, in one sentence."""
    from distributed import KilledWorker

    try:
        return function()
    except CarsRtError:
        raise
    except KilledWorker as error:
        raise SpectraError(
            f"workers died of one part again and again, the last one at {error.last_worker.address}: it may "
            "want more memory; what is done is kept"
        ) from None
    except (Exception, CancelledError) as error:  # of Dask, of what a worker lacks, of its disk
        said = printable(str(error).splitlines()[0] if str(error) else type(error).__name__, 120)
        raise SpectraError(
            f"the cluster cannot go on ({said}); the scheduler and all workers need this release of cars-rt "
            "and the same folders; what is done is kept"
        ) from None


def _absolute(recipe: Recipe) -> Recipe:
    """Paths as every computer of the cluster that shares the folder has them."""
    model = Path(recipe.model)
    names = ("reference", "axis", "calibration")
    paths: dict[str, Any] = {name: path.resolve() for name in names if (path := getattr(recipe, name))}
    return replace(recipe, model=str(model.resolve()) if model.suffix == ".onnx" else recipe.model, **paths)
