"""Learning-rate schedules: the same float32 operations as on the device, which runs them."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

_SINE = tuple(np.float32(sign) / np.float32(n) for sign, n in (
    (-1, 39916800), (1, 362880), (-1, 5040), (1, 120), (-1, 6), (1, 1),
))  # fmt: skip
_HALF_PI = np.float32(1.57079637)


class ScheduleKind(IntEnum):
    """How the rate goes on after the warm-up."""

    CONSTANT = 0
    LINEAR = 1
    COSINE = 2
    STEP = 3


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the updates of a run.

    Attributes:
        kind: Constant, falling to 0 along a line or half a cosine, or in steps.
        learning_rate: The highest.
        total_steps: Updates of the run, warm-up included.
        warmup_steps: Updates over which the rate rises linearly.
        step_every: Updates from one step to the next.
        step_factor: By which each step multiplies the rate, in [0, 1].
    """

    kind: ScheduleKind
    learning_rate: float
    total_steps: int
    warmup_steps: int = 0
    step_every: int = 1
    step_factor: float = 1.0


def learning_rate_at(schedule: Schedule, step: int) -> float:
    """Returns the rate of the update that follows `step` others: a float32, as on the device."""
    highest, warmup = np.float32(schedule.learning_rate), schedule.warmup_steps
    if step < warmup:
        return float(highest * (np.float32(step + 1) / np.float32(warmup)))
    done = step - warmup
    length = max(schedule.total_steps - warmup, 1)
    left = np.float32(max(length - done, 0)) / np.float32(length)
    if schedule.kind is ScheduleKind.LINEAR:
        return float(highest * left)
    if schedule.kind is ScheduleKind.COSINE:
        sine = _sine_of_quarter(left)
        return float(highest * (sine * sine))
    if schedule.kind is ScheduleKind.STEP:
        return float(highest * _power(schedule.step_factor, done // schedule.step_every))
    return float(highest)


def _sine_of_quarter(x: np.float32) -> np.float32:
    """sin(x * pi / 2)."""
    z = x * _HALF_PI
    polynomial = _SINE[0]
    for coefficient in _SINE[1:]:
        polynomial = polynomial * (z * z) + coefficient
    return np.float32(z * polynomial)


def _power(base: float, exponent: int) -> np.float32:
    result, square = np.float32(1), np.float32(base)
    while exponent:
        if exponent & 1:
            result = result * square
        square = square * square
        exponent >>= 1
    return result
