"""What a board answers, as arrays."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ondevice.plot import Picture


@dataclass(frozen=True)
class StepResult:
    """What `Board.train_step` gave; all of it is of before the updates.

    Attributes:
        loss: Mean over the samples.
        losses: float64 [n].
        predicted: int64 [n], index of the largest output.
        correct: bool [n]; False for a regression.
        updates: How often the parameters were updated.
        count: Instructions (simulators) or cycles (boards) of all of it; None: not counted.
    """

    loss: float
    losses: NDArray[np.float64]
    predicted: NDArray[np.int64]
    correct: NDArray[np.bool_]
    updates: int
    count: int | None


@dataclass(frozen=True)
class Evaluation:
    """What `Board.evaluate` measured.

    Attributes:
        samples: How many.
        accuracy: Share of 0 to 1; None for a regression.
        loss: Mean over the samples.
        confusion: int64 [true class, predicted class], samples; None where there are no classes,
            or too many.
        class_names: One a class, or empty.
    """

    samples: int
    accuracy: float | None
    loss: float
    confusion: NDArray[np.int64] | None = None
    class_names: tuple[str, ...] = ()

    def plot(self) -> "Picture":
        """Draws the confusion, as a matplotlib figure.

        Raises:
            UserError: There is none.
        """
        from ondevice.api.figures import confusion_figure
        from ondevice.errors import UserError

        if self.confusion is None:
            raise UserError("this evaluation has no confusion: it has no classes, or too many")
        return confusion_figure(self.confusion, self.class_names)

    def _repr_html_(self) -> str:
        from ondevice.api.html import evaluation_html

        return evaluation_html(self)
