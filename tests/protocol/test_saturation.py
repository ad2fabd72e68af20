"""Where a camera saturates that nobody states: one rule for streams and files."""

from typing import Any

import numpy as np
import pytest
from helpers import AXIS, a_start

from cars_rt.files.spectra import Spectra

FOUR = {"frames_per_point": 4, "frame_dtype": "uint16"}


@pytest.mark.parametrize(
    ("dtype", "told", "stated", "expected"),
    [
        ("uint16", None, None, 65_535),
        ("uint16", None, 4_095, 4_095),
        ("float32", FOUR | {"frame_dtype": "float32"}, None, None),
        ("uint32", FOUR, None, 4 * 65_535),
        ("uint32", FOUR | {"frame_dtype": "uint8"}, None, 4 * 255),
        ("uint32", FOUR, 4 * 4_095, 4 * 4_095),
        ("uint32", FOUR | {"frames_per_point": 0}, None, 2**32 - 1),  # none
    ],
)
def test_sums_of_frames_saturate_where_all_of_them_do(
    dtype: str, told: dict[str, Any] | None, stated: float | None, expected: float | None
) -> None:
    start = a_start(dtype=dtype, instrument=told, full_scale=stated)
    counts = np.zeros((1, len(AXIS)), dtype)
    spectra = Spectra(raman_shift=AXIS, counts=counts, instrument=told, full_scale=stated)
    assert start.saturates_at == expected == spectra.saturates_at
