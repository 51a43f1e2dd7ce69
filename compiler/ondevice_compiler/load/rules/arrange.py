"""Operators that move, repeat or join elements: upsampling."""

from __future__ import annotations

from typing import Any

from ondevice_compiler.load.normal_form import UNKNOWN, Feature, Normalizer
from ondevice_compiler.load.rules.rule import Rule, ValueOf, reject, unsupported, with_axes


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
    "relax.image.resize2d": _resize,
}
