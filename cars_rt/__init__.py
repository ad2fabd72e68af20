"""CARS-RT: removes the non-resonant background from CARS spectra, in real time."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cars_rt.client import AsyncClient, Client, ClientError, NoDataError, Run, connect, connect_async
    from cars_rt.files.dataset import open_dataset as open  # noqa: A004 - as cars_rt.open
    from cars_rt.physics.fitness import Flag
    from cars_rt.trust.curve import ClientKeys

    __version__: str

__all__ = [
    "AsyncClient", "Client", "ClientError", "ClientKeys", "Flag", "NoDataError", "Run", "connect",
    "connect_async", "open",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import the client only when it is used, so that the command line starts quickly; likewise what knows
    the version."""
    if name == "__version__":
        from importlib.metadata import version

        # It is in a file, which cannot be opened any more once all descriptors are taken.
        return globals().setdefault(name, version("cars-rt"))
    if name == "open":
        from cars_rt.files.dataset import open_dataset

        return open_dataset
    if name in __all__:
        from cars_rt import client
        from cars_rt.physics.fitness import Flag

        return Flag if name == "Flag" else getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """What is imported only when it is used is here, too."""
    return sorted({*globals(), *__all__, "__version__"})
