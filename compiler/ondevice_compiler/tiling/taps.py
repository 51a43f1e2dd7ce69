"""Which pixels a window meets, for a convolution and for its transpose: its taps.

A tap is a window element and the pixel that lies under it. Along columns they are constants of a
tile, so what lies outside the map costs nothing; along rows they are the bounds of a loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr
from ondevice_compiler.ops.geometry import Window


@dataclass(frozen=True)
class Axis:
    """Rows or columns of what is read and written.

    Attributes:
        read, written: Extents.
        kernel, stride, before: Of the window; `before` is the padding.
        transposed: The window moves over what is written, as in the gradient of the input.
    """

    read: int
    written: int
    kernel: int
    stride: int
    before: int
    transposed: bool

    def taps(self, position: int) -> list[tuple[int, int]]:
        """(window element, position read) of a position written, elements ascending."""
        if self.transposed:
            places = [(e, *divmod(position + self.before - e, self.stride)) for e in self._elements]
            return [(e, at) for e, at, rest in places if rest == 0 and 0 <= at < self.read]
        first = position * self.stride - self.before
        return [(e, first + e) for e in self._elements if 0 <= first + e < self.read]

    def advance(self, positions: int) -> int:
        """By how much the positions read move on with those written."""
        return positions // self.stride if self.transposed else positions * self.stride

    @property
    def period(self) -> int:
        """Neighbours written that differ in their taps."""
        return self.stride if self.transposed else 1

    @property
    def _elements(self) -> range:
        return range(self.kernel)


def axes_of(window: Window, transposed: bool) -> tuple[Axis, Axis]:
    """The rows and the columns of a window; `transposed` reads its outputs, writes its inputs."""
    extents = (
        (window.height, window.out_height, window.kernel_height, window.stride_height, window.top),
        (window.width, window.out_width, window.kernel_width, window.stride_width, window.left),
    )
    rows, columns = (
        Axis(*((out, size) if transposed else (size, out)), kernel, stride, before, transposed)
        for size, out, kernel, stride, before in extents
    )
    return rows, columns


@dataclass(frozen=True)
class Columns:
    """Tiles of a row that are alike.

    Attributes:
        first: Column written first.
        count: Tiles.
        taps: Of each pixel of a tile: (window column, column read by the first tile).
        advance: By how much the columns read move on from tile to tile.
    """

    first: int
    count: int
    taps: tuple[tuple[tuple[int, int], ...], ...]
    advance: int

    @property
    def pixels(self) -> int:
        """Of a tile."""
        return len(self.taps)


def column_tiles(axis: Axis, pixels: int) -> list[Columns]:
    """A row from left to right, neighbouring tiles that are alike together."""
    advance = axis.advance(pixels)
    groups: list[Columns] = []
    for first in range(0, axis.written, pixels):
        taps = tuple(
            tuple(axis.taps(column)) for column in range(first, min(first + pixels, axis.written))
        )
        if groups and taps == _moved(groups[-1].taps, advance * groups[-1].count):
            last = groups.pop()
            groups.append(Columns(last.first, last.count + 1, last.taps, advance))
        else:
            groups.append(Columns(first, 1, taps, advance))
    return groups


def _moved(
    taps: tuple[tuple[tuple[int, int], ...], ...], columns: int
) -> tuple[tuple[tuple[int, int], ...], ...]:
    return tuple(tuple((e, at + columns) for e, at in pixel) for pixel in taps)


@dataclass(frozen=True)
class RowTaps:
    """The taps of one row written, numbered [begin, end).

    Attributes:
        begin, end: Of the numbers.
        element, step: Window row of number 0, and from one to the next.
        source, direction: Row read by number 0, and from one to the next.
    """

    begin: Expr
    end: Expr
    element: Expr
    step: int
    source: Expr
    direction: int

    def at(self, number: Expr) -> tuple[Expr, Expr]:
        """Window row and row read."""
        return self.element + number * self.step, self.source + number * self.direction


def row_taps(axis: Axis, row: Expr) -> RowTaps:
    """The taps of a row written."""
    begin: Any = 0
    if not axis.transposed:
        start = row * axis.stride - axis.before
        end: Any = axis.kernel
        if axis.before > 0:
            begin = T.max(0, -start)
        if (axis.written - 1) * axis.stride - axis.before + axis.kernel > axis.read:
            end = T.min(end, axis.read - start)
        return RowTaps(begin, end, 0, 1, start, 1)
    last = row + axis.before
    element, source = (
        (0, last)
        if axis.stride == 1
        else (T.truncmod(last, axis.stride), T.truncdiv(last, axis.stride))
    )
    if axis.stride == 1:
        end = axis.kernel
    else:
        end = T.truncdiv(axis.kernel + axis.stride - 1 - element, axis.stride)
    if axis.before < axis.kernel - 1:
        end = T.min(end, source + 1)
    if axis.written - 1 + axis.before >= axis.read * axis.stride:
        begin = T.max(0, source - (axis.read - 1))
    return RowTaps(begin, end, element, axis.stride, source, -1)
