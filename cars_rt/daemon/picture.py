"""Makes the snapshot of a daemon."""

from cars_rt.daemon.parts import Parts
from cars_rt.daemon.seen.snapshot import Phase, Snapshot
from cars_rt.daemon.waits import NOT_READY, waits_for


def picture(daemon: Parts) -> Snapshot:
    """The daemon at this moment. Called by the loop's thread; nothing in it changes afterwards."""
    daemon.times.mark(Phase.CONTROL)
    settings, compute, worker = daemon.settings, daemon.compute, daemon.compute.worker
    runs, run, book, open_ = daemon.runs, daemon.runs.current, daemon.runs.book, daemon.runs.open
    publisher, preview, intake = daemon.results.publisher, daemon.preview, daemon.intake
    kind, waits = waits_for(daemon)
    return Snapshot(
        state=daemon.state,
        ready=daemon.ready and daemon.state != "stopping" and kind not in NOT_READY,
        gathering=daemon.gathering,
        uptime_s=daemon.times.uptime_s,
        listen=settings.listen,
        publish=publisher.address,
        connected=intake.connected,
        waits_for=waits,
        trouble=intake.trouble,
        subscribers=publisher.subscribers,
        model=compute.model.card.name,
        model_sha256=compute.model.sha256,
        engine=worker.engine.describe() if worker else "",
        engine_name=worker.engine.name if worker else "",
        engine_instead=compute.instead,
        shadow=compute.shadow.describe() if compute.shadow else None,
        run=run.start.run if run else None,
        source=run.start.source if run else None,
        run_announced=run.announced if run else 0,
        run_lost=dict(run.lost) if run else {},
        run_flagged=dict(run.flagged) if run else {},
        run_refused=run.refused if run else None,
        last_run=runs.last.told() if runs.last and runs.last is not run else None,
        runs=book.closed,
        spectra_in=runs.taken.spectra,
        spectra_out=publisher.spectra_sent,
        lost=dict(runs.all_lost()),
        flagged=dict(daemon.pipeline.flagged),
        queues=daemon.queues,
        latencies=daemon.latencies,
        dark=worker.dark if worker and open_ else runs.dark.name,
        dark_unused=run.dark_unused if run else None,
        reference_unused=worker.model.unused if worker and open_ else None,
        bands={} if preview is None else {band.name: (band.low, band.high) for band in preview.bands},
        metrics=tuple(daemon.metrics()),
    )
