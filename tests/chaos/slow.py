"""The daemon with an engine that takes its time: CHAOS_MS=2 python slow.py run --engine slow ...

CHAOS_MS is what one spectrum costs; CHAOS_FAILS names batches (the how-manieth each is) that fail.
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
    batches: ClassVar[int] = 0  # of all engines of this kind: one that failed is replaced by a fresh one

    def launch(self, slab: int, rows: int) -> None:
        time.sleep(float(os.environ.get("CHAOS_MS", "0")) * rows / 1e3)
        Slow.batches += 1
        if str(Slow.batches) in os.environ.get("CHAOS_FAILS", "").split(","):
            raise EngineError(f"batch {Slow.batches} was to fail")
        super().launch(slab, rows)


if __name__ == "__main__":
    ENGINES["slow"] = ("chaos.slow", "Slow")
    main()
