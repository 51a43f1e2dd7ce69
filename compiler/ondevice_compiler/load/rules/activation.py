"""Activation functions: ReLU, ReLU6 and every clip by constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ondevice_compiler.curve import clip
from ondevice_compiler.kernel_builder import LARGEST_FLOAT32
from ondevice_compiler.load.normal_form import Feature, Normalizer
from ondevice_compiler.load.rules.rule import Rule, ValueOf, constant, unsupported


def _clip(low: Any, high: Any) -> Rule:
    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        x = value_of(node.args[0])
        bottom = float(low(node, value_of))
        top = float(high(node, value_of))
        if not isinstance(x, Feature):
            return unsupported(n, node, value_of)
        return clipped(n, x, bottom, top)

    return rule


def clipped(n: Normalizer, x: Feature, low: float, high: float) -> Feature:
    """The map clamped to bounds; LARGEST_FLOAT32 stands for none."""
    if x.padding is not None:
        x = n.materialize(x)
    if x.curve is not None:
        bottom = None if low <= -LARGEST_FLOAT32 else low
        top = None if high >= LARGEST_FLOAT32 else high
        return replace(x, curve=clip(x.curve, bottom, top))
    if x.clip is not None and x.clip[1] == LARGEST_FLOAT32 and low == -LARGEST_FLOAT32:
        return replace(x, clip=(x.clip[0], high))
    if x.clip is not None:
        x = n.materialize(x)
    return replace(x, clip=(low, min(high, LARGEST_FLOAT32)))


def _bound(name: str, node: Any, value_of: ValueOf) -> float:
    """Second argument of TIR's maximum or minimum, a scalar constant."""
    arguments = node.args[1].fields if hasattr(node.args[1], "fields") else node.args[1]
    value = constant(value_of(arguments[1]))
    if value is None or value.size != 1:
        raise KeyError(name)
    return float(value.reshape(()))


def _extremum(lower: bool) -> Rule:
    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        x = value_of(node.args[1].fields[0])
        try:
            bound = _bound("bound", node, value_of)
        except KeyError:
            return unsupported(n, node, value_of)
        if not isinstance(x, Feature):
            return unsupported(n, node, value_of)
        if abs(bound) == float("inf"):
            return x
        low, high = (bound, LARGEST_FLOAT32) if lower else (-LARGEST_FLOAT32, bound)
        return clipped(n, x, low, high)

    return rule


def _prim(index: int) -> Callable[[Any, ValueOf], float]:
    return lambda node, value_of: float(getattr(node.args[index], "value", node.args[index]))


RULES: dict[str, Rule] = {
    "relax.nn.relu": _clip(lambda node, v: 0.0, lambda node, v: LARGEST_FLOAT32),
    "relax.nn.relu6": _clip(lambda node, v: 0.0, lambda node, v: 6.0),
    "relax.clip": _clip(_prim(1), _prim(2)),
    "tir.maximum": _extremum(lower=True),
    "tir.minimum": _extremum(lower=False),
    "relax.nn.dropout": lambda n, node, value_of: value_of(node.args[0]),
}
