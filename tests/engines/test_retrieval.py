"""Classical retrieval: its mathematics, as a graph, from files and in the daemon."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import (
    AXIS,
    MEASURED,
    Published,
    a_frame,
    a_line,
    a_start,
    control_of,
    daemon_in_thread,
    spectra_of,
    wait_until,
)
from numpy.typing import NDArray
from scipy.signal import find_peaks

from cars_rt.engines import Card, EngineError, Model, ModelError, compose, load_model, open_engine
from cars_rt.engines.classical import LONGEST, STEP
from cars_rt.engines.registry import REFERENCE
from cars_rt.engines.tracing import trace
from cars_rt.files.formats import read_spectra
from cars_rt.files.offline import process
from cars_rt.files.recorder import Recorder, RecordSettings
from cars_rt.files.verify import verify
from cars_rt.physics.axis import Grid, resampling_matrix
from cars_rt.physics.cars import cars_intensity, lorentzians, raman_ratio
from cars_rt.physics.fitness import Flag
from cars_rt.physics.kramers_kronig import KramersKronig, hilbert_matrix
from cars_rt.physics.maximum_entropy import MaximumEntropy, maximum_entropy_phase
from cars_rt.physics.microscope import Microscope, Simulator
from cars_rt.physics.noise import Noise
from cars_rt.physics.smoothing import smoother
from cars_rt.remote import Remote

# Five lines far from the ends, one of them stronger than chi_NR allows to linearise.
SHIFT = 600 + 2.0 * np.arange(1300)
CHI = lorentzians(
    SHIFT,
    np.array([1000.0, 1450, 1600, 2300, 2600]),
    np.array([3.6, 3.6, 4.8, 3.6, 4.8]),
    np.array([6.0, 10, 8, 9, 12]),
)
TRUTH = raman_ratio(CHI, 1.0)
ENVELOPE = 20_000 * np.exp(-(((SHIFT - 600) / 1800) ** 2)) * (1 + 0.02 * np.cos(SHIFT / 30))
COUNTS = cars_intensity(ENVELOPE, CHI, 1.0)
WRONG = ENVELOPE * np.exp(0.3 * np.sin(SHIFT / 500) + 0.3 * (SHIFT - 1900) / 1300)  # not the sample's own
METHODS = [KramersKronig, MaximumEntropy]


def retrieved(method: Any, reference: NDArray[np.float64] | None, counts: NDArray[Any] = COUNTS) -> Any:
    scaled = np.atleast_2d(counts) / np.atleast_2d(counts).mean(axis=1, keepdims=True)
    return method(len(SHIFT), STEP, reference)(scaled)


def pearson(found: NDArray[Any], truth: NDArray[Any] = TRUTH) -> float:
    return float(np.corrcoef(found.ravel(), truth.ravel())[0, 1])


def worst(found: NDArray[Any], truth: NDArray[Any] = TRUTH) -> float:
    """Largest deviation, of the strongest line."""
    return float(np.abs(found - truth).max() / truth.max())


def npz(path: Path, raman_shift: NDArray[Any], spectra: NDArray[Any], **more: Any) -> Path:
    np.savez(path, raman_shift=raman_shift, spectra=spectra, **more)
    return path


# -- the mathematics ----------------------------------------------------------------------------------


def test_hilbert_matrix_gives_the_phase() -> None:
    phase = 0.5 * np.log(np.abs(1 + CHI) ** 2) @ hilbert_matrix(len(SHIFT))
    assert np.abs(phase - np.angle(1 + CHI)).max() < 0.01  # radians; the strongest line has 0.55
    assert np.abs(np.ones(len(SHIFT)) @ hilbert_matrix(len(SHIFT)))[300:-300].max() < 0.4  # only the ends


def test_maximum_entropy_gives_the_phase() -> None:
    phase = maximum_entropy_phase(np.abs(1 + CHI) ** 2)
    assert np.abs(phase - np.angle(1 + CHI)).max() < 0.02


def test_smoothing_keeps_straight_lines_and_flattens_fast_waves() -> None:
    smooth = smoother(500, 2.0, 50.0)
    line = np.linspace(-3, 8, 500)[None]
    assert np.allclose(smooth(line), line, atol=1e-6)
    shift = 2.0 * np.arange(500)
    assert np.abs(smooth(np.cos(shift / 10)[None]))[:, 50:-50].max() < 0.02
    half = smooth(np.cos(shift / 50)[None])[0, 200:-200]
    assert np.ptp(half) == pytest.approx(np.ptp(np.cos(shift / 50)[200:-200]) / 2, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_perfect_reference_gives_the_truth(method: Any) -> None:
    found = retrieved(method, ENVELOPE)
    assert pearson(found) > 0.999 and worst(found) < 0.035


@pytest.mark.parametrize("method", METHODS)
def test_slow_errors_of_the_reference_are_corrected(method: Any) -> None:
    found = retrieved(method, WRONG)
    assert pearson(found) > 0.99 and worst(found) < 0.04
    logarithm = 0.5 * np.log(COUNTS / WRONG)
    uncorrected = np.exp(logarithm) * np.sin(logarithm @ hilbert_matrix(len(SHIFT)))
    assert pearson(uncorrected) < 0.7


@pytest.mark.parametrize("method", METHODS)
def test_without_a_reference_lines_are_where_they_should_be(method: Any) -> None:
    found = retrieved(method, None)
    assert pearson(found) > 0.98 and worst(found) < 0.08
    peaks = SHIFT[find_peaks(found[0], prominence=0.05 * TRUTH.max())[0]]
    assert np.abs(peaks - [1000, 1450, 1600, 2300, 2600]).max() <= 4


@pytest.mark.parametrize("reference", [None, ENVELOPE])
def test_result_does_not_depend_on_power_nor_on_the_scale_of_the_reference(
    reference: NDArray[np.float64] | None,
) -> None:
    plain = retrieved(KramersKronig, reference)
    for factor in (0.1, 10):
        assert worst(retrieved(KramersKronig, reference, factor * COUNTS), plain) < 1e-9
        if reference is not None:
            assert worst(retrieved(KramersKronig, factor * reference), plain) < 1e-9


def test_dilution_series_is_linear() -> None:
    concentration = np.geomspace(0.01, 1, 12)
    counts = np.stack([cars_intensity(ENVELOPE, c * CHI, 1.0) for c in concentration])
    height = retrieved(KramersKronig, ENVELOPE, counts)[:, np.abs(SHIFT - 1000).argmin()]
    slope = (height @ concentration) / (concentration @ concentration)
    assert slope == pytest.approx(TRUTH[np.abs(SHIFT - 1000).argmin()], rel=0.03)
    assert (
        1 - np.square(height - slope * concentration).sum() / np.square(height - height.mean()).sum() > 0.999
    )


def test_simulated_spectra_come_out_as_the_noise_allows() -> None:
    simulator = Simulator(Microscope(seed=3))
    names = [substance.name for substance in simulator.substances]
    mixture = np.zeros((64, len(names)))
    mixture[:, names.index("DMSO")] = np.linspace(0.3, 1, 64)
    grid = Grid.covering(simulator.raman_shift, STEP, 1)
    matrix = resampling_matrix(simulator.raman_shift, grid.raman_shift)
    empty = simulator.measure(np.zeros((400, len(names)))).mean(axis=0) - simulator.dark
    counts = (simulator.measure(mixture) - simulator.dark) @ matrix
    method = KramersKronig(grid.length, STEP, empty @ matrix)
    found = method(counts / counts.mean(axis=1, keepdims=True))
    truth = simulator.raman(mixture) @ matrix
    noise = simulator.raman_noise(mixture) @ matrix
    fingerprint = (grid.raman_shift > 600) & (grid.raman_shift < 2200)
    error = (found - truth)[:, fingerprint] / noise[:, fingerprint]
    assert 0.5 < np.median(np.abs(error)) / 0.6745 < 1.5  # of a normal distribution
    agreement = [pearson(row, true) for row, true in zip(found, truth, strict=True)]
    assert np.median(agreement) > 0.96  # with the noise of the CH region, where the light is 1/200


def test_noise_is_found_beside_lines() -> None:
    rng = np.random.default_rng(4)
    light = COUNTS / COUNTS.mean()
    deviation = 0.02 * np.sqrt(light)
    found, level = Noise(len(SHIFT), STEP, 100.0)(light + deviation * rng.normal(size=(64, len(SHIFT))))
    assert np.abs(found.mean(axis=0) / deviation - 1).max() < 0.5  # beneath the strongest line
    assert abs(np.median(found / deviation) - 1) < 0.03
    assert np.abs(level[:, 200:-200].mean(axis=0) / light[200:-200] - 1).mean() < 0.1
    quiet, _ = Noise(len(SHIFT), STEP, 100.0)(light[None])
    assert quiet.max() < 0.002  # lines are wider than pixels


# -- an independent implementation ----------------------------------------------------------------------


def test_crikit2_gives_the_same() -> None:
    kk = pytest.importorskip("crikit.cri.kk", reason="needs CRIkit2: pip install CRIkit2")
    theirs = kk.KramersKronig(pad_factor=1).calculate(COUNTS[None].copy(), ENVELOPE)[0].imag
    logarithm = 0.5 * np.log(COUNTS / ENVELOPE)
    ours = np.exp(logarithm) * np.sin(logarithm @ hilbert_matrix(len(SHIFT)))
    assert pearson(ours, theirs) > 0.9998 and worst(ours, theirs) < 0.015  # what lies beyond the ends differs


def test_crikit2_corrects_phase_and_scale_no_better() -> None:
    kk = pytest.importorskip("crikit.cri.kk", reason="needs CRIkit2: pip install CRIkit2")
    errors = pytest.importorskip("crikit.cri.error_correction")
    retrieval = kk.KramersKronig(pad_factor=1).calculate(COUNTS[None].copy(), WRONG)
    phase = errors.PhaseErrCorrectALS(smoothness_param=1, asym_param=1e-3, redux=10, verbose=False)
    theirs = errors.ScaleErrCorrectSG(win_size=601).calculate(phase.calculate(retrieval))[0].imag
    ours = retrieved(KramersKronig, WRONG)
    assert pearson(ours, theirs) > 0.98
    assert worst(ours) < worst(theirs) and pearson(ours) > pearson(theirs) - 0.003


# -- as a model -----------------------------------------------------------------------------------------


@pytest.fixture
def glass(tmp_path: Path) -> Path:
    """A reference on an axis of its own, descending, two spectra and a dark."""
    shift = np.linspace(1700, 700, 333)
    counts = 30_000 * np.exp(-(((shift - 700) / 900) ** 2))
    return npz(tmp_path / "glass.npz", shift, np.stack([counts + 90, counts + 110]), dark=np.full(333, 100.0))


def test_only_what_is_known_can_be_traced() -> None:
    import onnxruntime

    matrix, row = np.random.default_rng(0).normal(size=(5, 5)), np.arange(1.0, 6)[None]

    def function(x: Any) -> Any:
        return (
            np.cos(np.minimum(2 - np.exp(0.5 * x), 1)) @ matrix / np.maximum(np.sin(x) + 3, row) * np.log(x)
        )

    x = np.random.default_rng(1).uniform(0.5, 2, (4, 5)).astype(np.float32)
    for inputs in ({}, {"m": matrix}):
        traced = trace(function, 5, "x", "y", inputs)
        session = onnxruntime.InferenceSession(traced.SerializeToString())
        given = {name: value.astype(np.float32) for name, value in inputs.items()}
        assert np.allclose(session.run(["y"], {"x": x, **given})[0], function(x), rtol=1e-5)
    with pytest.raises(TypeError, match="tanh"):
        trace(np.tanh, 5, "x", "y")


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("referenced", [False, True])
def test_graph_is_the_mathematics(referenced: bool, descending: bool, glass: Path) -> None:
    axis, counts = AXIS, spectra_of(6)
    reference = None
    if referenced:
        spectra = read_spectra(glass)
        mean = spectra.counts.mean(axis=0) - 100
        reference = mean @ resampling_matrix(spectra.raman_shift, axis)
    step = (axis[-1] - axis[0]) / (len(axis) - 1)
    expected = KramersKronig(len(axis), step, reference)(counts / counts.mean(axis=1, keepdims=True))
    model = load_model("kk", glass if referenced else None)
    turn = -1 if descending else 1
    with open_engine("onnxruntime", compose(model, axis[::turn]), 6) as engine:
        found = engine.run(counts[:, ::turn])[:, ::turn]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


def test_hash_is_of_all_that_the_result_depends_on(glass: Path, tmp_path: Path) -> None:
    plain, again, referenced = load_model("kk"), load_model("kk"), load_model("kk", glass)
    assert plain.sha256 == again.sha256 != referenced.sha256
    assert (plain.card.name, plain.card.target) == ("kk", "ratio")
    spectra = read_spectra(glass)
    mean = (spectra.counts.mean(axis=0) - 100)[::-1]
    same = npz(tmp_path / "same.npz", spectra.raman_shift[::-1], mean)
    other = npz(tmp_path / "other.npz", spectra.raman_shift[::-1], mean * 1.001)
    assert load_model("kk", same).sha256 == referenced.sha256 != load_model("kk", other).sha256
    assert load_model("kk", same).card.training["reference"] in referenced.provenance(retrieves=True)["card"]


def short(glass: Path, tmp_path: Path) -> Path:
    spectra = read_spectra(glass)
    return npz(tmp_path / "short.npz", spectra.raman_shift[100:], spectra.counts[:, 100:])


def test_reference_that_does_not_cover_the_axis_is_refused(glass: Path, tmp_path: Path) -> None:
    model = load_model("kk", short(glass, tmp_path))
    with pytest.raises(
        ModelError, match=r"short.npz: the reference covers 700 to 1399 cm-1, the axis 800 to 1500; measure"
    ):
        compose(model, AXIS)
    compose(model, model.nominal_axis)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (100, r"the reference is 0 above dark at 1688 cm-1 \(and at 4 of 333 pixels in all not positive"),
        (20, "the reference is -80 above dark at 1688 cm-1"),
        (np.nan, "spectrum 0 is NaN or infinite at pixel 1"),
        (np.inf, "spectrum 0 is NaN or infinite at pixel 1"),
    ],
)
def test_reference_with_impossible_values_is_refused(
    value: float, reason: str, glass: Path, tmp_path: Path
) -> None:
    spectra = read_spectra(glass)
    counts = spectra.counts.copy()
    counts[:, 1:5] = value
    bad = npz(tmp_path / "bad.npz", spectra.raman_shift, counts, dark=spectra.dark)
    with pytest.raises(ModelError, match=reason) as raised:
        load_model("kk", bad)
    assert "bad.npz" in str(raised.value)
    with pytest.raises(ModelError, match="there is no file"):
        load_model("kk", tmp_path / "nothing.h5")


def test_models_that_do_not_fit_are_refused(glass: Path) -> None:
    with pytest.raises(ModelError, match="the model cnn-crimson2024 takes no reference: what it"):
        load_model("cnn-crimson2024", glass)
    with pytest.raises(ModelError, match="mem is too slow for this; it is for files: cars-rt process"):
        load_model("mem")
    with pytest.raises(ModelError, match=r"no model is called 'nonsense'; there are .*kk, rnn"):
        load_model("nonsense")
    with pytest.raises(ModelError, match="the model kk needs 198 or more"):
        compose(load_model("kk"), np.linspace(500, 690, 300))
    with pytest.raises(ModelError, match=r"4151 points over 8300 cm-1 are too many; the model kk takes 4096"):
        compose(load_model("kk"), np.linspace(0, 8300, LONGEST + 104))


@pytest.mark.parametrize("turn", [1, -1])
def test_a_network_behind_a_reference_sees_counts_without_fringes(turn: int, tmp_path: Path) -> None:
    """A fringe of the optics looks like lines; the reference has it, too."""
    fringes = 1 + 0.06 * np.cos(SHIFT / 9)
    reference = npz(tmp_path / "glass.npz", SHIFT[::-turn], (0.3 * ENVELOPE * fringes)[::-turn])
    counts = (COUNTS * fringes).astype(np.float32)[None, ::turn]
    axis = SHIFT[::turn]
    found = {}
    for name, model in {
        "without": load_model("cnn-kk"), "with": load_model("cnn-kk", reference)
    }.items():  # fmt: skip
        with open_engine("onnxruntime", compose(model, axis), 1) as engine:
            found[name] = engine.run(counts)[0, ::turn]
            dark = engine.run(np.zeros_like(counts))
        assert not dark.any()
    quiet = np.abs(TRUTH) < 0.02
    error = {name: np.abs(each - TRUTH)[quiet].max() for name, each in found.items()}
    assert error["with"] < 0.5 * error["without"], error
    with open_engine("onnxruntime", compose(load_model("cnn-kk"), axis), 1) as engine:
        flat = np.abs(ENVELOPE * fringes / (ENVELOPE * fringes).mean())[::turn]
        by_hand = engine.run((counts / flat).astype(np.float32))[0, ::turn]
    assert worst(found["with"], by_hand) < 1e-3


def test_the_reference_of_a_network_is_for_its_own_instrument_only(glass: Path) -> None:
    plain, full = load_model("cnn"), load_model("cnn", glass)
    assert full.sha256 != plain.sha256 and full.of_source("a test") is full
    elsewhere = replace(full, reference=replace(full.reference, instrument="mine")).of_source("another")
    assert elsewhere.sha256 == plain.sha256 and "is not applied" in (elsewhere.unused or "")
    assert elsewhere.flattening(AXIS) is None
    assert (
        elsewhere.of_source("mine").unused is None
        and elsewhere.of_source("mine").flattening(AXIS) is not None
    )


def test_one_hot_pixel_of_a_reference_does_not_make_all_others_dark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hot = 0.01 * ENVELOPE
    hot[700] = 60_000
    factors = load_model("cnn", npz(tmp_path / "hot.npz", SHIFT, hot)).flattening(SHIFT)
    assert factors is not None
    flat = np.delete(factors * ENVELOPE, 700)
    assert np.allclose(flat, flat[0], rtol=1e-3) and not caplog.text
    hot[:100] *= 1e-3
    load_model("cnn", npz(tmp_path / "dim.npz", SHIFT, hot))
    assert "dim.npz is darker than 1 % of its bright part at 100 of 1300 pixels" in caplog.text


@pytest.mark.parametrize("name", ["cnn", "kk"])
def test_a_dead_pixel_of_a_reference_makes_no_line_of_ten(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = []
    for dead in (ENVELOPE[700], 1e-3):
        reference = ENVELOPE.copy()
        reference[700] = dead
        model = load_model(name, npz(tmp_path / f"{dead:g}.npz", SHIFT, reference))
        with open_engine("onnxruntime", compose(model, SHIFT), 1) as engine:
            found.append(engine.run(COUNTS[None]))
    assert caplog.text.count("0.001.npz is darker than 1 % of its bright part at 1 of 1300 pixels") == 1
    assert np.abs(found[1] - found[0]).max() < 3


def test_a_trained_model_is_the_same_on_all_points() -> None:
    card = Card("x", "1", 2.0, 1, 2, "mean", "ratio", "", {}, {})
    model = Model(b"some bytes", card, "0" * 64)
    assert model.for_points(SHIFT) == model.for_points(SHIFT[:9]) == (b"some bytes", {})


# -- files and daemon -----------------------------------------------------------------------------------


def result(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    with np.load(path) as file:
        return file["raman"], file["raman_shift"]


def test_process_subtracts_the_dark_and_takes_a_reference(tmp_path: Path) -> None:
    dark = np.linspace(80, 120, len(SHIFT))
    plain = npz(tmp_path / "plain.npz", SHIFT, COUNTS)
    darkened = npz(tmp_path / "dark.npz", SHIFT, COUNTS + dark, dark=dark)
    reference = npz(tmp_path / "glass.npz", SHIFT, 0.3 * ENVELOPE)
    for model, engine in (("kk", REFERENCE), ("mem", "auto")):
        for source in (plain, darkened):
            done = process(source, tmp_path / "out.npz", model=model, reference=reference, engine=engine)
            assert done.model == model
            raman, _ = result(tmp_path / "out.npz")
            assert worst(raman) < 0.035 and pearson(raman) > 0.999, (model, source)
        process(plain, tmp_path / "without.npz", model=model, engine=engine)
        assert not np.allclose(result(tmp_path / "without.npz")[0], raman, atol=0.01)
    with pytest.raises(EngineError, match="the model mem runs on no engine; leave --engine out"):
        process(plain, tmp_path / "out.npz", model="mem", engine="onnxruntime")
    with pytest.raises(ModelError, match="the reference covers"):
        other = npz(tmp_path / "half.npz", SHIFT[:600], ENVELOPE[:600])
        process(plain, tmp_path / "out.npz", model="mem", reference=other)


@pytest.mark.parametrize("model", ["kk", "mem"])
def test_any_unit_and_no_light(model: str, tmp_path: Path) -> None:
    """A lit spectrum gives the same in volts as in counts, a closed shutter gives nothing."""
    rng = np.random.default_rng(6)
    unlit = rng.normal(0, 5, (3, len(SHIFT)))
    unlit[1] -= 200  # a dark of a longer exposure
    unlit[2] = np.maximum(unlit[2] - 10, 0)  # one that was subtracted without a sign
    found = []
    for unit in (1.0, 1e-12, 1e12):
        counts = np.concatenate([COUNTS.reshape(-1, len(SHIFT))[:1], unlit]) * unit
        engine = "auto" if model == "mem" else "onnxruntime"
        process(npz(tmp_path / "in.npz", SHIFT, counts), tmp_path / "out.npz", model=model, engine=engine)
        with np.load(tmp_path / "out.npz") as file:
            found.append(file["raman"])
            assert file["flags"][0] == 0 and all(file["flags"][1:] & Flag.EMPTY)
    assert not np.any([each[1:] for each in found])
    assert np.allclose([each[0] for each in found], found[0][0], atol=1e-4 * found[0][0].max())


def test_daemon_takes_kk_with_a_reference_also_after_a_reload(glass: Path, tmp_path: Path) -> None:
    counts = spectra_of(12)
    process(
        npz(tmp_path / "in.npz", AXIS, counts),
        tmp_path / "out.npz",
        model="kk",
        reference=glass,
        engine=REFERENCE,
    )
    expected, _ = result(tmp_path / "out.npz")
    with a_line(model="cnn", reference=glass, engine=REFERENCE) as (source, daemon, results):
        source.run("run-1", counts)
        results.ends()
        with Remote(control_of(daemon)) as remote:
            assert remote.ask("reload", model="kk")["sha256"] == load_model("kk", glass).sha256
            source.run("run-2", counts)
            results.ends(2)
    found = results.raman("run-2")
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
    assert np.abs(results.raman("run-1") - expected).max() > 0.01
    model = results.starts[-1].model
    assert model is not None and model["name"] == "kk"


def test_a_reference_of_another_instrument_is_not_applied(
    glass: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with np.load(glass) as arrays:
        np.savez(tmp_path / "named.npz", **arrays, source="cam 1")
    counts, named = spectra_of(3), tmp_path / "named.npz"
    with a_line(model="kk", reference=named, engine=REFERENCE) as (source, daemon, results):
        for number, instrument in enumerate(("cam 1", "cam 2", "cam 1"), 1):
            source.run(f"run-{number}", counts, source=instrument)
            results.ends(number)
        with Remote(control_of(daemon)) as remote:
            source.publisher.open(a_start("run-4", source="cam 2"))
            results.until(lambda all_: len(all_.starts) == 4)
            assert "measured with 'cam 1'" in remote.ask("status")["reference_unused"]
            found = remote.ask("reload", model="kk")  # no way around it
            assert found["sha256"] == load_model("kk", named).sha256
            source.publisher.send(a_frame(0, counts[:1], "run-4"))
            results.until(lambda all_: all_.frames[-1].run == "run-4")
    made = [str(frame.made_by).split()[0] for frame in results.frames for _ in frame.block]
    full, without = load_model("kk", named).sha256[:16], load_model("kk").sha256[:16]
    assert made == [full] * 3 + [without] * 3 + [full] * 3 + [without]
    said = [(start.model or {}).get("reference") for start in results.starts]
    assert [bool(text) for text in said] == [False, True, False, True]
    assert caplog.text.count("is not applied: it was measured with 'cam 1'") == 2


@pytest.mark.parametrize("model", ["kk", "cnn-kk"])
def test_recorded_results_are_verified_with_the_reference_that_made_them(
    model: str, glass: Path, tmp_path: Path
) -> None:
    with (
        Published() as source,
        daemon_in_thread(source.address, model=model, reference=glass) as daemon,
    ):
        settings = RecordSettings(raman=daemon.publisher.address, raw=source.address)
        recorder = Recorder(tmp_path / "scan.h5", settings)
        source.wait(2)
        wait_until(lambda: daemon.publisher.subscribers == 1)
        source.run("run-1", spectra_of(12), spectra=12)
        recorder.serve()
    scan = tmp_path / "scan.h5"
    findings = verify(scan, scan, reference=glass)
    assert all(finding.true for finding in findings), findings
    (without,) = [finding.text for finding in verify(scan, scan) if not finding.true]
    assert without.startswith(f"the model {model} here is not the one that made the results; give --model")


def test_run_on_an_axis_that_the_reference_does_not_cover_is_refused_and_the_next_one_computed(
    glass: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wide = np.linspace(600, 1500, 200)
    with a_line(model="kk", reference=glass) as (source, _, results):
        source.run("run-1", spectra_of(3, wide), axis=wide)
        source.run("run-2", spectra_of(3))
        results.ends()
    assert "cannot be computed" in caplog.text and "covers 700 to 1700 cm-1, the axis 600" in caplog.text
    assert len(results.raman("run-2")) == 3


# -- measured spectra -----------------------------------------------------------------------------------

TOLUENE = MEASURED / "toluene_1ms_010.csv"
measured = pytest.mark.skipif(not TOLUENE.is_file(), reason=f"the measured spectra are not at {MEASURED}")


@measured
@pytest.mark.parametrize("model", ["kk", "mem"])
def test_toluene_has_its_lines_without_a_reference(model: str, tmp_path: Path) -> None:
    process(TOLUENE, tmp_path / "out.npz", model=model)
    raman, shift = result(tmp_path / "out.npz")
    strongest = raman[0].max()
    peaks = shift[find_peaks(raman[0], prominence=0.03 * strongest)[0]]
    for line in (521.7, 786.5, 1003.6, 1211.4, 1605.1, 3057.1):
        assert np.abs(peaks - line).min() <= 4, f"no peak at {line}: {peaks.round(1)}"
    assert raman[0, np.abs(shift - 1030.6).argmin()] > 0.1 * strongest  # a shoulder of 1003.6


@measured
def test_ratio_spectrum_needs_no_envelope(tmp_path: Path) -> None:
    spectra = read_spectra(MEASURED / "amdc.txt")
    ones = npz(tmp_path / "ones.npz", spectra.raman_shift, np.ones(len(spectra.raman_shift)))
    process(MEASURED / "amdc.txt", tmp_path / "out.npz", model="kk", reference=ones, engine=REFERENCE)
    raman, shift = result(tmp_path / "out.npz")
    peaks = shift[find_peaks(raman[0], prominence=0.15 * raman[0].max())[0]]
    for line in (1300, 1330, 1370):
        assert np.abs(peaks - line).min() <= 4, f"no peak at {line}: {peaks.round(1)}"


def test_a_daemon_says_what_it_means_to_have_no_reference(caplog: pytest.LogCaptureFixture) -> None:
    with daemon_in_thread("tcp://127.0.0.1:9", model="kk", engine="passthrough"):
        assert "model kk without --reference: the background is estimated" in caplog.text
