"""A batch norm folded into the convolution before it, and how to take it out again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class BatchNorm:
    """y = gamma * (conv(x) - mean) / sqrt(variance + epsilon) + beta, with fixed statistics.

    Attributes:
        name: Layer's name in the user's model; empty where it has none.
        gamma, beta: The affine part, [O].
        weight: Of the convolution with the statistics, but not gamma, folded in.
        bias: Likewise.
    """

    name: str
    gamma: NDArray[np.float32]
    beta: NDArray[np.float32]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    @classmethod
    def after(
        cls, name: str, weight: NDArray[Any], bias: NDArray[Any], affine: Any, epsilon: float
    ) -> BatchNorm:
        """The batch norm after a convolution; `affine` is gamma, beta, mean and variance."""
        gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in affine)
        deviation = np.sqrt(variance + epsilon)
        normal = weight / deviation.reshape(-1, *[1] * (weight.ndim - 1))
        shifted = (bias - mean) / deviation
        single = (value.astype(np.float32) for value in (gamma, beta, normal, shifted))
        return cls(name, *single)

    def folded(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight and bias of the convolution that does it all."""
        gamma = self.gamma.reshape(-1, *[1] * (self.weight.ndim - 1))
        return self.weight * gamma, self.bias * self.gamma + self.beta

    def is_in(self, weight: NDArray[Any], bias: NDArray[Any]) -> bool:
        """Whether a convolution is still the folded one, and nothing else was folded in later."""
        mine = self.folded()
        return bool(np.allclose(weight, mine[0]) and np.allclose(bias, mine[1]))
