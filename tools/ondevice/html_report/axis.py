"""An axis: from values to places, and the values that are written beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TICKS = 6  # at most about so many


@dataclass(frozen=True)
class Axis:
    """A linear or logarithmic scale.

    Attributes:
        lowest, highest: Ends, in values; above 0 where it is logarithmic.
        start, end: Ends, in pixels.
        logarithmic: Equal factors have equal lengths.
    """

    lowest: float
    highest: float
    start: float
    end: float
    logarithmic: bool = False

    def places(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns pixels of values, those outside put on the edge: any shape."""
        inside = np.clip(values, self.lowest, self.highest)
        lowest, highest = self.lowest, self.highest
        if self.logarithmic:
            inside, lowest, highest = np.log10(inside), math.log10(lowest), math.log10(highest)
        share = (inside - lowest) / (highest - lowest)
        return np.asarray(self.start + share * (self.end - self.start), np.float64)

    def place(self, value: float) -> float:
        """Returns the pixel of one value."""
        return float(self.places(np.array(value)))

    def ticks(self) -> list[float]:
        """Returns round values within the ends, in order."""
        if self.logarithmic:
            return _decades(self.lowest, self.highest)
        step = round_step((self.highest - self.lowest) / TICKS)
        first, last = math.ceil(self.lowest / step - 1e-9), math.floor(self.highest / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


def round_step(least: float) -> float:
    """Returns the smallest of 1, 2 and 5 times a power of ten that is no smaller."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(f * power for f in (1.0, 2.0, 5.0, 10.0) if f * power >= least * (1 - 1e-9))


def _decades(lowest: float, highest: float) -> list[float]:
    first, last = math.floor(math.log10(lowest)), math.ceil(math.log10(highest))
    factors = (1.0,) if last - first > 2 else (1.0, 2.0, 5.0)
    values = [f * 10.0**power for power in range(first, last + 1) for f in factors]
    return [v for v in values if lowest * (1 - 1e-9) <= v <= highest * (1 + 1e-9)]
