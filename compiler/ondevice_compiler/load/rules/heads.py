"""Attention: channels split into heads, and the two products of computed tensors.

Frameworks reshape [1, T, D] into [1, T, heads, d], permute, and multiply batches of matrices. Here
none of that moves an element: a `Split` only says which of its axes lies where, and the products
index the heads in place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Any

from ondevice_compiler.load.normal_form import Feature, Normalizer
from ondevice_compiler.load.rules import convolution, elementwise, shape
from ondevice_compiler.load.rules.rule import Rule, ValueOf, constant, reject
from ondevice_compiler.ops.operator import shape_of


@dataclass(frozen=True)
class Split:
    """A map whose channels are seen as several axes.

    Attributes:
        feature: The map.
        parts: Extents of the axes that the channels are split into, slowest first.
        axes: What is behind each axis of the user's tensor: N, H, W, or a digit, the part's index.
        factor: By which every element is still to be multiplied.
    """

    feature: Feature
    parts: tuple[int, ...]
    axes: tuple[str, ...]
    factor: float = 1.0

    def extent(self, letters: str) -> int:
        """Product of the extents of some axes."""
        known = {"N": 1, "H": self.feature.shape[1], "W": self.feature.shape[2]}
        return prod(self.parts[int(x)] if x.isdigit() else known[x] for x in letters)


def _split(x: Any) -> Split | None:
    """A map as a trivial split."""
    if isinstance(x, Feature):
        return Split(x, (x.shape[3],), tuple(axis.replace("C", "0") for axis in x.axes))
    return x if isinstance(x, Split) else None


def _joined(x: Split) -> Feature | Split:
    """A plain map where the channels are one axis again."""
    whole = "".join(str(part) for part in range(len(x.parts)))
    if x.factor != 1.0 or not any(whole in axis for axis in x.axes):
        return x
    return replace(x.feature, axes=tuple(axis.replace(whole, "C") for axis in x.axes))


def _view(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """reshape, squeeze, expand_dims: regroups axes, splitting channels where they are asked for."""
    x, target = value_of(node.args[0]), shape_of(node)
    split = _split(x)
    regrouped = None if split is None else _regrouped(split, target)
    if regrouped is not None and (isinstance(x, Split) or len(regrouped.parts) > 1):
        return _joined(regrouped)
    if isinstance(x, Split):
        return reject(n, f"reshape of attention heads to {list(target)}")
    return shape.RULES["relax.reshape"](n, node, value_of)


def _regrouped(x: Split, target: tuple[int, ...]) -> Split | None:
    letters = [letter for axis in x.axes for letter in axis if x.extent(letter) > 1]
    parts, axes = list(x.parts), list[str]()
    for extent in target:
        group = ""
        here = Split(x.feature, tuple(parts), x.axes)
        while here.extent(group) < extent and letters:
            missing = extent // here.extent(group)
            letter = letters.pop(0)
            if letter.isdigit() and 1 < missing < here.extent(letter):
                if here.extent(letter) % missing:
                    return None
                index = int(letter)
                parts[index : index + 1] = [missing, parts[index] // missing]
                # The part's own letter stays for its first factor; later parts move up by one.
                letters = [_moved(other, index) for other in letters]
                axes = ["".join(_moved(other, index) for other in axis) for axis in axes]
                group = "".join(_moved(other, index) for other in group)
                letters.insert(0, str(index + 1))
                here = Split(x.feature, tuple(parts), x.axes)
            group += letter
        if here.extent(group) != extent:
            return None
        axes.append(group)
    return None if letters else replace(x, parts=tuple(parts), axes=tuple(axes))


def _moved(letter: str, index: int) -> str:
    return str(int(letter) + 1) if letter.isdigit() and int(letter) > index else letter


def _permute(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    x = value_of(node.args[0])
    if not isinstance(x, Split):
        return shape.RULES["relax.permute_dims"](n, node, value_of)
    rank = len(x.axes)
    given = node.attrs.axes
    order = [int(axis) % rank for axis in given] if given is not None else range(rank)[::-1]
    return _joined(replace(x, axes=tuple(x.axes[axis] for axis in order)))


def take_part(n: Normalizer, x: Split, axis: int, index: int) -> Any:
    """One entry of the slowest part of the channels: of a linear layer, a layer of its own."""
    convolution_ = x.feature.pending
    if x.axes[axis] != "0" or convolution_ is None or x.feature.clip is not None or x.factor != 1:
        return reject(n, "take of attention heads")
    size = x.feature.shape[3] // x.parts[0]
    rows = slice(index * size, (index + 1) * size)
    pending = replace(
        convolution_,
        name=f"{convolution_.name}_{index}",
        weight=convolution_.weight[rows],
        bias=convolution_.bias[rows],
    )
    feature = replace(x.feature, pending=pending, shape=(*x.feature.shape[:3], size))
    axes = [a for position, a in enumerate(x.axes) if position != axis]
    lowered = ("".join(str(int(v) - 1) if v.isdigit() else v for v in a) for a in axes)
    return _joined(Split(feature, x.parts[1:], tuple(lowered)))


def _matmul(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
    """Products of two computed tensors: scores of two splits, or scores times a split."""
    a, b = (_split(value_of(argument)) for argument in node.args)
    if a is None or b is None:
        return convolution.RULES["relax.matmul"](n, node, value_of)
    rank = len(shape_of(node))
    left, right = _letters(a), _letters(b)
    features = [n.materialize(x.feature) for x in (a, b)]
    values = [feature.expression for feature in features]
    scale = a.factor * b.factor
    rows, columns = a.feature.shape[2], b.feature.shape[2]
    heads, batch = (a.parts[0], ["0"]) if len(a.parts) == 2 else (1, [])
    inner = str(len(a.parts) - 1)
    if a.parts == b.parts and (left, right) == ([*batch, "W", inner], [*batch, inner, "W"]):
        node_ = n.emit("head_scores", *values, heads=heads, scale=scale)
        return Feature(
            node_, _named("H" if heads > 1 else "", "WC", rank), (1, heads, rows, columns)
        )
    heads, batch = (b.parts[0], ["0"]) if len(b.parts) == 2 else (1, [])
    inner = str(len(b.parts) - 1)
    scores = ["H", "W", "0"] if heads > 1 else ["W", "0"]
    fits = a.feature.shape[1] == heads and a.feature.shape[3] == columns and len(a.parts) == 1
    if fits and (left, right) == (scores, [*batch, "W", inner]):
        how = {"transposed": False, "swapped": False}
        node_ = n.emit("head_mix", *values, heads=heads, scale=scale, **how)
        mixed = Feature(node_, (), (1, 1, rows, b.feature.shape[3]))
        axes = _named("0" if heads > 1 else "", f"W{inner}", rank)
        return _joined(Split(mixed, b.parts, axes))
    return reject(n, f"matmul of computed tensors with axes {a.axes} and {b.axes}")


def _letters(x: Split) -> list[str]:
    """Axes of more than one element, one letter each, as matmul sees them."""
    return [axis for axis in x.axes if x.extent(axis) > 1]


def _named(batch: str, matrix: str, rank: int) -> tuple[str, ...]:
    """Axes of a product: the batch axis N and the heads fill up the rank."""
    front = ["N", batch] if rank == 4 else [batch or "N"]
    return (*front[: rank - 2], *matrix) if rank > 2 else tuple(matrix)


def _scaled(op: str) -> Rule:
    """multiply or divide by a number, which the product of the heads takes up."""

    def rule(n: Normalizer, node: Any, value_of: ValueOf) -> Any:
        x, number = value_of(node.args[0]), constant(value_of(node.args[1]))
        if op == "multiply" and not isinstance(x, Split):
            x, number = value_of(node.args[1]), constant(value_of(node.args[0]))
        if isinstance(x, Split) and number is not None and number.size == 1:
            value = float(number.reshape(()))
            return replace(x, factor=x.factor * (value if op == "multiply" else 1.0 / value))
        return elementwise.RULES[f"relax.{op}"](n, node, value_of)

    return rule


RULES: dict[str, Rule] = {
    **{f"relax.{name}": _view for name in ("reshape", "squeeze", "expand_dims")},
    "relax.permute_dims": _permute,
    "relax.matmul": _matmul,
    "relax.multiply": _scaled("multiply"),
    "relax.divide": _scaled("divide"),
}
