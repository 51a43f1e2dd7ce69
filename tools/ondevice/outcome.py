"""What a training run gives, and what is known of one that goes on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.events import Evaluated, ParametersRead
from ondevice.link.messages import Counters, MemoryUsage
from ondevice.step_results import StepResults


@dataclass(frozen=True)
class TrainingOutcome:
    """What a run gave.

    Attributes:
        before: Evaluation of the untouched model, None where not asked for or interrupted.
        after: Evaluation after the last step, likewise.
        steps: Training steps done.
        losses: float64 [steps], each before its update; NaN where it was lost with the link.
        correct: bool [steps], each before its update.
        counts: int64 [steps counted and seen], instructions or cycles; empty where the device
            counts neither.
        parameters: As on the device at the end.
        counters: The device's own, over the training steps.
        memory: The most that training steps touched, on the device.
        interrupted: The person stopped it.
        reconnects: How often the link was opened again.
        rollbacks: How often training diverged and went back.
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
    reconnects: int = 0
    rollbacks: int = 0


@dataclass(frozen=True)
class Recorded:
    """What is known of a run that goes on: from its folder.

    Attributes:
        run: Its id.
        step: Steps done, as far as is recorded.
        results: Of them; arrays over all steps of the run.
        before: Evaluation of the untouched model.
        rate_scale: Of the learning rate, from rollbacks.
        rollbacks: How many there were.
        state: The newest that the host has.
    """

    run: int
    step: int
    results: StepResults
    before: Evaluated | None
    rate_scale: float = 1.0
    rollbacks: int = 0
    state: ParametersRead | None = None
