"""How a kernel stores an int8 activation: requantised, moved to its zero point, clamped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm.tirx.script.builder as T
from numpy.typing import NDArray

from ondevice_compiler.fixed_point import HIGH_SHIFT, encode_multipliers
from ondevice_compiler.kernel_builder import Expr, KernelBuilder

INT8 = (-128, 127)


def requantizer(
    k: KernelBuilder,
    factors: NDArray[Any],
    zero_point: int,
    bounds: tuple[int, int] = INT8,
    prefix: str = "",
) -> Callable[[Expr, Expr], Expr]:
    """Declares what the store needs and returns it.

    Factors below 1/4, which nearly all are, need no 64-bit shift; bounds that are int8's own are
    one saturating instruction. Both give the integers of `od_requantize_clamp`.

    Args:
        k: Builder.
        factors: Real value of one unit of the sum in units of the output, one a channel or one
            for all.
        zero_point: Of the output.
        bounds: Least and greatest stored integer.
        prefix: Of the parameters' names, where a kernel has several.

    Returns:
        int8 value from a sum and its channel.
    """
    multipliers, shifts = encode_multipliers(factors)
    high = shifts.min() >= HIGH_SHIFT
    pairs = np.stack([multipliers, shifts - HIGH_SHIFT if high else shifts], axis=1)

    def scalar(name: str, value: int) -> Expr:
        return k.scalar(prefix + name, "int32", int(value))

    if len(pairs) == 1:
        one = [scalar("multiplier", pairs[0, 0]), scalar("shift", pairs[0, 1])]
    else:
        factor = k.table(f"{prefix}factor", pairs)  # Side by side: one address for both.
    if high:
        name, parameters = "od_requantize_high", [scalar("twice_zero", 2 * zero_point + 1)]
    else:
        name, parameters = "od_requantize", [scalar("y_zero", zero_point)]
    if bounds == INT8:
        name += "_int8"
    else:
        name += "_clamp"
        parameters += [scalar("low", bounds[0]), scalar("high", bounds[1])]

    def store(total: Expr, channel: Expr) -> Expr:
        own = one if len(pairs) == 1 else [factor[channel, 0], factor[channel, 1]]
        return T.cast(T.call_pure_extern("int32", name, total, *own, *parameters), "int8")

    return store
