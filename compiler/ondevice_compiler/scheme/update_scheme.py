"""What a training step changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class UpdateScheme:
    """Names of the parameters to train, and the channels of those trained in part.

    Attributes:
        name: For reports.
        parameters: Trained weights and biases, by their names in the manifest.
        channels: Trained weight -> its trained input channels (of a depthwise weight: its own
            channels), ascending. A trained weight that is not listed is trained whole.
    """

    name: str
    parameters: frozenset[str]
    channels: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)

    @classmethod
    def of(
        cls,
        name: str,
        parameters: Iterable[str],
        channels: Mapping[str, tuple[int, ...]] | None = None,
    ) -> UpdateScheme:
        """A scheme from any collection of parameter names; weights in `channels` are added."""
        listed = dict(sorted((channels or {}).items()))
        return cls(name, frozenset([*parameters, *listed]), listed)
