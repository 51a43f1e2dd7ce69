"""int8 convolution as dot products: each window row is one run in memory, in x as in w."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.ops.geometry import Window
from ondevice_compiler.ops.split_weight import ChannelRun, runs_of
from ondevice_compiler.program import Tensor
from ondevice_compiler.tiling.columns import ColumnGroup, column_groups
from ondevice_compiler.tiling.dot import Run, add_dot
from ondevice_compiler.tiling.taps import axes_of, row_taps
from ondevice_compiler.tiling.tile import VECTOR, Tile, Workload, wider
from ondevice_compiler.tiling.turns import tiles_of


@dataclass(frozen=True)
class _Place:
    """Where a tile is.

    Attributes:
        row, column, channel: Of its first output.
        columns: The window's columns that lie inside the map.
        pixels, channels: Its size.
        gathered: The pixels' channels in the weight's order; None: the map's own.
    """

    row: Expr
    column: Expr
    channel: Expr
    columns: ColumnGroup
    pixels: int
    channels: int
    gathered: Any = None


class DotConvolution:
    """Emits one convolution tile by tile, in the order of the output's memory.

    Args:
        k: Builder; the kernel's parameters are declared as this is made.
        window: Geometry.
        x, y: Tensors of the maps.
        weights: The weight's tensors.
        bias: Initial values of the sums.
    """

    def __init__(
        self,
        k: KernelBuilder,
        window: Window,
        x: Tensor,
        weights: list[Tensor],
        bias: Tensor,
    ) -> None:
        self.k = k
        self.window = flat(window)
        self.rows, columns = axes_of(self.window, transposed=False)
        self.columns = column_groups(columns)
        self.weights = weights
        self.runs, order = runs_of(weights)
        self.channels = bias.shape[-1]
        self.inner = x.shape[3]
        self.x = k.tensor("x", x, shape=(self.window.height, self.window.width, self.inner))
        names = ("w", "w_frozen")
        self.w = [k.tensor(n, tensor) for n, tensor in zip(names, weights, strict=False)]
        self.order = None if order is None else k.table("order", order)
        self.bias = k.tensor("bias", bias)

    @staticmethod
    def fits(window: Window, weights: list[Tensor]) -> bool:
        """Whether the weight's runs are runs of x too, or a pixel's channels can be gathered."""
        runs, order = runs_of(weights)
        pixel = (window.kernel_height, window.kernel_width, window.top, window.left)
        return bool(runs) and (order is None or pixel == (1, 1, 0, 0))

    def emit(self, y_tensor: Tensor, offset: Expr, finish: Any) -> None:
        """Adds the loops.

        Args:
            y_tensor: Output; its parameter is the last.
            offset: Added to each x: minus its zero point.
            finish: Gives the stored value of a sum and its channel.
        """
        shape = (self.window.out_height, self.window.out_width, self.channels)
        y = self.k.tensor("y", y_tensor, written=True, shape=shape)
        tile = self.k.tile(self._workload())
        widest = max(group.count for group in self.columns)
        for place in self._places(tile):
            often = place.columns.count == widest and place.pixels == tile.pixels
            own = tile if often else replace(tile, unroll=1)  # The edges: little code.
            outputs = [(p, c) for p in range(place.pixels) for c in range(place.channels)]
            sums = self.k.registers("acc", len(outputs))
            for number, (_, c) in enumerate(outputs):
                self.k.set(sums, number, self.bias[place.channel + c])
            taps = row_taps(self.rows, place.row)
            with self.k.loop("kh", taps.begin, taps.end) as kh:
                for run in self._runs(place, kh):
                    add_dot(self.k, sums, run, place.pixels, place.channels, own, offset)
            for number, (p, c) in enumerate(outputs):
                value = finish(sums[number], place.channel + c)
                self.k.set(y, (place.row, place.column + p, place.channel + c), value)

    def _places(self, tile: Tile) -> Iterator[_Place]:
        """The tiles in memory order; what is emitted while one is current is in its loops."""
        with self.k.loop("row", 0, self.window.out_height) as row:
            for columns in self.columns:
                for first, turns, pixels in tiles_of(columns.count, tile.pixels):
                    with self.k.loop("column", 0, turns) as turn:
                        column = columns.first + first + turn * pixels
                        gathered = self._gathered(row, column, pixels)
                        width = wider(tile, pixels, self.channels)
                        for start, blocks, channels in tiles_of(self.channels, width):
                            with self.k.loop("channel", 0, blocks) as block:
                                channel = start + block * channels
                                yield _Place(
                                    row, column, channel, columns, pixels, channels, gathered
                                )

    def _gathered(self, row: Expr, column: Expr, pixels: int) -> Any:
        """The pixels' channels in the order of the weight's, where that is not the map's."""
        if self.order is None:
            return None
        copies = self.k.registers("gathered", pixels * self.inner, "int8")
        with self.k.loop("i", 0, self.inner) as i:
            for p in range(pixels):
                x_column = (column + p) * self.window.stride_width
                x_row = row * self.window.stride_height
                channel = T.cast(self.order[i], "int32")
                self.k.set(copies, p * self.inner + i, self.x[x_row, x_column, channel])
        return copies

    def _runs(self, place: _Place, kh: Expr) -> list[Run]:
        """The runs of one window row: all its columns together, or each for itself."""
        window, columns = self.window, place.columns
        x_row = place.row * window.stride_height + kh - window.top

        def piece(run: ChannelRun, kw: int, length: int) -> Run:
            w = self.w[run.tensor]

            def x_at(p: int, element: Expr) -> Any:
                if place.gathered is not None:
                    return place.gathered[p * self.inner + (element + run.channel)]
                x_column = (place.column + p) * window.stride_width + (kw - window.left)
                return self.x[x_row, x_column, element + run.channel]

            def w_at(c: int, element: Expr) -> Any:
                return w[place.channel + c, kh, kw, element + run.start]

            return Run(x_at, w_at, self.weights[run.tensor].dtype, length)

        if len(self.runs) == 1:
            width = columns.end - columns.begin
            return [piece(self.runs[0], columns.begin, width * self.inner)]
        inside = range(columns.begin, columns.end)
        return [piece(run, kw, run.extent) for kw in inside for run in self.runs]

    def _length(self) -> int:
        """Elements of the longest run."""
        if len(self.runs) == 1:
            return max(group.end - group.begin for group in self.columns) * self.inner
        return max(run.extent for run in self.runs)

    def _workload(self) -> Workload:
        sizes = {
            "pixels": max(group.count for group in self.columns),
            "channels": self.channels,
            "steps": self._length() // VECTOR,
            "rows": self.window.kernel_height,
        }
        kind = "dot_q88" if any(w.dtype == "int16" for w in self.weights) else "dot"
        return Workload(kind, sizes)


def flat(window: Window) -> Window:
    """A window of one pixel sees the map as one row."""
    sizes = (window.kernel_height, window.kernel_width, window.stride_height, window.stride_width)
    if sizes != (1, 1, 1, 1) or window.top or window.left or window.out_width != window.width:
        return window
    pixels = window.height * window.width
    return replace(window, height=1, width=pixels, out_height=1, out_width=pixels)
