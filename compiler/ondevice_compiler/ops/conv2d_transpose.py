"""Transposed convolution with bias and its gradients: the convolution's, with the roles swapped.

The weight is [O, kh, kw, I/groups], as that of a convolution, so that it has a scale for each
output channel. The window slides over the output; each input pixel is one of its positions.
"""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.conv2d import output_store, window_of
from ondevice_compiler.ops.conv2d_dw import weight_shape
from ondevice_compiler.ops.geometry import guarded
from ondevice_compiler.ops.gradient_store import gradient_store
from ondevice_compiler.ops.operator import Operator, call, register, shape_of
from ondevice_compiler.ops.parameter_update import parameter_update
from ondevice_compiler.ops.split_weight import weight_value
from ondevice_compiler.ops.weight_quantization import quantize_weight_and_bias
from ondevice_compiler.program import Program, Step, Tensor


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y[h, w, o] = clip(b[o] + sum over kh, kw, i of x[(h + top - kh) / stride, ...] * w)."""
    x_tensor, w_tensor, b_tensor = (program.tensor(name) for name in step.inputs)
    y_tensor = program.tensor(step.outputs[0])
    window = window_of(step, y_tensor, x_tensor, w_tensor.shape)
    channels, inner = w_tensor.shape[0], w_tensor.shape[3]
    groups = step.attributes["groups"]
    per_group = channels // groups
    integer = x_tensor.dtype == "int8"

    x = k.tensor("x", x_tensor)
    w = k.tensor("w", w_tensor)
    b = k.tensor("bias", b_tensor)
    zero = k.scalar("x_zero", "int32", _zero_point(x_tensor)) if integer else None
    axes = {"oh": window.height, "ow": window.width, "co": channels}
    along = {"kh": window.kernel_height, "kw": window.kernel_width, "ci": inner}

    def combine(acc: Any, oh: Any, ow: Any, co: Any, kh: Any, kw: Any, ci: Any) -> Any:
        row, column, inside = window.target(oh, ow, kh, kw)
        channel = T.floordiv(co, per_group) * inner + ci if groups > 1 else ci
        element = x[0, row, column, channel]
        value = T.cast(element, "int32") - zero if integer else element
        product = value * weight_value(w[co, kh, kw, ci], w_tensor.dtype)
        return acc + guarded(inside, product, T.int32(0) if integer else T.float32(0))

    dtype = "int32" if integer else "float32"
    acc = k.reduce(axes, along, dtype, lambda oh, ow, co: b[co], combine)
    stored = output_store(k, step, x_tensor, [w_tensor], y_tensor)
    y = k.tensor("y", y_tensor, written=True)
    k.store(axes, lambda oh, ow, co: [(y, stored(acc(oh, ow, co), co), (0, oh, ow, co))])


def lower_dx(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx[h, w, i] = sum over kh, kw, o of g[h * stride + kh - top, ..., o] * w[o, kh, kw, i]."""
    g_tensor, w_tensor = (program.tensor(name) for name in step.inputs[:2])
    out_tensor = program.tensor(step.outputs[0])
    window = window_of(step, g_tensor, out_tensor, w_tensor.shape)
    groups = step.attributes["groups"]
    per_group, inner = w_tensor.shape[0] // groups, w_tensor.shape[3]
    integer = g_tensor.dtype == "int8"

    g = k.tensor("g", g_tensor)
    w = k.tensor("w", w_tensor)
    axes = {"ih": window.out_height, "iw": window.out_width, "ci": out_tensor.shape[3]}
    along = {"kh": window.kernel_height, "kw": window.kernel_width, "co": per_group}
    zero = T.int32(0) if integer else T.float32(0)

    def combine(acc: Any, h: Any, col: Any, ci: Any, kh: Any, kw: Any, co: Any) -> Any:
        row, column, inside = window.source(h, col, kh, kw)
        channel = T.floordiv(ci, inner) * per_group + co if groups > 1 else co
        weight = weight_value(w[channel, kh, kw, T.floormod(ci, inner)], w_tensor.dtype)
        gradient = g[0, row, column, channel]
        product = (T.cast(gradient, "int32") if integer else gradient) * weight
        return acc + guarded(inside, product, zero)

    store, _ = gradient_store(k, step, program)
    dtype = "int32" if integer else "float32"
    acc = k.reduce(axes, along, dtype, lambda h, w, ci: zero, combine)
    k.store(axes, lambda h, w, ci: store(acc(h, w, ci), (0, h, w, ci)))


def lower_dw(k: KernelBuilder, step: Step, program: Program) -> None:
    """dw[o, kh, kw, i] = sum over input pixels of g[h * stride + kh - top, ..., o] * (x - zero)."""
    g_tensor, x_tensor = (program.tensor(name) for name in step.inputs[:2])
    shape = weight_shape(step, program)
    window = window_of(step, g_tensor, x_tensor, shape)
    groups = step.attributes["groups"]
    per_group, inner = shape[0] // groups, shape[3]
    integer = g_tensor.dtype == "int8"

    g = k.tensor("g", g_tensor)
    x = k.tensor("x", x_tensor)
    offset = k.scalar("x_zero", "int32", _zero_point(x_tensor)) if integer else None
    axes = {"co": shape[0], "kh": shape[1], "kw": shape[2], "ci": inner}
    along = {"ih": window.out_height, "iw": window.out_width}
    zero = T.int32(0) if integer else T.float32(0)

    def combine(acc: Any, co: Any, kh: Any, kw: Any, ci: Any, h: Any, col: Any) -> Any:
        row, column, inside = window.source(h, col, kh, kw)
        channel = T.floordiv(co, per_group) * inner + ci if groups > 1 else ci
        element, gradient = x[0, h, col, channel], g[0, row, column, co]
        if integer:
            product = T.cast(gradient, "int32") * (T.cast(element, "int32") - offset)
        else:
            product = gradient * element
        return acc + guarded(inside, product, zero)

    update = parameter_update(k, step, program)
    dtype = "int32" if integer else "float32"
    acc = k.reduce(axes, along, dtype, lambda *indices: zero, combine)
    k.store(axes, lambda *indices: update(acc(*indices), indices))


def _zero_point(tensor: Tensor) -> int:
    return 0 if tensor.quantization is None else tensor.quantization.zero_point


def _macs(step: Step, program: Program) -> int:
    """Multiply-accumulates: one window for each input pixel."""
    weight, x = program.tensor(step.inputs[1]), program.tensor(step.inputs[0])
    return weight.elements * x.shape[1] * x.shape[2]


def _macs_dx(step: Step, program: Program) -> int:
    weight, x = program.tensor(step.inputs[1]), program.tensor(step.outputs[0])
    return weight.elements * x.shape[1] * x.shape[2]


def _macs_dw(step: Step, program: Program) -> int:
    x = program.tensor(step.inputs[1])
    outputs, height, width, inner = weight_shape(step, program)
    return outputs * height * width * inner * x.shape[1] * x.shape[2]


def _shape(attributes: Any, x: Any, w: Any, b: Any) -> tuple[int, ...]:
    top, left, bottom, right = attributes["padding"]
    (stride_height, stride_width), (more_rows, more_columns) = (
        attributes["stride"],
        attributes["output_padding"],
    )
    return (
        1,
        (x[1] - 1) * stride_height + w[1] - top - bottom + more_rows,
        (x[2] - 1) * stride_width + w[2] - left - right + more_columns,
        w[0],
    )


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any, w: Any, b: Any) -> list[Any]:
    geometry = {name: list(attributes[name]) for name in ("stride", "padding")}
    geometry["groups"] = attributes["groups"]
    dx = call("conv2d_transpose_dx", adjoint, w, shape=list(shape_of(x)), **geometry)
    dw = call("conv2d_transpose_dw", adjoint, x, shape=list(shape_of(w)), **geometry)
    return [dx, dw, call("bias_gradient", adjoint)]


register("conv2d_transpose", lower, _shape, _gradient)
register("conv2d_transpose_dx", lower_dx, lambda attributes, g, w: tuple(attributes["shape"]))
register("conv2d_transpose_dw", lower_dw, lambda attributes, g, x: tuple(attributes["shape"]))
OPERATOR = Operator(lower, _macs, quantize_parameters=quantize_weight_and_bias)
DX, DW = Operator(lower_dx, _macs_dx), Operator(lower_dw, _macs_dw)
