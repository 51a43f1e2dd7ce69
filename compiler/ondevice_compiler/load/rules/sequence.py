"""Norms, softmax and embeddings."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from ondevice_compiler.curve import Curve, X
from ondevice_compiler.load.normal_form import UNKNOWN, Feature, Named, Normalizer
from ondevice_compiler.load.rules import arrange, elementwise
from ondevice_compiler.load.rules.heads import Split, take_part
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


def _softmax(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    if not isinstance(x, Feature):
        return unsupported(n, node, value_of)
    axis = int(node.attrs.axis) % len(x.axes)
    if x.axes[axis] != "C":
        return reject(n, f"softmax over the axis {axis} of {len(x.axes)}")
    scale = None if x.curve is None else _slope(x.curve)
    x = n.materialize(x if scale is None else replace(x, curve=None))
    attributes = {"scale": 1.0 if scale is None else scale}
    return Feature(n.emit("softmax", x.expression, **attributes), x.axes, x.shape)


def _slope(curve: Curve) -> float | None:
    """The factor of a curve that only multiplies."""
    if curve == X:
        return 1.0
    if curve.op not in "*/" or X not in curve.parts:
        return None
    by = next((part.number for part in curve.parts if part.op == "constant"), None)
    if by is None or (curve.op == "/" and curve.parts[0] != X):
        return None
    return by if curve.op == "*" else 1.0 / by


def _take(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """Rows of a table by the model's input, or one entry of an axis."""
    x, index = value_of(node.args[0]), value_of(node.args[1])
    table, fixed = constant(x), constant(index)
    axis = int(node.attrs.axis)
    if table is not None and fixed is not None:
        taken = np.take(table, fixed, axis)
        return Named(taken, x.name) if isinstance(x, Named) else taken
    if isinstance(x, Split) and fixed is not None and fixed.size == 1:
        return take_part(n, x, axis % len(x.axes), int(fixed.reshape(())))
    if table is None or not isinstance(index, Feature):
        return arrange.RULES["relax.take"](n, node, value_of)
    if axis != 0 or table.ndim != 2 or not _is_tokens(n, index):
        return reject(n, "embedding of anything but the model's input")
    name = x.name if isinstance(x, Named) else f"embedding{len(n.parameters)}"
    row = n.emit("embedding", index.expression, n.parameter(f"{name}.weight", table))
    axes = tuple(letters.replace("C", "W") for letters in index.axes)
    return Feature(row, (*axes, "C"), (1, 1, index.shape[3], table.shape[1]))


def _is_tokens(n: Normalizer, x: Feature) -> bool:
    return n.tokens is not None and x.expression is n.tokens


def _cast(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x, dtype = value_of(node.args[0]), str(node.attrs.dtype)
    fixed = constant(x)
    if fixed is not None:
        return Named(fixed.astype(dtype), x.name) if isinstance(x, Named) else fixed.astype(dtype)
    if isinstance(x, Feature) and _is_tokens(n, x) == ("int" in dtype):
        return x
    return unsupported(n, node, value_of)


def _add(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """A parameter for each step of a sequence is a position embedding; anything else is a sum."""
    x, table = (value_of(argument) for argument in node.args)
    if isinstance(table, Feature):
        x, table = table, x
    fixed = constant(table)
    if not isinstance(x, Feature) or fixed is None or fixed.size != prod(x.shape[1:]):
        return elementwise.RULES["relax.add"](n, node, value_of)
    extents = [x.extent(letters) for letters in x.axes]
    order = [letters for letters in x.axes if x.extent(letters) > 1]
    if x.shape[2] == 1 or list(shape_of(node)) != extents or order != ["W", "C"]:
        return elementwise.RULES["relax.add"](n, node, value_of)
    name = table.name if isinstance(table, Named) else f"position{len(n.parameters)}"
    parameter = n.parameter(f"{name}.weight", fixed.reshape(x.shape))
    if not isinstance(table, Named):  # a constant of the model, no parameter of it
        n.frozen.add(parameter.name)
    sum_ = n.emit("position", n.materialize(x).expression, parameter)
    return Feature(sum_, x.axes, x.shape)


def _arange(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    bounds = [int(bound.value) for bound in node.args]
    return np.arange(*bounds, dtype=str(node.attrs.dtype))


RULES: dict[str, Rule] = {
    "relax.nn.layer_norm": _layer_norm,
    "relax.nn.group_norm": _group_norm,
    "relax.nn.instance_norm": _group_norm,
    "relax.nn.softmax": _softmax,
    "relax.take": _take,
    "relax.astype": _cast,
    "relax.arange": _arange,
    "relax.add": _add,
    "relax.tile": _tile,
    "relax.broadcast_to": _broadcast,
}
