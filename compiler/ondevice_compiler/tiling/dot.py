"""Sums of products along memory: y[pixel, channel] += x[pixel, ...] * w[channel, ...]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.tiling.tile import VECTOR, Tile
from ondevice_compiler.tiling.turns import unrolled

WIDTHS = (16, 4, 1)  # Of od_dot16, od_dot4, od_dot1.

Address = Callable[[int, Expr], Expr]  # (number in the tile, element of the run) -> element


@dataclass(frozen=True)
class Run:
    """Elements that follow each other in memory, in x as in w.

    Attributes:
        x: Buffer element of one of the tile's pixels, by its number and the place in the run.
        w: The same for one of the tile's channels.
        weight_dtype: "int8", or "int16" for Q8.8 weights.
        length: Elements of the run.
    """

    x: Address
    w: Address
    weight_dtype: str
    length: int


def add_dot(
    k: KernelBuilder, sums: Any, run: Run, pixels: int, channels: int, tile: Tile, offset: Expr
) -> None:
    """Adds a run's products to the tile's sums, `sums[pixel * channels + channel]`.

    Args:
        k: Builder, inside the tile's loops.
        sums: The tile's accumulators.
        run: What is multiplied.
        pixels, channels: Of the tile, here.
        tile: Says how many elements a turn of the loop has, and by how many they are taken.
        offset: Added to each element of x.
    """
    suffix = "_q88" if run.weight_dtype == "int16" else ""
    outputs = [(p, c) for p in range(pixels) for c in range(channels)]

    def step(width: Any, first: Expr, *count: int) -> None:
        for p, c in outputs:
            at = p * channels + c
            x, w = T.address_of(run.x(p, first)), T.address_of(run.w(c, first))
            arguments = (x, w, offset, sums[at], *count)
            k.set(sums, at, T.call_pure_extern("int32", f"od_dot{width}{suffix}", *arguments))

    def straight(begin: Expr, length: int) -> None:
        done = 0
        for width in (width for width in WIDTHS if width <= tile.vector):
            if width < WIDTHS[0] == tile.vector and not suffix and length - done > 1:
                return step("_part", begin + done, length - done)
            while length - done >= width:
                step(width, begin + done)
                done += width

    unrolled(k, run.length, max(VECTOR * tile.unroll, tile.vector), straight)
