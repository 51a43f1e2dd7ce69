"""A convolution's weight in two tensors: channels that train (in RAM) and the rest (in flash).

The channels are input channels, or for a depthwise weight its own (docs/schemes.md). Both tensors
say by their `part` which channels they hold; the kernels read them where they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm.tirx.script.builder as T
from numpy.typing import NDArray

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.program import Step, Tensor

Index = Callable[[Any], Any]
Read = Callable[[Any, Any, Any, Any], Any]  # (o, kh, kw, i) -> value


@dataclass(frozen=True)
class Segment:
    """A run of input channels that one loop of a convolution covers.

    Attributes:
        extent: Number of channels.
        read: Weight at (o, kh, kw, number in the run).
        channel: Input channel of a number in the run.
    """

    extent: int
    read: Read
    channel: Index


def weight_value(element: Any, dtype: str) -> Any:
    """A weight as the kernels compute with it; of a Q8.8 weight, the high byte."""
    if dtype == "int16":
        return T.shift_right(T.cast(element, "int32"), 8)
    return T.cast(element, "int32") if dtype == "int8" else element


def weight_tensors(step: Step, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    """The weight that a conv2d or conv2d_dx reads: one tensor, or the trained and the frozen part.

    conv2d reads (x, weight, bias[, frozen]), conv2d_dx (gradient, weight[, frozen][, mask]).
    """
    weight = tensors[step.inputs[1]]
    if weight.part is None:
        return [weight]
    return [weight, tensors[step.inputs[3 if step.op == "conv2d" else 2]]]


def whole_shape(parts: Sequence[Tensor]) -> tuple[int, ...]:
    """[O, kh, kw, I / groups] of the weight that the parts make up."""
    shape = list(parts[0].shape)
    if parts[0].part is not None:
        shape[parts[0].part.axis] = parts[0].part.extent
    return tuple(shape)


def whole_scales(parts: Sequence[Tensor]) -> NDArray[np.float64]:
    """Scale of each output channel of the whole weight."""
    first = parts[0]
    assert first.quantization is not None
    if first.part is None or first.part.axis != 0:
        return first.quantization.scales
    scales = np.zeros(first.part.extent)
    for tensor in parts:
        assert tensor.part is not None
        assert tensor.quantization is not None
        scales[list(tensor.part.channels)] = tensor.quantization.scales
    return scales


def scales_of_weight(
    name: str, steps: Sequence[Step], tensors: Mapping[str, Tensor]
) -> NDArray[np.float64]:
    """Scale of each output channel of the weight called `name`, which may be a part of one."""
    if tensors[name].part is None:
        return whole_scales([tensors[name]])
    reader = next(step for step in steps if step.op == "conv2d" and step.inputs[1] == name)
    return whole_scales(weight_tensors(reader, tensors))


def whole_values(parts: Sequence[Tensor], values: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """The weight put together again."""
    if parts[0].part is None:
        return values[parts[0].name]
    whole = np.zeros(whole_shape(parts), values[parts[0].name].dtype)
    for tensor in parts:
        assert tensor.part is not None
        where: list[Any] = [slice(None)] * whole.ndim
        where[tensor.part.axis] = list(tensor.part.channels)
        whole[tuple(where)] = values[tensor.name]
    return whole


def channel_index(k: KernelBuilder, name: str, channels: Sequence[int] | None) -> Index:
    """Channel of each number: plain arithmetic for a contiguous range, else a table."""
    if channels is None:
        return lambda number: number
    first = channels[0]
    if _contiguous(channels):
        return lambda number: number + first if first else number
    dtype = np.uint8 if max(channels) < 256 else np.uint16
    table = k.table(name, np.asarray(channels, dtype))
    return lambda number: T.cast(table[number], "int32")


def channel_start(channels: Sequence[int] | None) -> int | None:
    """First channel of a contiguous range; None where they are scattered."""
    if channels is None:
        return 0
    return channels[0] if _contiguous(channels) else None


def segments(k: KernelBuilder, parts: Sequence[Tensor]) -> list[Segment]:
    """Declares the weight and gives the loops over its input channels, each with one tensor."""
    buffers = _declare(k, parts)
    part = parts[0].part
    if part is None:
        return [_segment(buffers[0], 0, parts[0].shape[3], lambda number: number)]
    if part.axis == 0:
        read = _picked(k, parts, buffers)
        return [Segment(1, lambda o, kh, kw, i: read(o, kh, kw, i, o), lambda number: number)]
    if not _contiguous(part.channels):
        return [
            _segment(buffer, 0, tensor.shape[3], channel_index(k, name, _part(tensor)))
            for tensor, buffer, name in zip(parts, buffers, ("trained", "frozen"), strict=True)
        ]
    first, count = part.channels[0], len(part.channels)
    runs = [
        _segment(buffers[1], 0, first, lambda number: number),
        _segment(buffers[0], 0, count, lambda number: number + first if first else number),
        _segment(buffers[1], first, part.extent - first - count, lambda n: n + (first + count)),
    ]
    return [run for run in runs if run.extent]


@dataclass(frozen=True)
class ChannelRun:
    """Channels that follow each other in one of a weight's tensors, as they do in the map.

    Attributes:
        tensor: Number of the tensor.
        start: First of them in the tensor.
        channel: First of them in the map.
        extent: How many.
    """

    tensor: int
    start: int
    channel: int
    extent: int


def channel_runs(parts: Sequence[Tensor], axis: int = 3) -> list[ChannelRun] | None:
    """The channels of a weight as runs, ascending.

    Args:
        parts: From `weight_tensors`.
        axis: 3: input channels; 0: those of a depthwise weight.

    Returns:
        None where the channels are scattered, or split along the other axis.
    """
    part = parts[0].part
    if part is None:
        return [ChannelRun(0, 0, 0, parts[0].shape[axis])]
    if part.axis != axis or not _contiguous(part.channels):
        return None
    first, end = part.channels[0], part.channels[-1] + 1
    runs = [
        ChannelRun(1, 0, 0, first),
        ChannelRun(0, 0, first, end - first),
        ChannelRun(1, first, end, part.extent - end),
    ]
    return [run for run in runs if run.extent]


def runs_of(parts: Sequence[Tensor]) -> tuple[list[ChannelRun], NDArray[Any] | None]:
    """The input channels of a weight as runs, in the map's order or in the weight's own.

    Returns:
        (runs, order): None for `order` where the runs are the map's. Where the channels are
        scattered, a run's `channel` is a place in `order`, which says the map's channel: trained
        channels, then frozen. No runs where the weight is split by output channels.
    """
    runs = channel_runs(parts)
    if runs is not None:
        return runs, None
    part = parts[0].part
    assert part is not None
    if part.axis != 3:
        return [], None
    trained, frozen = _part(parts[0]), _part(parts[1])
    runs = [ChannelRun(0, 0, 0, len(trained)), ChannelRun(1, 0, len(trained), len(frozen))]
    dtype = np.uint8 if part.extent <= 256 else np.uint16
    return runs, np.asarray([*trained, *frozen], dtype)


def weight_reader(k: KernelBuilder, parts: Sequence[Tensor]) -> Read:
    """Declares the weight and gives the reader of any of its elements, (o, kh, kw, i)."""
    buffers = _declare(k, parts)
    part = parts[0].part
    if part is None:
        return lambda o, kh, kw, i: buffers[0](o, kh, kw, i)
    read = _picked(k, parts, buffers)
    if part.axis == 0:
        return lambda o, kh, kw, i: read(o, kh, kw, i, o)
    return lambda o, kh, kw, i: read(o, kh, kw, i, i)


def _declare(k: KernelBuilder, parts: Sequence[Tensor]) -> list[Read]:
    names = ("w", "w_frozen")
    readers = []
    for name, tensor in zip(names, parts, strict=False):
        buffer = k.tensor(name, tensor)
        readers.append(_value_of(buffer, tensor.dtype))
    return readers


def _value_of(buffer: Any, dtype: str) -> Read:
    return lambda o, kh, kw, i: weight_value(buffer[o, kh, kw, i], dtype)


def _segment(read: Read, start: int, extent: int, channel: Index) -> Segment:
    def shifted(o: Any, kh: Any, kw: Any, i: Any) -> Any:
        return read(o, kh, kw, i + start if start else i)

    return Segment(extent, shifted, channel)


def _picked(k: KernelBuilder, parts: Sequence[Tensor], buffers: Sequence[Read]) -> Any:
    """Reads the tensor that holds a channel, at that channel's place in it."""
    part = parts[0].part
    assert part is not None
    first, count = part.channels[0], len(part.channels)
    if _contiguous(part.channels):
        is_trained, trained, frozen = _range(first, first + count, part.extent)
    else:
        is_trained, trained, frozen = _table(k, part.channels, part.extent)

    def read(o: Any, kh: Any, kw: Any, i: Any, channel: Any) -> Any:
        places = trained(channel), frozen(channel)
        if part.axis == 0:
            values = [buffer(p, kh, kw, i) for buffer, p in zip(buffers, places, strict=True)]
        else:
            values = [buffer(o, kh, kw, p) for buffer, p in zip(buffers, places, strict=True)]
        return T.if_then_else(is_trained(channel), *values)

    return read


def _range(first: int, end: int, extent: int) -> tuple[Index, Index, Index]:
    """Whether a channel is one of a range, and its place in the trained and the frozen tensor."""

    def inside(channel: Any) -> Any:
        if not first:
            return channel < end
        return T.And(channel >= first, channel < end) if end < extent else channel >= first

    def frozen(channel: Any) -> Any:
        after = channel - (end - first)
        if end == extent:
            return channel
        return T.if_then_else(channel < first, channel, after) if first else after

    return inside, lambda channel: channel - first if first else channel, frozen


def _table(k: KernelBuilder, channels: Sequence[int], extent: int) -> tuple[Index, Index, Index]:
    """The same from a table: the place in the trained tensor, or -1 less that in the frozen one."""
    places = np.zeros(extent, np.int16)
    rest = [channel for channel in range(extent) if channel not in channels]
    places[list(channels)] = np.arange(len(channels))
    places[rest] = -1 - np.arange(len(rest))
    table = k.table("places", places)

    def place(channel: Any) -> Any:
        return T.cast(table[channel], "int32")

    return lambda c: place(c) >= 0, place, lambda c: -1 - place(c)


def _contiguous(channels: Sequence[int]) -> bool:
    return channels[-1] - channels[0] + 1 == len(channels)


def _part(tensor: Tensor) -> tuple[int, ...]:
    assert tensor.part is not None
    return tensor.part.channels
