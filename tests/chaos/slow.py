"""The daemon with an engine that takes its time: CHAOS_MS=2 python slow.py run --engine slow ...

CHAOS_MS is what one spectrum costs; the engine fails on a batch that holds a spectrum of CHAOS_FAILS.
"""

import os
import time
from typing import ClassVar

from cars_rt.cli import main
from cars_rt.engines import ENGINES, EngineError
from cars_rt.engines.passthrough import Passthrough


class Slow(Passthrough):
    """Copies as the pass-through engine does, but not at once."""

    name: ClassVar[str] = "slow"

    def launch(self, slab: int, rows: int) -> None:
        time.sleep(float(os.environ.get("CHAOS_MS", "0")) * rows / 1e3)
        held = {str(int(index)) for index in self.inputs[slab][:rows, 0]}
        if held & set(os.environ.get("CHAOS_FAILS", "").split(",")):
            raise EngineError("it was to fail on this batch")
        super().launch(slab, rows)


if __name__ == "__main__":
    ENGINES["slow"] = ("chaos.slow", "Slow")
    main()
