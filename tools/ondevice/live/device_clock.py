"""The column in which a device sends its own time."""

import numpy as np
from numpy.typing import NDArray

# Seconds a unit, and where the count begins again: an Arduino's are 32 bits wide.
_COLUMNS: dict[str, tuple[float, float | None]] = {
    "t_s": (1.0, None),
    "t_ms": (1e-3, 2.0**32),
    "millis": (1e-3, 2.0**32),
    "t_us": (1e-6, 2.0**32),
    "micros": (1e-6, 2.0**32),
}
TIME_COLUMNS = tuple(_COLUMNS)


def time_column(names: tuple[str, ...]) -> int | None:
    """Returns the index of the first column of `names` that is time, or None."""
    return next((i for i, name in enumerate(names) if name.lower() in _COLUMNS), None)


class DeviceClock:
    """Turns the counts of a time column into seconds that go on over an overflow.

    Args:
        column: Its name, one of `TIME_COLUMNS` in any case.
    """

    def __init__(self, column: str) -> None:
        self._unit_s, self._period = _COLUMNS[column.lower()]
        self._last: float | None = None
        self._overflows = 0

    def seconds(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns float64 [n] seconds."""
        out = np.empty(len(counts), np.float64)
        for index, count in enumerate(counts):
            # A board that has started again counts from 0, too, but not from near the top.
            if self._period is not None and self._last is not None:
                self._overflows += self._last - count > 0.9 * self._period
            self._last = float(count)
            out[index] = (count + self._overflows * (self._period or 0.0)) * self._unit_s
        return out
