"""int8 convolution as dot products: each window row is one run in memory, in x as in w."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.ops.geometry import Window
from ondevice_compiler.ops.split_weight import ChannelRun
from ondevice_compiler.program import Tensor
from ondevice_compiler.tiling.columns import ColumnGroup, column_groups, row_bounds
from ondevice_compiler.tiling.dot import VECTOR, Run, add_dot, tiles_of
from ondevice_compiler.tiling.tile import Workload


class DotConvolution:
    """Emits one convolution tile by tile, in the order of the output's memory.

    Args:
        k: Builder; the kernel's parameters are declared as this is made.
        window: Geometry.
        x, y: Tensors of the maps.
        weights: The weight's tensors.
        runs: Which channels each tensor holds; from `channel_runs`.
        bias: Initial values of the sums.
    """

    def __init__(
        self,
        k: KernelBuilder,
        window: Window,
        x: Tensor,
        weights: list[Tensor],
        runs: list[ChannelRun],
        bias: Tensor,
    ) -> None:
        self.k = k
        self.window = _flat(window)
        self.weights = weights
        self.runs = runs
        self.channels = bias.shape[-1]
        self.inner = x.shape[3]
        self.x = k.tensor("x", x, shape=(self.window.height, self.window.width, self.inner))
        names = ("w", "w_frozen")
        self.w = [k.tensor(n, tensor) for n, tensor in zip(names, weights, strict=False)]
        self.bias = k.tensor("bias", bias)

    def emit(self, y_tensor: Tensor, offset: Expr, finish: Any) -> None:
        """Adds the loops.

        Args:
            y_tensor: Output; its parameter is the last.
            offset: Added to each x: minus its zero point.
            finish: Gives the stored value of a sum and its channel.
        """
        window, groups = self.window, column_groups(self.window)
        y = self.k.tensor(
            "y", y_tensor, written=True, shape=(window.out_height, window.out_width, self.channels)
        )
        inside = max(groups, key=lambda group: group.count)
        tile = self.k.tile(self._workload(inside))
        with self.k.loop("row", 0, window.out_height) as row:
            for group in groups:
                for first, count, pixels in tiles_of(group.count, tile.pixels):
                    with self.k.loop("column", 0, count) as turn:
                        column = group.first + first + turn * pixels
                        for start, blocks, width in tiles_of(self.channels, tile.channels):
                            with self.k.loop("channel", 0, blocks) as block:
                                at = (row, column, start + block * width)
                                self._tile(
                                    group, at, (pixels, width), tile.unroll, y, offset, finish
                                )

    def _tile(
        self,
        group: ColumnGroup,
        at: tuple[Expr, Expr, Expr],
        size: tuple[int, int],
        unroll: int,
        y: Any,
        offset: Expr,
        finish: Any,
    ) -> None:
        row, column, channel = at
        pixels, channels = size
        sums = self.k.registers("acc", pixels * channels)
        for p in range(pixels):
            for c in range(channels):
                self.k.set(sums, p * channels + c, self.bias[channel + c])
        with self.k.loop("kh", *row_bounds(self.window, row)) as kh:
            for run in self._window_row(group, at, kh):
                add_dot(self.k, sums, run, pixels, channels, unroll, offset)
        for p in range(pixels):
            for c in range(channels):
                value = finish(sums[p * channels + c], channel + c)
                self.k.set(y, (row, column + p, channel + c), value)

    def _window_row(self, group: ColumnGroup, at: tuple[Expr, Expr, Expr], kh: Expr) -> list[Run]:
        """The runs of one window row: all its columns together, or each for itself."""
        row, column, channel = at
        window = self.window
        x_row = row * window.stride_height + kh - window.top

        def piece(run: ChannelRun, kw: int, length: int) -> Run:
            w = self.w[run.tensor]

            def x_at(p: int, element: Expr) -> Any:
                x_column = (column + p) * window.stride_width + (kw - window.left)
                return self.x[x_row, x_column, element + run.channel]

            def w_at(c: int, element: Expr) -> Any:
                return w[channel + c, kh, kw, element + run.start]

            return Run(x_at, w_at, self.weights[run.tensor].dtype, length)

        if len(self.runs) == 1:
            width = group.end - group.begin
            return [piece(self.runs[0], group.begin, width * self.inner)]
        return [piece(r, kw, r.extent) for kw in range(group.begin, group.end) for r in self.runs]

    def _workload(self, inside: ColumnGroup) -> Workload:
        width = (inside.end - inside.begin) * self.inner
        length = width if len(self.runs) == 1 else max(run.extent for run in self.runs)
        sizes = {
            "pixels": inside.count,
            "channels": self.channels,
            "steps": length // VECTOR,
            "rows": self.window.kernel_height,
        }
        kind = "dot_q88" if any(w.dtype == "int16" for w in self.weights) else "dot"
        return Workload(kind, sizes)


def _flat(window: Window) -> Window:
    """A window of one pixel sees the map as one row."""
    sizes = (window.kernel_height, window.kernel_width, window.stride_height, window.stride_width)
    if sizes != (1, 1, 1, 1) or window.top or window.left or window.out_width != window.width:
        return window
    pixels = window.height * window.width
    return replace(window, height=1, width=pixels, out_height=1, out_width=pixels)
