"""Makes the snapshot of a daemon."""

from typing import TYPE_CHECKING

from cars_rt.daemon.seen.snapshot import Queue, Snapshot
from cars_rt.daemon.waits import NOT_READY, waits_for

if TYPE_CHECKING:
    from cars_rt.daemon.loop import Daemon


def picture(daemon: "Daemon") -> Snapshot:
    """The daemon at this moment. Called by the loop's thread; nothing in it changes afterwards."""
    settings, compute, worker = daemon.settings, daemon.compute, daemon.compute.worker
    publisher, preview, source, before = daemon.publisher, daemon.preview, daemon.source, daemon.reader.ledger
    filling, computing, results = daemon.pipeline.depths
    slab = worker.max_batch if worker else settings.max_batch
    slabs = len(worker.engine.inputs) if worker else 0
    kind, waits = waits_for(daemon)
    return Snapshot(
        state=daemon.state,
        ready=daemon.ready and daemon.state != "stopping" and kind not in NOT_READY,
        gathering=daemon.gathering,
        uptime_s=daemon.uptime_s,
        listen=settings.listen,
        publish=publisher.address,
        connected=daemon.subscriber.connected,
        waits_for=waits,
        trouble=daemon.subscriber.trouble,
        refused=sum(each.refused for each in (publisher, preview, daemon.control) if each),
        subscribers=publisher.subscribers,
        model=compute.model.card.name,
        model_sha256=compute.model.sha256,
        engine=worker.engine.describe() if worker else "",
        gpu_memory_bytes=worker.engine.gpu_memory_bytes() if worker else None,
        shadow=compute.shadow.describe() if compute.shadow else None,
        run=source.run if source else None,
        source=source.source if source else None,
        run_announced=before.spectra + before.total_lost,
        run_lost=dict(daemon.run_lost),
        run_flagged=dict(daemon.pipeline.run_flagged),
        runs=daemon.runs,
        frames_in=daemon.frames_in,
        spectra_in=daemon.spectra_in,
        frames_out=publisher.frames_sent,
        spectra_out=publisher.spectra_sent,
        lost=dict(daemon.all_lost()),
        flagged=dict(daemon.pipeline.flagged),
        problems=dict(daemon.totals.problems),
        stalls=publisher.stalls,
        engine_failures=compute.counters.failures,
        engine_replacements=compute.counters.replacements,
        reloads=compute.counters.reloads,
        reloads_failed=compute.counters.reloads_failed,
        queues={
            "filling": Queue(filling, slab),
            "computing": Queue(computing, slab * slabs),
            "results": Queue(results, slab * slabs),
            "output": Queue(publisher.waiting, publisher.capacity),
        },
        latencies={stage: each.copy() for stage, each in daemon.pipeline.latencies.items()},
        phases_s=dict(daemon.phases),
        flight_alarms=daemon.flight.alarms if daemon.flight else 0,
        flight_files=daemon.flight.files if daemon.flight else 0,
        dark=worker.dark if worker and daemon.run_open is not None else daemon.dark.name,
        dark_unused=daemon.dark_unused,
        reference_unused=worker.model.unused if worker and daemon.run_open is not None else None,
        bands={} if preview is None else {band.name: (band.low, band.high) for band in preview.bands},
    )
