"""The device layer alone, with each package that is installed."""

import numpy as np
import pytest

from cars_rt.engines import EngineError
from cars_rt.engines.tensorrt.device import Device, page_aligned
from cars_rt.engines.tensorrt.messages import OutOfMemoryError

SHAPE = (64, 1340)


def random(seed: int = 0) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    array = page_aligned(*SHAPE)
    array[:] = np.random.default_rng(seed).standard_normal(SHAPE)
    return array


def test_what_goes_up_comes_down(device: Device) -> None:
    there, back = random(), page_aligned(*SHAPE)
    for array in (there, back):
        device.pin(array)
    address = device.allocate(there.nbytes)
    assert address % 256 == 0
    up, down, event, done = device.stream(), device.stream(), device.event(), device.event()
    assert 0 not in (up, down) and up != down
    device.upload(address, there, up)
    device.record(event, up)
    device.hold(down, event)
    device.download(back[:10], address, down)
    device.record(done, down)
    device.wait(done)
    assert np.array_equal(back[:10], there[:10]) and not back[10:].any()


def test_event_that_was_never_recorded_holds_nothing(device: Device) -> None:
    event = device.event()
    device.hold(device.stream(), event)
    device.wait(event)


def test_graph_repeats_what_was_captured(device: Device) -> None:
    there, back = random(1), page_aligned(*SHAPE)
    for array in (there, back):
        device.pin(array)
    address, stream, done = device.allocate(there.nbytes), device.stream(), device.event()
    graph = device.capture(stream, lambda: device.upload(address, there, stream))
    if graph is None:
        pytest.skip(f"{device.package} has no graphs")
    for seed in (2, 3):
        there[:] = random(seed)
        device.replay(graph, stream)
        device.download(back, address, stream)
        device.record(done, stream)
        device.wait(done)
        assert np.array_equal(back, random(seed))


def test_what_cannot_be_captured_leaves_the_stream_usable(device: Device) -> None:
    there, back = random(4), page_aligned(*SHAPE)
    for array in (there, back):
        device.pin(array)
    address, stream, done = device.allocate(there.nbytes), device.stream(), device.event()

    def fails() -> None:
        raise EngineError("no")

    assert device.capture(stream, fails) is None
    device.upload(address, there, stream)
    device.download(back, address, stream)
    device.record(done, stream)
    device.wait(done)
    assert np.array_equal(back, there)


def test_memory_is_counted_and_ends(device: Device) -> None:
    before = device.memory_in_use()
    device.allocate(256 * 2**20)
    assert device.memory_in_use() - before >= 200 * 2**20
    with pytest.raises(OutOfMemoryError, match=r"the memory of the .* does not suffice"):
        device.allocate(2**50)
    device.allocate(2**20)  # it goes on


def test_arrays_outlive_the_device(device: Device) -> None:
    array = random(5)
    device.pin(array)
    device.allocate(2**20)
    device.close()
    device.close()
    assert np.array_equal(array, random(5))
