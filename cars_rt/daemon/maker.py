"""What makes the results of a run, as their `start` says it."""

from cars_rt.daemon.compute.worker import Worker
from cars_rt.daemon.run import Run
from cars_rt.physics.fitness import NAMES
from cars_rt.protocol import FLAGS, NETWORK_OUTPUTS


def maker(run: Run, worker: Worker) -> dict[str, str]:
    """The model, engine and dark of a worker that computes this run, and what the run's frames hold."""
    model, unused = worker.model, run.dark_unused
    said = model.provenance | {"engine": worker.engine.describe(), "made_by": worker.made_by}
    said["dark"] = f"{worker.dark}; {unused}" if unused else worker.dark
    if model.unused:
        said["reference"] = f"none; {model.unused}"
    said[FLAGS] = " ".join(NAMES.values())  # the names of the bits, lowest first
    return said | {name: NETWORK_OUTPUTS[name] for name in run.outputs if name in NETWORK_OUTPUTS}
