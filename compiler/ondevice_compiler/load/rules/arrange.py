"""Operators that move, repeat or join elements: concat, slice, split, pad and upsampling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ondevice_compiler.load.normal_form import AXES_BY_RANK, UNKNOWN, Feature, Normalizer
from ondevice_compiler.load.rules.rule import (
    Rule,
    ValueOf,
    constant,
    reject,
    unsupported,
    with_axes,
)


def _concat(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    fields = getattr(node.args[0], "fields", None)
    parts = value_of(node.args[0]) if fields is None else tuple(value_of(f) for f in fields)
    if not all(isinstance(part, Feature) for part in parts):
        return unsupported(n, node, value_of)
    first = max(parts, key=lambda part: sum(map(len, part.axes)))
    axis = int(node.attrs.axis) % len(first.axes)
    letter = _letter(first, axis)
    if letter not in ("H", "W", "C"):
        return reject(n, f"concat along the axes '{letter}'")
    index = "NHWC".index(letter)
    axes = (*first.axes[:axis], letter, *first.axes[axis + 1 :])
    if any(_letter(part, axis) != letter for part in parts) or any(
        part.shape[:index] + part.shape[index + 1 :]
        != first.shape[:index] + first.shape[index + 1 :]
        for part in parts
    ):
        return reject(n, f"concat of {', '.join(str(list(part.shape)) for part in parts)}")
    expressions = [n.materialize(part).expression for part in parts]
    shape = list(first.shape)
    shape[index] = sum(part.shape[index] for part in parts)
    return Feature(n.emit("concat", *expressions, axis=index), axes, tuple(shape))


def _letter(x: Feature, axis: int) -> str:
    """Which of N, H, W, C an axis of the user's tensor is; one of size 1 by its place."""
    usual = AXES_BY_RANK.get(len(x.axes), x.axes)
    return x.axes[axis] or (usual[axis] if usual[axis] not in "".join(x.axes) else "")


def _sliced(n: Normalizer, x: Feature, axis: int, first: int, last: int) -> Any:
    """The elements first to last (not included) of one axis of the user's tensor."""
    extent = x.extent(x.axes[axis])
    if (first, last) == (0, extent):
        return x
    letter = _letter(x, axis)
    if letter not in ("H", "W", "C") or last <= first:
        return reject(n, f"slice {first}:{last} of an axis of {extent}")
    index = "NHWC".index(letter)
    begin, shape = [0, 0, 0, 0], list(x.shape)
    begin[index], shape[index] = first, last - first
    x = n.materialize(x)
    node = n.emit("slice", x.expression, begin=begin, shape=shape)
    return replace(x, expression=node, shape=tuple(shape))


def _strided_slice(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    if not isinstance(x, Feature):
        return unsupported(n, node, value_of)
    axes, begins, ends = (_integers(argument) for argument in node.args[1:4])
    strides = _integers(node.args[4]) if len(node.args) > 4 else [1] * len(axes)
    if any(stride != 1 for stride in strides):
        return reject(n, f"slice with stride {strides}")
    for axis, begin, end in zip(axes, begins, ends, strict=True):
        extent = x.extent(x.axes[axis % len(x.axes)])
        first, last, _ = slice(begin, end).indices(extent)
        x = _sliced(n, x, axis % len(x.axes), first, last)
        if x is UNKNOWN:
            return UNKNOWN
    return x


def _integers(sequence: Any) -> list[int]:
    fields = getattr(sequence, "fields", sequence)
    return [int(getattr(value, "value", value)) for value in fields]


def _split(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    if not isinstance(x, Feature):
        return unsupported(n, node, value_of)
    axis = int(node.attrs.axis) % len(x.axes)
    extent = x.extent(x.axes[axis])
    given = node.attrs.indices_or_sections
    if hasattr(given, "__len__"):
        cuts = [int(cut) for cut in given]
    else:
        step = -(-extent // int(given))
        cuts = list(range(step, extent, step))
    bounds = zip([0, *cuts], [*cuts, extent], strict=True)
    return tuple(_sliced(n, x, axis, first, last) for first, last in bounds)


def _take(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """One element of an axis, which then goes."""
    x, chosen = value_of(node.args[0]), constant(value_of(node.args[1]))
    if not isinstance(x, Feature) or chosen is None or chosen.ndim != 0:
        return unsupported(n, node, value_of)
    axis = int(node.attrs.axis) % len(x.axes)
    first = int(chosen) % x.extent(x.axes[axis])
    x = _sliced(n, x, axis, first, first + 1)
    if x is UNKNOWN:
        return UNKNOWN
    axes = tuple(letters for index, letters in enumerate(x.axes) if index != axis)
    return replace(x, axes=axes if "C" in "".join(axes) else (*axes[:-1], f"{axes[-1]}C"))


def _pad(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    if not isinstance(x, Feature):
        return unsupported(n, node, value_of)
    mode, value = str(node.attrs.pad_mode), float(node.attrs.pad_value)
    width = [int(v) for v in node.attrs.pad_width]
    before, after = [0, 0, 0, 0], [0, 0, 0, 0]
    for axis in range(len(x.axes)):
        if not any(width[2 * axis : 2 * axis + 2]):
            continue
        letter = _letter(x, axis)
        if mode != "constant" or letter not in ("H", "W", "C") or min(width) < 0:
            return reject(n, f"pad ({mode}) of {width}")
        index = "NHWC".index(letter)
        before[index], after[index] = width[2 * axis : 2 * axis + 2]
    x = n.materialize(x)
    shape = tuple(sum(sides) for sides in zip(before, x.shape, after, strict=True))
    axes = tuple(letters or _letter(x, axis) for axis, letters in enumerate(x.axes))
    if value == 0.0 and before[3] == after[3] == 0:
        padding = (before[1], before[2], after[1], after[2])
        return replace(x, axes=axes, shape=shape, padding=padding)
    node_ = n.emit("pad", x.expression, before=before, after=after, value=value)
    return Feature(node_, axes, shape)


def _resize(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """Nearest neighbour by whole factors: every coordinate convention then means the same."""
    x = value_of(node.args[0])
    if not isinstance(x, Feature):
        return unsupported(n, node, value_of)
    axes = ("N", "H", "W", "C") if str(node.attrs.layout) == "NHWC" else ("N", "C", "H", "W")
    x = with_axes(n, x, axes)
    if x is UNKNOWN:
        return UNKNOWN
    size = [int(v) for v in node.args[1].values]
    method, mode = str(node.attrs.method), str(node.attrs.coordinate_transformation_mode)
    factor = [size[axis] // x.extent("HW"[axis]) for axis in (0, 1)]
    whole = size == [x.extent("HW"[axis]) * factor[axis] for axis in (0, 1)]
    if method != "nearest_neighbor" or not whole or mode == "align_corners":
        return reject(n, f"resize by {method} ({mode}) from {list(x.shape[1:3])} to {size}")
    return upsampled(n, x, factor)


def upsampled(n: Normalizer, x: Feature, factor: list[int]) -> Feature:
    """The map with every pixel repeated factor[0] times in H and factor[1] times in W."""
    x = n.materialize(x)
    node = n.emit("upsample2d", x.expression, factor=factor)
    return Feature(node, x.axes, (1, x.shape[1] * factor[0], x.shape[2] * factor[1], x.shape[3]))


RULES: dict[str, Rule] = {
    "relax.concat": _concat,
    "relax.strided_slice": _strided_slice,
    "relax.split": _split,
    "relax.take": _take,
    "relax.nn.pad": _pad,
    "relax.image.resize2d": _resize,
}
