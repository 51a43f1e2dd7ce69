"""Real multipliers as integers: real = multiplier * 2^-shift, multiplier in [2^30, 2^31)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MAXIMUM_SHIFT = 62
HIGH_SHIFT = 33  # From here on the shift needs only the product's high word: a factor below 1/4.


def encode_multipliers(real: NDArray[Any] | float) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Encodes positive real factors for `od_requantize`.

    Args:
        real: Factors, any shape; at least 0 and below 2^29.

    Returns:
        (multipliers, shifts), int32, at least one-dimensional. A factor too small for the
        format becomes 0.

    Raises:
        ValueError: A factor is negative, not finite or too large.
    """
    values = np.atleast_1d(np.asarray(real, dtype=np.float64))
    if not np.all(np.isfinite(values)) or np.any(values < 0) or np.any(values >= 2.0**29):
        raise ValueError(f"factors must lie in [0, 2^29), found {values.min()} to {values.max()}")
    mantissa, exponent = np.frexp(values)
    multiplier = np.rint(mantissa * 2.0**31).astype(np.int64)
    carry = multiplier == 2**31
    multiplier[carry] = 2**30
    exponent = exponent + carry
    shift = 31 - exponent
    tiny = (shift > MAXIMUM_SHIFT) | (values == 0)
    multiplier[tiny] = 0
    shift[tiny] = HIGH_SHIFT
    return multiplier.astype(np.int32), shift.astype(np.int32)
