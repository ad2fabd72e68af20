"""What subscribers have been told of a stream: the run on the wire or that before, its frames' numbers."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import cast

import numpy as np
import zmq

from cars_rt.accounting import Ledger
from cars_rt.protocol import End, Frame, FrameWriter, Part, Start, encode
from cars_rt.protocol.limits import MAX_COUNT

SMALL_BYTES = 32_768  # a smaller frame is copied twice: that costs less than objects of ZeroMQ


class Told:
    """The run whose start has left, until its end has. Frames get their numbers here, as they leave."""

    def __init__(self) -> None:
        self.start: Start | None = None
        self._over: End | None = None  # of the run that ended last
        self.ledger = Ledger()
        self.sequence = 0  # of the frame that comes next
        self.frames = self.spectra = 0  # in all runs
        self._index = 0
        self._writer = FrameWriter()

    def begin(self, start: Start, ledger: Ledger) -> None:
        """The start of a run has left."""
        self.start, self.ledger = start, ledger
        self.sequence, self._index = start.sequence, start.index

    def say(self, run: str, model: Mapping[str, str]) -> bool:
        """This makes the results of a run from now on. False if it is not the one on the wire."""
        if self.start is None or self.start.run != run:
            return False
        self.start = replace(self.start, model=model)
        return True

    def ended(self, end: End) -> None:
        """The end of the run has left."""
        self.start, self._over = None, end

    def once_more(self) -> list[Part] | None:
        """For a subscriber that comes now: the start or, between two runs, the last end, which it may have
        missed when it lost its connection. None before the first run."""
        if self.start is None:
            return None if self._over is None else encode(self._over)
        return encode(replace(self.start, sequence=self.sequence, index=self._index))

    def message(self, frame: Frame, payload: Sequence[zmq.Frame] = ()) -> Sequence[Part | zmq.Frame]:
        """The frame under the next number; payload: its arrays, if ZeroMQ has them already."""
        if frame.sequence != self.sequence:
            frame = replace(frame, sequence=self.sequence)
        parts = self._writer.encode(frame)
        return [*parts[:2], *payload] if payload else parts

    def left(self, frame: Frame) -> None:
        """A frame has left under that number."""
        spectra = len(frame.block)
        self.sequence += 1
        self._index = frame.index + spectra
        self.ledger.passed(spectra)
        self.frames += 1
        self.spectra += spectra

    def copied(self, frame: Frame) -> tuple[Frame, list[zmq.Frame]]:
        """A copy of the frame that owns its arrays. Of a large one also the arrays as ZeroMQ's objects, which
        are sent later without another copy.
        """
        if frame.sequence >= MAX_COUNT:  # a number of the run before, which ended at the last one
            frame = replace(frame, sequence=0)
        if sum(array.nbytes for array in frame.arrays.values()) < SMALL_BYTES:
            own = copy(frame)
            own.arrays = {name: array.copy() for name, array in frame.arrays.items()}
            return own, []
        payload = [zmq.Frame(part, copy=True) for part in self._writer.encode(frame)[2:]]
        arrays = {
            name: np.ndarray(array.shape, array.dtype.newbyteorder("<"), cast(bytes, part))
            for (name, array), part in zip(frame.arrays.items(), payload, strict=True)
        }
        return replace(frame, arrays=arrays), payload
