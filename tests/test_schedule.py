"""Learning-rate schedules: the device's and the host's, bit for bit, and both against float64."""

from __future__ import annotations

import ctypes
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coverage_flags import coverage_flags
from native_model import CFLAGS, ROOT, WARNINGS
from ondevice.config import TrainingSettings
from ondevice.errors import DeviceError
from ondevice.link.device import Device
from ondevice.link.transport import ProcessTransport
from ondevice.schedule import Schedule, ScheduleKind, learning_rate_at


class _Schedule(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_uint),
        ("learning_rate", ctypes.c_float),
        ("warmup_steps", ctypes.c_uint32),
        ("total_steps", ctypes.c_uint32),
        ("step_every", ctypes.c_uint32),
        ("step_factor", ctypes.c_float),
    )


@pytest.fixture(scope="module")
def on_device(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Schedule, int], float]:
    """`od_learning_rate` of the runtime."""
    library = str(tmp_path_factory.mktemp("schedule") / "schedule.so")
    source, include = str(ROOT / "runtime/src/schedule.c"), f"-I{ROOT / 'runtime/include'}"
    flags = [*CFLAGS, *WARNINGS, *coverage_flags(), include]
    command = ["gcc", *flags, "-shared", "-fPIC", "-o", library, source]
    subprocess.run(command, check=True)
    function = ctypes.CDLL(library).od_learning_rate
    function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_uint32], ctypes.c_float

    def rate(schedule: Schedule, step: int) -> float:
        native = _Schedule(
            schedule.kind, schedule.learning_rate, schedule.warmup_steps, schedule.total_steps,
            schedule.step_every, schedule.step_factor,
        )  # fmt: skip
        return float(function(ctypes.byref(native), step))

    return rate


counts = st.one_of(st.integers(0, 50), st.integers(0, 2**32 - 1))
schedules = st.builds(
    Schedule,
    kind=st.sampled_from(list(ScheduleKind)),
    learning_rate=st.floats(0, 1e6, width=32),
    total_steps=counts,
    warmup_steps=counts,
    step_every=st.integers(1, 2**32 - 1),
    step_factor=st.floats(0, 1, width=32),
)


@given(schedules, counts)
def test_device_and_host_compute_the_same_bits(
    on_device: Callable[[Schedule, int], float], schedule: Schedule, step: int
) -> None:
    assert on_device(schedule, step) == learning_rate_at(schedule, step)


def in_float64(schedule: Schedule, step: int) -> float:
    """The same from the definitions of the lectures."""
    highest, warmup = schedule.learning_rate, schedule.warmup_steps
    if step < warmup:
        return highest * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / (schedule.total_steps - warmup))
    return {
        ScheduleKind.CONSTANT: highest,
        ScheduleKind.LINEAR: highest * (1 - progress),
        ScheduleKind.COSINE: highest * (1 + math.cos(math.pi * progress)) / 2,
        ScheduleKind.STEP: highest
        * schedule.step_factor ** ((step - warmup) // schedule.step_every),
    }[schedule.kind]


@pytest.mark.parametrize("kind", ScheduleKind)
@pytest.mark.parametrize("warmup_steps", [0, 1, 30])
def test_rates_are_those_of_the_formula(kind: ScheduleKind, warmup_steps: int) -> None:
    schedule = Schedule(kind, 0.3, 250, warmup_steps, 60, 0.5)
    for step in range(300):
        expected = in_float64(schedule, step)
        assert learning_rate_at(schedule, step) == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_the_settings_count_updates_not_samples() -> None:
    settings = TrainingSettings(learning_rate_schedule="step", learning_rate=1.0)
    schedule = settings.schedule(total_steps=90, accumulation_steps=10)
    assert (schedule.total_steps, schedule.step_every) == (9, 3)
    rates = [learning_rate_at(schedule, step) for step in range(9)]
    assert rates == pytest.approx(np.repeat([1, 0.1, 0.01], 3), rel=1e-6)


def fake_step(device: Device, number: int, rate: float | None) -> None:
    """One sample and, every second time, the update."""
    device.write_input(bytes([number % 7]) * 600)
    device.write_label((number % 3).to_bytes(4, "little"))
    device.train(rate)
    if number % 2:
        device.apply(rate)


def test_a_device_with_a_schedule_trains_as_one_that_is_told_every_rate(
    compile_c: Callable[[str], Path],
) -> None:
    schedule = Schedule(ScheduleKind.COSINE, 300.0, 12, 3)
    results: list[Any] = []
    for scheduled in (True, False):
        with Device(ProcessTransport([str(compile_c("fake_device"))])) as device:
            with pytest.raises(DeviceError, match="no learning-rate schedule"):
                device.train()
            if scheduled:
                device.set_schedule(schedule)
            for number in range(20):
                if scheduled and number == 10:
                    saved = device.read_parameters()
                    device.write_parameters(saved)
                    device.set_schedule(schedule, done_steps=5)
                rate = None if scheduled else learning_rate_at(schedule, number // 2)
                fake_step(device, number, rate)
            results.append(device.read_parameters())
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(ScheduleKind.STEP, 0.1, 10, step_every=0),
        Schedule(ScheduleKind.STEP, 0.1, 10, step_factor=1.5),
        Schedule(ScheduleKind.LINEAR, float("nan"), 10),
    ],
)
def test_a_schedule_out_of_range_is_refused(
    schedule: Schedule, compile_c: Callable[[str], Path]
) -> None:
    with Device(ProcessTransport([str(compile_c("fake_device"))])) as device:
        with pytest.raises(DeviceError, match="schedule is out of range"):
            device.set_schedule(schedule)
        with pytest.raises(DeviceError, match="no learning-rate schedule"):
            device.train()
