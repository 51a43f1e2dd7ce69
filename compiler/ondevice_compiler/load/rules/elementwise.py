"""Functions of one map's elements (curves), and sums, differences and products of two maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler import curve as curves
from ondevice_compiler.curve import Curve, X
from ondevice_compiler.kernel_builder import LARGEST_FLOAT32
from ondevice_compiler.load.normal_form import Convolution, Feature, Named, Normalizer
from ondevice_compiler.load.rules.activation import clipped
from ondevice_compiler.load.rules.rule import Rule, ValueOf, constant, reject, unsupported

EMITTED = {"+": "add", "-": "subtract", "*": "multiply"}


def _function(build: Callable[[Curve, Any], Curve]) -> Rule:
    """An operator of one operand, as a curve of it."""

    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        x = value_of(node.args[0])
        fixed = constant(x)
        if fixed is not None:
            return build(X, node)(fixed).astype(fixed.dtype)
        if not isinstance(x, Feature):
            return unsupported(n, node, value_of)
        x = _as_curve(n, x)
        assert x.curve is not None
        return replace(x, curve=build(x.curve, node))

    return rule


def _named(op: str) -> Rule:
    return _function(lambda x, node: curves.apply(op, x))


def _operator(op: str) -> Rule:
    """An operator of two operands: maps, scalars, or constants for each channel."""

    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        a, b = (value_of(operand) for operand in node.args)
        if isinstance(a, Feature) and isinstance(b, Feature):
            return _of_two_maps(n, op, a, b)
        fixed = [constant(operand) for operand in (a, b)]
        if fixed[0] is not None and fixed[1] is not None:
            return np.asarray(curves.NUMPY[op](*fixed)).astype(fixed[0].dtype)
        if isinstance(a, Feature) and fixed[1] is not None:
            return _with_constant(n, op, a, fixed[1], b)
        if isinstance(b, Feature) and fixed[0] is not None:
            return _with_constant(n, op, b, fixed[0], a, constant_first=True)
        return unsupported(n, node, value_of)

    return rule


def _of_two_maps(n: Normalizer, op: str, a: Feature, b: Feature) -> Any:
    """Of one map with itself a curve; of two, an operator."""
    if a.shape == b.shape and a.axes == b.axes and (a.curve or b.curve or op != "+"):
        left, right = _as_curve(n, a), _as_curve(n, b)
        if left.expression.same_as(right.expression):
            assert left.curve is not None
            assert right.curve is not None
            return replace(left, curve=curves.apply(op, left.curve, right.curve))
    if op not in EMITTED:
        return reject(n, f"{op} of two feature maps")
    if op == "*" and a.shape[1:3] == (1, 1) != b.shape[1:3]:
        a, b = b, a
    one_pixel = op == "*" and b.shape == (1, 1, 1, a.shape[3])
    if b.shape != a.shape and not one_pixel:
        return reject(n, f"{EMITTED[op]} of tensors of shape {list(a.shape)} and {list(b.shape)}")
    given = [axis for axis in b.axes if b.extent(axis) > 1]
    expected = [axis for axis in a.axes if a.extent(axis) > 1]
    if given != [axis for axis in expected if not one_pixel or "C" in axis] or (
        one_pixel and _channel_axis(a) != _channel_axis(b)
    ):
        return reject(n, f"{EMITTED[op]} of transposed tensors (axes {a.axes} and {b.axes})")
    a, b = n.materialize(a), n.materialize(b)
    return Feature(n.emit(EMITTED[op], a.expression, b.expression), a.axes, a.shape)


def _channel_axis(x: Feature) -> int:
    """Position of the channels, from the last axis as broadcasting counts."""
    return next((len(x.axes) - i for i, axis in enumerate(x.axes) if "C" in axis), 0)


def _with_constant(
    n: Normalizer,
    op: str,
    x: Feature,
    value: NDArray[Any],
    given: Any,
    constant_first: bool = False,
) -> Any:
    convolution = x.pending if x.clip is None else None
    bias = isinstance(given, Named) and convolution is not None and value.size == x.shape[3]
    if value.size == 1 and op in ("max", "min"):
        bound = float(value.reshape(()))
        low, high = (bound, LARGEST_FLOAT32) if op == "max" else (-LARGEST_FLOAT32, bound)
        return clipped(n, x, low, high)
    if value.size == 1 and not (bias and op == "+"):
        x = _as_curve(n, x)
        assert x.curve is not None
        operands = (x.curve, curves.constant(float(value.reshape(()))))
        pair = operands[::-1] if constant_first else operands
        return replace(x, curve=curves.apply(op, *pair))
    if op == "-" and constant_first:
        negative = _with_constant(n, "*", x, np.asarray(-1.0, np.float32), None)
        return _with_constant(n, "+", negative, value, given)
    if op not in EMITTED | {"/": ""} or (op == "/" and constant_first):
        return reject(n, f"{op} with a constant of shape {list(value.shape)}")
    channels = _by_channel(x, value)
    if channels is None:
        return reject(n, f"{op} with a constant of shape {list(value.shape)} on axes {x.axes}")
    scale, offset = np.ones_like(channels), np.zeros_like(channels)
    if op in "+-":
        offset = channels if op == "+" else -channels
    else:
        scale = channels if op == "*" else (1 / channels).astype(np.float32)
    if convolution is not None:
        folded = replace(
            convolution,
            weight=convolution.weight * scale[:, None, None, None],
            bias=convolution.bias * scale + offset,
        )
        return replace(x, pending=folded)
    name = given.name if isinstance(given, Named) else f"scale{len(n.parameters) // 2}"
    weight = scale.reshape(-1, 1, 1, 1)
    node = Convolution(
        n.materialize(x), name, weight, offset, (1, 1), (0, 0, 0, 0), x.shape[3], frozen=True
    )
    return Feature(None, x.axes, x.shape, pending=node)


def _by_channel(x: Feature, value: NDArray[Any]) -> NDArray[np.float32] | None:
    """A constant that varies at most along the channels, as [C]; else None."""
    padded = value.reshape((1,) * (len(x.axes) - value.ndim) + value.shape)
    if padded.ndim != len(x.axes) or value.size != x.shape[3]:
        return None
    for axis, extent in zip(x.axes, padded.shape, strict=True):
        if extent > 1 and ("C" not in axis or x.extent(axis) != extent):
            return None
    return padded.reshape(-1).astype(np.float32)


def _as_curve(n: Normalizer, x: Feature) -> Feature:
    """The map as a curve of what is computed before its elementwise operators."""
    if x.curve is not None:
        return x
    bare = replace(n.materialize(replace(x, clip=None)), curve=X)
    return bare if x.clip is None else clipped(n, bare, *x.clip)


def _power(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x, exponent = value_of(node.args[0]), constant(value_of(node.args[1]))
    if not isinstance(x, Feature) or exponent is None or exponent.size != 1:
        return unsupported(n, node, value_of)
    x, power = _as_curve(n, x), float(exponent.reshape(()))
    assert x.curve is not None
    if power == 0.5:
        return replace(x, curve=curves.apply("sqrt", x.curve))
    if power not in (2.0, 3.0):
        return reject(n, f"power {power:g}")
    square = curves.apply("*", x.curve, x.curve)
    return replace(x, curve=square if power == 2.0 else curves.apply("*", square, x.curve))


def _leaky(x: Curve, node: Any) -> Curve:
    return curves.apply("leaky", x, curves.constant(float(node.attrs.alpha)))


def _compare(greater: bool) -> Rule:
    """a > b as 1 or 0."""

    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        difference = _operator("-")(n, node, value_of)
        if not isinstance(difference, Feature) or difference.curve is None:
            return reject(n, "comparison of two feature maps")
        above = difference.curve
        if not greater:
            above = curves.apply("*", above, curves.constant(-1.0))
        return replace(difference, curve=curves.apply("step", above))

    return rule


def _where(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """A choice between functions of the map that is compared."""
    operands = [value_of(argument) for argument in node.args]
    fixed = [constant(operand) for operand in operands]
    if all(value is not None for value in fixed):
        condition, first, second = (np.asarray(value) for value in fixed)
        return np.where(condition, first, second)
    chosen = operands[0]
    if not isinstance(chosen, Feature) or chosen.curve is None:
        return unsupported(n, node, value_of)
    branches = []
    for operand, value in zip(operands[1:], fixed[1:], strict=True):
        if isinstance(operand, Feature):
            branch = _as_curve(n, operand)
            if branch.curve is not None and branch.expression.same_as(chosen.expression):
                branches.append(branch.curve)
        elif value is not None and value.size == 1:
            branches.append(curves.constant(float(value.reshape(()))))
    if len(branches) != 2:
        return reject(n, "where of two feature maps")
    rest = curves.apply("-", curves.ONE, chosen.curve)
    parts = (curves.apply("*", chosen.curve, branches[0]), curves.apply("*", rest, branches[1]))
    return replace(chosen, curve=curves.apply("+", *parts))


RULES: dict[str, Rule] = {
    "relax.add": _operator("+"),
    "relax.subtract": _operator("-"),
    "relax.multiply": _operator("*"),
    "relax.divide": _operator("/"),
    "relax.maximum": _operator("max"),
    "relax.minimum": _operator("min"),
    "relax.power": _power,
    "relax.negative": _function(lambda x, node: curves.apply("*", x, curves.constant(-1.0))),
    "relax.square": _function(lambda x, node: curves.apply("*", x, x)),
    "relax.sigmoid": _named("sigmoid"),
    "relax.tanh": _named("tanh"),
    "relax.erf": _named("erf"),
    "relax.exp": _named("exp"),
    "relax.log": _named("log"),
    "relax.sqrt": _named("sqrt"),
    "relax.rsqrt": _function(
        lambda x, node: curves.apply("/", curves.ONE, curves.apply("sqrt", x))
    ),
    "relax.abs": _named("abs"),
    "relax.nn.silu": _function(lambda x, node: curves.apply("*", x, curves.apply("sigmoid", x))),
    "relax.nn.gelu": _function(lambda x, node: curves.gelu(x)),
    "relax.nn.gelu_tanh": _function(lambda x, node: curves.gelu_tanh(x)),
    "relax.nn.leakyrelu": _function(_leaky),
    "relax.greater": _compare(greater=True),
    "relax.less": _compare(greater=False),
    "relax.where": _where,
}
