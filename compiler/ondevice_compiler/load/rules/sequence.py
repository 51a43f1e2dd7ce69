"""Norms, and what transformers are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from ondevice_compiler.load.normal_form import UNKNOWN, Feature, Named, Normalizer
from ondevice_compiler.load.rules.rule import Rule, ValueOf, constant, reject, unsupported
from ondevice_compiler.ops.operator import shape_of


def _norm(n: Normalizer, node: Any, value_of: ValueOf, groups: int, per_pixel: bool) -> Any:
    x, weight, bias = (value_of(argument) for argument in node.args[:3])
    if not isinstance(x, Feature):
        return unsupported(n, node, value_of)
    values = constant(weight), constant(bias)
    if any(value is None or value.size != x.shape[3] for value in values):
        return reject(n, "norm whose weight and bias are not one constant a channel")
    name = weight.name if isinstance(weight, Named) else f"norm{len(n.parameters) // 2}"
    affine = [
        n.parameter(f"{name}.{kind}", value.reshape(-1))
        for kind, value in zip(("weight", "bias"), values, strict=True)
        if value is not None
    ]
    x = n.materialize(x)
    attributes = {"groups": groups, "per_pixel": per_pixel, "epsilon": float(node.attrs.epsilon)}
    return Feature(n.emit("group_norm", x.expression, *affine, **attributes), x.axes, x.shape)


def _layer_norm(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    if isinstance(x, Feature):
        axes = [int(axis) % len(x.axes) for axis in node.attrs.axes]
        if len(axes) != 1 or x.axes[axes[0]] != "C":
            return reject(n, f"layer_norm over the axes {axes} of {len(x.axes)}")
    return _norm(n, node, value_of, 1, per_pixel=True)


def _group_norm(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    if x is not UNKNOWN and isinstance(x, Feature):
        name = str(node.op.name).removeprefix("relax.nn.")
        if x.axes[int(node.attrs.channel_axis) % len(x.axes)] != "C":
            return reject(n, f"{name} of a transposed feature map (axes {x.axes})")
        groups = int(node.attrs.num_groups) if name == "group_norm" else x.shape[3]
        return _norm(n, node, value_of, groups, per_pixel=False)
    return unsupported(n, node, value_of)


def _tile(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """Torch's instance norm repeats its parameters for each sample of the batch, which is 1."""
    x = value_of(node.args[0])
    if all(int(count) == 1 for count in node.attrs.repeats):
        return x
    return unsupported(n, node, value_of)


def _broadcast(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """Torch broadcasts both sides of a batched matmul, mostly to the shape that they have."""
    x, shape = value_of(node.args[0]), shape_of(node)
    one_pixel = isinstance(x, Feature) and x.shape[:3] == (1, 1, 1)
    if one_pixel or shape == shape_of(node.args[0]):
        return x  # A product reads one pixel for all by itself.
    fixed = constant(x)
    if fixed is None:
        return unsupported(n, node, value_of)
    spread = np.broadcast_to(fixed, shape)
    return Named(spread, x.name) if isinstance(x, Named) else spread


RULES: dict[str, Rule] = {
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.group_norm": _group_norm,
    "relax.nn.instance_norm": _group_norm,
    "relax.tile": _tile,
    "relax.broadcast_to": _broadcast,
}
