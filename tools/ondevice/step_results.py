"""What each training step of a run gave, as far as the host has seen it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class StepResults:
    """Arrays over all steps of a run, filled as far as it is.

    Attributes:
        losses: float64 [total steps]; NaN where the result was lost with the link.
        correct: bool [total steps].
        counts: int64 [total steps], instructions or cycles; 0 where not counted or lost.
    """

    losses: NDArray[np.float64]
    correct: NDArray[np.bool_]
    counts: NDArray[np.int64]

    @classmethod
    def empty(cls, total_steps: int) -> "StepResults":
        """Returns those of a run that has not begun."""
        return cls(
            np.full(total_steps, np.nan),
            np.zeros(total_steps, dtype=np.bool_),
            np.zeros(total_steps, dtype=np.int64),
        )

    def copy(self) -> "StepResults":
        """Returns the same in arrays of its own."""
        return StepResults(self.losses.copy(), self.correct.copy(), self.counts.copy())

    def put(self, step: int, loss: float, correct: bool, count: int | None) -> None:
        """Takes the result of a step, from 1."""
        self.losses[step - 1] = loss
        self.correct[step - 1] = correct
        self.counts[step - 1] = count or 0

    def forget_after(self, step: int) -> None:
        """The run went back to `step` steps done."""
        self.losses[step:] = np.nan
        self.correct[step:] = False
        self.counts[step:] = 0

    def known_counts(self) -> NDArray[np.int64]:
        """Returns the counts of the steps that were counted and seen."""
        return self.counts[self.counts > 0]
