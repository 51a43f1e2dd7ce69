"""The schemes that a search chooses among: biases of the last layers, and shares of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from ondevice_compiler.scheme import UpdateScheme

RATIOS = (0.125, 0.25, 0.5, 1.0)

Channels = tuple[int, ...] | None
"""Trained input channels of a weight; None: all of them."""


@dataclass(frozen=True, order=True)
class Candidate:
    """One scheme of a `SearchSpace`; the last layer is always trained beside it.

    Attributes:
        biases: How many layers' biases are trained, counted from the last layer but one.
        shares: For each weight of the space, 0: frozen, else 1 + index into its shares.
    """

    biases: int
    shares: tuple[int, ...]


@dataclass(frozen=True)
class Share:
    """A part of a weight.

    Attributes:
        ratio: Share of its input channels, in (0, 1].
        channels: Which; None: all.
    """

    ratio: float
    channels: Channels


@dataclass(frozen=True)
class SearchSpace:
    """All candidates of one model.

    Attributes:
        head: Parameters of the last layer.
        biases: Biases of the other layers, the last first.
        weights: Weights of the other layers, the first first.
        shares: For each weight, the parts that may be trained, ascending.
    """

    head: tuple[str, ...]
    biases: tuple[str, ...]
    weights: tuple[str, ...]
    shares: tuple[tuple[Share, ...], ...]

    @property
    def smallest(self) -> Candidate:
        """Trains only the last layer."""
        return Candidate(0, (0,) * len(self.weights))

    def with_biases(self, count: int) -> Candidate:
        """Trains the last layer and the biases of `count` layers before it."""
        return Candidate(count, (0,) * len(self.weights))

    def with_share(self, candidate: Candidate, weight: int, share: int) -> Candidate:
        """The candidate with another share of one weight."""
        shares = candidate.shares
        return Candidate(candidate.biases, (*shares[:weight], share, *shares[weight + 1 :]))

    def neighbours(self, candidate: Candidate) -> Iterator[Candidate]:
        """All candidates that differ in one place."""
        for count in range(len(self.biases) + 1):
            if count != candidate.biases:
                yield Candidate(count, candidate.shares)
        for weight, current in enumerate(candidate.shares):
            for share in range(len(self.shares[weight]) + 1):
                if share != current:
                    yield self.with_share(candidate, weight, share)

    def scheme(self, candidate: Candidate) -> UpdateScheme:
        """The update scheme that a candidate stands for."""
        parameters = {*self.head, *self.biases[: candidate.biases]}
        channels = {}
        for weight, share in self._trained(candidate):
            parameters.add(weight)
            if share.channels is not None:
                channels[weight] = share.channels
        return UpdateScheme.of(self.label(candidate), parameters, channels)

    def label(self, candidate: Candidate) -> str:
        """`last + 3 biases + conv2 1/4`: for people."""
        parts = ["last"]
        if candidate.biases:
            parts.append("1 bias" if candidate.biases == 1 else f"{candidate.biases} biases")
        for weight, share in self._trained(candidate):
            part = "" if share.channels is None else f" {Fraction(share.ratio)}"
            parts.append(weight.removesuffix(".weight") + part)
        return " + ".join(parts)

    def _trained(self, candidate: Candidate) -> Iterator[tuple[str, Share]]:
        for weight, shares, chosen in zip(self.weights, self.shares, candidate.shares, strict=True):
            if chosen:
                yield weight, shares[chosen - 1]


def search_space(
    parameters: Sequence[str], channels: Callable[[str, float], Channels]
) -> SearchSpace:
    """The space of a model.

    Args:
        parameters: All that could be trained, in the model's order: LAYER.weight, LAYER.bias.
        channels: Input channels of a weight for a ratio below 1; None where it cannot be split.
    """
    layers = list(dict.fromkeys(name.rpartition(".")[0] for name in parameters))
    head = tuple(name for name in parameters if name.rpartition(".")[0] == layers[-1])
    others = [name for name in parameters if name not in head]
    weights = tuple(name for name in others if name.endswith(".weight"))
    biases = tuple(name for name in reversed(others) if name.endswith(".bias"))
    return SearchSpace(head, biases, weights, tuple(_shares(name, channels) for name in weights))


def _shares(weight: str, channels: Callable[[str, float], Channels]) -> tuple[Share, ...]:
    """Distinct shares: of four channels, an eighth and a quarter are the same one."""
    found: dict[Channels, Share] = {}
    for ratio in RATIOS:
        chosen = None if ratio == 1.0 else channels(weight, ratio)
        if chosen is not None or ratio == 1.0:
            found.setdefault(chosen, Share(ratio, chosen))
    return tuple(found.values())
