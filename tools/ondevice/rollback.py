"""When training has gone wrong, and which state it goes back to."""

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ondevice.errors import UserError
from ondevice.events import ParametersRead

WINDOW_STEPS = 100
RATE_FACTOR = 0.5  # of the learning rate, at each rollback


class Diverged(Exception):  # noqa: N818 (a turn of the run; it becomes an error at the limit)
    """The loss is no number any more, or has grown far beyond the best so far.

    Attributes:
        step: At which it was seen, from 1.
        reason: For people.
    """

    def __init__(self, step: int, reason: str) -> None:
        super().__init__(reason)
        self.step = step
        self.reason = reason


class TrainingDivergedError(UserError):
    """Training diverged as often as the settings allow."""


def uninformed_loss(manifest: dict[str, Any]) -> float | None:
    """Returns the loss of a model that knows nothing but the number of classes; None: no such."""
    if manifest["loss"] == "cross_entropy":
        return math.log(max(int(manifest["output"]["count"]), 2))
    return math.log(2.0) if manifest["loss"] == "binary_cross_entropy" else None


class DivergenceWatch:
    """Compares the mean loss of the last 100 samples with the best such mean.

    One sample a step is noisy, and a model that is right most of the time has a best mean near 0,
    of which a single mistake is a large multiple. So the mean must also be worse than that of a
    model that knows nothing (or, for a regression, than that of the run's first 100 samples).

    Args:
        factor: Of the best mean; 0: never.
        uninformed: See `uninformed_loss`.
    """

    def __init__(self, factor: float, uninformed: float | None) -> None:
        self._factor = factor
        self._floor = uninformed
        self._best = math.inf
        self._recent: deque[float] = deque(maxlen=WINDOW_STEPS)

    def add(self, loss: float) -> str:
        """Takes the loss of a step; returns what is wrong with it, or nothing."""
        self._recent.append(loss)
        if self._factor == 0.0 or len(self._recent) < WINDOW_STEPS:
            return ""
        mean = math.fsum(self._recent) / WINDOW_STEPS
        if self._floor is None:
            self._floor = mean
        self._best = min(self._best, mean)
        if mean <= max(self._factor * self._best, self._floor):
            return ""
        return (
            f"the mean loss of {WINDOW_STEPS} samples is {mean:.4g}, over {self._factor:g} times "
            f"the best so far ({self._best:.4g})"
        )

    def forget(self) -> None:
        """The run goes on elsewhere: the steps so far are not its past."""
        self._recent.clear()


@dataclass
class KeptStates:
    """The states of the run that the host holds, and those that have led to nothing good.

    Attributes:
        start_loss: Of the state that the run began with; nothing worse is gone back to.
        last: The newest.
        best: That with the lowest recent mean loss.
        returned: The one that was gone back to.
    """

    start_loss: float = math.inf
    last: ParametersRead | None = None
    best: ParametersRead | None = None
    returned: ParametersRead | None = None
    _best_loss: float = math.inf
    _suspect: set[int] = field(default_factory=set)

    def keep(self, state: ParametersRead, mean_loss: float) -> None:
        """Takes a state; `mean_loss` is that of the steps before it."""
        self.last = state
        if mean_loss < min(self._best_loss, self.start_loss):
            self.best, self._best_loss = state, mean_loss

    def has(self, step: int) -> bool:
        """Whether the newest state is of that step, or of the start, which needs none."""
        return step == 0 or (self.last is not None and self.last.step == step)

    def diverged_at(self, step: int) -> None:
        """What diverges at once may have been broken already when it was kept."""
        past = self.returned.step if self.returned is not None else 0
        if past and step - past <= WINDOW_STEPS:
            self._suspect.add(past)
            if self.best is not None and self.best.step == past:
                self.best, self._best_loss = None, math.inf

    def trusts(self, step: int, mean_loss: float) -> bool:
        """Whether the state of that step may be gone back to."""
        return step not in self._suspect and mean_loss < self.start_loss


def mean_of_known(losses: Iterable[float]) -> float:
    """Returns the mean of those that are numbers; infinite where none is."""
    known = [loss for loss in losses if math.isfinite(loss)]
    return math.fsum(known) / len(known) if known else math.inf
