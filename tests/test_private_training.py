"""DP-SGD from the host: lots, the key of the noise, what a restart forgets, and the accountant."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats
from typer.testing import CliRunner

from ondevice.boards import load_board
from ondevice.build import Firmware, build_firmware, simulate_command
from ondevice.cli import app
from ondevice.config import TrainingSettings
from ondevice.errors import DeviceError, UserError
from ondevice.federate.board_round import BoardRound
from ondevice.federate.weights import weight_formats
from ondevice.flash_file import prepare_flash_file
from ondevice.link.device import Device
from ondevice.link.messages import NO_NOISE_KEY, Failure, ParameterKind
from ondevice.link.transport import ProcessTransport
from ondevice.noise_key import renew_noise_key
from ondevice.position import poisson_course, shuffled_course
from ondevice.privacy import accountant
from ondevice.privacy.accountant import Mechanism, epsilon, noise_for, spent, usual_delta
from ondevice.train import run_training
from ondevice_compiler.samples import pack_label, pack_sample
from small_networks import NETWORKS, compiled, labels
from toy_training import ToyDevice, toy_dataset, toy_manifest

LOT = 4
OPTIONS = {"dp_clip_norm": 0.3, "dp_noise_multiplier": 0.5, "accumulation_steps": LOT}
KEY = bytes(range(1, 33))


@cache
def manifest() -> dict[str, Any]:
    return dict(compiled("perceptron", **OPTIONS).model.manifest)


def key_index() -> int:
    formats = [entry["format"] for entry in manifest()["parameters"]]
    return formats.index("noise key")


@pytest.fixture(scope="module")
def firmware(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Firmware]:
    folder = tmp_path_factory.mktemp("private")
    compiled("perceptron", **OPTIONS).model.write(folder / "model")

    @cache
    def built(name: str, export: bool) -> Firmware:
        build = folder / f"{name}-{export}"
        return build_firmware(folder / "model", load_board(name), build, None, export)

    return built


Boards = Callable[..., Any]


@pytest.fixture
def board(firmware: Callable[[str, bool], Firmware]) -> Boards:
    @contextmanager
    def opened(name: str = "host", export: bool = True, flash: Path | None = None) -> Iterator[Any]:
        path = prepare_flash_file(flash, load_board(name)) if flash is not None else None
        command = simulate_command(firmware(name, export), load_board(name), path)
        with Device(ProcessTransport(command)) as device:
            yield device

    return opened


def feed(device: Device, count: int = LOT) -> None:
    samples = NETWORKS["perceptron"].samples(count, seed=5)
    for x, y in zip(samples, labels(count), strict=True):
        device.write_input(pack_sample(manifest(), x))
        device.write_label(pack_label(manifest(), y))
        device.train(0.1)


def refused(device: Device) -> None:
    for call in (device.train, device.apply):
        with pytest.raises(DeviceError, match="no fresh key") as caught:
            call(0.1)
        assert (caught.value.code, caught.value.detail) == (Failure.MODEL, NO_NOISE_KEY)


@pytest.mark.parametrize("export", [True, False])
def test_a_board_trains_with_a_key_alone_and_never_gives_it(board: Boards, export: bool) -> None:
    with board(export=export) as device:
        refused(device)
        device.write_noise_key(key_index(), KEY)
        feed(device)
        before = device.read_parameters()
        device.apply(0.1)
        after = device.read_parameters()
        assert after[0] != before[0]
        assert after[key_index()] == bytes(32)
        assert device.parameters()[key_index()].kind == ParameterKind.NOISE_KEY
        with pytest.raises(DeviceError, match="does not leave the device"):
            device._read(3, key_index(), 32)


@pytest.mark.parametrize("export", [True, False])
def test_whatever_sets_the_count_of_updates_back_takes_the_key(
    board: Boards, export: bool, tmp_path: Path
) -> None:
    with board(export=export, flash=tmp_path / "flash.bin") as device:
        device.write_noise_key(key_index(), KEY)
        device.save_checkpoint()
        held = device.read_parameters()
        for change in (
            device.reset_model,
            lambda: device.write_parameters(held),
            device.load_checkpoint,
        ):
            feed(device)
            change()
            refused(device)
            device.write_noise_key(key_index(), KEY)
        device.save_checkpoint()
    with board(export=export, flash=tmp_path / "flash.bin") as device:  # restarted from it
        assert device.info.restored
        refused(device)


def test_a_key_may_come_in_the_middle_of_a_lot_and_a_round_brings_one(board: Boards) -> None:
    with board(export=False) as device:
        weights = device.read_parameters()
        one = BoardRound(device, manifest())
        one.begin([weights[form.index] for form in weight_formats(manifest())])
        feed(device, 2)
        renew_noise_key(device, manifest())
        feed(device, 2)
        device.apply(0.1)
        assert one.end()


def test_the_same_key_moves_the_weights_alike_on_host_and_in_qemu(board: Boards) -> None:
    """Bit for bit, and two keys do not."""
    found = {}
    for name, key in (("host", KEY), ("qemu_f405", KEY), ("host", KEY[::-1])):
        with board(name) as device:
            device.write_noise_key(key_index(), key)
            for _ in range(2):
                feed(device)
                device.apply(0.1)
            found[name, key] = device.read_parameters()
    assert found["host", KEY] == found["qemu_f405", KEY]
    assert found["host", KEY] != found["host", KEY[::-1]]


def test_poisson_lots_have_every_sample_with_the_same_probability() -> None:
    course = poisson_course(50, updates=2000, lot=10, seed=0, run=7)
    sizes = np.diff(course.ends, prepend=0)
    assert course.steps == course.ends[-1]
    assert abs(sizes.mean() - 10) < 4.5 * (50 * 0.2 * 0.8 / 2000) ** 0.5
    assert abs(sizes.var() - 8) < 1.2
    counts = np.bincount(course.order, minlength=50)
    assert stats.chisquare(counts).pvalue > 1e-4
    first = course.order[: course.ends[0]]
    assert len(set(first)) == len(first)
    assert (poisson_course(50, 2000, 10, 0, 7).order == course.order).all()
    assert len(poisson_course(50, 2000, 10, 0, 8).order) != course.steps
    with pytest.raises(UserError, match="only 9 to draw from"):
        poisson_course(9, 1, 10, 0, 0)


def test_a_shuffled_course_updates_after_each_batch_and_at_the_end() -> None:
    course = shuffled_course(5, total_steps=10, accumulation_steps=4, seed=0)
    assert course.ends.tolist() == [4, 8, 10]
    assert [course.updates_due(step) for step in (0, 3, 4, 9, 10)] == [0, 0, 1, 2, 3]


def private_toy() -> dict[str, Any]:
    optimizer = {
        **{"name": "sgd", "momentum": 0.0, "accumulation_steps": 2},
        **{"dp_clip_norm": 1.0, "dp_noise_multiplier": 1.0},
    }
    whole = toy_manifest(optimizer=optimizer)
    key = {"name": "noise_key", "shape": [8], "dtype": "uint32", "bytes": 32, "index": 1}
    return {**whole, "parameters": [*whole["parameters"], {**key, "format": "noise key"}]}


def test_a_run_trains_poisson_lots_with_an_update_each_and_fresh_keys() -> None:
    keys = set()
    for _ in range(2):
        device = ToyDevice(accumulation_steps=2)
        outcome = run_training(device, private_toy(), toy_dataset(), TrainingSettings(epochs=2))
        assert outcome.counters.updates == len(device.applied_at) == 20
        assert outcome.steps == len(device.trained_on)
        ((index, key),) = device.noise_keys
        assert (index, len(key)) == (1, 32)
        keys.add(key)
        lots = np.diff(device.applied_at, prepend=0)
        assert len(set(lots.tolist())) > 1  # they vary
    assert len(keys) == 2


def renyi_epsilon(q: float, sigma: float, updates: int, delta: float) -> float:
    """By numerical integration of E[(mixture / normal)^order], Mironov et al., 2019."""
    best = math.inf
    for order in range(2, 25):

        def moment(x: float, order: int = order) -> float:
            ratio = math.log(1 - q + q * math.exp((2 * x - 1) / (2 * sigma**2)))
            return math.exp(float(stats.norm.logpdf(x, scale=sigma)) + order * ratio)

        high = order + 12 * sigma
        value, _ = integrate.quad(moment, -12 * sigma, high, limit=400, points=[0, order])
        renyi = updates * math.log(value) / (order - 1)
        best = min(best, renyi + math.log(1 / delta) / (order - 1))
    return best


def test_the_accountant_lies_below_a_bound_by_integration_and_not_far() -> None:
    for samples, lot, sigma, updates in ((700, 32, 1.2, 110), (2000, 20, 0.9, 300)):
        found = epsilon(Mechanism(samples, lot, updates), sigma, 1e-5)
        bound = renyi_epsilon(lot / samples, sigma, updates, 1e-5)
        assert 0.5 * bound < found <= bound


def test_the_accountant_agrees_with_what_was_published() -> None:
    """TensorFlow Privacy's tutorial on MNIST: noise 1.1, lots of 256, 60 epochs, 1e-5: 3.0 by
    moments; Abadi et al. (2016), figure 2: q 0.01, noise 4, 10000 updates, 1e-5: 1.26."""
    assert 2.2 < epsilon(Mechanism(60000, 256, 60 * 60000 // 256), 1.1, 1e-5) < 3.01
    assert 0.9 < epsilon(Mechanism(60000, 600, 10000), 4.0, 1e-5) < 1.27


def test_known_lots_cost_what_one_gaussian_costs() -> None:
    """Balle and Wang (2018), theorem 8, solved here."""
    sigma, updates, delta = 4.0, 25, 1e-5
    mechanism = Mechanism(100, 10, updates)
    found = epsilon(mechanism, sigma, delta, sampled=False)
    each = sigma / math.sqrt(updates)
    a, b = 1 / (2 * each), found * each
    reached = stats.norm.cdf(a - b) - math.exp(found) * stats.norm.cdf(-a - b)
    assert reached == pytest.approx(delta, rel=1e-3)
    assert epsilon(mechanism, sigma, delta) < found


def test_the_noise_for_an_epsilon_keeps_it_and_hardly_less_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(accountant, "_loose_epsilon", lambda mechanism, noise, delta: 6 / noise)
    monkeypatch.setattr(accountant, "epsilon", lambda mechanism, noise, delta: 5 / noise)
    for wanted in (0.1, 1.0, 8.0):
        assert 5 / wanted <= noise_for(Mechanism(500, 25, 10), wanted, 1e-5) <= 5.03 / wanted
    with pytest.raises(UserError, match="needs noise beyond 1000"):
        noise_for(Mechanism(500, 25, 10), 0.001, 1e-5)


def test_a_summary_says_what_was_spent() -> None:
    optimizer = private_toy()["optimizer"]
    found = spent(optimizer, 20, 40)
    assert found is not None
    assert found["delta"] == usual_delta(20) == 1e-5
    assert 1 < found["epsilon"] < found["epsilon_lots_known"]
    assert spent({**optimizer, "dp_noise_multiplier": 0.0}, 20, 40)["epsilon"] is None  # type: ignore[index]
    assert spent(toy_manifest()["optimizer"], 20, 40) is None


def test_the_verb_prints_epsilon_and_needs_one_question() -> None:
    words = ["privacy", "budget", "--samples", "700", "--lot", "32", "--epochs", "2"]
    result = CliRunner().invoke(app, [*words, "--noise-multiplier", "1.2"])
    assert result.exit_code == 0
    wanted = epsilon(Mechanism(700, 32, 44), 1.2, 1e-5)
    assert f"epsilon {wanted:.3f} at delta 1e-05" in result.stdout
    assert CliRunner().invoke(app, words).exit_code == 2
