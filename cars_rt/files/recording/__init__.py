"""A recording: one run in one HDF5 file.

    /                attrs: format, version, complete, reason; run, source and all else that `start` said (see
                     cars_rt/files/measurement.py); streams: those that it takes to be complete, as JSON
    /raw             raman_shift (p,), counts (n, p), index, sequence, time_ns (n,), position (n, 2),
                     dark (p,) if known; counts_crc32 (n,), before they are compressed;
                     columns_crc32 (n, k) of the others
    /raman           raman_shift (p,), raman (n, p), index, sequence, time_ns, time_in_ns, time_out_ns (n,),
                     position (n, 2); where the daemon gives them, flags (n,) uint8, whose bits' names are in
                     model_flags, and deviation (n, p), NaN where the model of that time states none;
                     attrs: model_name, model_sha256, model_card, ...
                     made_by: [index, what made results from there on], a change of model, engine or dark each
    /raw, /raman     written: how many rows are data; attrs: lost, announced (-1 until the stream ended)

    /entry           what other programs find, see nexus and maps: made when the recording is finished
    docs/files.md    describes all of it for other readers

What else is noted (see cars_rt/daemon/flight.py) lies in groups of its own.

While it is written the file is called NAME.partial.h5. Every dataset is allocated ahead and `written`
follows the data, so that writing changes no metadata, or for compressed arrays only where a chunk lies that
nobody vouched for yet: rows that were flushed are readable at any moment, also
after a kill, when rows from `written` on are not data. A kill within the millisecond in which a stream begins
can spoil that stream, which has no rows yet; one in which it ends, the text of its receipt. More room than
was allocated, and notes amid a run, need many changes of HDF5's tables, which therefore take effect at once
(cars_rt.storage.changes).

Closing opens the file again, counts and cuts it to its rows, and says then whether it is complete, all at
once, too. Then it renames it. So a partial file may be complete:
only its name is behind. `repair` does the same to what a killed recorder left.

A recorder has its file's name for itself: whoever else wants it is refused, by a lock that ends with its
holder, and files are made exclusively.
"""

from cars_rt.files.recording.claim import (
    SUFFIXES,
    TRIAL,
    Claim,
    final_path,
    is_partial,
    partial_path,
    refuse_unwritable,
)
from cars_rt.files.recording.damage import Without, named, unreadable
from cars_rt.files.recording.errors import InUseError, RecordingError
from cars_rt.files.recording.finish import Contents, claimed
from cars_rt.files.recording.packing import PLAIN, Compression, Packing
from cars_rt.files.recording.repaired import repair, repair_all
from cars_rt.files.recording.rows import FIRST_ROWS
from cars_rt.files.recording.writer import Recording

__all__ = [
    "FIRST_ROWS",
    "PLAIN",
    "SUFFIXES",
    "TRIAL",
    "Claim",
    "Compression",
    "Contents",
    "InUseError",
    "Packing",
    "Recording",
    "RecordingError",
    "Without",
    "claimed",
    "final_path",
    "is_partial",
    "named",
    "partial_path",
    "refuse_unwritable",
    "repair",
    "repair_all",
    "unreadable",
]
