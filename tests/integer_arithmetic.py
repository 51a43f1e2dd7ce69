"""The integer arithmetic of docs/numerics.md in NumPy: rounding, factors, rates, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

LARGEST = 2**31 - 1


def round_shift(value: Any, shift: Any) -> Integers:
    """value / 2^shift, half away from zero; shift >= 1."""
    exact = np.asarray(value, np.int64)
    half = np.int64(1) << (np.asarray(shift, np.int64) - 1)
    rounded: Integers = (np.abs(exact) + half) >> np.asarray(shift, np.int64)
    return np.sign(exact) * rounded


def saturate32(value: Any) -> Integers:
    return np.clip(np.asarray(value, np.int64), -LARGEST, LARGEST)


def encode_factor(real: float) -> tuple[int, int]:
    """(multiplier, shift) of a real factor: multiplier in [2^30, 2^31), or 0."""
    if real == 0:
        return 0, 33
    shift = 0
    while real * 2.0**shift < 2**30 and shift <= 63:
        shift += 1
    while real * 2.0**shift >= 2**31:
        shift -= 1
    multiplier = round(real * 2.0**shift)
    if multiplier == 2**31:
        multiplier, shift = 2**30, shift - 1
    return (0, 33) if shift > 62 else (multiplier, shift)


def encode_factors(real: Any, count: int) -> tuple[Integers, Integers]:
    pairs = [encode_factor(float(value)) for value in np.broadcast_to(real, (count,))]
    return np.array([m for m, _ in pairs], np.int64), np.array([s for _, s in pairs], np.int64)


def requantize(accumulator: Integers, multiplier: Any, shift: Any) -> Integers:
    return saturate32(round_shift(accumulator * multiplier, shift))


def scale(accumulator: Any, multiplier: Any, shift: Any) -> Integers:
    """`requantize` for any shift."""
    product = np.asarray(accumulator, np.int64) * np.asarray(multiplier, np.int64)
    shift = np.asarray(shift, np.int64)
    usual = saturate32(round_shift(product, np.clip(shift, 1, 62)))
    moved = saturate32(saturate32(product) * (np.int64(1) << np.clip(-shift, 0, 31)))
    return np.where(shift > 62, 0, np.where(shift < 1, moved, usual))


def float_delta(accumulator: Any, rate: Any) -> Integers:
    """accumulator * rate, the float32 rate taken apart into a 24-bit mantissa and a shift."""
    rate = np.asarray(rate, np.float32)
    bits = rate.view(np.uint32).astype(np.int64)
    biased = (bits >> 23) & 0xFF
    mantissa = np.where(biased == 0, 0, (bits & 0x7FFFFF) | 0x800000)
    return scale(accumulator, np.where(bits >> 31, -mantissa, mantissa), 150 - biased)


def align(a: Integers, b: Integers, apart: int) -> Integers:
    """a + b * 2^apart in units of 2^-12 of the coarser unit."""
    total: Any = 0
    for value, power in ((a, 12 - max(apart, 0)), (b, 12 + min(apart, 0))):
        if power >= 0:
            total = total + (value << power)
        elif power > -30:
            total = total + round_shift(value, -power)
    return saturate32(total)


def quantize_error(
    error: NDArray[np.float32], fold: NDArray[np.float32]
) -> tuple[Integers, np.float32]:
    """int8 error and the real value of one unit; each operation in float32."""
    folded = error * fold
    unit = np.float32(np.abs(folded).max() / np.float32(127))
    if unit == 0:
        return np.zeros(error.shape, np.int64), unit
    ratio = folded / unit
    rounded = np.trunc(ratio + np.where(ratio < 0, np.float32(-0.5), np.float32(0.5)))
    return np.clip(rounded.astype(np.int64), -127, 127), unit
