"""Which part of a window lies inside the map: by groups of output columns, by output row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr
from ondevice_compiler.ops.geometry import Window


@dataclass(frozen=True)
class ColumnGroup:
    """Output columns whose windows are cut alike by the map's edges.

    Attributes:
        first, count: The columns.
        begin, end: Window columns that lie inside.
    """

    first: int
    count: int
    begin: int
    end: int


def column_groups(window: Window) -> list[ColumnGroup]:
    """The output columns from left to right: those at the edges, and all between as one group."""
    groups: list[ColumnGroup] = []
    for column in range(window.out_width):
        start = column * window.stride_width - window.left
        inside = (max(0, -start), min(window.kernel_width, window.width - start))
        if groups and (groups[-1].begin, groups[-1].end) == inside:
            last = groups.pop()
            groups.append(ColumnGroup(last.first, last.count + 1, *inside))
        else:
            groups.append(ColumnGroup(column, 1, *inside))
    return groups


def row_bounds(window: Window, row: Expr) -> tuple[Expr, Expr]:
    """Window rows [begin, end) that lie inside the map at an output row."""
    start = row * window.stride_height - window.top
    begin: Any = 0
    end: Any = window.kernel_height
    if window.top > 0:
        begin = T.max(0, -start)
    if (window.out_height - 1) * window.stride_height - window.top + end > window.height:
        end = T.min(end, window.height - start)
    return begin, end


def covered(
    offset: Expr, before: int, stride: int, size: int, out: int, kernel: int
) -> tuple[Expr, Expr]:
    """Outputs [begin, end) of one axis whose window element `offset` lies inside the map.

    Args:
        offset: Element of the window.
        before: Padding before the first.
        stride: Of the window.
        size, out: Extents of the map and of the output.
        kernel: Extent of the window.
    """
    begin: Any = 0
    end: Any = out
    if before > 0:
        begin = T.min(T.truncdiv(T.max(before - offset, 0) + (stride - 1), stride), out)
    if (out - 1) * stride + kernel - 1 - before >= size:
        inside = T.truncdiv(T.max(size + before - offset, 0) + (stride - 1), stride)
        end = T.max(T.min(inside, out), begin)
    return begin, end
