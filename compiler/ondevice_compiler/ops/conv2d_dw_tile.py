"""int8 weight gradients as outer products: a tile of sums stays in registers over all pixels."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.ops.conv2d_dot import flat
from ondevice_compiler.ops.geometry import Window
from ondevice_compiler.ops.parameter_update import IntegerUpdate, parameter_update
from ondevice_compiler.program import Program, Step
from ondevice_compiler.tiling.columns import covered
from ondevice_compiler.tiling.taps import axes_of
from ondevice_compiler.tiling.tile import VECTOR, Workload
from ondevice_compiler.tiling.turns import tiles_of

FACTOR = ("multiplier", "shift", "raise")  # What od_change and od_raise take, of a channel's rate.


class OuterProducts:
    """Emits dw[co, kh, kw, ci] += sum over pixels of g[pixel, co] * (x[pixel, ci] - zero).

    Args:
        k: Builder; the kernel's parameters are declared as this is made.
        step: A conv2d_dw without groups, of an int8 program.
        program: Holds the step's tensors.
        window: Geometry.
        starts: First channel of x and of g that are the weight's.
    """

    def __init__(
        self,
        k: KernelBuilder,
        step: Step,
        program: Program,
        window: Window,
        starts: tuple[int, int],
    ) -> None:
        g, x = (program.tensor(name) for name in step.inputs[:2])
        self.k = k
        self.shape: tuple[int, ...] = tuple(step.attributes["shape"])
        self.window = window = flat(window)
        g_shape = (window.out_height, window.out_width, g.shape[3])
        self.g = k.tensor("g", g, shape=g_shape)
        self.x = k.tensor("x", x, shape=(window.height, window.width, x.shape[3]))
        self.x_start, self.g_start = starts
        zero = 0 if x.quantization is None else x.quantization.zero_point
        self.offset = k.scalar("offset", "int32", -zero)
        self.update = TileUpdate(k, step, program)

    def emit(self) -> None:
        """Adds the loops, in the order of the weight's memory but for a few output channels."""
        outputs, height, width, inner = self.shape
        whole = self.window.out_width if (height, width) == (1, 1) else 1
        sizes = {"pixels": whole, "channels": outputs, "steps": inner // VECTOR}
        tile = self.k.tile(Workload("outer", {**sizes, "rows": self.window.out_height}))
        for first, blocks, channels in tiles_of(outputs, tile.channels):
            with self.k.loop("channel", 0, blocks) as block:
                co = first + block * channels
                self.update.begin(co, channels)
                with self.k.loop("kh", 0, height) as kh, self.k.loop("kw", 0, width) as kw:
                    vectors = inner // VECTOR
                    for start, turns, steps in tiles_of(vectors, tile.unroll):
                        with self.k.loop("vector", 0, turns) as turn:
                            ci = start * VECTOR + turn * (steps * VECTOR)
                            at = (co, kh, kw, ci)
                            self._tile(at, channels, [VECTOR] * steps, tile.pixels)
                    rest = inner - vectors * VECTOR
                    if rest:
                        at = (co, kh, kw, T.int32(vectors * VECTOR))
                        self._tile(at, channels, [1] * rest, tile.pixels)

    def _tile(
        self, at: tuple[Expr, Expr, Expr, Expr], channels: int, lanes: list[int], pixels: int
    ) -> None:
        """Sums of `channels` output channels by the input channels that `lanes` adds up to."""
        co, kh, kw, ci = at
        window, width = self.window, sum(lanes)
        sums = self.k.registers("acc", channels * width)
        for number in range(channels * width):
            self.k.set(sums, number, T.int32(0))

        def pixel(row: Expr, column: Expr) -> None:
            x_row = row * window.stride_height + kh - window.top
            x_column = column * window.stride_width + kw - window.left
            first = 0
            for lane in lanes:
                for c in range(channels):
                    x = T.address_of(self.x[x_row, x_column, ci + (first + self.x_start)])
                    g = T.address_of(self.g[row, column, co + (c + self.g_start)])
                    to = T.address_of(sums[c * width + first])
                    T.evaluate(T.call_extern("void", f"od_outer{lane}", to, x, g, self.offset))
                first += lane

        axes = axes_of(window, transposed=False)
        rows, columns = (covered(axis, e) for axis, e in zip(axes, (kh, kw), strict=True))
        with self.k.loop("row", *rows) as row:
            if not isinstance(columns[0], int) or not isinstance(columns[1], int):
                with self.k.loop("column", *columns) as column:
                    pixel(row, column)
            else:
                for first, count, size in tiles_of(columns[1] - columns[0], pixels):
                    with self.k.loop("column", 0, count) as turn:
                        for number in range(size):
                            pixel(row, columns[0] + first + turn * size + number)
        self.update.finish(sums, at, channels, lanes)


class TileUpdate:
    """The update of a tile: what depends on the channel alone is computed once a channel."""

    def __init__(self, k: KernelBuilder, step: Step, program: Program) -> None:
        self.k = k
        target = program.tensor(step.outputs[0])
        kind = step.attributes.get("update")
        self.fast = kind is not None and target.dtype == "int16"
        self.fast = self.fast and not step.attributes.get("real")
        if self.fast:
            self.integer = IntegerUpdate(k, step, program)
        else:
            self.store = parameter_update(k, step, program)

    def begin(self, channel: Expr, channels: int) -> None:
        """Before the tiles of some output channels."""
        if not self.fast:
            return
        self.factors = [self.k.registers(name, channels) for name in FACTOR]
        for c in range(channels):
            rate = self.integer.rate(channel + c)
            for name, factor in zip(FACTOR, self.factors, strict=True):
                self.k.set(factor, c, T.call_pure_extern("int32", f"od_factor_{name}", rate))

    def finish(
        self, sums: Any, at: tuple[Expr, Expr, Expr, Expr], channels: int, lanes: list[int]
    ) -> None:
        """Uses the sums of a tile."""
        co, kh, kw, ci = at
        width = sum(lanes)
        for c in range(channels):
            own = range(c * width, (c + 1) * width)
            if self.fast:
                self._scale(sums, own, c)
            first = 0
            for lane in lanes:
                where = (co + c, kh, kw, ci + first)
                self._store(sums, c * width + first, lane, where)
                first += lane

    def _scale(self, sums: Any, own: range, c: int) -> None:
        multiplier, shift, lift = (factor[c] for factor in self.factors)
        with T.If(lift != 0), T.Then():
            for number in own:
                raised = T.call_pure_extern("int32", "od_raise", sums[number], lift)
                self.k.set(sums, number, raised)
        for number in own:
            change = T.call_pure_extern("int32", "od_change", sums[number], multiplier, shift)
            self.k.set(sums, number, change)

    def _store(self, sums: Any, first: int, lane: int, where: tuple[Expr, ...]) -> None:
        if self.fast and lane == VECTOR and self.integer.kind == "sgd":
            to = T.address_of(self.integer.parameter[where])
            T.evaluate(T.call_extern("void", "od_update4_q88", to, T.address_of(sums[first])))
            return
        for number in range(lane):
            indices = (*where[:3], where[3] + number)
            store = self.integer.stores if self.fast else self.store
            for target, value, index in store(sums[first + number], indices):
                self.k.set(target, index, value)
