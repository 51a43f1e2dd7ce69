"""The columns of a transposed window, in tiles of pixels that share all their weights."""

from __future__ import annotations

from dataclasses import dataclass

from ondevice_compiler.tiling.taps import Axis
from ondevice_compiler.tiling.tile import LARGEST_PIXELS


@dataclass(frozen=True)
class Phase:
    """Columns of a block, a stride apart, that the same window columns cover.

    Attributes:
        first: The first one in the block.
        pixels: How many.
        kernel_column: First window column; the others follow a stride apart.
        taps: How many.
        target: Window that covers the first column of the first block with `kernel_column`; the
            next tap's is the one before, the next column's the one after.
    """

    first: int
    pixels: int
    kernel_column: int
    taps: int
    target: int


@dataclass(frozen=True)
class ColumnBlock:
    """Neighbouring columns, computed phase by phase, and repeated.

    Attributes:
        first: Column.
        turns: Blocks.
        width: Columns of a block.
        phases: Of a block.
    """

    first: int
    turns: int
    width: int
    phases: tuple[Phase, ...]


def column_blocks(columns: Axis, pixels: int) -> list[ColumnBlock]:
    """The input columns from left to right: those at the edges alone, those between in blocks.

    Args:
        columns: Of a transposed window.
        pixels: Wanted in a phase; a block has at most `LARGEST_PIXELS` columns or one stride.
    """
    stride, width = columns.stride, columns.written
    whole = [_covered(columns, column) == _all(columns, column) for column in range(width)]
    first, end = _longest(whole)
    size = stride * max(1, min(pixels, LARGEST_PIXELS // stride))
    turns, rest = divmod(end - first, size)
    blocks = [_block(columns, column, 1, 1) for column in range(first)]
    if turns:
        blocks.append(_block(columns, first, turns, size))
    if rest:
        blocks.append(_block(columns, end - rest, 1, rest))
    return blocks + [_block(columns, column, 1, 1) for column in range(end, width)]


def _block(columns: Axis, first: int, turns: int, width: int) -> ColumnBlock:
    stride = columns.stride
    phases = []
    for place in range(min(stride, width)):
        taps = columns.taps(first + place)
        kernel_column, target = taps[0] if taps else (0, 0)
        pixels = len(range(place, width, stride))
        phases.append(Phase(place, pixels, kernel_column, len(taps), target))
    return ColumnBlock(first, turns, width, tuple(phases))


def _all(columns: Axis, column: int) -> list[int]:
    """Window columns that would cover a column of an endless map."""
    first = (column + columns.before) % columns.stride
    return list(range(first, columns.kernel, columns.stride))


def _covered(columns: Axis, column: int) -> list[int]:
    return [element for element, _ in columns.taps(column)]


def _longest(flags: list[bool]) -> tuple[int, int]:
    """[begin, end) of the longest run of True."""
    best, begin = (0, 0), 0
    for end, flag in enumerate([*flags, False]):
        if not flag:
            best = max(best, (begin, end), key=lambda run: run[1] - run[0])
            begin = end + 1
    return best
