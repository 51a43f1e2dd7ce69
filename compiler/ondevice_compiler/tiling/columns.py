"""Which part of a window lies inside the map: by groups of output columns, by window element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr
from ondevice_compiler.tiling.taps import Axis


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


def column_groups(axis: Axis) -> list[ColumnGroup]:
    """The output columns from left to right: those at the edges, and all between as one group."""
    groups: list[ColumnGroup] = []
    for column in range(axis.written):
        start = column * axis.stride - axis.before
        inside = (max(0, -start), min(axis.kernel, axis.read - start))
        if groups and (groups[-1].begin, groups[-1].end) == inside:
            last = groups.pop()
            groups.append(ColumnGroup(last.first, last.count + 1, *inside))
        else:
            groups.append(ColumnGroup(column, 1, *inside))
    return groups


def covered(axis: Axis, element: Expr) -> tuple[Expr, Expr]:
    """Outputs [begin, end) of one axis at which a window element lies inside the map."""
    begin: Any = 0
    end: Any = axis.written
    before, stride = axis.before, axis.stride
    if before > 0:
        begin = T.min(T.truncdiv(T.max(before - element, 0) + (stride - 1), stride), end)
    if (axis.written - 1) * stride + axis.kernel - 1 - before >= axis.read:
        inside = T.truncdiv(T.max(axis.read + before - element, 0) + (stride - 1), stride)
        end = T.max(T.min(inside, end), begin)
    return begin, end
