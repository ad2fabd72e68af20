"""Whether the buffers of all programs are large enough for the experiment."""

from cars_rt.check.load import Load
from cars_rt.check.report import Line, compared
from cars_rt.check.settings import CheckSettings
from cars_rt.protocol import StreamName
from cars_rt.sockets import message_bytes

PAUSE_S = 1.0  # a pause that the buffers must bridge, at least


def judge_memory(settings: CheckSettings, load: Load, pause_s: float) -> Line:
    """How long a pause the buffers bridge: of results, which are larger, unless counts are."""
    streams: tuple[StreamName, StreamName] = ("raw", "raman")
    largest = max(message_bytes(load.start_of(stream)) / load.start.block for stream in streams)
    seconds = settings.buffer_mb * 1e6 / (largest * load.rate)
    required = max(pause_s, PAUSE_S)
    note = f"--buffer-mb {settings.buffer_mb:g} holds {seconds:.1f} s; the longest pause is {required:.1f} s"
    return compared("memory", required, seconds, "s", note)
