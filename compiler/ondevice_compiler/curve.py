"""Functions of one variable: what a chain of elementwise operators computes.

Importers spell one activation function in many ways: hard-swish is x * clip(x + 3, 0, 6) / 6 or
x * clip(x / 6 + 0.5, 0, 1). Whatever the spelling, a chain of elementwise operators on one map is a
function of its elements, a `Curve`; int8 evaluates it once for each of 256 integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import erf, pi, sqrt
from types import MappingProxyType
from typing import Any

import numpy as np

LARGEST_EXPONENT = 88.0  # od_expf saturates there.
UNARY = ("exp", "log", "sqrt", "abs", "erf", "tanh", "sigmoid", "step")
COSTLY = ("exp", "log", "sqrt", "erf", "tanh", "sigmoid")
BINARY = ("+", "-", "*", "/", "max", "min", "leaky")

NUMPY: dict[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "leaky": lambda a, slope: np.where(a > 0, a, slope * a),
    "exp": lambda a: np.exp(np.minimum(a, LARGEST_EXPONENT)),
    "log": np.log,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "erf": np.vectorize(erf, otypes=[np.float64]),
    "tanh": np.tanh,
    "sigmoid": lambda a: 1.0 / (1.0 + np.exp(np.minimum(-a, LARGEST_EXPONENT))),
    "step": lambda a: np.where(a > 0, 1.0, 0.0),
}


@dataclass(frozen=True)
class Curve:
    """A node of the expression; built by `apply`.

    Attributes:
        op: "x", "constant", or an operator of `UNARY` or `BINARY`: `step` is 1 above 0, else 0;
            `leaky` a ReLU whose second operand is the slope below 0.
        parts: Operands.
        number: Value of a constant.
    """

    op: str
    parts: tuple[Curve, ...] = ()
    number: float = 0.0

    def __str__(self) -> str:
        """Postfix notation, which `parse` reads."""
        if self.op == "constant":
            return repr(self.number)
        return " ".join([*map(str, self.parts), self.op])

    def __call__(self, x: Any) -> Any:
        """Values at an array, in float64."""
        points = np.asarray(x, np.float64)
        return np.broadcast_to(self.evaluate(points, NUMPY), points.shape)

    def constants(self) -> list[float]:
        """Every constant once, in order of appearance."""
        own = [self.number] if self.op == "constant" else []
        return list(dict.fromkeys([*own, *(c for part in self.parts for c in part.constants())]))

    def evaluate(
        self,
        x: Any,
        functions: Mapping[str, Callable[..., Any]],
        number: Callable[[float], Any] = float,
        known: Mapping[Curve, Any] = MappingProxyType({}),
    ) -> Any:
        """Value at x, each operator done by the function of its name.

        Args:
            x: The variable.
            functions: By operator.
            number: Gives a constant.
            known: Values of subexpressions, which are not computed again.
        """
        if self.op == "x":
            return x
        if self.op == "constant":
            return number(self.number)
        if self in known:
            return known[self]
        parts = (part.evaluate(x, functions, number, known) for part in self.parts)
        return functions[self.op](*parts)

    def shared(self) -> list[Curve]:
        """Costly subexpressions that appear more than once, innermost first."""
        seen = Counter(self._functions())
        return sorted((c for c, count in seen.items() if count > 1), key=lambda c: len(str(c)))

    def _functions(self) -> list[Curve]:
        own = [self] if self.op in COSTLY else []
        return own + [found for part in self.parts for found in part._functions()]

    def derivative(self) -> Curve:
        """With respect to x; at a corner the second operand's, so that of ReLU at 0 is 0."""
        if not self.parts:
            return constant(1.0 if self.op == "x" else 0.0)
        a, slope = self.parts[0], self.parts[0].derivative()
        if self.op in UNARY:
            return apply("*", _outer_derivative(self), slope)
        b, other = self.parts[1], self.parts[1].derivative()
        match self.op:
            case "+" | "-":
                return apply(self.op, slope, other)
            case "*":
                return apply("+", apply("*", slope, b), apply("*", a, other))
            case "/":
                over = apply("-", apply("*", slope, b), apply("*", a, other))
                return apply("/", over, apply("*", b, b))
            case "leaky":
                return apply("*", apply("leaky_step", a, b), slope)
        first = apply("step", apply("-", a, b) if self.op == "max" else apply("-", b, a))
        return apply("+", apply("*", first, slope), apply("*", apply("-", ONE, first), other))


X = Curve("x")


def constant(number: float) -> Curve:
    """The same everywhere."""
    return Curve("constant", (), float(number))


ONE, ZERO = constant(1.0), constant(0.0)


def apply(op: str, *parts: Curve) -> Curve:
    """An operator on curves, simplified: constants are folded, and stand right in + and *."""
    if op == "leaky_step":
        a, slope = parts
        return apply("+", apply("*", apply("step", a), apply("-", ONE, slope)), slope)
    if all(part.op == "constant" for part in parts):
        return constant(float(NUMPY[op](*(part.number for part in parts))))
    if op in UNARY:
        return Curve(op, parts)
    a, b = parts
    if op in ("+", "*", "max", "min") and a.op == "constant":
        a, b = b, a
    if op == "-" and a.op == "constant":
        return apply("+", apply("*", b, constant(-1.0)), a)
    if b.op == "constant":
        if op == "-":
            return apply("+", a, constant(-b.number))
        if op == "/":
            return apply("*", a, constant(1.0 / b.number))
        if op == "*" and b.number == 0.0:
            return ZERO
        if (op, b.number) in (("+", 0.0), ("*", 1.0)):
            return a
        if op in ("+", "*") and a.op == op and a.parts[1].op == "constant":
            return apply(op, a.parts[0], apply(op, a.parts[1], b))
    return Curve(op, (a, b))


def parse(text: str) -> Curve:
    """The curve behind a postfix text, as `str` writes it."""
    stack: list[Curve] = []
    for token in text.split():
        if token == "x":
            stack.append(X)
        elif token in UNARY:
            stack.append(Curve(token, (stack.pop(),)))
        elif token in BINARY:
            second = stack.pop()
            stack.append(Curve(token, (stack.pop(), second)))
        else:
            stack.append(constant(float(token)))
    (curve,) = stack
    return curve


def clip(curve: Curve, low: float | None, high: float | None) -> Curve:
    """Clamped to bounds; None where there is none."""
    if low is not None:
        curve = apply("max", curve, constant(low))
    return curve if high is None else apply("min", curve, constant(high))


def gelu(curve: Curve) -> Curve:
    """GELU by the error function."""
    half = apply("+", apply("erf", apply("*", curve, constant(1 / sqrt(2)))), ONE)
    return apply("*", apply("*", curve, half), constant(0.5))


def gelu_tanh(curve: Curve) -> Curve:
    """GELU by the hyperbolic tangent."""
    cube = apply("*", apply("*", curve, curve), curve)
    inner = apply("+", curve, apply("*", cube, constant(0.044715)))
    half = apply("+", apply("tanh", apply("*", inner, constant(sqrt(2 / pi)))), ONE)
    return apply("*", apply("*", curve, half), constant(0.5))


def derivative_from_output(curve: Curve) -> Curve | None:
    """The derivative as a function of y = curve(x), where y alone tells it; else None.

    Then backward needs no input, and the next layer has often saved the output already. A clip's
    output does not tell: rounded, it may lie on either side of the bound.
    """
    return _derivative_from(curve, X)


def _derivative_from(curve: Curve, value: Curve) -> Curve | None:
    """Derivative of `curve` where `value`, a function of the output, is what it gave."""
    if curve.op == "x":
        return ONE
    if curve.op in ("sigmoid", "tanh"):
        slope = apply("-", value if curve.op == "sigmoid" else ONE, apply("*", value, value))
        inner = curve.parts[0].derivative()
        return apply("*", slope, inner) if inner.op == "constant" else None
    if curve.op not in ("+", "*", "leaky") or curve.parts[1].op != "constant":
        return None
    a, c = curve.parts
    if curve.op == "leaky":
        inner = a.derivative()
        known = inner.op == "constant" and c.number > 0.0
        return apply("*", apply("leaky_step", value, c), inner) if known else None
    if curve.op == "+":
        return _derivative_from(a, apply("-", value, c))
    found = _derivative_from(a, apply("/", value, c))
    return None if found is None else apply("*", found, c)


def _outer_derivative(curve: Curve) -> Curve:
    """Derivative of a unary operator at its operand."""
    a = curve.parts[0]
    square = apply("*", a, a)
    match curve.op:
        case "exp":
            return curve
        case "log":
            return apply("/", ONE, a)
        case "sqrt":
            return apply("/", constant(0.5), curve)
        case "abs":
            return apply("-", apply("step", a), apply("step", apply("*", a, constant(-1.0))))
        case "erf":
            bell = apply("exp", apply("*", square, constant(-1.0)))
            return apply("*", bell, constant(2 / sqrt(pi)))
        case "tanh":
            return apply("-", ONE, apply("*", curve, curve))
        case "sigmoid":
            return apply("-", curve, apply("*", curve, curve))
    return ZERO
