"""Whole spectra for displays: complete up to a bound, and nobody waits for who reads them."""

import numpy as np
import pytest
from helpers import AXIS, LOCAL, Collected, Published, daemon_in_thread, spectra_of
from numpy.typing import NDArray

from cars_rt.daemon.outputs import bundles
from cars_rt.daemon.outputs import spectra as output
from cars_rt.daemon.outputs.spectra import open_spectra
from cars_rt.sockets import AddressInUseError, Publisher


def what_comes_of(counts: NDArray[np.uint16]) -> tuple[Collected, Collected]:
    """One run: what a display got of it, and what came of the results."""
    with Published() as raw, daemon_in_thread(raw.address, spectra=LOCAL, subscribers=1) as daemon:
        assert daemon.parts.spectra is not None
        with Collected(daemon.parts.spectra.publisher.address) as looked:
            looked.until(lambda _: daemon.parts.spectra.publisher.subscribers)
            with Collected(daemon.publisher.address) as all_:
                raw.wait()
                raw.run("run-1", counts, block=4)
                all_.ends()
            looked.ends()
    return looked, all_


def test_they_are_the_results_with_their_counts() -> None:
    counts = spectra_of(200)
    looked, all_ = what_comes_of(counts)
    np.testing.assert_array_equal(looked.raman(), all_.raman())
    np.testing.assert_array_equal(np.concatenate([each.arrays["counts"] for each in looked.frames]), counts)
    assert looked.closed[0].end.spectra == 200 and not looked.closed[0].end.lost
    assert len(looked.frames) < 50  # bundles, not one message for each
    times, expected = (np.concatenate([each.times_ns for each in of.frames]) for of in (looked, all_))
    np.testing.assert_array_equal(times, expected)


def test_beyond_the_bound_the_rest_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "BUNDLE_BYTES", 10 * 4 * len(AXIS) * 3)
    monkeypatch.setattr(bundles, "INTERVAL_S", 3600.0)  # one bundle, and what is left at the end
    counts = spectra_of(100)
    looked, all_ = what_comes_of(counts)
    assert all_.closed[0].end.spectra == 100  # of these nothing is missing
    end = looked.closed[0].end
    assert 0 < end.spectra <= 30 and end.lost == {"upstream": 100 - end.spectra}
    for frame in looked.frames:
        part = slice(frame.index, frame.index + len(frame.block))
        np.testing.assert_array_equal(frame.block, all_.raman()[part])
        np.testing.assert_array_equal(frame.arrays["counts"], counts[part])


def test_a_display_that_stands_still_holds_up_nobody() -> None:
    axis = np.linspace(800, 1500, 4000)  # 200 spectra are 10 MB, far more than sockets take in
    counts = np.tile(spectra_of(50, axis), (10, 1))
    given = {"spectra": LOCAL, "model": "kk", "stall_s": 0}
    with Published() as raw, daemon_in_thread(raw.address, **given) as daemon:
        assert daemon.parts.spectra is not None
        with (
            Collected(daemon.parts.spectra.publisher.address) as still,
            Collected(daemon.publisher.address) as all_,
        ):
            still.until(lambda _: daemon.parts.spectra.publisher.subscribers)
            all_.until(lambda _: daemon.publisher.subscribers)
            raw.wait()
            raw.run("run-1", counts, block=10, raman_shift=axis)
            assert all_.ends().spectra == len(counts)
            assert not all_.closed[0].end.lost


def test_a_second_daemon_goes_without_the_default_address(monkeypatch: pytest.MonkeyPatch) -> None:
    with Publisher(LOCAL, "raman") as first:
        monkeypatch.setattr(output, "SPECTRA_ADDRESS", first.address)
        assert open_spectra(first.address, None) is None
        monkeypatch.setattr(output, "SPECTRA_ADDRESS", LOCAL)
        with pytest.raises(AddressInUseError):
            open_spectra(first.address, None)
