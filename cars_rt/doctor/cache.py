"""The folder of TensorRT's plans and of what `auto` found out."""

from pathlib import Path

from cars_rt.doctor.report import CacheState
from cars_rt.engines.remembered import records
from cars_rt.engines.tensorrt.plans import SUFFIX, default_folder


def read_cache(folder: Path | None = None) -> CacheState:
    """What is in the folder, by default the user's; it is not made. One that cannot be read is empty."""
    place = default_folder() if folder is None else folder
    plans = size = 0
    try:
        for path in place.iterdir():
            plans += path.suffix == SUFFIX
            size += path.stat().st_size
    except OSError:  # not there, or not ours; TensorRT itself says so where it matters
        pass
    return CacheState(folder=str(place), plans=plans, bytes=size, choices=len(records(place)))
