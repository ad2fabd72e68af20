"""How the arrays of a recording are compressed: losslessly, unless somebody asks for rounding.

bitshuffle with LZ4 saves what a camera's noise allows, a quarter to a third, at many times the rate of gzip.
It needs the plug-in that hdf5plugin brings, here and in whatever reads the file.
"""

import logging
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import h5py
import numpy as np
from numpy.typing import NDArray

from cars_rt.files.filters import BITSHUFFLE, load_filters
from cars_rt.files.recording.errors import RecordingError
from cars_rt.installation import pip_install

log = logging.getLogger("cars_rt.recording")

Compression: TypeAlias = Literal["lz4", "gzip", "none"]

MANTISSA = 23  # bits of a float32's
LZ4 = 2  # as bitshuffle's options name it


@dataclass(frozen=True, slots=True)
class Packing:
    """compression: of the wide arrays. mantissa_bits: that are kept of each result; all if not given."""

    compression: Compression = "none"
    mantissa_bits: int | None = None

    def __post_init__(self) -> None:
        if self.mantissa_bits is not None and not 1 <= self.mantissa_bits < MANTISSA:
            raise RecordingError(
                f"of a result's {MANTISSA} mantissa bits {self.mantissa_bits} cannot be kept: say 1 to "
                f"{MANTISSA - 1}, such as 12"
            )

    @property
    def packs(self) -> bool:
        """Whether anything is compressed."""
        return self.compression != "none"

    @property
    def about(self) -> dict[str, Any]:
        """The compression in the words of a recording."""
        bits = {} if self.mantissa_bits is None else {"mantissa_bits": self.mantissa_bits}
        return {"compression": self.compression, **bits}

    def usable(self) -> "Packing":
        """This, or without compression where the plug-in is missing, with a word in the log."""
        if self.compression != "lz4" or load_filters():
            return self
        log.warning(
            "recordings are not compressed, which needs hdf5plugin (%s); with --compression none "
            "this is not said",
            pip_install("hdf5plugin"),
        )
        return Packing("none", self.mantissa_bits)

    def apply(self, creation: Any) -> None:
        """Set the filters of a dataset that is to be made: its creation property list."""
        match self.compression:
            case "lz4":
                if not load_filters():
                    raise RecordingError(f"bitshuffle with LZ4 needs hdf5plugin: {pip_install('hdf5plugin')}")
                creation.set_filter(BITSHUFFLE, h5py.h5z.FLAG_MANDATORY, (0, LZ4))
                creation.set_fletcher32()  # LZ4 unpacks most of what a disk has spoiled to other numbers
            case "gzip":
                creation.set_shuffle()
                creation.set_deflate(1)

    def rounded(self, values: NDArray[Any]) -> NDArray[Any]:
        """float32 with no more than the mantissa bits that are kept, to the nearest; others as they are."""
        if self.mantissa_bits is None or values.dtype != np.float32:
            return values
        dropped = MANTISSA - self.mantissa_bits
        unknown = np.isnan(values)
        found = values.copy()
        bits = found.view(np.uint32)
        bits += np.uint32(1 << (dropped - 1))
        bits &= np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)
        if unknown.any():
            found[unknown] = np.nan
        return found


PLAIN = Packing()
