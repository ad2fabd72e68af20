"""Which of NVIDIA's products is installed, and which suits the GPU.

They have one API, apart from what a `Product` tells apart.
"""

import logging
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from cars_rt.engines.base import EngineError
from cars_rt.engines.tensorrt.gpu import Gpu, dotted
from cars_rt.engines.tensorrt.messages import Messages
from cars_rt.installation import install_extra, package_version, pip_install, pip_uninstall

log = logging.getLogger("cars_rt.engines.tensorrt")

OLDEST = (7, 5)  # compute capability that the present versions run on
OLDEST_VERSION = (10, 3)
TURING = (7, 5)  # TensorRT-RTX makes plans for it alone, and others for all that came later
ANY_RTX = "RTX, compute capability 8.0 and later"
#: The first version of NVIDIA's driver for each CUDA that the wheels are built for, the newest CUDA first.
DRIVERS = {13: 580, 12: 535}


@dataclass(frozen=True)
class Product:
    """One product. It may be installed or not."""

    module: str
    title: str
    extra: str  # of this package, that installs it
    ahead: bool = False  # True: it builds without the GPU that the plan is for
    timing_cache: bool = True  # False: what it gives as its timing cache is of no use
    runs_on: tuple[tuple[int, int], ...] = ()  # compute capabilities; empty: all from OLDEST
    runs_on_major: int = 0  # and all with this first number

    @property
    def package(self) -> str:
        """What pip calls it."""
        return self.module.replace("_", "-")

    @property
    def packages(self) -> tuple[str, ...]:
        """Under what names pip may have it: alone it is for the newest CUDA."""
        return self.package, *(f"{self.package}-cu{major}" for major in DRIVERS)

    @property
    def installed_as(self) -> str:
        """That of the names which pip has it under."""
        return next(filter(package_version, self.packages), self.package)

    @property
    def version(self) -> str:
        """As installed; empty if by other means than pip. Nothing is imported."""
        return package_version(self.installed_as) or ""

    @property
    def install(self) -> str:
        """The command that installs it."""
        return install_extra(self.extra)

    @property
    def installed(self) -> bool:
        """Whether its module is there; it is not imported."""
        return find_spec(self.module) is not None

    def load(self) -> Any:
        """Its module. Raises EngineError if it cannot be imported or is too old."""
        try:
            module = import_module(self.module)
        except Exception as error:  # its wheels raise several kinds, for a missing library too
            raise EngineError(
                f"{self.title} is installed, but cannot be loaded ({error}); install it again: "
                + pip_install("--force-reinstall", self.installed_as)
            ) from None
        found = str(getattr(module, "__version__", "0"))
        if not self.ahead and tuple(map(int, found.split(".")[:2])) < OLDEST_VERSION:
            raise EngineError(
                f"{self.title} {found} is too old; {dotted(OLDEST_VERSION)} or newer: {self.install}"
            )
        return module

    def make(self, kind: str, messages: Messages) -> Any:
        """A `Builder` or a `Runtime`. Raises EngineError where the library finds no driver that suits it: the
        library then returns nothing, and the bindings raise an exception of their own."""
        try:
            return getattr(self.load(), kind)(messages.logger)
        except EngineError:
            raise
        except Exception as error:
            said = messages.error(f"{self.title} cannot begin ({type(error).__name__}: {error})")
            raise EngineError(f"{said}; NVIDIA's driver may be too old for it: nvidia-smi") from None

    @property
    def cuda(self) -> int:
        """First number of the CUDA that the installed wheel is built for, 13; 0: not known."""
        return next((major for major in DRIVERS if package_version(f"{self.package}-cu{major}")), 0)

    def refuses(self, gpu: Gpu) -> str | None:
        """Why it cannot run on this GPU with this driver, or None if it can."""
        if gpu.capability < OLDEST:
            return f"{self.title} does not run on the {gpu}: it needs {dotted(OLDEST)} or newer"
        if not self.runs_on or gpu.capability in self.runs_on or gpu.capability[0] == self.runs_on_major:
            return self._refuses_driver(gpu)
        known = ", ".join(map(dotted, self.runs_on))
        return (
            f"{self.title} does not run on the {gpu}, only on {known} and {self.runs_on_major}.x; "
            f"{TENSORRT.title} does: {TENSORRT.install}"
        )

    def _refuses_driver(self, gpu: Gpu) -> str | None:
        if gpu.cuda is None or gpu.cuda[0] >= self.cuda:
            return None
        driver = f"the NVIDIA driver {gpu.driver}".rstrip()
        refused = (
            f"the installed {self.title} is built for CUDA {self.cuda}, {driver} here runs CUDA "
            f"{dotted(gpu.cuda)} at most; install driver {DRIVERS[self.cuda]} or newer"
        )
        if gpu.cuda[0] not in DRIVERS:
            return refused
        # Wheels for one CUDA and for another share a folder: nothing may be left of either.
        wheels = [f"{name}{part}" for name in self.packages for part in ("", "-bindings", "-libs")]
        remove = pip_uninstall(*filter(package_version, wheels))
        other = f"{self.package}-cu{gpu.cuda[0]}"
        return f"{refused}, or {other}: {remove}, then {pip_install(other)}"

    def target(self, gpu: Gpu | None) -> str:
        """Which GPUs a plan is for that is built with this GPU, or without one, at hand.

        Raises EngineError if it cannot build without the GPU.
        """
        if not self.ahead:
            if gpu is None:
                raise EngineError(f"{self.title} builds on the GPU that the plan is for, and there is none")
            return str(gpu)
        return str(gpu) if gpu is not None and gpu.capability == TURING else ANY_RTX


TENSORRT = Product("tensorrt", "TensorRT", "tensorrt")
RTX = Product(
    "tensorrt_rtx",
    "TensorRT-RTX",
    "rtx",
    ahead=True,
    timing_cache=False,
    runs_on=((7, 5), (8, 0), (8, 6), (8, 9)),
    runs_on_major=12,
)
#: The first that is installed, suits the GPU and can be loaded: TensorRT measures on the GPU what is fastest.
PRODUCTS = (TENSORRT, RTX)


def suited(gpu: Gpu | None) -> list[Product]:
    """The installed products for this GPU, the one to be preferred first; None: those that build without a
    GPU. None is imported.

    Raises EngineError with the reason and the remedy if there is none.
    """
    found, reasons = [], []
    for product in (each for each in PRODUCTS if each.installed):
        if gpu is None and not product.ahead:
            reasons.append(f"{product.title} builds only with a GPU; {RTX.title} does without: {RTX.install}")
        elif gpu is not None and (reason := product.refuses(gpu)) is not None:
            reasons.append(reason)
        else:
            found.append(product)
    if not found and not reasons:
        suits_rtx = gpu is None or RTX.refuses(gpu) is None
        reasons.append(f"TensorRT is not installed: {RTX.install if suits_rtx else TENSORRT.install}")
    if not found:
        raise EngineError("; ".join(reasons))
    return found


def choose(gpu: Gpu | None) -> Product:
    """The first of `suited` that can be loaded. Raises EngineError as that does, and if none can be."""
    reasons = []
    for product in suited(gpu):
        try:
            product.load()
        except EngineError as error:
            reasons.append(str(error))
            continue
        if reasons:
            log.warning("%s; %s is taken", "; ".join(reasons), product.title)
        return product
    raise EngineError("; ".join(reasons))


def invalidity(trt: Any, runtime: Any, plan: bytes) -> str:
    """Why a runtime will not take a plan, in its own words: " (OLD_CUDA_DRIVER)"; empty if it takes it, or
    cannot say. Only TensorRT-RTX can."""
    ask = getattr(runtime, "get_engine_validity", None)
    if ask is None:
        return ""
    validity, reasons = ask(plan)
    if validity != trt.EngineValidity.INVALID:
        return ""
    names = [
        name
        for name, value in trt.EngineInvalidityDiagnostics.__members__.items()
        if int(value) & int(reasons)
    ]
    return f" ({', '.join(names) or 'it does not say why'})"
