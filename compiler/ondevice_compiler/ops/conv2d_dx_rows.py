"""int8 gradient of a convolution's input, four input channels at once, weights read in place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.ops.conv2d_dot import flat
from ondevice_compiler.ops.geometry import Window
from ondevice_compiler.ops.gradient_store import GradientStore
from ondevice_compiler.ops.split_weight import ChannelRun, runs_of
from ondevice_compiler.program import Tensor
from ondevice_compiler.tiling.covering import Phase, column_blocks
from ondevice_compiler.tiling.rows import Rows, add_rows
from ondevice_compiler.tiling.taps import axes_of, row_taps
from ondevice_compiler.tiling.tile import LARGEST_PIXELS, VECTOR, Tile, Workload
from ondevice_compiler.tiling.turns import vectors_of


@dataclass(frozen=True)
class _Place:
    """Where a tile is.

    Attributes:
        row, column: Of its first output.
        channel: Of its first output, in the order of the weights.
        target: First window that covers it.
        phase: Its columns.
        run: Tensor that holds the weights of its channels.
        element: The first of them in that tensor.
        width: Channels.
        unroll: Of the loop over the gradient's channels: one at the map's edges.
    """

    row: Expr
    column: Expr
    channel: Expr
    target: Expr
    phase: Phase
    run: ChannelRun
    element: Expr
    width: int
    unroll: int


class RowsGradient:
    """Emits one input gradient tile by tile, in the order of the output's memory.

    Args:
        k: Builder; the gradient and the weights are declared as this is made.
        window: Geometry of the convolution.
        g: Gradient of its output.
        weights: The weight's tensors, whole or split by input channels.
    """

    def __init__(
        self,
        k: KernelBuilder,
        window: Window,
        g: Tensor,
        weights: list[Tensor],
    ) -> None:
        self.k = k
        window = flat(window)
        self.runs, order = runs_of(weights)
        self.shape = (window.height, window.width, sum(run.extent for run in self.runs))
        self.rows, self.columns = axes_of(window, transposed=True)
        self.weights = weights
        self.outputs = g.shape[3]
        self.g = k.tensor("g", g, shape=(self.rows.read, self.columns.read, g.shape[3]))
        names = ("w", "w_frozen")
        self.w = [k.tensor(n, tensor) for n, tensor in zip(names, weights, strict=False)]
        self.order = None if order is None else k.table("order", order)

    def emit(self, store: GradientStore) -> None:
        """Adds the loops."""
        tile = self.k.tile(self._workload())
        for place in self._places(tile):
            pixels, width = place.phase.pixels, place.width
            if not place.phase.taps:
                for p in range(pixels):
                    for c in range(width):
                        self.k.set(store.out, self._index(place, p, c), T.int8(0))
                continue
            sums = self.k.registers("acc", pixels * width)
            for number in range(pixels * width):
                self.k.set(sums, number, T.int32(0))
            self._add(place, sums)
            for c in range(width):
                values = [sums[p * width + c] for p in range(pixels)]
                store.pixels(values, [self._index(place, p, c) for p in range(pixels)])

    def _index(self, place: _Place, pixel: int, channel: int) -> tuple[Expr, ...]:
        """Of one of the tile's outputs, in the map."""
        at = place.channel + channel
        if self.order is not None:
            at = T.cast(self.order[at], "int32")
        return place.row, place.column + pixel * self.columns.stride, at

    def _places(self, tile: Tile) -> Iterator[_Place]:
        """The tiles, block by block; what is emitted while one is current is in its loops."""
        stride = self.columns.stride
        with self.k.loop("row", 0, self.rows.written) as row:
            blocks = column_blocks(self.columns, tile.pixels)
            for block in blocks:
                unroll = tile.unroll if block.turns > 1 or len(blocks) == 1 else 1
                with self.k.loop("block", 0, block.turns) as turn:
                    for phase in block.phases:
                        column = turn * block.width + (block.first + phase.first)
                        target = turn * (block.width // stride) + phase.target
                        for run in self.runs:
                            for start, turns, width in vectors_of(run.extent):
                                with self.k.loop("channel", 0, turns) as number:
                                    at = number * width + start
                                    channel, element = at + run.channel, at + run.start
                                    yield _Place(
                                        row,
                                        column,
                                        channel,
                                        target,
                                        phase,
                                        run,
                                        element,
                                        width,
                                        unroll,
                                    )

    def _add(self, place: _Place, sums: Any) -> None:
        phase, taps = place.phase, row_taps(self.rows, place.row)
        buffer = self.w[place.run.tensor]
        tensor = self.weights[place.run.tensor]
        with self.k.loop("kh", taps.begin, taps.end) as i, self.k.loop("kw", 0, phase.taps) as j:
            kh, source = taps.at(i)
            kw = phase.kernel_column + j * self.columns.stride
            rows = Rows(
                lambda p, o: self.g[source, place.target + p - j, o],
                lambda o: buffer[o, kh, kw, place.element],
                tensor.dtype,
                self.outputs,
                tensor.shape[1] * tensor.shape[2] * tensor.shape[3],
            )
            add_rows(self.k, sums, rows, phase.pixels, place.width, place.unroll)

    def _workload(self) -> Workload:
        blocks = column_blocks(self.columns, LARGEST_PIXELS)
        sizes = {
            "pixels": max(block.turns * block.phases[0].pixels for block in blocks),
            "steps": self.outputs // VECTOR,
            "taps": self.rows.kernel * self.columns.kernel,
        }
        kind = "rows_q88" if any(w.dtype == "int16" for w in self.weights) else "rows"
        return Workload(kind, sizes)
