"""Contribution analysis: what accuracy the biases and each share of each weight gain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ondevice.search.space import Candidate, SearchSpace

Measure = Callable[[Candidate], float]
"""Trains a candidate and returns its accuracy on validation data, 0 to 1."""


@dataclass(frozen=True)
class Contributions:
    """Measured accuracies, 0 to 1.

    Attributes:
        biases: [layers]: by the number of biases trained beside the last layer, from 0.
        base: The number of biases that the weights were measured on top of.
        weights: For each weight, accuracy of each of its shares on top of the base.
    """

    biases: tuple[float, ...]
    base: int
    weights: tuple[tuple[float, ...], ...]

    def bias_gain(self, count: int) -> float:
        """What training `count` biases gains over training the last layer alone."""
        return self.biases[count] - self.biases[0]

    def weight_gain(self, weight: int, share: int) -> float:
        """What training a share (from 1) of a weight gains over the base; 0 for share 0."""
        return self.weights[weight][share - 1] - self.biases[self.base] if share else 0.0

    def gain(self, candidate: Candidate) -> float:
        """Summed contribution of a candidate: what the search maximises."""
        weights = (self.weight_gain(i, share) for i, share in enumerate(candidate.shares))
        return self.bias_gain(candidate.biases) + sum(weights)


def analyse_contributions(space: SearchSpace, measure: Measure) -> Contributions:
    """Measures every contribution: of the last k biases, then of each weight's shares.

    The weights are measured on top of the number of biases that did best (the fewest of equals).
    """
    biases = tuple(measure(space.with_biases(count)) for count in range(len(space.biases) + 1))
    base = max(range(len(biases)), key=lambda count: (biases[count], -count))
    with_base = space.with_biases(base)
    weights = tuple(
        tuple(
            measure(space.with_share(with_base, weight, share + 1))
            for share in range(len(space.shares[weight]))
        )
        for weight in range(len(space.weights))
    )
    return Contributions(biases, base, weights)


def analysis_size(space: SearchSpace) -> int:
    """Number of candidates that `analyse_contributions` measures."""
    return len(space.biases) + 1 + sum(len(shares) for shares in space.shares)
