"""A loop over the elements of maps of one shape, a few a turn."""

from __future__ import annotations

from collections.abc import Callable

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.tiling.turns import tiles_of

UNROLL = 4  # The loop's own instructions are then few beside the elements'.


def each_element(k: KernelBuilder, count: int, body: Callable[[Expr], None]) -> None:
    """Adds the statements of `body(element)` for elements 0 to count, in memory order."""
    for first, turns, size in tiles_of(count, UNROLL):
        with k.loop("i", 0, turns) as turn:
            for number in range(size):
                body(T.int32(first + number) + turn * size)
