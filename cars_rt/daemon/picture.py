"""Makes the snapshot of a daemon."""

from cars_rt.daemon.parts import Parts
from cars_rt.daemon.seen.snapshot import Phase, Queue, Snapshot
from cars_rt.daemon.waits import NOT_READY, waits_for


def picture(daemon: Parts) -> Snapshot:
    """The daemon at this moment. Called by the loop's thread; nothing in it changes afterwards."""
    daemon.times.mark(Phase.CONTROL)
    settings, compute, worker = daemon.settings, daemon.compute, daemon.compute.worker
    runs, run, book, open_ = daemon.runs, daemon.runs.current, daemon.runs.book, daemon.runs.open
    publisher, preview, subscriber = daemon.results.publisher, daemon.preview, daemon.intake.subscriber
    filling, computing, results = daemon.pipeline.depths
    slab = worker.max_batch if worker else settings.max_batch
    slabs = len(worker.engine.inputs) if worker else 0
    kind, waits = waits_for(daemon)
    return Snapshot(
        state=daemon.state,
        ready=daemon.ready and daemon.state != "stopping" and kind not in NOT_READY,
        gathering=daemon.gathering,
        uptime_s=daemon.times.uptime_s,
        listen=settings.listen,
        publish=publisher.address,
        connected=subscriber.connected,
        waits_for=waits,
        trouble=subscriber.trouble,
        refused=sum(output.publisher.refused for output in daemon.outputs)
        + (daemon.control.refused if daemon.control else 0),
        subscribers=publisher.subscribers,
        model=compute.model.card.name,
        model_sha256=compute.model.sha256,
        engine=worker.engine.describe() if worker else "",
        engine_name=worker.engine.name if worker else "",
        engine_instead=compute.instead,
        gpu_memory_bytes=worker.engine.gpu_memory_bytes() if worker else None,
        shadow=compute.shadow.describe() if compute.shadow else None,
        run=run.start.run if run else None,
        source=run.start.source if run else None,
        run_announced=run.announced if run else 0,
        run_lost=dict(runs.lost),
        run_flagged=dict(runs.flagged),
        runs=book.closed,
        frames_in=runs.taken.frames,
        spectra_in=runs.taken.spectra,
        frames_out=publisher.frames_sent,
        spectra_out=publisher.spectra_sent,
        lost=dict(runs.all_lost()),
        flagged=dict(daemon.pipeline.flagged),
        problems=dict(book.problems),
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
        latencies={
            stage: each.copy()
            for part in (daemon.pipeline, *daemon.outputs)
            for stage, each in part.latencies.items()
        },
        phases_s=dict(daemon.times.phases),
        flight_alarms=daemon.flight.alarms if daemon.flight else 0,
        flight_files=daemon.flight.files if daemon.flight else 0,
        dark=worker.dark if worker and open_ else runs.dark.name,
        dark_unused=run.dark_unused if run else None,
        reference_unused=worker.model.unused if worker and open_ else None,
        bands={} if preview is None else {band.name: (band.low, band.high) for band in preview.bands},
    )
