"""Product of two feature maps; the second may be one pixel (squeeze and excitation)."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.gradient_store import gradient_store
from ondevice_compiler.ops.operator import Operator, call, register, shape_of
from ondevice_compiler.ops.requantization import requantizer
from ondevice_compiler.program import Program, Step, Tensor


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = a * b, b read at (0, 0) where it is one pixel."""
    a_tensor, b_tensor = (program.tensor(name) for name in step.inputs)
    y_tensor = program.tensor(step.outputs[0])
    left, right = _centred(k, "a", a_tensor), _centred(k, "b", b_tensor)
    if a_tensor.dtype == "float32":
        y = k.tensor("y", y_tensor, written=True)
        k.store(axes_of(y_tensor), lambda *i: [(y, left(i) * right(i), i)])
        return
    quantizations = [a_tensor.quantization, b_tensor.quantization, y_tensor.quantization]
    (sa, _), (sb, _), (sy, zy) = [(q.scales[0], q.zero_point) for q in quantizations if q]
    finish = requantizer(k, np.asarray([sa * sb / sy]), zy)
    y = k.tensor("y", y_tensor, written=True)
    k.store(axes_of(y_tensor), lambda *i: [(y, finish(left(i) * right(i), 0), i)])


def lower_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """Gradient of one factor: g times the other, summed over the pixels where it is one pixel."""
    g_tensor, other_tensor = (program.tensor(name) for name in step.inputs[:2])
    out_tensor = program.tensor(step.outputs[0])
    g = k.tensor("g", g_tensor)
    other = _centred(k, "other", other_tensor)
    factor = 1.0 if other_tensor.quantization is None else other_tensor.quantization.scales[0]
    store, _ = gradient_store(k, step, program, factor)
    integer = g_tensor.dtype == "int8"
    dtype = "int32" if integer else "float32"

    def product(i: tuple[Any, ...]) -> Any:
        return T.cast(g[i], dtype) * other(i)

    if out_tensor.shape == g_tensor.shape:
        k.store(axes_of(out_tensor), lambda *i: store(product(i), i))
        return
    _, height, width, channels = g_tensor.shape
    zero = T.int32(0) if integer else T.float32(0)

    def combine(acc: Any, c: Any, h: Any, w: Any) -> Any:
        return acc + product((0, h, w, c))

    along = {"oh": height, "ow": width}
    acc = k.reduce({"c": channels}, along, dtype, lambda c: zero, combine)
    k.store({"c": channels}, lambda c: store(acc(c), (0, 0, 0, c)))


def _centred(k: KernelBuilder, name: str, tensor: Tensor) -> Any:
    """Reads a factor at an index of the product, its zero point subtracted."""
    values = k.tensor(name, tensor)
    zero_point = 0 if tensor.quantization is None else tensor.quantization.zero_point
    zero = k.scalar(f"{name}_zero", "int32", zero_point) if tensor.dtype == "int8" else None
    one_pixel = tensor.shape[1] == tensor.shape[2] == 1

    def read(i: tuple[Any, ...]) -> Any:
        value = values[0, 0, 0, i[3]] if one_pixel else values[i]
        return value if zero is None else T.cast(value, "int32") - zero

    return read


def _gradient(attributes: Any, adjoint: Any, output: Any, a: Any, b: Any) -> list[Any]:
    return [
        call("multiply_gradient", adjoint, b, shape=list(shape_of(a))),
        call("multiply_gradient", adjoint, a, shape=list(shape_of(b))),
    ]


register("multiply", lower, lambda attributes, a, b: a, _gradient)
register("multiply_gradient", lower_gradient, lambda attributes, g, o: tuple(attributes["shape"]))
OPERATOR = Operator(lower)
GRADIENT = Operator(lower_gradient)
