"""Training steps on the device, and what its counters say of each operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ondevice.config import TrainingSettings
from ondevice.data import Dataset
from ondevice.errors import UserError
from ondevice.evaluation import pack_samples
from ondevice.link.device import Device
from ondevice.noise_key import renew_noise_key
from ondevice.position import sample_order
from ondevice.training_device import check_firmware, counter_unit

COUNTER_MODULUS = 2**32


@dataclass(frozen=True)
class Measurement:
    """The counters of some training steps.

    Attributes:
        board: That counted.
        unit: "instructions" or "cycles".
        resolution: Of the counter, in that unit.
        clock_hz: Of the board's CPU; 0: unknown.
        steps: Training steps that were run.
        total: Ticks of all steps, by the counter around the whole step.
        op_totals: Ticks of all steps, of each operator of the manifest.
    """

    board: str
    unit: str
    resolution: int
    clock_hz: int
    steps: int
    total: int
    op_totals: tuple[int, ...]


def measure(
    device: Device,
    manifest: dict[str, Any],
    data: Dataset,
    settings: TrainingSettings,
    steps: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> Measurement:
    """Trains for some steps and reads the counters; the parameters are put back before, not after.

    Args:
        device: Running the manifest's model.
        manifest: Of the compiled model.
        data: Its training samples, in the order of a training run.
        settings: Learning rate and seed.
        steps: At least 1; rounded up to whole updates where gradients are accumulated.
        should_stop: Asked between steps.

    Raises:
        UserError: The board counts nothing, or keeps no profile of this model.
    """
    check_firmware(device, manifest)
    info = device.info
    unit = counter_unit(info)
    if not unit:
        raise UserError(no_counter(info.board))
    ops = manifest["ops"]
    if info.profile_count != len(ops):
        raise UserError(
            f"the firmware on {info.board} keeps a profile of {info.profile_count} operators, the "
            f"model has {len(ops)}; raise PROFILE_ENTRIES in firmware/src/main.c and flash it again"
        )
    device.reset_model()
    device.reset_counters()
    renew_noise_key(device, manifest)
    samples = pack_samples(manifest, data.x, data.y)
    every = int(manifest["optimizer"].get("accumulation_steps", 1))
    wanted = -(-steps // every) * every
    total, done = 0, 0
    seen = np.zeros(len(ops), dtype=np.int64)
    sums = np.zeros(len(ops), dtype=np.int64)
    for _, chosen in sample_order(len(samples), wanted, settings.seed):
        sample, label = samples[chosen]
        device.write_input(sample)
        device.write_label(label)
        total += device.train(settings.learning_rate).count
        done += 1
        if every > 1 and done % every == 0:
            total += device.apply(settings.learning_rate)
        now = np.asarray(device.profile(), dtype=np.int64)
        sums += (now - seen) % COUNTER_MODULUS  # read at every step, for the counters wrap
        seen = now
        if done % every == 0 and should_stop():
            break
    return Measurement(
        board=info.board,
        unit=unit,
        resolution=info.counter_resolution,
        clock_hz=info.clock_hz,
        steps=done,
        total=total,
        op_totals=tuple(int(count) for count in sums),
    )


def no_counter(board: str) -> str:
    """The message for a board that counts neither instructions nor cycles."""
    return (
        f"board {board!r} counts neither instructions nor cycles; use a simulated board such as "
        "qemu_f405, or a real one with --port (see `ondevice boards`)"
    )
