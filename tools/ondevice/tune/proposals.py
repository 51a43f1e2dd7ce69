"""What to measure next: at random, or what the cost model thinks best."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from ondevice.tune.surrogate import Surrogate
from ondevice.tune.tasks import TuningTask
from ondevice_compiler.tiling.tile import Tile


@dataclass(frozen=True)
class Proposer:
    """How tiles are chosen.

    Attributes:
        surrogate: The cost model; None: at random.
        epsilon: Share of random choices beside those of the cost model.
    """

    surrogate: Surrogate | None
    epsilon: float = 0.25

    def propose(
        self,
        task: TuningTask,
        tried: Collection[Tile],
        count: int,
        random: np.random.Generator,
    ) -> list[Tile]:
        """At most `count` tiles that were not tried; first of all the default and the known best.

        A space of tiles is small, so the cost model ranks all that is left of it: no evolution is
        needed to find its optimum.
        """
        first = dict.fromkeys([task.tiles[0], *([task.known] if task.known is not None else [])])
        chosen = [tile for tile in first if tile not in tried][:count]
        left = [tile for tile in task.tiles if tile not in tried and tile not in chosen]
        order = [left[int(i)] for i in random.permutation(len(left))]
        if self.surrogate is None or not left:
            return (chosen + order)[:count]
        predicted = self.surrogate.predict(task.workload, left)
        ranked = [left[int(i)] for i in np.argsort(predicted, kind="stable")]
        for _ in range(min(count - len(chosen), len(left))):
            source = order if random.random() < self.epsilon else ranked
            chosen.append(next(tile for tile in source if tile not in chosen))
        return chosen
