"""What can be asked of a daemon: each command with its arguments and the function that does it, in one table.

The arguments were checked when the request was read (see cars_rt.protocol.control). A function returns the
result, or None if the answer comes later. It raises CarsRtError or ValueError, which say why it cannot be
done.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from cars_rt.daemon.parts import Parts
from cars_rt.daemon.picture import picture
from cars_rt.daemon.seen.plain import plain
from cars_rt.kinds import Kind
from cars_rt.protocol import MAX_BANDS, check_band
from cars_rt.sockets.control import Answer

log = logging.getLogger("cars_rt.daemon")

Result: TypeAlias = Mapping[str, Any] | None
Arguments: TypeAlias = Mapping[str, Any]


def serve(parts: Parts) -> None:
    """Answer the requests that have come."""
    if parts.control is not None:
        parts.control.serve(
            lambda request, answer: COMMANDS[request.do](parts, request.arguments, answer),
            lambda error: parts.mishaps.note("a request", error),
        )


def _status(parts: Parts, asked: Arguments, answer: Answer) -> Result:
    return plain(picture(parts))


def _reload(parts: Parts, asked: Arguments, answer: Answer) -> Result:
    parts.compute.reload(asked.get("model"), asked.get("engine"), answer)
    return None


def _shadow(parts: Parts, asked: Arguments, answer: Answer) -> Result:
    if (every := asked.get("every", 10)) < 1:
        raise ValueError(f"a candidate computes one batch in `every`, which is 1 or more, not {every}")
    parts.compute.start_shadow(asked.get("model"), asked.get("engine"), every, answer)
    return None


def _promote(parts: Parts, asked: Arguments, answer: Answer) -> Result:
    parts.compute.promote(answer, in_run=parts.runs.open is not None)
    return None


def _unshadow(parts: Parts, asked: Arguments, answer: Answer) -> Result:
    parts.compute.stop_shadow()
    return {}


def _dark(parts: Parts, asked: Arguments, answer: Answer) -> Result:
    """Begin, finish or clear a measured dark."""
    do, run, dark = asked.get("do", ""), parts.runs.current, parts.runs.dark
    if do == "start":
        if run is None or run.published is None:
            raise ValueError("no run is open: block the beams and start the scan first")
        dark.begin(run.start, run.clock)
        return {"measuring": 1}
    left_out = 0
    if do == "stop":
        spectra, left_out, name = dark.spectra, dark.left_out, dark.finish()
        if dark.doubt:
            parts.runs.book.problems[Kind.LIT_DARK.value] += 1
    elif do == "clear":
        spectra, name = 0, "none"
        dark.clear()
    else:
        raise ValueError(f"dark knows start, stop and clear, not {do!r}")
    if run is not None:
        parts.compute.set_dark(*dark.of(run.start))
        run.dark_unused = dark.unused(run.start)
        parts.runs.say_maker()
    said: dict[str, Any] = {"dark": name, "spectra": spectra}
    return said | ({"left_out": left_out} if left_out else {}) | ({"doubt": dark.doubt} if dark.doubt else {})


def _bands(parts: Parts, asked: Arguments, answer: Answer) -> Result:
    preview, bands = parts.preview, asked.get("bands")
    if preview is None:
        raise ValueError("there is no preview: start the daemon with --preview ADDRESS")
    if bands is not None:
        if not all(isinstance(each, list) and len(each) == 3 for each in bands):
            raise ValueError("each of bands must be [name, low, high]")
        if not 0 < len(bands) <= MAX_BANDS:
            raise ValueError(f"1 to {MAX_BANDS} bands can be computed, not {len(bands)}")
        preview.set_bands([check_band(*each) for each in bands])
    outside = [list(band) for band in preview.outside]
    return {"bands": [list(band) for band in preview.bands]} | ({"outside": outside} if outside else {})


def _pause(parts: Parts, asked: Arguments, answer: Answer, paused: bool) -> Result:
    if paused and parts.stopping:
        raise ValueError("the daemon is stopping, and takes in what came before that")
    parts.paused = paused
    return {"paused": paused}


def _flight(parts: Parts, asked: Arguments, answer: Answer) -> Result:
    flight = parts.flight
    if flight is None:
        raise ValueError("there is no flight recorder: start the daemon with --flight FOLDER")
    if not flight.request(asked.get("reason", "asked for")):
        raise ValueError("nothing to write now: no run has come yet, or a file is still being written")
    return {"folder": str(flight.folder)}


def _stop(parts: Parts, asked: Arguments, answer: Answer) -> Result:
    log.info("stopping, as `cars-rt ctl stop` asked: finishing what was received")
    parts.stopping = True
    return {"stopping": True}


#: The names and arguments are those of cars_rt.protocol.control.REQUESTS.
COMMANDS: dict[str, Callable[[Parts, Arguments, Answer], Result]] = {
    "status": _status,
    "reload": _reload,
    "shadow": _shadow,
    "promote": _promote,
    "unshadow": _unshadow,
    "dark": _dark,
    "bands": _bands,
    "pause": partial(_pause, paused=True),
    "resume": partial(_pause, paused=False),
    "flight": _flight,
    "stop": _stop,
}
