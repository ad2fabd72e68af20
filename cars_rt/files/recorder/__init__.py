"""The recorder: subscribes to the raw stream, the result stream or both, and writes runs to files.

settings: what it is told. names: what files are called. plan: what is to be recorded. portion: what of a run
is in one file. piece: one file that is being written. disk: how long there is room. recorder: the loop, and
which run goes where. commands: what can be asked of it while it runs.
"""

from cars_rt.files.recorder.piece import Recorded
from cars_rt.files.recorder.recorder import Recorder
from cars_rt.files.recorder.settings import RecordSettings

__all__ = ["RecordSettings", "Recorded", "Recorder"]
