"""Settings of the measurements of speed."""

from dataclasses import dataclass

from cars_rt.daemon.settings import DaemonSettings


@dataclass(frozen=True, kw_only=True)
class StreamBenchSettings:
    """Settings of `cars-rt bench stream`."""

    blocks: tuple[int, ...] = (1, 16, 128)
    """Spectra to a message; each is measured."""

    pixels: int = 1340
    """Points of a spectrum (uint16)."""

    rounds: int = 5
    """How often each pair is measured, in turn."""

    seconds: float = 2.0
    """Duration of one measurement."""

    rate: float = 1000.0
    """Spectra per second while latencies are measured, one spectrum to a message."""

    model: str = DaemonSettings.model
    """The network that is compared with its own engine."""

    engine: str = DaemonSettings.engine
    """What runs it; auto takes the fastest that works here."""

    max_batch: int = DaemonSettings.max_batch
    """Most spectra computed at once."""

    threads: int = 0
    """Threads of the engine on the CPU; 0 takes half of the cores, as the daemon does."""

    no_realtime: bool = False
    """Leave the daemon the priority of any program, to see what real-time priority gives and costs."""


@dataclass(frozen=True, kw_only=True)
class EngineBenchSettings:
    """Settings of `cars-rt bench engines`."""

    models: tuple[str, ...] = ()
    """Models, by name or the path of an .onnx file; without any, the shipped ones and kk."""

    engines: tuple[str, ...] = ()
    """What runs them; without any, all that can run here. ONNX Runtime always does, too."""

    batches: tuple[int, ...] = (1, 16, 128)
    """Spectra computed at once; each is measured."""

    pixels: int = 1000
    """Points of a spectrum, 2 cm-1 apart: as many as most models then see."""

    rounds: int = 5
    """How often everything is measured, in turn."""

    seconds: float = 0.3
    """Duration of one measurement; one batch at least."""

    threads: int = 0
    """Threads of an engine on the CPU; 0 takes half of the cores, as the daemon does."""

    published: bool = False
    """Compare with the published networks on ONNX Runtime (untrained: no other speed). Needs torch."""
