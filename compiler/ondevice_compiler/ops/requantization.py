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
) -> Callable[[Expr, Expr], Expr]:
    """Declares what the store needs and returns it.

    Factors below 1/4, which nearly all are, need no 64-bit shift; bounds that are int8's own are
    one saturating instruction. Both give the integers of `od_requantize_clamp`.

    Args:
        k: Builder.
        factors: Real value of one unit of the sum in units of the output, one a channel.
        zero_point: Of the output.
        bounds: Least and greatest stored integer.

    Returns:
        int8 value from a sum and its channel.
    """
    multipliers, shifts = encode_multipliers(factors)
    high = shifts.min() >= HIGH_SHIFT
    pairs = np.stack([multipliers, shifts - HIGH_SHIFT if high else shifts], axis=1)
    factor = k.table("factor", pairs)  # Side by side: one address for both.
    if high:
        name, parameters = "od_requantize_high", [k.scalar("zero", "int32", 2 * zero_point + 1)]
    else:
        name, parameters = "od_requantize", [k.scalar("y_zero", "int32", zero_point)]
    if bounds == INT8:
        name += "_int8"
    else:
        name += "_clamp"
        parameters += [k.scalar("low", "int32", bounds[0]), k.scalar("high", "int32", bounds[1])]

    def store(total: Expr, channel: Expr) -> Expr:
        arguments = (total, factor[channel, 0], factor[channel, 1], *parameters)
        return T.cast(T.call_pure_extern("int32", name, *arguments), "int8")

    return store
