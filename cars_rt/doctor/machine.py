"""Finds out what computer this is."""

import os
import platform

from cars_rt import __version__
from cars_rt.doctor.report import Machine
from cars_rt.engines.base import processor, usable_cores
from cars_rt.urgency import allowed


def read_machine() -> Machine:
    """System, Python, processor."""
    return Machine(
        cars_rt=__version__,
        system=platform.platform(),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        processor=processor(),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        realtime=allowed(),
    )
