"""What the experiment demands of every part."""

import uuid
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from cars_rt.protocol import Start, StreamName


@dataclass(frozen=True, eq=False, slots=True)
class Load:
    """What the experiment demands."""

    rate: float  # spectra per second
    start: Start
    counts: NDArray[Any]  # (n, p), examples
    assumed: bool

    def start_of(self, stream: StreamName) -> Start:
        """The start of a run of such spectra."""
        dtype = self.start.dtype if stream == "raw" else "float32"
        return replace(
            self.start, stream=stream, dtype=dtype, run=uuid.uuid4().hex, sequence=0, index=0, spectra=None
        )

    @property
    def recorded_bytes(self) -> int:
        """Of one spectrum in a recording of both streams: counts, raman, and what is noted with them."""
        return (
            self.start.spectrum_bytes + 4 * self.start.pixels + 3 * 8 + 5 * 8 + (16 if self.start.scan else 0)
        )
