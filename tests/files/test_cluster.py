"""`process --scheduler`: two real workers in processes of their own, killed at their work."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from helpers import AXIS, PATIENCE_S, spectra_of, wait_until
from numpy.typing import NDArray

from cars_rt.engines.registry import REFERENCE
from cars_rt.files.offline import parts, process
from cars_rt.files.offline.parts import Parts, parts_folder
from cars_rt.files.spectra import SpectraError
from cars_rt.files.written import read_rows
from cars_rt.sockets.free import free_addresses

distributed = pytest.importorskip("distributed")
COUNT = 3_000
SMALL = f"""
from cars_rt.cli import main
from cars_rt.files.offline import parts
parts.PART_BYTES = 256 * 8 * {len(AXIS)}
main()
"""
NAMES = (
    "raman",
    "deviation",
    "flags",
    "index",
    "sequence",
    "time_ns",
    "time_in_ns",
    "time_out_ns",
    "position",
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, protocol="tcp://"
    ) as found:
        yield found


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "in.npz"
    dark = np.linspace(10, 90, len(AXIS)).astype(np.float32)
    np.savez(
        path, spectra=spectra_of(COUNT).reshape(50, 60, -1), raman_shift=AXIS, dark=dark, exposure_s=0.02
    )
    return path


@pytest.fixture(scope="module")
def local(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, NDArray[Any]]:
    """What `process` writes alone."""
    path = tmp_path_factory.mktemp("local") / "out.h5"
    process(source, path, engine=REFERENCE)
    return rows_of(path)


def rows_of(path: Path) -> dict[str, NDArray[Any]]:
    with h5py.File(path) as file:
        return {name: read_rows(file["raman"], name) for name in NAMES}


def same_bytes(path: Path, expected: dict[str, NDArray[Any]]) -> None:
    for name, values in rows_of(path).items():
        assert values.dtype == expected[name].dtype and values.tobytes() == expected[name].tobytes(), name


def made(target: Path) -> int:
    return len(list(parts_folder(target).glob("*.npz")))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 128 * 8 * len(AXIS))


def test_workers_make_the_same_bytes_and_one_that_is_killed_loses_none(
    cluster: Any, source: Path, local: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    """Killed when some parts are there and others are not: what it was doing goes to the other one."""
    target, killed = tmp_path / "out.h5", []

    def progress(done: int, total: int) -> None:
        if 0 < done < total and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

    done = process(
        source,
        target,
        engine=REFERENCE,
        scheduler=cluster.scheduler_address,
        overwrite=False,
        progress=progress,
    )
    assert killed and done.computed == COUNT
    same_bytes(target, local)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    again = process(source, target, scheduler=cluster.scheduler_address, overwrite=False, again=False)
    assert again.computed == 0


def test_a_second_run_does_what_a_client_that_was_stopped_left(
    cluster: Any, source: Path, local: dict[str, NDArray[Any]], tmp_path: Path
) -> None:
    target = tmp_path / "out.h5"

    def stopped(done: int, total: int) -> None:
        if done >= COUNT // 3:
            raise KeyboardInterrupt

    given: dict[str, Any] = {"engine": REFERENCE, "scheduler": cluster.scheduler_address, "overwrite": False}
    with pytest.raises(KeyboardInterrupt):
        process(source, target, progress=stopped, **given)
    there = made(target)
    assert not target.exists() and there * 128 >= COUNT // 3
    seen: list[int] = []
    done = process(source, target, progress=lambda at, total: seen.append(at), **given)
    assert seen[0] >= there * 128 - 128 and done.computed == COUNT - seen[0]
    same_bytes(target, local)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_a_client_that_is_killed_leaves_its_parts_for_the_next(cluster: Any, tmp_path: Path) -> None:
    """A command, killed without warning; the same command completes the file."""
    count = 6_000
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["spectra"], file["raman_shift"] = spectra_of(count), AXIS
    target = tmp_path / "out" / "out.h5"
    target.parent.mkdir()
    given = ("process", tmp_path / "in.h5", "-o", target, "--engine", REFERENCE)
    command = [sys.executable, "-c", SMALL, *given, "--scheduler", cluster.scheduler_address]
    with subprocess.Popen(command) as child:
        wait_until(lambda: made(target) or target.exists() or child.poll() is not None)
        child.kill()
    assert made(target) and not target.exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S)
    assert done.returncode == 0, done.stderr
    process(tmp_path / "in.h5", tmp_path / "whole.h5", engine=REFERENCE)
    with h5py.File(target) as one, h5py.File(tmp_path / "whole.h5") as other:
        for name in ("raman", "deviation", "flags", "index"):
            assert np.array_equal(one["raman"][name], other["raman"][name]), name
    assert [path.name for path in target.parent.iterdir()] == ["out.h5"]


def test_what_a_cluster_cannot_do_is_said_in_one_sentence(cluster: Any, source: Path, tmp_path: Path) -> None:
    (nobody,) = free_addresses(1)
    with pytest.raises(
        SpectraError, match=r"no Dask scheduler answers at .*; start one with `dask scheduler`"
    ):
        process(source, tmp_path / "out.h5", scheduler=nobody)
    with pytest.raises(SpectraError, match=r"with --scheduler results are written as \.h5"):
        process(source, tmp_path / "out.npz", scheduler=cluster.scheduler_address)
    parts_folder(tmp_path / "out.h5").mkdir()
    (parts_folder(tmp_path / "out.h5") / "mine").touch()
    with pytest.raises(SpectraError, match="is a folder of something else"):
        process(source, tmp_path / "out.h5", engine=REFERENCE, scheduler=cluster.scheduler_address)
    with (
        pytest.raises(SpectraError, match="has dask 0, and here it is"),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(distributed.Client, "get_versions", other_versions)
        process(source, tmp_path / "other.h5", scheduler=cluster.scheduler_address)


def other_versions(client: Any) -> dict[str, Any]:
    mine = {"packages": {"dask": "1", "distributed": "1", "numpy": "1"}}
    return {"client": mine, "scheduler": {"packages": {"dask": "0"}}, "workers": {}}


def test_parts_of_another_model_are_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def plan(model: str, **options: bool) -> Parts:
        return parts.planned(tmp_path / "out.h5", 300, 1, 128, {"made_from": model}, **options)

    first = plan("cnn")
    parts.write_part(first.path(*first.ranges[0]), {"raman": np.ones((300, 3), np.float32)})
    assert plan("cnn").missing == [] and len(plan("rnn").missing) == 1
    assert plan("mem").missing and sorted(path.name for path in tmp_path.iterdir()) == [
        "out.h5-2.parts",
        "out.h5.parts",  # there was none of `rnn` to be kept
    ]
    parts.parts_folder(tmp_path / "out.h5").joinpath(parts.PLAN).unlink()
    parts.parts_folder(tmp_path / "out.h5").rmdir()
    assert "out.h5-2.parts now; named out.h5.parts they are gone on with" in caplog.text
    (tmp_path / "out.h5-2.parts").rename(parts.parts_folder(tmp_path / "out.h5"))
    assert plan("cnn").missing == []
    assert plan("rnn", delete_others=True).missing and "engine, and are deleted" in caplog.text
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5.parts"]


def test_parts_are_counted_by_their_files(tmp_path: Path) -> None:
    found = Parts(tmp_path, 300, 128)
    assert found.ranges == [(0, 128), (128, 256), (256, 300)]
    parts.write_part(found.path(128, 256), {"raman": np.ones((128, 3), np.float32)})
    assert found.missing == [(0, 128), (256, 300)]
    parts.write_part(found.path(0, 128), {"raman": np.ones((12, 3), np.float32)})
    with pytest.raises(SpectraError, match="has not the rows of its name"):
        list(found.read(0))
