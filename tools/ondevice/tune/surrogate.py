"""The cost model: predicts from what was measured which tile will need fewer instructions.

Gradient-boosted trees on features of workload and tile, as in AutoTVM (Chen et al., Learning to
Optimize Tensor Programs, 2018). It predicts log(instructions / instructions of the first tile), so
that what was learnt of one workload serves the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.tiling.tile import Tile, Workload

Sample = tuple[Workload, Tile, float]  # the last: instructions of the tile / of the first tile


class Surrogate:
    """A regression over all workloads.

    Args:
        workloads: All that will be asked about: they decide what a feature is.
        seed: Of the trees.
    """

    def __init__(self, workloads: Sequence[Workload], seed: int = 0) -> None:
        self._kinds = sorted({workload.kind for workload in workloads})
        self._sizes = sorted({name for workload in workloads for name in workload.sizes})
        self._seed = seed
        self._model: Any = None

    def fit(self, samples: Sequence[Sample]) -> None:
        """Learns anew from everything that was measured; two samples at least."""
        from sklearn.ensemble import GradientBoostingRegressor

        self._model = GradientBoostingRegressor(
            n_estimators=80, max_depth=4, learning_rate=0.15, random_state=self._seed
        )
        rows = np.stack([self._features(workload, tile) for workload, tile, _ in samples])
        self._model.fit(rows, [log(ratio) for _, _, ratio in samples])

    def predict(self, workload: Workload, tiles: Sequence[Tile]) -> NDArray[np.float64]:
        """Predicted log(instructions / instructions of the first tile) of each tile."""
        rows = np.stack([self._features(workload, tile) for tile in tiles])
        return np.asarray(self._model.predict(rows), np.float64)

    def _features(self, workload: Workload, tile: Tile) -> NDArray[np.float64]:
        sizes = workload.sizes
        sums = tile.pixels * tile.channels
        return np.array(
            [
                *(workload.kind == kind for kind in self._kinds),
                *(np.log2(1.0 + sizes.get(name, 0)) for name in self._sizes),
                tile.pixels,
                tile.channels,
                tile.unroll,
                sums,  # registers that the sums take
                (tile.pixels + tile.channels) / sums,  # loads a product
                1.0 / (tile.unroll * sums),  # branches a product
                sums * tile.unroll,  # code
                sizes.get("pixels", 1) % tile.pixels,
                sizes.get("channels", 1) % tile.channels,
                sizes.get("steps", 1) % tile.unroll,
                sizes.get("steps", 1) // tile.unroll,
            ],
            np.float64,
        )
