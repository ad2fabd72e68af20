"""Results are called what their model gives, wherever they are shown."""

from io import StringIO
from pathlib import Path

import h5py
import pytest
from matplotlib.text import Text
from rich.console import Console

pytest.importorskip("xarray", reason="needs the extra files")
pytest.importorskip("dask.array", reason="needs the extra files")

import cars_rt
from cars_rt.files.export import Wanted, export
from cars_rt.show import read
from cars_rt.show.picture import compose
from cars_rt.show.terminal import render
from cars_rt.view.recorded import Recorded
from cars_rt.view.store import Store
from files.test_dataset import ended, recorded


@pytest.mark.parametrize(
    ("target", "called", "symbol", "unit"),
    [
        (None, "Im(chi_R) / chi_NR", "Im χR / χNR", "1"),
        ("ratio", "Im(chi_R) / chi_NR", "Im χR / χNR", "1"),
        (
            "chi3",
            "Im(chi_R) / max |chi_R| of each spectrum, not to be compared",
            "Im χR, scaled in each spectrum",
            "1",
        ),
        ("counts", "camera counts, not retrieved", "camera counts, not retrieved", "count"),
        ("of tomorrow", "raman, as its model defines it", "raman", "1"),
    ],
)
def test_results_are_called_what_their_model_gives(
    target: str | None, called: str, symbol: str, unit: str, tmp_path: Path
) -> None:
    path = ended(recorded(tmp_path / "scan.h5", target=target))
    with cars_rt.open(path) as data:
        said = data["raman"].attrs
        assert said["long_name"].startswith(called) and said["units"] == unit
        assert data["deviation"].attrs["units"] == unit and data["counts"].attrs["units"] == "count"
    with h5py.File(path) as file:
        for name in ("raman", "deviation"):
            assert file["entry/data"][name].attrs["units"] == unit
        assert file["entry/data/raman"].attrs["long_name"] == said["long_name"]
        bands = file["entry/bands"]
        assert bands[bands.attrs["signal"]].attrs["units"] == unit
    export(path, tmp_path / "a.csv", "csv", Wanted())
    head = (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[0]
    assert head.endswith(f"; raman is {said['long_name']}")
    shown, text = read(path), StringIO()
    Console(file=text, width=200).print(render(shown, 100, 20, colour=False))
    assert f": {symbol}" in text.getvalue() and f"mean {symbol}" in text.getvalue()
    drawn = [each.get_text().replace("\n", " ") for each in compose(shown).findobj(Text)]
    words = symbol.replace("χNR", r"$\chi_\mathrm{NR}$").replace("χR", r"$\chi_\mathrm{R}$")
    assert sum(each.startswith(words) for each in drawn) == 2
    model = Recorded(Store(1e8), path).start_message.model
    assert model is not None and model["target"] == (target or "ratio")
