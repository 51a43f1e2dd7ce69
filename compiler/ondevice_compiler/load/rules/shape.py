"""Operators that only rename axes, and those that are evaluated at compile time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ondevice_compiler.load.normal_form import Feature, Named, Normalizer
from ondevice_compiler.load.rules.rule import (
    Rule,
    ValueOf,
    constant,
    constant_value,
    reject,
    unsupported,
)
from ondevice_compiler.ops.operator import shape_of


def _view(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """reshape, squeeze, expand_dims, flatten: regroups the axes without moving an element."""
    x = value_of(node.args[0])
    target = shape_of(node)
    fixed = constant(x)
    if fixed is not None:
        value = fixed.reshape(target)
        return Named(value, x.name) if isinstance(x, Named) else value
    if not isinstance(x, Feature):
        return unsupported(n, node, value_of)
    letters = [letter for axis in x.axes for letter in axis if letter != "N"]
    letters = [letter for letter in letters if x.extent(letter) > 1] or ["C"]
    axes: list[str] = []
    for extent in target:
        group = "N" if extent == 1 and "N" not in axes else ""  # transformers put it second, too
        while x.extent(group) < extent and letters:
            group += letters.pop(0)
        if x.extent(group) != extent:
            return reject(n, f"reshape from {[x.extent(a) for a in x.axes]} to {list(target)}")
        axes.append(group)
    if letters and letters != ["C"]:
        return reject(n, f"reshape to {list(target)}")
    if not any("C" in axis for axis in axes):
        slot = next((i for i in range(1, len(axes)) if axes[i] == ""), len(axes) - 1)
        axes[slot] = "C" + axes[slot]
    return replace(x, axes=tuple(axes))


def _permute(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    axes = node.attrs.axes
    fixed = constant(x)
    rank = len(shape_of(node.args[0]))
    order = [int(axis) % rank for axis in axes] if axes is not None else list(range(rank))[::-1]
    if fixed is not None:
        value = fixed.transpose(order)
        return Named(value, x.name) if isinstance(x, Named) else value
    if not isinstance(x, Feature):
        return unsupported(n, node, value_of)
    return replace(x, axes=tuple(x.axes[axis] for axis in order))


def _fold(function: Callable[..., Any]) -> Rule:
    """Evaluates an operator on constants at compile time."""

    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        arguments = [constant(value_of(argument)) for argument in node.args]
        if any(argument is None for argument in arguments):
            return unsupported(n, node, value_of)
        return np.asarray(function(*arguments))

    return rule


RULES: dict[str, Rule] = {
    "alias": lambda n, node, value_of: value_of(node),
    "constant": lambda n, node, value_of: constant_value(node),
    "tuple": lambda n, node, value_of: tuple(value_of(field) for field in node.fields),
    "item": lambda n, node, value_of: (value_of(node.tuple_value) or (None,) * 9)[node.index],
    "relax.reshape": _view,
    "relax.squeeze": _view,
    "relax.expand_dims": _view,
    "relax.flatten": _view,
    "relax.nn.batch_flatten": _view,
    "relax.permute_dims": _permute,
    "relax.zeros_like": lambda n, node, value_of: None,
    "relax.isnan": _fold(np.isnan),
}
