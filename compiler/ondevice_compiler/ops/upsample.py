"""Nearest-neighbour upsampling by whole factors."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.gradient_store import COPY_SPARE, gradient_store
from ondevice_compiler.ops.operator import Operator, call, register, same_quantization, shape_of
from ondevice_compiler.program import Program, Step


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y[h, w, c] = x[h / rows, w / columns, c]; same scale as the input."""
    x_tensor, y_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    rows, columns = step.attributes["factor"]
    x, y = k.tensor("x", x_tensor), k.tensor("y", y_tensor, written=True)
    _, height, width, channels = y_tensor.shape

    def repeat(h: Any, w: Any, c: Any) -> list[tuple[Any, Any, Any]]:
        return [(y, x[0, T.floordiv(h, rows), T.floordiv(w, columns), c], (0, h, w, c))]

    k.store({"oh": height, "ow": width, "c": channels}, repeat)


def lower_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx = sum of the gradients of the block of pixels that a pixel became."""
    g_tensor, out_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    rows, columns = step.attributes["factor"]
    g = k.tensor("g", g_tensor)
    store, _ = gradient_store(k, step, program, spare=COPY_SPARE)
    integer = g_tensor.dtype == "int8"
    dtype = "int32" if integer else "float32"
    _, height, width, channels = out_tensor.shape

    def combine(acc: Any, h: Any, w: Any, c: Any, row: Any, column: Any) -> Any:
        return acc + T.cast(g[0, h * rows + row, w * columns + column, c], dtype)

    axes = {"ih": height, "iw": width, "c": channels}
    zero = T.int32(0) if integer else T.float32(0)
    acc = k.reduce(axes, {"row": rows, "column": columns}, dtype, lambda *i: zero, combine)
    k.store(axes, lambda h, w, c: store(acc(h, w, c), (0, h, w, c)))


def _shape(attributes: Any, x: Any) -> tuple[int, ...]:
    rows, columns = attributes["factor"]
    return (1, x[1] * rows, x[2] * columns, x[3])


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any) -> list[Any]:
    factor, shape = list(attributes["factor"]), list(shape_of(x))
    return [call("upsample2d_gradient", adjoint, factor=factor, shape=shape)]


register("upsample2d", lower, _shape, _gradient)
register("upsample2d_gradient", lower_gradient, lambda attributes, g: tuple(attributes["shape"]))
OPERATOR = Operator(lower, output_quantization=same_quantization)
GRADIENT = Operator(lower_gradient)
