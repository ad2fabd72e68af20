"""`cars-rt demo`: see it work."""

import sys
from pathlib import Path

from cars_rt.daemon.settings import DaemonSettings


def demo(
    *,
    seconds: float | None = None,
    rate: float = 1000.0,
    block: int = 4,
    output: Path = Path("demo-output"),
    engine: str = DaemonSettings.engine,
    no_browser: bool = False,
) -> None:
    """See it work: a simulated microscope, the daemon and the recorder, as in the laboratory.

    Shows the image while it is scanned, here and in the browser; at the end the totals, a recording and a
    picture are in the output folder.

    Parameters
    ----------
    seconds
        Scan for about so long, 2048 x 2048 spectra at most; without it a scan of 256 x 256 is made.
    rate
        Spectra per second.
    block
        Spectra to a message. With 1, two cores are busy enough with messages for results to come later.
    output
        Folder for the recording, the truth, the picture and the logs; older ones in it are replaced.
    engine
        What runs the model; auto takes the fastest that works here.
    no_browser
        Do not open the live display in this computer's browser; its address is said all the same.
    """
    from cars_rt.demo import demo as run_demo

    sys.exit(
        run_demo(
            seconds=seconds, rate=rate, block=block, output=output, engine=engine, browser=not no_browser
        )
    )
