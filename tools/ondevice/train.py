"""The training loop: one sample a step, on the device. No display, no files: only events."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ondevice.config import TrainingSettings
from ondevice.data import Dataset, check_dataset
from ondevice.errors import UserError
from ondevice.events import Ended, Evaluated, Event, Moment, ParametersRead, Started, StepTrained
from ondevice.link.device import PAINT_A, PAINT_B
from ondevice.link.messages import CounterKind, Counters, DeviceInfo, MemoryUsage, StepResult
from ondevice.schedule import Schedule, learning_rate_at
from ondevice_compiler.samples import pack_label, pack_sample

OnEvent = Callable[[Event], None]

# Wall time of a simulator or of the host says nothing of the microcontroller.
_COUNTER_UNITS = {CounterKind.INSTRUCTIONS: "instructions", CounterKind.CYCLES: "cycles"}


class WrongFirmwareError(UserError):
    """The device runs another model than the one to be trained."""


class TrainingDevice(Protocol):
    """The part of a device that the loop uses; `ondevice.link.device.Device` is one."""

    @property
    def info(self) -> DeviceInfo:
        """What the board says of itself and its model."""

    def write_input(self, data: bytes) -> None:
        """Put one packed sample into the model's input."""

    def write_label(self, data: bytes) -> None:
        """Put one packed label into the model's label."""

    def set_schedule(self, schedule: Schedule) -> None:
        """Have the device compute the learning rate of each update."""

    def train(self) -> StepResult:
        """One forward, backward and update (or accumulation)."""

    def evaluate(self) -> StepResult:
        """Forward and loss only."""

    def apply(self) -> object:
        """Update from the accumulated gradient."""

    def read_parameters(self) -> Sequence[bytes]:
        """All trained parameters and optimiser state, in the manifest's order."""

    def read_scales(self) -> bytes:
        """The gradient scales; empty where there are none."""

    def counters(self) -> Counters:
        """Sums since `reset_counters`."""

    def reset_counters(self) -> None:
        """Set all counters to 0."""

    def paint(self, pattern: int) -> None:
        """Fill the arena and the unused stack with a pattern."""

    def memory(self) -> MemoryUsage:
        """Measure the memory touched since `paint`."""


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run gave.

    Attributes:
        before: Evaluation of the untouched model, None where not asked for or interrupted.
        after: Evaluation after the last step, likewise.
        steps: Training steps done.
        losses: float64 [steps], each before its update.
        correct: bool [steps], each before its update.
        counts: int64 [steps], instructions or cycles; empty where the device counts neither.
        parameters: As on the device at the end.
        counters: The device's own, over the training steps.
        memory: The most that training steps touched, on the device.
        interrupted: The person stopped it.
    """

    before: Evaluated | None
    after: Evaluated | None
    steps: int
    losses: NDArray[np.float64]
    correct: NDArray[np.bool_]
    counts: NDArray[np.int64]
    parameters: Sequence[bytes]
    counters: Counters
    memory: MemoryUsage
    interrupted: bool


def check_firmware(device: TrainingDevice, manifest: dict[str, Any]) -> None:
    """Checks that the device runs the model of the manifest.

    Raises:
        WrongFirmwareError: It runs another one; the message says which command flashes it.
    """
    if device.info.model_id != manifest["model_id"]:
        raise WrongFirmwareError(
            f"the {device.info.board} board runs model {device.info.model!r} "
            f"({device.info.model_id}), but these settings give {manifest['name']!r} "
            f"({manifest['model_id']}); put it on the board with --flash, or with "
            "`ondevice flash` and the same options"
        )


def counter_unit(info: DeviceInfo) -> str:
    """Returns the unit of a step's count: "instructions", "cycles" or ""."""
    return _COUNTER_UNITS.get(info.counter, "")


def sample_order(samples: int, total_steps: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yields (epoch from 1, sample index): each epoch a new permutation from one seeded generator.

    The order depends on `samples` and `seed` only, so a longer run begins like a shorter one.
    """
    generator = np.random.default_rng(seed)
    step = 0
    epoch = 0
    while step < total_steps:
        epoch += 1
        for sample in generator.permutation(samples)[: total_steps - step]:
            step += 1
            yield epoch, int(sample)


def evaluate(
    device: TrainingDevice,
    manifest: dict[str, Any],
    samples: Sequence[tuple[bytes, bytes]],
    moment: Moment = "after",
    step: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
) -> Evaluated | None:
    """Measures accuracy and loss on the device.

    Args:
        device: Running the manifest's model.
        manifest: Of the compiled model.
        samples: Packed by `pack_samples`; at least one.
        moment: Goes into the result.
        step: Goes into the result.
        should_stop: Asked before each sample.

    Returns:
        The measurement, or None where it was stopped.
    """
    correct = 0
    loss = 0.0
    for sample, label in samples:
        if should_stop():
            return None
        device.write_input(sample)
        device.write_label(label)
        result = device.evaluate()
        correct += result.correct
        loss += result.loss
    has_right_answers = manifest["label"]["kind"] != "vector"
    accuracy = correct / len(samples) if has_right_answers else None
    return Evaluated(moment, step, len(samples), correct, accuracy, loss / len(samples))


def pack_samples(
    manifest: dict[str, Any], x: NDArray[np.float32], y: NDArray[Any]
) -> list[tuple[bytes, bytes]]:
    """Packs samples [n, ...sample shape] and labels [n] into the bytes that the device takes."""
    shaped = x.reshape(len(x), *manifest["input"]["source_shape"][1:])
    return [
        (pack_sample(manifest, sample), pack_label(manifest, label))
        for sample, label in zip(shaped, y, strict=True)
    ]


def run_training(
    device: TrainingDevice,
    manifest: dict[str, Any],
    data: Dataset,
    settings: TrainingSettings,
    on_event: OnEvent = lambda event: None,
    should_stop: Callable[[], bool] = lambda: False,
    evaluate_each_epoch: bool = False,
) -> TrainingOutcome:
    """Evaluates, trains one sample a step, evaluates again; leaves the result on the device.

    Args:
        device: Running the manifest's model, in the state to start from.
        manifest: Of the compiled model.
        data: Training and held-out samples.
        settings: Length, learning rate, seed.
        on_event: Called with each event in order, in this thread. An exception in it ends the run.
        should_stop: Asked between steps; True ends the run after the current step, with the
            parameters read.
        evaluate_each_epoch: Also measures after every epoch but the last.

    Returns:
        What the run gave, on the device's own figures.

    Raises:
        WrongFirmwareError: The device runs another model.
        DataError: The data does not fit the model.
        UserError: The link broke or the device failed; the last `ParametersRead` is still good.
    """
    check_firmware(device, manifest)
    check_dataset(data, manifest)
    total_steps = settings.total_steps(len(data.x))
    accumulation_steps = int(manifest["optimizer"].get("accumulation_steps", 1))
    checkpoint_every_steps = settings.checkpoint_every_steps or len(data.x)
    counts_something = counter_unit(device.info) != ""
    on_event(_started(device, manifest, data, settings, total_steps))

    training = pack_samples(manifest, data.x, data.y)
    testing = pack_samples(manifest, data.x_test, data.y_test)
    losses = np.zeros(total_steps)
    correct = np.zeros(total_steps, dtype=np.bool_)
    counts = np.zeros(total_steps if counts_something else 0, dtype=np.int64)

    before = evaluate(device, manifest, testing, "before", 0, should_stop)
    if before is not None:
        on_event(before)

    schedule = settings.schedule(total_steps, accumulation_steps)
    device.set_schedule(schedule)
    device.reset_counters()
    device.paint(PAINT_A)
    memory = MemoryUsage(0, 0)
    step = 0
    previous_epoch = 1
    for epoch, chosen in sample_order(len(data.x), total_steps, settings.seed):
        if should_stop():
            break
        if evaluate_each_epoch and epoch != previous_epoch:
            measured = evaluate(device, manifest, testing, "epoch", step, should_stop)
            if measured is None:
                break
            on_event(measured)
        previous_epoch = epoch
        learning_rate = learning_rate_at(schedule, step // accumulation_steps)
        sample, label = training[chosen]
        device.write_input(sample)
        device.write_label(label)
        result = device.train()
        step += 1
        if accumulation_steps > 1 and (step % accumulation_steps == 0 or step == total_steps):
            device.apply()
        losses[step - 1] = result.loss
        correct[step - 1] = result.correct
        if counts_something:
            counts[step - 1] = result.count
        count = result.count if counts_something else None
        on_event(
            StepTrained(step, epoch, chosen, learning_rate, result.loss, result.correct, count)
        )
        if step == total_steps // 2:
            memory = device.memory()
            device.paint(PAINT_B)  # finds the bytes whose value was PAINT_A itself
        if step % checkpoint_every_steps == 0 and step < total_steps:
            on_event(ParametersRead(step, tuple(device.read_parameters()), device.read_scales()))

    memory = _larger(memory, device.memory())
    counters = device.counters()
    parameters = tuple(device.read_parameters())
    on_event(ParametersRead(step, parameters, device.read_scales()))
    after = None
    if step == total_steps:
        after = evaluate(device, manifest, testing, "after", step, should_stop)
    if after is not None:
        on_event(after)
    interrupted = after is None
    on_event(Ended(step, interrupted))
    return TrainingOutcome(
        before=before,
        after=after,
        steps=step,
        losses=losses[:step],
        correct=correct[:step],
        counts=counts[:step],
        parameters=parameters,
        counters=counters,
        memory=memory,
        interrupted=interrupted,
    )


def _larger(first: MemoryUsage, second: MemoryUsage) -> MemoryUsage:
    return MemoryUsage(
        max(first.arena_high_water_bytes, second.arena_high_water_bytes),
        max(first.stack_high_water_bytes, second.stack_high_water_bytes),
    )


def _started(
    device: TrainingDevice,
    manifest: dict[str, Any],
    data: Dataset,
    settings: TrainingSettings,
    total_steps: int,
) -> Started:
    return Started(
        model_id=str(manifest["model_id"]),
        model=str(manifest["name"]),
        board=device.info.board,
        dtype=str(manifest["dtype"]),
        scheme=str(manifest["scheme"]["name"]),
        samples=len(data.x),
        test_samples=len(data.x_test),
        total_steps=total_steps,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        counter=counter_unit(device.info),
        planned_ram_bytes=int(manifest["memory"]["ram_bytes"]),
    )
