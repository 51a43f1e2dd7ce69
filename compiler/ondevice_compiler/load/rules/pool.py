"""Max, average and global pools."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from ondevice_compiler.load.normal_form import UNKNOWN, Feature, Normalizer
from ondevice_compiler.load.rules.rule import Rule, ValueOf, reject, unsupported, with_axes
from ondevice_compiler.ops.operator import shape_of

LARGEST_ARGMAX_WINDOW = 256  # An argmax is one byte.


def _pool(kind: str) -> Rule:
    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        x = value_of(node.args[0])
        attrs = node.attrs
        kernel, stride = ([int(v) for v in attrs.pool_size], [int(v) for v in attrs.strides])
        padding = [int(v) for v in attrs.padding]
        if not isinstance(x, Feature) or any(int(d) != 1 for d in attrs.dilation):
            return reject(n, f"{kind} with dilation")
        if kind == "avg_pool2d" and any(padding) and not attrs.count_include_pad:
            return reject(n, "avg_pool with padding that is not counted")
        if kind == "max_pool2d" and prod(kernel) > LARGEST_ARGMAX_WINDOW:
            return reject(n, f"{kind} with a window of {prod(kernel)} elements, above 256")
        if len(kernel) == 1:
            kernel, stride, padding = [1, *kernel], [1, *stride], [0, padding[0], 0, padding[1]]
        x = with_axes(n, x, x.axes if len(x.axes) == 4 else ("N", "C", "W"))
        if x is UNKNOWN:
            return UNKNOWN
        if attrs.ceil_mode:
            reached = _rounded_up(x, kernel, stride, padding)
            if reached != padding and kind == "avg_pool2d":
                return reject(n, "avg_pool with ceil_mode whose last window is cut")
            padding = reached
        pooled = _pooled(n, x, kind, kernel, stride, padding)
        if prod(pooled.shape) != prod(shape_of(node)):  # frontends differ in the last window
            return reject(n, f"{kind} with ceil_mode whose last window begins behind the map")
        return pooled

    return rule


def _rounded_up(x: Feature, kernel: list[int], stride: list[int], padding: list[int]) -> list[int]:
    """Padding behind the map with which the last, cut window counts; it must begin in the map."""
    behind = []
    for axis in (0, 1):
        size, before = x.shape[1 + axis], padding[axis]
        spare = size + before + padding[2 + axis] - kernel[axis]
        last = -(-spare // stride[axis]) * stride[axis]
        if last >= size + before:
            last -= stride[axis]
        behind.append(max(padding[2 + axis], last + kernel[axis] - size - before))
    return [*padding[:2], *behind]


def _pooled(
    n: Normalizer, x: Feature, kind: str, kernel: list[int], stride: list[int], padding: list[int]
) -> Feature:
    x = n.materialize(x)
    node = n.emit(kind, x.expression, kernel=kernel, stride=stride, padding=padding)
    height = (x.shape[1] + padding[0] + padding[2] - kernel[0]) // stride[0] + 1
    width = (x.shape[2] + padding[1] + padding[3] - kernel[1]) // stride[1] + 1
    return Feature(node, x.axes, (1, height, width, x.shape[3]))


def _mean(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """Mean over the spatial axes: a global average pool."""
    x = value_of(node.args[0])
    if not isinstance(x, Feature):
        return unsupported(n, node, value_of)
    rank = len(x.axes)
    reduced = sorted(int(axis) % rank for axis in node.attrs.axis)
    letters = "".join(x.axes[axis] for axis in reduced)
    spatial = "".join(letter for letter in "HW" if x.extent(letter) > 1)
    if "C" in letters or not set(spatial) <= set(letters):
        return reject(n, f"mean over the axes {reduced} of {rank}")
    pooled = _pooled(n, x, "avg_pool2d", [x.shape[1], x.shape[2]], [1, 1], [0, 0, 0, 0])
    if node.attrs.keepdims:
        return replace(pooled, axes=tuple("" if a in reduced else v for a, v in enumerate(x.axes)))
    return replace(pooled, axes=tuple(v for a, v in enumerate(x.axes) if a not in reduced))


def _adaptive_pool(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """To a size that divides the map's, so that all windows are equal; to 1, a global pool."""
    x = value_of(node.args[0])
    size = node.attrs.output_size
    if not isinstance(x, Feature) or size is None:
        return unsupported(n, node, value_of)
    sizes = [1] * (2 - len(size)) + [int(s) for s in size]
    if any(extent % s for extent, s in zip(x.shape[1:3], sizes, strict=True)):
        return reject(n, f"adaptive_avg_pool from {list(x.shape[1:3])} to {sizes}")
    kernel = [extent // s for extent, s in zip(x.shape[1:3], sizes, strict=True)]
    return _pooled(n, x, "avg_pool2d", kernel, kernel, [0, 0, 0, 0])


RULES: dict[str, Rule] = {
    "relax.nn.max_pool1d": _pool("max_pool2d"),
    "relax.nn.max_pool2d": _pool("max_pool2d"),
    "relax.nn.avg_pool1d": _pool("avg_pool2d"),
    "relax.nn.avg_pool2d": _pool("avg_pool2d"),
    "relax.nn.adaptive_avg_pool1d": _adaptive_pool,
    "relax.nn.adaptive_avg_pool2d": _adaptive_pool,
    "relax.mean": _mean,
}
