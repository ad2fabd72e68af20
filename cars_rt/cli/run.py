"""`cars-rt run`: the daemon."""

from typing import Annotated

from cyclopts import Parameter

from cars_rt.cli.app import Level, Summary, app
from cars_rt.console import StatusLine, fail, log, start_logging, stopping, write_summary
from cars_rt.daemon.settings import DaemonSettings


@app.command
def run(
    *,
    settings: Annotated[DaemonSettings, Parameter(name="*")] = DaemonSettings(),
    summary: Summary = None,
    log_level: Level = "info",
) -> None:
    """Run the daemon: raw spectra in, Raman spectra out.

    It waits for a driver, compiles the model for the driver's axis, and publishes one result for every
    spectrum it receives. Ctrl-C stops it after everything that was received has been sent.

    Example: cars-rt run --listen tcp://127.0.0.1:5555 --publish tcp://127.0.0.1:5556 --model cnn
    """
    from cars_rt.daemon.loop import Daemon
    from cars_rt.daemon.status import Status

    if settings.listen == settings.publish:
        fail(f"--listen and --publish are the same address, {settings.listen}: give two")
    start_logging(log_level)
    daemon = Daemon(settings)
    card = daemon.compute.model.card
    log.info("listening to %s, publishing at %s", settings.listen, daemon.publisher.address)
    log.info("model %s %s: %s", card.name, card.version, card.description)
    status = Status(daemon)
    with StatusLine() as line, stopping(daemon.stop):
        totals = daemon.serve(lambda: line.show(status.describe))
    write_summary(summary, totals)
