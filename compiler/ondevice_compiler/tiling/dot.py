"""Sums of products along memory: y[pixel, channel] += x[pixel, ...] * w[channel, ...]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder

VECTOR = 4  # Products of one tensor intrinsic, od_dot4.

Address = Callable[[int, Expr], Expr]  # (number in the tile, element of the run) -> element


@dataclass(frozen=True)
class Run:
    """Elements that follow each other in memory, in x as in w.

    Attributes:
        x: Buffer element of one of the tile's pixels, by its number and the place in the run.
        w: The same for one of the tile's channels.
        weight_dtype: "int8", or "int16" for Q8.8 weights.
        length: Elements of the run; an expression where it depends on the pixel.
    """

    x: Address
    w: Address
    weight_dtype: str
    length: Expr


def add_dot(
    k: KernelBuilder, sums: Any, run: Run, pixels: int, channels: int, unroll: int, offset: Expr
) -> None:
    """Adds a run's products to the tile's sums, `sums[pixel * channels + channel]`.

    Args:
        k: Builder, inside the tile's loops.
        sums: The tile's accumulators.
        run: What is multiplied.
        pixels, channels: Of the tile.
        unroll: Vectors a turn of the loop.
        offset: Added to each element of x.
    """
    suffix = "_q88" if run.weight_dtype == "int16" else ""
    outputs = [(p, c) for p in range(pixels) for c in range(channels)]

    def step(name: str, first: Expr) -> None:
        for p, c in outputs:
            at = p * channels + c
            x, w = T.address_of(run.x(p, first)), T.address_of(run.w(c, first))
            k.set(sums, at, T.call_pure_extern("int32", name, x, w, offset, sums[at]))

    vector, single = f"od_dot4{suffix}", f"od_dot1{suffix}"
    if not isinstance(run.length, int):
        with k.loop("k", 0, T.shift_right(run.length, 2)) as index:
            step(vector, index * VECTOR)
        return
    turns = run.length // (VECTOR * unroll)
    if turns > 1:
        with k.loop("k", 0, turns) as index:
            for number in range(unroll):
                step(vector, index * (VECTOR * unroll) + number * VECTOR)
    else:
        turns = 0
    done = turns * unroll * VECTOR
    while run.length - done >= VECTOR:
        step(vector, T.int32(done))
        done += VECTOR
    for rest in range(done, run.length):
        step(single, T.int32(rest))


def tiles_of(extent: int, size: int) -> Sequence[tuple[int, int, int]]:
    """(first, tiles, size) of the whole tiles, then of what is left."""
    whole, rest = divmod(extent, size)
    parts = [(0, whole, size), (whole * size, 1, rest)]
    return [(first, count, width) for first, count, width in parts if count and width]
