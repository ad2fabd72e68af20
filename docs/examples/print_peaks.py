"""Print where each new spectrum is strongest, until Ctrl-C."""

from contextlib import suppress

import cars_rt

with suppress(KeyboardInterrupt), cars_rt.connect("tcp://127.0.0.1:5556") as stream:
    for run in stream:
        print(f"run {run.run} from {run.source}, by {run.model['name']}")
        for frame in run:
            strongest = frame.raman.argmax(axis=1)
            print(frame.index, run.raman_shift[strongest].round(1))
        print(f"{run.end.reason}; lost on the way here: {dict(run.ledger.lost) or 'nothing'}")
