"""The counts at which a camera saturates, where nobody states them; pure."""

from collections.abc import Mapping

import numpy as np

FRAMES = "frames_per_point"  # settings: how many are added up,
FRAME_DTYPE = "frame_dtype"  # and the integers of one, which the sum's are not
CAMERAS = ("uint8", "uint16")  # those that are a camera's own: wider ones are sums of its rows


def largest_count(dtype: str, instrument: Mapping[str, object] | None) -> float | None:
    """What the integers of a camera can hold: of a spectrum of this dtype, or of the frames of which settings
    of its instrument say that it is the sum. None for what is none of integers."""
    told = instrument or {}
    frames, of_frame = told.get(FRAMES), told.get(FRAME_DTYPE)
    if of_frame in CAMERAS and isinstance(frames, int | float) and frames >= 1:
        return float(np.iinfo(str(of_frame)).max * frames)
    return float(np.iinfo(dtype).max) if dtype.startswith("uint") else None
