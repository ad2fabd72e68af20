"""The three messages of a run, as typed values. See docs/protocol.md for their meaning on the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cars_rt.accounting import Range
from cars_rt.protocol.saturation import largest_count

#: Facts about something: name to text, number or list of numbers.
Facts: TypeAlias = Mapping[str, str | int | float | Sequence[float]]

StreamName: TypeAlias = Literal["raw", "raman", "preview"]
STREAMS: tuple[StreamName, ...] = ("raw", "raman", "preview")

#: The array that every frame of a stream carries, (k, p).
MAIN_ARRAY: Mapping[str, str] = {"raw": "counts", "raman": "raman", "preview": "bands"}

#: Arrays (p,) of a preview frame: the latest spectrum, as it came and as it went out.
LATEST: tuple[str, ...] = ("latest_counts", "latest_raman")

#: Arrays of a result or preview frame that say how far to trust it, where the publisher knows.
FLAGS, DEVIATION = "flags", "deviation"

#: What a network may give beside raman: arrays (k, p) float32 in its unit, by name, and what each means.
NETWORK_OUTPUTS: Mapping[str, str] = {DEVIATION: "standard deviation of raman"}

#: Array (k,) of a result frame that joins several frames of counts: s after its `time_ns`, for each spectrum.
DELAYS = "delays"

#: dtypes on the wire, all little-endian.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "float32": np.dtype("<f4"),
    "float64": np.dtype("<f8"),
}


class Band(NamedTuple):
    """A range of raman shift, cm-1, whose mean intensity makes an image."""

    name: str
    low: float
    high: float


#: The bands where nobody chose others.
BANDS: tuple[Band, ...] = (
    Band("CH stretch", 2800.0, 3050.0),
    Band("amide I", 1630.0, 1690.0),
    Band("CH2 bend", 1420.0, 1470.0),
    Band("ring breathing", 994.0, 1014.0),
)


class Reason(StrEnum):
    """Why a run ended."""

    COMPLETE = "complete"  # everything that was planned was measured
    STOPPED = "stopped"  # someone stopped it
    FAILED = "failed"  # the instrument or a stage failed
    INTERRUPTED = "interrupted"  # no `end` came; the receiver closed the run itself


@dataclass(frozen=True, eq=False, slots=True)
class Start:
    """A run begins, or (sequence > 0) is already under way and said again for late subscribers."""

    stream: StreamName
    run: str
    time_ns: int  # Unix time of the run's start, ns
    source: str  # the instrument, for people
    raman_shift: NDArray[np.float64]  # (p,), cm-1, strictly monotonic
    dtype: str  # of the frames' main array, a key of DTYPES
    block: int  # the largest number of spectra in one frame
    spectra: int | None = None  # planned total; None: until stopped
    scan: tuple[int, int] | None = None  # rows, columns; spectrum i belongs to (i // columns, i % columns)
    step_um: tuple[float, float] | None = None  # distance between rows, between columns, in um
    exposure_s: float | None = None
    full_scale: float | None = None  # counts at which the camera saturates
    dark: NDArray[np.float32] | None = None  # (p,), counts with the beams blocked
    sequence: int = 0  # sequence number of the next frame
    index: int = 0  # index of the next spectrum
    model: Mapping[str, str] | None = None  # raman only: name, version, sha256, target, engine, ...
    calibration: Facts | None = None  # where the axis comes from: see cars_rt.calibration
    instrument: Facts | None = None  # its settings: gain, temperature_c, binning, region, model, serial...

    @property
    def pixels(self) -> int:
        """Points of one spectrum."""
        return len(self.raman_shift)

    @property
    def saturates_at(self) -> float | None:
        """Counts at which the camera saturates: as stated, or what its integers can hold; None if unknown."""
        return largest_count(self.dtype, self.instrument) if self.full_scale is None else self.full_scale

    @property
    def spectrum_bytes(self) -> int:
        """Bytes of one spectrum of the main array."""
        return self.pixels * DTYPES[self.dtype].itemsize


@dataclass(eq=False, slots=True)  # not frozen: a frozen one is made four times as slowly
class Frame:
    """A block of k consecutive spectra."""

    stream: StreamName
    run: str
    sequence: int  # 0, 1, 2, ... without gaps, as sent by this publisher
    index: int  # index of the block's first spectrum in the run
    time_ns: int  # Unix time at which the camera had delivered the block, ns; kept through all stages
    arrays: Mapping[str, NDArray[Any]]  # the main array (k, p), then others; read-only views of the message
    time_in_ns: int | None = None  # raman only: when the daemon received the block
    time_out_ns: int | None = None  # raman only: when the daemon sent it
    lost: int | None = None  # raman only: spectra of this run lost so far, all causes
    made_by: str | None = None  # not raw: what computed it: model hash, engine, dark
    bands: tuple[Band, ...] | None = None  # preview only: what the columns of the main array are

    @property
    def block(self) -> NDArray[Any]:
        """The main array: counts or raman (k, p), or bands (k, bands)."""
        return self.arrays[MAIN_ARRAY[self.stream]]

    @property
    def counts(self) -> NDArray[Any]:
        """Camera counts, (k, p). KeyError on the result stream."""
        return self.arrays["counts"]

    @property
    def raman(self) -> NDArray[np.float32]:
        """Im{chi_R} / chi_NR or what the model gives, (k, p), float32. KeyError on the raw stream."""
        return self.arrays["raman"]

    @property
    def flags(self) -> NDArray[np.uint8] | None:
        """What is wrong with each spectrum, (k,), bits of cars_rt.Flag; None if nobody looked."""
        return None if self.stream == "raw" else self.arrays.get(FLAGS)

    @property
    def times_ns(self) -> NDArray[np.int64]:
        """Unix time at which the camera had delivered each spectrum, (k,), ns."""
        delays = self.arrays.get(DELAYS) if self.stream == "raman" else None
        times = np.full(len(self.block), self.time_ns, np.int64)
        return times if delays is None else times + np.rint(delays * 1e9).astype(np.int64)

    @property
    def deviation(self) -> NDArray[np.float32] | None:
        """Standard deviation of raman as the model states it, (k, p), float32; None if it does not."""
        return self.arrays.get(DEVIATION) if self.stream == "raman" else None


@dataclass(frozen=True, eq=False, slots=True)
class End:
    """A run is over. A receiver that has counted `frames` and `spectra` has everything that was sent."""

    stream: StreamName
    run: str
    time_ns: int
    frames: int  # frames sent, which is also the sequence number after the last one
    spectra: int  # spectra sent
    reason: Reason
    announced: int | None = None  # spectra that the instrument produced: sent + lost
    lost: Mapping[str, int] = field(default_factory=dict)  # by cause, upstream stages included
    ranges: tuple[Range, ...] = ()  # which ones are lost, in order; not all if there are very many


Message: TypeAlias = Start | Frame | End
