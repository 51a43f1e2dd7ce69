"""Gradient of a convolution with respect to its weight, consumed at once by the update."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.conv2d import window_of
from ondevice_compiler.ops.conv2d_dw_tile import OuterProducts
from ondevice_compiler.ops.depthwise_dw import DepthwiseProducts
from ondevice_compiler.ops.geometry import guarded
from ondevice_compiler.ops.operator import Operator, register
from ondevice_compiler.ops.parameter_update import parameter_update
from ondevice_compiler.ops.split_weight import channel_index, channel_start
from ondevice_compiler.program import Program, Step


def weight_shape(step: Step, program: Program) -> tuple[int, ...]:
    """Shape of the weight whose gradient the step computes."""
    return tuple(step.attributes["shape"])


def macs(step: Step, program: Program) -> int:
    """Multiply-accumulates of the gradient, without the update."""
    gradient = program.tensor(step.inputs[0])
    size = 1
    for extent in weight_shape(step, program):
        size *= extent
    return size * gradient.shape[1] * gradient.shape[2]


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """dw[o, kh, kw, i] = sum over pixels of g[oh, ow, o] * (x[...] - zero), then the update.

    Of a weight that is trained in part, only that part: the attributes `x_channels` and
    `g_channels` say which channels of x and g are its own, where those maps hold others too.
    """
    g_tensor, x_tensor = (program.tensor(name) for name in step.inputs[:2])
    shape = weight_shape(step, program)
    window = window_of(step, x_tensor, g_tensor, shape)
    groups = step.attributes["groups"]
    per_group, inner = shape[0] // groups, shape[3]
    integer = g_tensor.dtype == "int8"

    starts = [channel_start(step.attributes.get(name)) for name in ("x_channels", "g_channels")]
    if integer and starts[0] is not None and starts[1] is not None:
        if groups == 1:
            OuterProducts(k, step, program, window, (starts[0], starts[1])).emit()
            return
        if (per_group, inner) == (1, 1):
            DepthwiseProducts(k, step, program, window, (starts[0], starts[1])).emit()
            return

    g = k.tensor("g", g_tensor)
    x = k.tensor("x", x_tensor)
    x_channel = channel_index(k, "x_channels", step.attributes.get("x_channels"))
    g_channel = channel_index(k, "g_channels", step.attributes.get("g_channels"))
    zero_point = 0 if x_tensor.quantization is None else x_tensor.quantization.zero_point
    zero = k.scalar("x_zero", "int32", zero_point) if integer else None
    axes = {"co": shape[0], "kh": shape[1], "kw": shape[2], "ci": inner}
    along = {"oh": window.out_height, "ow": window.out_width}

    def combine(acc: Any, co: Any, kh: Any, kw: Any, ci: Any, oh: Any, ow: Any) -> Any:
        row, column, inside = window.source(oh, ow, kh, kw)
        channel = T.floordiv(co, per_group) * inner + ci if groups > 1 else ci
        element, gradient = x[0, row, column, x_channel(channel)], g[0, oh, ow, g_channel(co)]
        if integer:
            product = T.cast(gradient, "int32") * (T.cast(element, "int32") - zero)
        else:
            product = gradient * element
        return acc + guarded(inside, product, T.int32(0) if integer else T.float32(0))

    update = parameter_update(k, step, program)
    dtype = "int32" if integer else "float32"
    acc = k.reduce(
        axes,
        along,
        dtype,
        lambda *indices: T.int32(0) if integer else T.float32(0),
        combine,
    )
    k.store(axes, lambda *indices: update(acc(*indices), indices))


register("conv2d_dw", lower, lambda attributes, g, x: tuple(attributes["shape"]))
OPERATOR = Operator(lower, macs)
