"""What one participant sends, as the attacker reads it: an estimate of the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Part = tuple[int, Sequence[int]]
"""Axis, and the channels along it that are trained."""


@dataclass(frozen=True, eq=False)
class Update:
    """A decoded update; everything in the compiler's normal form and its order.

    Attributes:
        names: Of the trained parameters.
        parts: Of those that are trained in part; else None.
        weights: Real numbers that the round began with.
        gradients: -change / (learning rate * updates).
        sent: What was in the message: False for what compression left out.
        size_bytes: Of the message.
        updates: Updates of the weights that are in it.
        learning_rate: Of each.
    """

    names: tuple[str, ...]
    parts: tuple[Part | None, ...]
    weights: tuple[NDArray[np.float64], ...]
    gradients: tuple[NDArray[np.float64], ...]
    sent: tuple[NDArray[np.bool_], ...]
    size_bytes: int
    updates: int
    learning_rate: float

    def of(self, name: str) -> NDArray[np.float64] | None:
        """The gradient of a parameter; None: it is not trained, or in part alone."""
        for found, part, gradient in zip(self.names, self.parts, self.gradients, strict=True):
            if found == name and part is None:
                return gradient
        return None

    @property
    def elements(self) -> int:
        """Numbers of the change."""
        return sum(gradient.size for gradient in self.gradients)

    @property
    def sent_elements(self) -> int:
        """Of them, those that were sent."""
        return sum(int(np.count_nonzero(sent)) for sent in self.sent)

    @property
    def mean_square(self) -> float:
        """Mean square of the gradient's elements."""
        return float(sum(np.sum(g**2) for g in self.gradients) / self.elements)


def whole(values: Sequence[NDArray[Any]]) -> tuple[NDArray[np.bool_], ...]:
    """Masks of a message that leaves nothing out."""
    return tuple(np.ones(value.shape, np.bool_) for value in values)
