"""A box cut out of a feature map; its gradient is the box amid zeros."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.gradient_store import COPY_SPARE, gradient_store
from ondevice_compiler.ops.operator import Operator, call, register, same_quantization, shape_of
from ondevice_compiler.program import Program, Step


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = x[begin : begin + shape]; same scale as the input."""
    x_tensor, y_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    begin = step.attributes["begin"]
    x, y = k.tensor("x", x_tensor), k.tensor("y", y_tensor, written=True)
    k.store(axes_of(y_tensor), lambda *i: [(y, x[moved(i, begin)], i)])


def lower_crop_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx = g[begin : begin + shape]: gradient of what was placed amid something else."""
    g_tensor, out_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    begin = step.attributes["begin"]
    g = k.tensor("g", g_tensor)
    store, _ = gradient_store(k, step, program, spare=COPY_SPARE)
    dtype = "float32" if g_tensor.dtype == "float32" else "int32"
    k.store(axes_of(out_tensor), lambda *i: store(T.cast(g[moved(i, begin)], dtype), i))


def lower_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx = g inside the box, 0 outside."""
    g_tensor, out_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    begin = step.attributes["begin"]
    g = k.tensor("g", g_tensor)
    store, _ = gradient_store(k, step, program, spare=COPY_SPARE)
    integer = g_tensor.dtype == "int8"

    def spread(*i: Any) -> list[tuple[Any, Any, Any]]:
        value = T.cast(g[moved(i, [-first for first in begin])], "int32" if integer else "float32")
        inside = None
        for index, first, extent, whole in zip(
            i, begin, g_tensor.shape, out_tensor.shape, strict=True
        ):
            bounds = [index >= first] if first > 0 else []
            bounds += [index < first + extent] if first + extent < whole else []
            for bound in bounds:
                inside = bound if inside is None else T.And(inside, bound)
        if inside is not None:
            value = T.if_then_else(inside, value, T.int32(0) if integer else T.float32(0))
        return store(value, i)

    k.store(axes_of(out_tensor), spread)


def moved(index: tuple[Any, ...], by: Any) -> tuple[Any, ...]:
    """An index plus an offset."""
    return tuple(i + offset for i, offset in zip(index, by, strict=True))


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any) -> list[Any]:
    begin, shape = list(attributes["begin"]), list(shape_of(x))
    return [call("slice_gradient", adjoint, begin=begin, shape=shape)]


register("slice", lower, lambda attributes, x: tuple(attributes["shape"]), _gradient)
register("slice_gradient", lower_gradient, lambda attributes, g: tuple(attributes["shape"]))
register("crop_gradient", lower_crop_gradient, lambda attributes, g: tuple(attributes["shape"]))
OPERATOR = Operator(lower, output_quantization=same_quantization)
GRADIENT, CROP_GRADIENT = Operator(lower_gradient), Operator(lower_crop_gradient)
