"""What the recorder is told: one frozen object, from flags, environment and file."""

from dataclasses import dataclass, field
from pathlib import Path

from cars_rt.files.recorder.names import DEFAULT, Template
from cars_rt.files.recording import Compression, Packing, RecordingError
from cars_rt.protocol import StreamName
from cars_rt.sockets import RAMAN_ADDRESS, RECORDER_ADDRESS
from cars_rt.sockets.addresses import Address
from cars_rt.trust.curve import ClientKeys
from cars_rt.trust.flags import OFF, RecorderAccess


@dataclass(frozen=True, kw_only=True)
class RecordSettings:
    """Settings of `cars-rt record`. Raises AddressError for what is no address, RecordingError for a name
    that cannot be."""

    raman: str | None = RAMAN_ADDRESS
    """Address of the result stream; "none" leaves it out."""

    raw: str | None = None
    """Address of the raw stream, if the counts are to be recorded, too."""

    overwrite: bool = False
    """Replace the file if it exists."""

    name: str = DEFAULT
    """What files in a folder are called: text with {sample}, {date}, {time}, {run}, {source}, and {number} or
    {number:03d}, which goes on after the highest one that is there."""

    sample: str = ""
    """What is measured, for the files and their names; `cars-rt ctl record start --sample` says another."""

    note: tuple[str, ...] = ()
    """Anything else that the files shall say; may be repeated."""

    compression: Compression = "lz4"
    """Of counts and results, without loss: lz4 (with bitshuffle; needs hdf5plugin, also to read them), gzip,
    which every reader knows and which is ten times slower, or none."""

    mantissa_bits: int | None = None
    """Round results to so many bits behind the leading one (12: to 0.01 %, at half the size), and say so in
    the file. All are kept if not given."""

    split_gb: float = 0.0
    """Go on in another file when one has so many GB; 0: never."""

    control: str = RECORDER_ADDRESS
    """Address at which `cars-rt ctl record` is answered; none: it is not."""

    summary: Path | None = None
    """Write what was recorded to this JSON file at the end."""

    access: RecorderAccess = field(default_factory=RecorderAccess)

    def __post_init__(self) -> None:
        for address in (self.raman, self.raw):
            if address not in (None, OFF):
                Address.to_connect(str(address))
        if self.control != OFF:
            Address.to_bind(self.control)
        if not self.split_gb >= 0:
            raise RecordingError(f"--split-gb cannot be {self.split_gb:g}: give a size, or 0 for none")
        Template(self.name)
        Packing(self.compression, self.mantissa_bits)

    def packing(self) -> Packing:
        """How rows are compressed, as far as that can be done here."""
        return Packing(self.compression, self.mantissa_bits).usable()

    def streams(self) -> dict[StreamName, tuple[str, ClientKeys | None]]:
        """What is subscribed to: address and keys. Raises KeysError, or RecordingError if that is nothing."""
        raman = (self.raman, self.access.raman(self.raman))
        raw = (self.raw, self.access.raw(self.raw))
        given: dict[StreamName, tuple[str | None, ClientKeys | None]] = {"raw": raw, "raman": raman}
        wanted = {
            stream: (address, keys)
            for stream, (address, keys) in given.items()
            if address is not None and address != OFF
        }
        if not wanted:
            raise RecordingError("nothing to record: give --raman or --raw")
        return wanted
