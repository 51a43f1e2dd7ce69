"""Events as records and back."""

import json

import pytest

from ondevice.config import TrainingSettings
from ondevice.events import (
    BoardCheckpoint,
    Event,
    LinkLost,
    ParametersRead,
    RolledBack,
    Started,
    StepUnseen,
    Telemetry,
    WentOn,
    event_of_record,
    event_record,
)
from ondevice.link.messages import StepResult
from ondevice.train import run_training
from toy_training import ToyDevice, toy_dataset, toy_manifest


def events_of_a_run() -> list[Event]:
    events: list[Event] = []
    settings = TrainingSettings(steps=30, learning_rate=0.5)
    run_training(ToyDevice(), toy_manifest(), toy_dataset(), settings, events.append)
    return events


def test_every_event_comes_back_from_its_line_of_json() -> None:
    seldom: list[Event] = [
        StepUnseen(3, 1, 7),
        LinkLost(3, 1, 0.5, "no answer"),
        WentOn(2, 3, "board"),
        RolledBack(1, 9, "the loss rose", "host", 0.5, 2),
        BoardCheckpoint(9, None, "flash full"),
    ]
    events = [*events_of_a_run(), *seldom]
    written = [e for e in events if not isinstance(e, ParametersRead)]
    read = [event_of_record(json.loads(json.dumps(event_record(event)))) for event in written]
    assert read == written


def test_a_run_says_what_its_classes_are_called_and_how_long_it_took() -> None:
    events = events_of_a_run()
    started = events[0]
    assert isinstance(started, Started)
    assert (started.class_names, started.stack_bytes, started.session_bytes) == ((), 2048, 2000)
    times = [event.elapsed_s for event in events if isinstance(event, Telemetry)]
    assert len(times) == 31  # and one at the end
    assert times == sorted(times)


class CountingDevice(ToyDevice):
    """Has one operator, of ten ticks a training step and three a forward pass."""

    ticks = 2**32 - 50

    def evaluate(self) -> StepResult:
        self.ticks += 3
        return super().evaluate()

    def train(self) -> StepResult:
        self.ticks += 10
        return super().train()

    def profile(self) -> list[int]:
        return [self.ticks % 2**32]


def test_operators_are_counted_in_training_steps_alone() -> None:
    events: list[Event] = []
    settings = TrainingSettings(steps=60, learning_rate=0.5)
    device, data = CountingDevice(), toy_dataset()
    run_training(device, toy_manifest(), data, settings, events.append, evaluate_each_epoch=True)
    read = {event.step: event.op_counts for event in events if isinstance(event, Telemetry)}
    assert device.ticks == 2**32 - 50 + 600 + 4 * 20 * 3
    assert read == {step: (10 * step,) for step in range(1, 61)}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"event": "coffee"}, "no event of a run: 'coffee'"),
        ({}, "no event of a run: None"),
        ({"event": "end", "step": 3}, "'end' lacks a key.*interrupted"),
    ],
)
def test_a_record_that_is_no_event_is_refused(record: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        event_of_record(record)


def test_what_a_newer_version_adds_to_a_record_is_left_out() -> None:
    record = {"event": "unseen", "step": 1, "epoch": 1, "sample": 0, "mood": "sunny"}
    assert event_of_record(record) == StepUnseen(1, 1, 0)
