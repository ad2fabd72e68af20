"""What makes the results of a run, as their `start` says it."""

from collections.abc import Sequence

from cars_rt.daemon.compute.worker import Worker
from cars_rt.daemon.run import Run
from cars_rt.physics.fitness import NAMES
from cars_rt.protocol import FLAGS, NETWORK_OUTPUTS
from cars_rt.protocol.limits import MAX_TEXT


def maker(run: Run, worker: Worker, doubts: Sequence[str]) -> dict[str, str]:
    """The model, engine and dark of a worker that computes this run, and what the run's frames hold. doubts:
    sentences about the dark."""
    model = worker.model
    said = model.provenance(retrieves=worker.engine.retrieves)
    said |= {"engine": worker.engine.describe(), "made_by": worker.made_by}
    said["dark"] = "; ".join((worker.dark, *doubts))[:MAX_TEXT]
    if model.unused:
        said["reference"] = f"none; {model.unused}"
    said[FLAGS] = " ".join(NAMES.values())  # the names of the bits, lowest first
    return said | {name: NETWORK_OUTPUTS[name] for name in run.outputs if name in NETWORK_OUTPUTS}
