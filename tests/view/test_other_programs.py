"""The lines of docs/display.md for notebooks and desktop programs, as somebody copies them."""

import re
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from files.test_dataset import ended, recorded
from helpers import Published, a_frame, a_start, an_end, wait_until

import cars_rt
from cars_rt.protocol import Band

PAGE = Path(__file__).parents[2] / "docs" / "display.md"
VALUES = np.arange(12, dtype=np.float32)


def lines(after: str) -> str:
    """The indented block that follows these words."""
    text = PAGE.read_text(encoding="utf-8").partition(after)[2]
    found = re.match(r"[^\n]*\n\n((?:    .*\n|\n)*)", text)
    assert found is not None
    return textwrap.dedent(found[1])


@pytest.mark.parametrize("after", ["In Jupyter", "With matplotlib"])
@pytest.mark.parametrize("first", [(0, 6), (0, 8), (0, 12)], ids=["whole", "two lost", "stack"])
def test_the_map_of_a_run(after: str, first: tuple[int, ...]) -> None:
    """first: index of each of two frames of six spectra, of a run whose scan has twelve places."""
    wanted = np.full(12, np.nan)
    for number, begin in enumerate(first):
        wanted[np.arange(begin, begin + 6) % 12] = VALUES[6 * number : 6 * number + 6]
    matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    space: dict[str, Any] = {"cars_rt": cars_rt, "np": np, "plt": plt}
    with Published("preview") as source:
        code = lines(after).replace("tcp://127.0.0.1:5557", source.address)
        program = threading.Thread(target=exec, args=(code, space))
        program.start()
        source.wait()
        source.say(a_start(stream="preview", dtype="float32", scan=(3, 4), spectra=18, block=6))
        for number, index in enumerate(first):
            arrays = {"bands": VALUES[6 * number : 6 * number + 6, None]}
            about: Any = {"stream": "preview", "arrays": arrays, "bands": (Band("b", 1, 2),)}
            source.say(a_frame(number, arrays["bands"], index=index, **about))
        source.say(an_end(2, 12, stream="preview"))
        if "stream" in code:
            wait_until(
                lambda: not program.is_alive() or np.array_equal(
                    np.ravel(space.get("image", ())), wanted, equal_nan=True
                )
            )  # fmt: skip
            space["stream"].close()
        program.join(60)
        assert not program.is_alive()
    shown = np.ma.filled(plt.gca().images[-1].get_array(), np.nan)
    np.testing.assert_array_equal(shown, wanted.reshape(3, 4))
    plt.close("all")


def test_a_recording_in_napari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the model of a viewer: the window around it needs a screen and OpenGL."""
    napari = pytest.importorskip("napari", reason="napari is not installed")
    pytest.importorskip("xarray", reason="needs the extra files")
    from napari.components import ViewerModel

    monkeypatch.setattr(napari, "Viewer", ViewerModel, raising=False)
    monkeypatch.chdir(tmp_path)
    ended(recorded(tmp_path / "scan.h5"))
    space: dict[str, Any] = {}
    exec(lines("In napari"), space)
    assert space["viewer"].layers[0].data.shape == (160, 5, 7)
