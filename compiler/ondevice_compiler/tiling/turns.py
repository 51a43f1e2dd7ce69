"""How an extent is cut into the turns of a loop and what is left after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.tiling.tile import VECTOR


def tiles_of(extent: int, size: int) -> Sequence[tuple[int, int, int]]:
    """(first, tiles, size) of the whole tiles, then of what is left."""
    whole, rest = divmod(extent, size)
    parts = [(0, whole, size), (whole * size, 1, rest)]
    return [(first, count, width) for first, count, width in parts if count and width]


def vectors_of(extent: int) -> list[tuple[int, int, int]]:
    """(first, turns, width) of the vectors, then of what is left, one by one."""
    vectors, rest = divmod(extent, VECTOR)
    parts = [(0, vectors, VECTOR), (vectors * VECTOR, rest, 1)]
    return [part for part in parts if part[1]]


def unrolled(
    k: KernelBuilder, extent: int, size: int, straight: Callable[[Expr, int], None]
) -> None:
    """Adds a loop of `size` elements a turn, if it has more than one, and the rest after it.

    Args:
        k: Builder.
        extent: Elements in all.
        size: Of a turn.
        straight: Adds the statements for elements from a first one on, and how many.
    """
    turns = extent // size
    if turns > 1:
        with k.loop("k", 0, turns) as index:
            straight(index * size, size)
    else:
        turns = 0
    straight(T.int32(turns * size), extent - turns * size)
