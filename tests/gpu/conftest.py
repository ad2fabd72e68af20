"""The GPU, if there is one, and the device layer on it with each package that is installed."""

from collections.abc import Iterator
from importlib import import_module

import pytest

from cars_rt.engines import EngineError
from cars_rt.engines.tensorrt.device import ADAPTERS, Device
from cars_rt.engines.tensorrt.gpu import Gpu, find_gpu


@pytest.fixture(scope="module")
def gpu() -> Gpu:
    try:
        return find_gpu()
    except EngineError as error:
        pytest.skip(str(error))


@pytest.fixture(params=list(ADAPTERS.values()), ids=lambda entry: entry[2])
def device(request: pytest.FixtureRequest, gpu: Gpu) -> Iterator[Device]:
    module, cls, package = request.param
    try:
        adapter = getattr(import_module(module), cls)
    except ImportError:
        pytest.skip(f"{package} is not installed")
    opened: Device = adapter(gpu)
    yield opened
    opened.close()
