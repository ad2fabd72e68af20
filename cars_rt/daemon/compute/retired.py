"""Workers that are not needed any more: each is closed as soon as nobody reads its slabs."""

import logging
from collections.abc import Iterator, Sequence

from cars_rt.daemon.compute.worker import Worker

log = logging.getLogger("cars_rt.daemon")

CLOSE_S = 5.0  # how long a close waits for an engine's thread


class Retired:
    """Those that are still to be closed."""

    def __init__(self) -> None:
        self._workers: list[Worker] = []

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._workers)

    def take(self, worker: Worker) -> None:
        """Close it when that can be done; if it is being compiled, stop that where it can be stopped."""
        worker.give_up()
        self._workers.append(worker)
        self.close_idle()

    def close_idle(self) -> None:
        """Close those whose slabs came back, and those that never had an engine. Call it now and then."""
        for worker in list(self._workers):
            if worker.idle or (worker.ready.done() and worker.ready.exception() is not None):
                worker.close()
                self._workers.remove(worker)


def close_now(workers: Sequence[Worker]) -> None:
    """Close workers whatever they do, and wait a little for the end of their threads."""
    for worker in workers:
        worker.close()
    for worker in workers:
        if not worker.join(CLOSE_S):
            log.warning("the engine %s does not end; it is left behind", worker.model.card.name)
