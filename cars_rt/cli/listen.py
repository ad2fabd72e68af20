"""`cars-rt listen`: what a driver sends, judged."""

import sys
from typing import Annotated

from cyclopts import Parameter

from cars_rt.cli.app import Logs
from cars_rt.console import EXIT_INCOMPLETE, Logging, fail, start_logging, stopping
from cars_rt.listener import ListenSettings
from cars_rt.printable import printable
from cars_rt.sockets import RAW_ADDRESS


def listen(
    address: str = RAW_ADDRESS,
    *,
    settings: Annotated[ListenSettings, Parameter(name="*")] = ListenSettings(),
    logs: Logs = Logging(log_level="warning"),
) -> None:
    """Try a driver: print what it sends, and judge it by the protocol, each fault with its remedy.

    Ends with a verdict; exit status 0: it keeps the protocol, 3: it does not, 1: nothing came. A driver that
    waits for its subscribers counts this one.

    Example: cars-rt listen tcp://127.0.0.1:5555 --runs 2

    Parameters
    ----------
    address
        Where it publishes.
    """
    from cars_rt.listener import Listener

    start_logging(logs)
    listener = Listener(address, settings)
    with stopping(listener.stop):
        judge = listener.listen(lambda line: print(printable(line), flush=True))
    if judge.faults:
        sys.exit(EXIT_INCOMPLETE)
    if not judge.runs and judge.reader.run is None:
        fail(f"no run came: {listener.describe()}")
