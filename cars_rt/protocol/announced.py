"""Whether a frame is what its run's `start` announced."""

import numpy as np

from cars_rt.accounting import Kind, Trouble
from cars_rt.kinds import Fault
from cars_rt.protocol.messages import DTYPES, MAIN_ARRAY, Frame, Start

LARGEST = float(np.finfo(np.float32).max)  # engines compute in float32


def misshapen(frame: Frame, run: Start) -> tuple[int, int] | None:
    """Of a frame whose shape is not what start announced: how many spectra it seems to hold, and the most
    that it can. Its shape does not say: the index of the next frame does. None: the shape is right."""
    rows, pixels = frame.block.shape
    if frame.stream == "preview" or (pixels == run.pixels and rows <= run.block):
        return None
    if pixels == run.pixels:
        return rows, rows
    likely = pixels if rows == run.pixels else rows  # transposed, or of another region
    return max(min(likely, rows, run.block), 1), run.block


def disagreement(frame: Frame, run: Start) -> tuple[Trouble, str] | None:
    """Why a frame is not what the start of its run announced, as (kind, sentence), or None."""
    block = frame.block
    if block.dtype is not DTYPES.get(run.dtype) and block.dtype.name != run.dtype:
        return Fault.DTYPE, f"dtype {block.dtype.name} where start announced {run.dtype}"
    if frame.stream == "preview":
        return None  # its bands may change within a run
    if block.shape[1] != run.pixels:
        return Fault.SHAPE, f"{block.shape[1]} pixels where start announced {run.pixels}"
    if len(block) > run.block:
        return Fault.SHAPE, f"{len(block)} spectra where start announced at most {run.block}"
    if frame.stream == "raw" and block.dtype.kind == "f" and not (np.abs(block) <= LARGEST).all():
        return Kind.NAN, f"{MAIN_ARRAY[frame.stream]} that are NaN, infinite or too large for float32"
    return None
