"""`cars-rt run`: the daemon."""

import sys
from typing import Annotated

from cyclopts import App, Parameter

from cars_rt import memory
from cars_rt.cli.app import Logs, Summary
from cars_rt.console import (
    Logging,
    StatusLine,
    fail,
    log,
    refuse_target,
    start_logging,
    stopping,
    write_summary,
)
from cars_rt.daemon.settings import DaemonSettings
from cars_rt.engines.guide import listing
from cars_rt.urgency import Urgency

SWITCH_S = 0.0005
SHARE = 2 / 3  # of the computer, below which it runs before other programs


run = App(name="run", help_epilogue=listing())


@run.default
def _run(
    *,
    settings: Annotated[DaemonSettings, Parameter(name="*")] = DaemonSettings(),
    summary: Summary = None,
    logs: Logs = Logging(),
) -> None:
    """Run the daemon: raw spectra in, Raman spectra out.

    It waits for a driver, compiles the model for the driver's axis, and publishes one result for every
    spectrum it receives. Ctrl-C stops it after everything that was received has been sent.

    Example: cars-rt run --listen tcp://127.0.0.1:5555 --publish tcp://127.0.0.1:5556 --model cnn
    """
    from cars_rt.daemon.another import another
    from cars_rt.daemon.loop import Daemon
    from cars_rt.daemon.seen.outside import Outside
    from cars_rt.daemon.seen.status import Status
    from cars_rt.sockets import AddressInUseError

    start_logging(logs, spooled=True)
    refuse_target(summary)
    # Threads that compile a model must not keep the interpreter for 5 ms at a time, as they may by default.
    sys.setswitchinterval(SWITCH_S)
    memory.keep()
    try:
        with Outside(settings.http) as outside, Urgency(SHARE, not settings.no_realtime):
            daemon = Daemon(settings)
            card = daemon.compute.model.card
            log.info("listening to %s, publishing at %s", settings.listen, daemon.publisher.address)
            log.info("model %s %s: %s", card.name, card.version, card.description or "its card says no more")
            if outside.http is not None:
                log.info("metrics, health and status at http://%s", outside.http.address)
            status = Status()
            with StatusLine() as line, stopping(daemon.stop):

                def tick() -> None:
                    snapshot = daemon.snapshot()
                    outside.post(snapshot)
                    line.show(lambda: status.describe(snapshot))

                receipts = daemon.serve(tick)
    except AddressInUseError as error:
        if there := another(settings, str(error)):
            fail(
                f"{there}; `cars-rt ctl stop` ends it. A second one beside it needs other ports: --publish, "
                f"--preview, --spectra, --control and --http ({str(error).partition(': another')[0]})"
            )
        raise
    write_summary(summary, receipts)
