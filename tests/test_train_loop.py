"""The training loop and the files it leaves, on a device in memory."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from ondevice.checkpoint import CheckpointError, check_checkpoint, load_checkpoint
from ondevice.config import Config, OutputSettings, TrainingSettings, load_config
from ondevice.data import DataError
from ondevice.errors import LinkError
from ondevice.evaluation import pack_samples
from ondevice.events import Ended, Evaluated, Event, ParametersRead, Started, StepTrained
from ondevice.link.messages import CounterKind
from ondevice.position import sample_order
from ondevice.run_folder import RunFolder, create_run_folder
from ondevice.train import run_training
from ondevice.training_device import WrongFirmwareError
from toy_training import ToyDevice, toy_dataset, toy_manifest

SETTINGS = TrainingSettings(epochs=3, learning_rate=0.5, seed=1)
NOW = datetime(2026, 1, 2, 3, 4, 5)


def test_training_on_the_device_raises_held_out_accuracy() -> None:
    outcome = run_training(ToyDevice(), toy_manifest(), toy_dataset(), SETTINGS)
    assert outcome.before is not None
    assert outcome.after is not None
    assert outcome.before.accuracy is not None
    assert outcome.after.accuracy is not None
    assert outcome.after.accuracy >= 0.9 > outcome.before.accuracy
    assert outcome.steps == 60
    assert not outcome.interrupted


def test_the_device_gets_the_packed_samples_in_the_published_order() -> None:
    device, data = ToyDevice(), toy_dataset()
    run_training(device, toy_manifest(), data, SETTINGS)
    packed = pack_samples(toy_manifest(), data.x, data.y)
    assert packed[0][0] == data.x[0].astype("<f4").tobytes()
    order = [sample for _, sample in sample_order(len(data.x), 60, SETTINGS.seed)]
    assert device.trained_on == [packed[sample][0] for sample in order]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    def weights(seed: int) -> bytes:
        settings = replace(SETTINGS, seed=seed)
        return run_training(ToyDevice(), toy_manifest(), toy_dataset(), settings).parameters[0]

    assert weights(1) == weights(1)
    assert weights(1) != weights(2)


def test_every_epoch_visits_every_sample_once_in_a_new_order() -> None:
    order = list(sample_order(10, 25, seed=3))
    first, second = order[:10], order[10:20]
    assert [epoch for epoch, _ in order] == [1] * 10 + [2] * 10 + [3] * 5
    assert sorted(sample for _, sample in first) == list(range(10))
    assert sorted(sample for _, sample in second) == list(range(10))
    assert [s for _, s in first] != [s for _, s in second]
    assert list(sample_order(10, 12, seed=3)) == order[:12]


def test_the_device_computes_the_rates_that_the_events_name() -> None:
    events: list[Event] = []
    device = ToyDevice(accumulation_steps=2)
    manifest = toy_manifest(optimizer={"name": "sgd", "momentum": 0.0, "accumulation_steps": 2})
    settings = TrainingSettings(steps=8, learning_rate=0.5, warmup_steps=1)
    run_training(device, manifest, toy_dataset(), settings, events.append)
    assert device.rates == [e.learning_rate for e in events if isinstance(e, StepTrained)]
    rates = np.repeat([0.5, 0.5, 1 / 3, 1 / 6], 2)
    assert device.rates == pytest.approx(rates, rel=1e-6)


def test_events_come_in_order_with_every_step() -> None:
    events: list[Event] = []
    run_training(ToyDevice(), toy_manifest(), toy_dataset(), SETTINGS, events.append)
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Ended)
    assert [e.step for e in events if isinstance(e, StepTrained)] == list(range(1, 61))
    assert [e.moment for e in events if isinstance(e, Evaluated)] == ["before", "after"]
    assert [e.step for e in events if isinstance(e, ParametersRead)] == [20, 40, 60]


def test_each_epoch_is_measured_when_asked() -> None:
    events: list[Event] = []
    data = toy_dataset()
    run_training(
        ToyDevice(), toy_manifest(), data, SETTINGS, events.append, evaluate_each_epoch=True
    )
    measured = [(e.moment, e.step) for e in events if isinstance(e, Evaluated)]
    assert measured == [("before", 0), ("epoch", 20), ("epoch", 40), ("after", 60)]


def test_accumulated_gradients_are_applied_on_time_and_at_the_end() -> None:
    manifest = toy_manifest(optimizer={"name": "sgd", "momentum": 0.0, "accumulation_steps": 4})
    device = ToyDevice(accumulation_steps=4)
    run_training(device, manifest, toy_dataset(), TrainingSettings(steps=10))
    assert device.applied_at == [4, 8, 10]


def test_memory_is_measured_with_both_patterns() -> None:
    outcome = run_training(ToyDevice(), toy_manifest(), toy_dataset(), SETTINGS)
    assert outcome.memory.arena_high_water_bytes == 64
    assert outcome.memory.stack_high_water_bytes == 900


def test_wall_time_of_the_host_is_not_reported_as_a_count() -> None:
    events: list[Event] = []
    device = ToyDevice(counter=CounterKind.NANOSECONDS)
    outcome = run_training(device, toy_manifest(), toy_dataset(), SETTINGS, events.append)
    assert len(outcome.counts) == 0
    assert {e.count for e in events if isinstance(e, StepTrained)} == {None}


def test_wrong_firmware_is_refused_before_any_step() -> None:
    device = ToyDevice(model_id="ff" * 16)
    with pytest.raises(WrongFirmwareError, match="ondevice flash"):
        run_training(device, toy_manifest(), toy_dataset(), SETTINGS)
    assert device.trained_on == []


def test_data_that_does_not_fit_the_model_is_refused_before_any_step() -> None:
    data = toy_dataset()
    data.y[7] = 2
    device = ToyDevice()
    with pytest.raises(DataError, match=r"y\[7\] is 2; allowed labels: 0 to 1"):
        run_training(device, toy_manifest(), data, SETTINGS)
    assert device.trained_on == []


def test_a_stopped_run_finishes_its_step_and_reads_the_parameters(tmp_path: Path) -> None:
    device, folder = ToyDevice(), _folder(tmp_path)
    outcome = run_training(
        device,
        toy_manifest(),
        toy_dataset(),
        SETTINGS,
        folder.on_event,
        should_stop=lambda: len(device.trained_on) == 7,
    )
    assert outcome.interrupted
    assert outcome.steps == 7
    assert outcome.after is None
    assert folder.checkpoint is not None
    checkpoint = load_checkpoint(folder.checkpoint)
    assert checkpoint.step == 7
    np.testing.assert_array_equal(checkpoint.arrays[0], device.weights)


def test_an_unplugged_board_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    settings = replace(SETTINGS, checkpoint_every_steps=10)
    with pytest.raises(LinkError, match="unplugged"):
        run_training(
            ToyDevice(unplug_at_step=27),
            toy_manifest(),
            toy_dataset(),
            settings,
            folder.on_event,
        )
    twenty = run_training(
        ToyDevice(), toy_manifest(), toy_dataset(), replace(SETTINGS, steps=None, epochs=3),
        stop := _StopAfter(20), stop.reached,
    )  # fmt: skip
    checkpoint = load_checkpoint(folder.path / "checkpoint.npz")
    assert checkpoint.step == 20
    assert checkpoint.parameter_bytes() == list(twenty.parameters)


def test_a_run_folder_holds_every_step_and_settings_that_load_again(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    run_training(ToyDevice(), toy_manifest(), toy_dataset(), SETTINGS, folder.on_event)
    folder.close()
    assert folder.path == tmp_path / "20260102-030405-toy"
    assert sorted(p.name for p in folder.path.iterdir()) == [
        "checkpoint.npz",
        "config.toml",
        "curves.png",
        "manifest.json",
        "metrics.jsonl",
    ]
    lines = [json.loads(s) for s in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "step"] == list(range(1, 61))
    assert lines[0]["event"] == "start"
    assert lines[-1]["event"] == "end"
    assert load_config(folder.path / "config.toml").training == SETTINGS
    assert (folder.path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_two_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    assert _folder(tmp_path).path != _folder(tmp_path).path


def test_a_checkpoint_that_changed_by_one_bit_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    folder.on_event(ParametersRead(3, (np.arange(6, dtype="<f4").tobytes(),), b"scales"))
    path = folder.path / "checkpoint.npz"
    assert load_checkpoint(path).scales == b"scales"
    whole = path.read_bytes()
    at = whole.index(np.arange(6, dtype="<f4").tobytes()) + 9
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    folder.on_event(ParametersRead(3, (bytes(24),)))
    path = folder.path / "checkpoint.npz"
    with pytest.raises(CheckpointError, match="made for model 0001"):
        check_checkpoint(path, load_checkpoint(path), toy_manifest(model_id="ab" * 16))


class _StopAfter:
    """Counts steps, and says when there were enough."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def __call__(self, event: Event) -> None:
        self._left -= isinstance(event, StepTrained)

    def reached(self) -> bool:
        return self._left == 0


def _folder(tmp_path: Path) -> RunFolder:
    config = Config(training=SETTINGS, output=OutputSettings(directory=tmp_path))
    return create_run_folder(config, toy_manifest(), NOW)
