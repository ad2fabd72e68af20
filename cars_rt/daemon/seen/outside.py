"""The daemon as seen from outside: HTTP and systemd, fed with snapshots."""

from types import TracebackType
from typing import Self

from cars_rt.daemon.seen.board import StatusBoard
from cars_rt.daemon.seen.http import HttpServer
from cars_rt.daemon.seen.notify import Notifier
from cars_rt.daemon.seen.snapshot import Snapshot
from cars_rt.trust.flags import OFF


class Outside:
    """Binds at once, so that a port in use is known before anything else starts; answers from the first
    snapshot on.

    http: HOST:PORT, or none. Raises StreamError if it cannot be bound. `post` belongs to the loop's thread.
    """

    def __init__(self, http: str) -> None:
        self.http = None if http == OFF else HttpServer(http)
        self._board: StatusBoard | None = None
        self._notifier = Notifier()

    def post(self, snapshot: Snapshot) -> None:
        """Show this from now on. Call it whenever the loop turns, several times a second."""
        if self._board is not None:
            self._board.post(snapshot)
        else:
            self._board = StatusBoard(snapshot)
            if self.http is not None:
                self.http.start(self._board)
        self._notifier.post(snapshot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._notifier.close()
        if self.http is not None:
            self.http.close()
