"""int8 gradient of a depthwise weight, four neighbouring channels at once, then the update."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.ops.conv2d_dw_tile import TileUpdate
from ondevice_compiler.ops.geometry import Window
from ondevice_compiler.program import Program, Step
from ondevice_compiler.tiling.columns import covered
from ondevice_compiler.tiling.taps import axes_of
from ondevice_compiler.tiling.tile import VECTOR, Tile, Workload
from ondevice_compiler.tiling.turns import tiles_of


class DepthwiseProducts:
    """Emits dw[c, kh, kw] = sum over pixels of g[pixel, c] * (x[pixel under (kh, kw), c] - zero).

    Args:
        k: Builder; the kernel's parameters are declared as this is made.
        step: A conv2d_dw with one channel a group, of an int8 program.
        program: Holds the step's tensors.
        window: Geometry.
        starts: First channel of x and of g that are the weight's.
    """

    def __init__(
        self, k: KernelBuilder, step: Step, program: Program, window: Window,
        starts: tuple[int, int],
    ) -> None:  # fmt: skip
        g, x = (program.tensor(name) for name in step.inputs[:2])
        self._k = k
        self._window = window
        self._rows, self._line = axes_of(window, transposed=False)
        self._channels: int = step.attributes["shape"][0]
        self._g, self._x = k.tensor("g", g), k.tensor("x", x)
        self._x_start, self._g_start = starts
        zero = 0 if x.quantization is None else x.quantization.zero_point
        self._offset = k.scalar("offset", "int32", -zero)
        self._update = TileUpdate(k, step, program)

    def emit(self) -> None:
        """Adds the loops: a few window columns of a few channels stay in registers."""
        k, window = self._k, self._window
        sizes = {
            "pixels": window.out_width,
            "channels": self._channels,
            "rows": window.kernel_height,
            "columns": window.kernel_width,
            "stride": window.stride_width,
            "height": window.out_height,
        }
        tile = k.tile(Workload("depthwise_dw", sizes))
        for first, turns, count in tiles_of(self._channels, VECTOR):
            with k.loop("vector", 0, turns) as number:
                self._window_of(first + number * count, count, tile)

    def _window_of(self, channel: Expr, count: int, tile: Tile) -> None:
        """All weights of `count` channels."""
        width = self._window.kernel_width
        self._update.begin(channel, count)
        with self._k.loop("kh", 0, self._window.kernel_height) as kh:
            for first in range(0, width, tile.unroll):
                elements = range(first, min(first + tile.unroll, width))
                self._elements(channel, count, kh, elements, tile.pixels)

    def _elements(self, channel: Expr, count: int, kh: Expr, elements: range, pixels: int) -> None:
        """The weights at neighbouring columns of one window row."""
        k = self._k
        sums = [k.registers("acc", count) for _ in elements]
        for acc in sums:
            for c in range(count):
                k.set(acc, c, T.int32(0))
        rows = covered(self._rows, kh)
        columns = [self._columns(kw) for kw in elements]
        begin = max(each.start for each in columns)
        end = max(begin, min(each.stop for each in columns))
        with k.loop("row", *rows) as row:

            def add(number: int, column: Expr) -> None:
                at = channel, kh, elements[number]
                self._add(sums[number], count, at, row, column)

            for number, each in enumerate(columns):
                for column in [c for c in each if not begin <= c < end]:
                    add(number, column)
            for start, turns, size in tiles_of(end - begin, pixels):
                with k.loop("column", 0, turns) as turn:
                    for pixel in range(size):
                        for number in range(len(elements)):
                            add(number, begin + start + pixel + turn * size)
        for kw, acc in zip(elements, sums, strict=True):
            self._update.finish(acc, (channel, kh, T.int32(kw), T.int32(0)), count, [1])

    def _columns(self, kw: int) -> range:
        """Output columns at which a window column lies inside the map."""
        written = range(self._line.written)
        found = [c for c in written if kw in (e for e, _ in self._line.taps(c))]
        return range(found[0], found[-1] + 1) if found else range(0)

    def _add(
        self, acc: Any, count: int, at: tuple[Expr, Expr, int], row: Expr, column: Expr
    ) -> None:
        """Adds the products of one pixel."""
        window, (channel, kh, kw) = self._window, at
        source = (
            row * window.stride_height + kh - window.top,
            column * window.stride_width + kw - window.left,
        )
        for c in range(count):
            lane = 0 if count == VECTOR else c
            x = T.address_of(self._x[0, *source, channel + (self._x_start + lane)])
            g = T.address_of(self._g[0, row, column, channel + (self._g_start + lane)])
            name = f"od_lane{c}" if count == VECTOR else "od_dot1"
            value = T.call_pure_extern("int32", name, x, g, self._offset, acc[c])
            self._k.set(acc, c, value)
