"""int8 depthwise convolution and the gradient of its input: four neighbouring channels at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import Expr, KernelBuilder
from ondevice_compiler.ops.split_weight import ChannelRun, channel_runs, whole_shape
from ondevice_compiler.program import Tensor
from ondevice_compiler.tiling.taps import Axis, Columns, column_tiles, row_taps
from ondevice_compiler.tiling.tile import LARGEST_PIXELS, VECTOR, Tile, Workload
from ondevice_compiler.tiling.turns import tiles_of

LAYOUT = (1, 2, 3, 0)  # A frozen weight's channels lie side by side in flash, as in the maps.

Weight = Callable[[Expr, Expr, Expr], Expr]  # (window row, window column, channel) -> element
Start = Callable[[Expr], Expr]  # channel -> first value of its sum
Place = tuple[Expr, Expr, Expr]  # row, column, channel
Store = Callable[[list[Expr], list[Place]], None]  # sums of one channel at neighbouring pixels


def is_depthwise(parts: Sequence[Tensor], groups: int, columns: Axis) -> bool:
    """Whether `Depthwise` can: one channel a group, and those of each tensor side by side."""
    outputs, _, _, inner = whole_shape(parts)
    return (
        (outputs, inner) == (groups, 1)
        and parts[0].dtype != "float32"
        and columns.period <= LARGEST_PIXELS
        and channel_runs(parts, axis=0) is not None
    )


@dataclass(frozen=True)
class _Channels:
    """Channels whose weights lie in one tensor.

    Attributes:
        first, count: In the map.
        weight: Element of the tensor.
        dtype: Of the tensor.
        adjacent: Neighbouring channels are neighbouring elements.
    """

    first: int
    count: int
    weight: Weight
    dtype: str
    adjacent: bool


@dataclass(frozen=True)
class _Sums:
    """How a sum begins and ends; see `Depthwise.emit`."""

    offset: Expr
    start: Start
    store: Store


class Depthwise:
    """Emits one depthwise kernel tile by tile, in the order of its output's memory.

    Args:
        k: Builder; the kernel's first parameters are declared as this is made.
        lines: Rows and columns.
        name: Parameter of the map that is read.
        x: That map.
        parts: The weight's tensors; see `is_depthwise`.
    """

    def __init__(
        self, k: KernelBuilder, lines: tuple[Axis, Axis], name: str, x: Tensor,
        parts: Sequence[Tensor],
    ) -> None:  # fmt: skip
        self._k = k
        self._rows, self._columns = lines
        self._x = k.tensor(name, x)
        runs = channel_runs(parts, axis=0)
        assert runs is not None
        names = ("w", "w_frozen")
        buffers = [self._declare(n, part) for n, part in zip(names, parts, strict=False)]
        self._channels = [_channels(r, parts[r.tensor], buffers[r.tensor]) for r in runs]
        self._workload = _workload(lines, x, parts)

    def _declare(self, name: str, part: Tensor) -> Any:
        if _adjacent(part):
            return self._k.constant(name, part, LAYOUT)
        return self._k.tensor(name, part)

    def emit(self, offset: Expr, start: Start, store: Store) -> None:
        """Adds the loops.

        Args:
            offset: Added to each element that is read: minus its zero point.
            start: First value of a channel's sums.
            store: Adds the statements that store the sums of a channel.
        """
        k = self._k
        tile = k.tile(self._workload)
        sums = _Sums(offset, start, store)
        with k.loop("row", 0, self._rows.written) as row:
            for group in column_tiles(self._columns, tile.pixels):
                with k.loop("column", 0, group.count) as turn:
                    for channels in self._channels:
                        for first, turns, count in tiles_of(channels.count, VECTOR):
                            with k.loop("channel", 0, turns) as number:
                                place = (row, turn, channels.first + first + number * count)
                                self._tile(group, channels, place, count, tile, sums)

    def _tile(
        self, group: Columns, channels: _Channels, place: Place, count: int,
        tile: Tile, sums: _Sums,
    ) -> None:  # fmt: skip
        """Sums of `count` channels of neighbouring pixels, side by side in registers.

        Two channels of four at a time leave registers for what neighbouring pixels share. Where
        the whole window lies inside, its rows may follow each other without a loop.
        """
        k, (row, turn, channel) = self._k, place
        taps = row_taps(self._rows, row)
        elements = sorted({element for pixel in group.taps for element, _ in pixel})
        parts = [[0, 2], [1, 3]] if count == VECTOR and tile.channels == 2 else [[*range(count)]]

        def window_row(lanes: list[int], number: Expr) -> None:
            kh, source = taps.at(number)
            for kw in elements:
                for p, pixel in enumerate(group.taps):
                    for column in (at for element, at in pixel if element == kw):
                        x = (0, source, column + turn * group.advance, channel)
                        self._add(acc, p * count, channels, x, (kh, kw), count, sums.offset, lanes)

        def window_rows(lanes: list[int]) -> None:
            with k.loop("tap", taps.begin, taps.end) as number:
                window_row(lanes, number)

        acc = k.registers("acc", group.pixels * count)
        for lanes in parts:
            for c in lanes:
                for p in range(group.pixels):
                    k.set(acc, p * count + c, sums.start(channel + c))
            if tile.unroll > 1 and group.count > 1:
                with T.If(taps.end - taps.begin == self._rows.kernel):
                    with T.Then():
                        for number in range(self._rows.kernel):
                            window_row(lanes, T.int32(number))
                    with T.Else():
                        window_rows(lanes)
            else:
                window_rows(lanes)
            for c in lanes:
                columns = [group.first + p + turn * group.pixels for p in range(group.pixels)]
                values = [acc[p * count + c] for p in range(group.pixels)]
                sums.store(values, [(row, column, channel + c) for column in columns])
            if lanes != parts[-1]:
                T.evaluate(T.call_extern("void", "od_read_again"))

    def _add(
        self, acc: Any, at: int, channels: _Channels, x: tuple[Expr, ...],
        element: tuple[Expr, int], count: int, offset: Expr, lanes: list[int],
    ) -> None:  # fmt: skip
        """Adds the products of one pixel under one window element."""
        suffix = "_q88" if channels.dtype == "int16" else ""
        for c in lanes:
            read, weight = x, x[3] + c
            if count < VECTOR:
                name, read = f"od_dot1{suffix}", (*x[:3], x[3] + c)
            elif channels.adjacent:
                name, weight = f"od_lane{c}", x[3]
            else:
                name = f"od_lane{c}_by{suffix}"
            pointers = T.address_of(self._x[read]), T.address_of(channels.weight(*element, weight))
            value = T.call_pure_extern("int32", name, *pointers, offset, acc[at + c])
            self._k.set(acc, at + c, value)


def _adjacent(part: Tensor) -> bool:
    return part.dtype == "int8" and not part.trainable


def _channels(run: ChannelRun, part: Tensor, buffer: Any) -> _Channels:
    moved, adjacent = run.start - run.channel, _adjacent(part)

    def weight(kh: Expr, kw: Expr, channel: Expr) -> Any:
        own = channel + moved if moved else channel
        return buffer[kh, kw, 0, own] if adjacent else buffer[own, kh, kw, 0]

    return _Channels(run.channel, run.extent, weight, part.dtype, adjacent)


def _workload(lines: tuple[Axis, Axis], x: Tensor, parts: Sequence[Tensor]) -> Workload:
    rows, columns = lines
    kind = "depthwise_dx" if columns.transposed else "depthwise"
    sizes = {
        "pixels": columns.written,
        "channels": x.shape[3],
        "rows": rows.kernel,
        "columns": columns.kernel,
        "stride": columns.stride,
        "height": rows.written,
    }
    trained = any(part.dtype == "int16" for part in parts)
    return Workload(f"{kind}_q88" if trained else kind, sizes)
