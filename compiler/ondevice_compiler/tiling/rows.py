"""Sums of products across rows of memory: y[pixel, i] += x[pixel, k] * w[k, i], i along memory.

The transpose of dot.py: w is read in place, four neighbours of each of four rows at once, by two
calls of od_rows2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.tiling.tile import VECTOR
from ondevice_compiler.tiling.turns import unrolled


@dataclass(frozen=True)
class Rows:
    """What is multiplied.

    Attributes:
        x: Buffer element of one of the tile's pixels, by its number and the row of w.
        w: First of the tile's elements of a row, by the row.
        weight_dtype: "int8", or "int16" for Q8.8 weights.
        count: Rows.
        distance: Elements between rows of w.
    """

    x: Callable[[int, Expr], Expr]
    w: Callable[[Expr], Expr]
    weight_dtype: str
    count: int
    distance: int


def add_rows(k: KernelBuilder, sums: Any, rows: Rows, pixels: int, width: int, unroll: int) -> None:
    """Adds the products to the tile's sums, `sums[pixel * width + element]`.

    Args:
        k: Builder, inside the tile's loops.
        sums: The tile's accumulators.
        rows: What is multiplied.
        pixels: Of the tile.
        width: Elements of a row: 4, or 1.
        unroll: Groups of four rows a turn of the loop.
    """
    suffix = "_q88" if rows.weight_dtype == "int16" else ""

    def four(first: Expr) -> None:
        for odd in (0, 1):
            for p in range(pixels):
                total, x = T.address_of(sums[p * width]), T.address_of(rows.x(p, first + odd))
                arguments = x, T.address_of(rows.w(first + odd)), rows.distance, odd, total
                T.evaluate(T.call_extern("int32", f"od_rows2{suffix}", *arguments))

    def one(row: Expr) -> None:
        for p in range(pixels):
            x, w = T.address_of(rows.x(p, row)), T.address_of(rows.w(row))
            if width == 1:
                value = T.call_pure_extern("int32", f"od_dot1{suffix}", x, w, 0, sums[p])
                k.set(sums, p, value)
            else:
                sum_ = T.address_of(sums[p * width])
                T.evaluate(T.call_extern("int32", f"od_rows1{suffix}", x, w, sum_))

    if width == 1:
        with k.loop("k", 0, rows.count) as row:
            one(row)
        return

    def straight(begin: Expr, count: int) -> None:
        vectors = count // VECTOR
        for number in range(vectors):
            four(begin + number * VECTOR)
        for rest in range(vectors * VECTOR, count):
            one(begin + rest)

    unrolled(k, rows.count, VECTOR * unroll, straight)
