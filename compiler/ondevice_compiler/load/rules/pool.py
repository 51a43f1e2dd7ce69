"""Max, average and global pools."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from ondevice_compiler.load.normal_form import UNKNOWN, Feature, Normalizer
from ondevice_compiler.load.rules.rule import Rule, ValueOf, reject, unsupported, with_axes

LARGEST_ARGMAX_WINDOW = 256  # An argmax is one byte.


def _pool(kind: str) -> Rule:
    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        x = value_of(node.args[0])
        attrs = node.attrs
        kernel, stride = ([int(v) for v in attrs.pool_size], [int(v) for v in attrs.strides])
        padding = [int(v) for v in attrs.padding]
        if (
            not isinstance(x, Feature)
            or attrs.ceil_mode
            or any(int(d) != 1 for d in attrs.dilation)
        ):
            return reject(n, f"{kind} with ceil_mode or dilation")
        if kind == "avg_pool2d" and any(padding) and not attrs.count_include_pad:
            return reject(n, "avg_pool with padding that is not counted")
        if kind == "max_pool2d" and prod(kernel) > LARGEST_ARGMAX_WINDOW:
            return reject(n, f"{kind} with a window of {prod(kernel)} elements, above 256")
        if len(kernel) == 1:
            kernel, stride, padding = [1, *kernel], [1, *stride], [0, padding[0], 0, padding[1]]
        x = with_axes(n, x, x.axes if len(x.axes) == 4 else ("N", "C", "W"))
        if x is UNKNOWN:
            return UNKNOWN
        return _pooled(n, x, kind, kernel, stride, padding)

    return rule


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


def _global_pool(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    size = node.attrs.output_size
    if not isinstance(x, Feature) or size is None or any(int(s) != 1 for s in size):
        return reject(n, "adaptive_avg_pool with an output larger than 1")
    return _pooled(n, x, "avg_pool2d", [x.shape[1], x.shape[2]], [1, 1], [0, 0, 0, 0])


RULES: dict[str, Rule] = {
    "relax.nn.max_pool1d": _pool("max_pool2d"),
    "relax.nn.max_pool2d": _pool("max_pool2d"),
    "relax.nn.avg_pool1d": _pool("avg_pool2d"),
    "relax.nn.avg_pool2d": _pool("avg_pool2d"),
    "relax.nn.adaptive_avg_pool1d": _global_pool,
    "relax.nn.adaptive_avg_pool2d": _global_pool,
    "relax.mean": _mean,
}
