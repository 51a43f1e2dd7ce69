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


def channel_factor(
    k: KernelBuilder, pairs: NDArray[np.int32], prefix: str = ""
) -> Callable[[Expr], tuple[Expr, Expr]]:
    """Declares the multipliers and shifts of channels, and gives those of one.

    Args:
        k: Builder.
        pairs: [channels, 2], or [1, 2] where one serves all: then they are scalars. Side by side
            in a table there is one address for both.
        prefix: Of the parameters' names.
    """
    if len(pairs) == 1:
        names = ("multiplier", "shift")
        first, second = (
            k.scalar(prefix + name, "int32", int(value))
            for name, value in zip(names, pairs[0], strict=True)
        )
        return lambda channel: (first, second)
    table = k.table(f"{prefix}factor", pairs)
    return lambda channel: (table[channel, 0], table[channel, 1])


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

    factor = channel_factor(k, pairs, prefix)
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
        arguments = (total, *factor(channel), *parameters)
        return T.cast(T.call_pure_extern("int32", name, *arguments), "int8")

    return store
