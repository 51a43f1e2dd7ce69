"""Group norm with affine parameters, and layer norm: one group, normalised at each pixel alone.

    y = (x - mean) / sqrt(variance + epsilon) * weight[c] + bias[c]

over each group of channels and all pixels (Wu and He, Group Normalization, 2018); with `per_pixel`
over the channels of one pixel (Ba et al., Layer Normalization, 2016). An instance norm has as many
groups as channels. In an int8 program the parameters stay float32. Backward computes the statistics
of the saved input again, once, and both gradients read them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops import bias_gradient
from ondevice_compiler.ops.float_island import real_gradient_store, real_load, real_store
from ondevice_compiler.ops.operator import Operator, call, register
from ondevice_compiler.ops.parameter_update import parameter_update
from ondevice_compiler.program import Program, Step

ZERO = T.float32(0)


@dataclass(frozen=True)
class Groups:
    """Which elements of [1, H, W, C] are normalised together.

    Attributes:
        outer: Loops over the groups.
        inner: Loops over the elements of one group.
        per_pixel: Whether each pixel has groups of its own.
    """

    outer: dict[str, int]
    inner: dict[str, int]
    per_pixel: bool

    @classmethod
    def of(cls, step: Step, shape: tuple[int, ...]) -> Groups:
        """Those of a step on a map of this shape."""
        groups, per_pixel = step.attributes["groups"], bool(step.attributes["per_pixel"])
        pixels, channels = {"h": shape[1], "w": shape[2]}, {"c": shape[3] // groups}
        outer = {"group": groups}
        if per_pixel:
            return cls(pixels | outer, channels, per_pixel)
        return cls(outer, pixels | channels, per_pixel)

    @property
    def size(self) -> int:
        """Elements of one group."""
        return prod(self.inner.values())

    def position(self, *indices: Any) -> tuple[Any, ...]:
        """Index in [1, H, W, C] of an element, from the outer and inner loop variables."""
        if self.per_pixel:
            h, w, group, c = indices
        else:
            group, h, w, c = indices
        return 0, h, w, group * self.inner["c"] + c

    def statistics(self, h: Any, w: Any, group: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Where the mean and the inverse deviation of a pixel's group are."""
        place = (0, h, w) if self.per_pixel else (0, 0, 0)
        return (*place, group * 2), (*place, group * 2 + 1)


def _statistics(k: KernelBuilder, step: Step, x: Any, groups: Groups) -> tuple[Any, Any]:
    """Adds the mean and 1 / deviation of each group; returns them by the outer indices."""
    share = k.scalar("share", "float32", 1.0 / groups.size)
    epsilon = k.scalar("epsilon", "float32", step.attributes["epsilon"])

    def add(acc: Any, *indices: Any) -> Any:
        return acc + x(*groups.position(*indices))

    total = k.reduce(groups.outer, groups.inner, "float32", lambda *outer: ZERO, add, "total")
    mean = k.value(groups.outer, "mean", "float32", lambda *outer: total(*outer) * share)

    def add_square(acc: Any, *indices: Any) -> Any:
        apart = x(*groups.position(*indices)) - mean(*indices[: len(groups.outer)])
        return acc + apart * apart

    squares = k.reduce(
        groups.outer, groups.inner, "float32", lambda *outer: ZERO, add_square, "squares"
    )
    inverse = k.value(
        groups.outer,
        "inverse",
        "float32",
        lambda *outer: T.float32(1) / k.square_root(squares(*outer) * share + epsilon),
    )
    return mean, inverse


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = (x - mean) * inverse * weight + bias."""
    x_tensor, weight_tensor, bias_tensor = (program.tensor(name) for name in step.inputs)
    groups = Groups.of(step, x_tensor.shape)
    outer = len(groups.outer)
    x = real_load(k, "x", x_tensor)
    weight, bias = k.tensor("weight", weight_tensor), k.tensor("bias", bias_tensor)
    mean, inverse = _statistics(k, step, x, groups)
    store = real_store(k, step, program.tensor(step.outputs[0]))

    def normalize(*indices: Any) -> list[tuple[Any, Any, Any]]:
        where = groups.position(*indices)
        normal = (x(*where) - mean(*indices[:outer])) * inverse(*indices[:outer])
        return store(normal * weight[where[3]] + bias[where[3]], where)

    k.store(groups.outer | groups.inner, normalize)


def lower_statistics(k: KernelBuilder, step: Step, program: Program) -> None:
    """Mean and inverse deviation of each group, side by side, float32."""
    x_tensor = program.tensor(step.inputs[0])
    groups = Groups.of(step, x_tensor.shape)
    mean, inverse = _statistics(k, step, real_load(k, "x", x_tensor), groups)
    out = k.tensor("out", program.tensor(step.outputs[0]), written=True)

    def store(*outer: Any) -> list[tuple[Any, Any, Any]]:
        first, second = groups.statistics(*(outer if groups.per_pixel else (0, 0, *outer)))
        return [(out, mean(*outer), first), (out, inverse(*outer), second)]

    k.store(groups.outer, store)


def lower_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx = inverse * (g w - mean(g w) - n * mean(g w n)), n being the normalised input."""
    g_tensor, x_tensor, weight_tensor, s_tensor = (program.tensor(name) for name in step.inputs[:4])
    groups = Groups.of(step, x_tensor.shape)
    outer = len(groups.outer)
    g, x = real_load(k, "g", g_tensor), real_load(k, "x", x_tensor)
    weight, statistics = k.tensor("weight", weight_tensor), k.tensor("statistics", s_tensor)
    share = k.scalar("share", "float32", 1.0 / groups.size)
    store = real_gradient_store(k, step, program)

    def parts(*indices: Any) -> tuple[Any, Any, Any]:
        """Weighted gradient, normalised input and inverse deviation of an element."""
        where = groups.position(*indices)
        group = indices[outer - 1]
        mean, inverse = groups.statistics(where[1], where[2], group)
        normal = (x(*where) - statistics[mean]) * statistics[inverse]
        return g(*where) * weight[where[3]], normal, statistics[inverse]

    def add(acc: Any, *indices: Any) -> Any:
        return acc + parts(*indices)[0]

    def add_product(acc: Any, *indices: Any) -> Any:
        weighted, normal, _ = parts(*indices)
        return acc + weighted * normal

    def finish(*indices: Any) -> list[tuple[Any, Any, Any]]:
        weighted, normal, inverse = parts(*indices)
        along, across = level(*indices[:outer]), slope(*indices[:outer])
        return store(inverse * (weighted - along - normal * across), groups.position(*indices))

    total = k.reduce(groups.outer, groups.inner, "float32", lambda *o: ZERO, add, "total")
    products = k.reduce(
        groups.outer, groups.inner, "float32", lambda *o: ZERO, add_product, "products"
    )
    level = k.value(groups.outer, "level", "float32", lambda *o: total(*o) * share)
    slope = k.value(groups.outer, "slope", "float32", lambda *o: products(*o) * share)
    k.store(groups.outer | groups.inner, finish)


def lower_weight_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dweight[c] = sum over pixels of g * (x - mean) * inverse, then the update."""
    g_tensor, x_tensor, s_tensor = (program.tensor(name) for name in step.inputs[:3])
    _, height, width, channels = x_tensor.shape
    groups = Groups.of(step, x_tensor.shape)
    g, x = real_load(k, "g", g_tensor), real_load(k, "x", x_tensor)
    statistics = k.tensor("statistics", s_tensor)
    update = parameter_update(k, step, program)

    def combine(acc: Any, c: Any, h: Any, w: Any) -> Any:
        group = T.floordiv(c, groups.inner["c"]) if step.attributes["groups"] > 1 else 0
        mean, inverse = groups.statistics(h, w, group)
        normal = (x(0, h, w, c) - statistics[mean]) * statistics[inverse]
        return acc + g(0, h, w, c) * normal

    pixels = {"h": height, "w": width}
    acc = k.reduce({"c": channels}, pixels, "float32", lambda c: ZERO, combine)
    k.store({"c": channels}, lambda c: update(acc(c), (c,)))


def _statistics_shape(attributes: Any, x: Any) -> tuple[int, ...]:
    pixels = x[1:3] if attributes["per_pixel"] else (1, 1)
    return (1, *pixels, 2 * attributes["groups"])


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any, w: Any, b: Any) -> list[Any]:
    statistics = call("group_norm_statistics", x, **attributes)
    return [
        call("group_norm_gradient", adjoint, x, w, statistics, **attributes),
        call("group_norm_weight_gradient", adjoint, x, statistics, **attributes),
        call("group_norm_bias_gradient", adjoint),
    ]


register("group_norm", lower, lambda attributes, x, w, b: x, _gradient)
register("group_norm_statistics", lower_statistics, _statistics_shape)
register("group_norm_gradient", lower_gradient, lambda attributes, g, x, w, s: x)
register("group_norm_weight_gradient", lower_weight_gradient, lambda a, g, x, s: (x[3],))
register("group_norm_bias_gradient", bias_gradient.lower, lambda attributes, g: (g[3],))
OPERATOR, STATISTICS = Operator(lower), Operator(lower_statistics)
GRADIENT, WEIGHT_GRADIENT = Operator(lower_gradient), Operator(lower_weight_gradient)
