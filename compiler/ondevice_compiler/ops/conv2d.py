"""Convolution with bias: weight [O, kh, kw, I/groups]; linear layers are its 1x1 case."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import LARGEST_FLOAT32, KernelBuilder
from ondevice_compiler.ops.conv2d_dot import DotConvolution
from ondevice_compiler.ops.depthwise import Depthwise, is_depthwise
from ondevice_compiler.ops.geometry import Window, guarded
from ondevice_compiler.ops.operator import Operator, call, register, shape_of
from ondevice_compiler.ops.requantization import requantizer
from ondevice_compiler.ops.split_weight import (
    Segment,
    segments,
    weight_tensors,
    whole_scales,
    whole_shape,
)
from ondevice_compiler.ops.weight_quantization import quantize_weight_and_bias
from ondevice_compiler.program import Program, Step, Tensor
from ondevice_compiler.tiling.taps import axes_of


def window_of(step: Step, feature: Tensor, output: Tensor, weight: tuple[int, ...]) -> Window:
    """Geometry of a convolution from its input, output and the shape of its weight."""
    return Window.of(step, feature.shape, output.shape, (weight[1], weight[2]))


def macs(step: Step, program: Program) -> int:
    """Multiply-accumulates of the forward pass, padding included."""
    output = program.tensor(step.outputs[0])
    elements = prod(whole_shape(weight_tensors(step, program.tensors)))
    return elements * output.shape[1] * output.shape[2]


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = clip(conv(x, w) + b); int8 requantises, or leaves real logits for the loss."""
    x_tensor, b_tensor = program.tensor(step.inputs[0]), program.tensor(step.inputs[2])
    weights = weight_tensors(step, program.tensors)
    y_tensor = program.tensor(step.outputs[0])
    shape = whole_shape(weights)
    window = window_of(step, x_tensor, y_tensor, shape)
    groups, inner = step.attributes["groups"], shape[3]
    per_group = shape[0] // groups
    integer = x_tensor.dtype == "int8"

    if integer and groups == 1 and DotConvolution.fits(window, weights):
        dot = DotConvolution(k, window, x_tensor, weights, b_tensor)
        offset = k.scalar("offset", "int32", -_zero_point(x_tensor))
        finish = output_store(k, step, x_tensor, weights, y_tensor)
        dot.emit(y_tensor, offset, finish)
        return

    lines = axes_of(window, transposed=False)
    if integer and is_depthwise(weights, groups, lines[1]):
        depthwise = Depthwise(k, lines, "x", x_tensor, weights)
        bias = k.tensor("bias", b_tensor)
        offset = k.scalar("offset", "int32", -_zero_point(x_tensor))
        finish = output_store(k, step, x_tensor, weights, y_tensor)
        y = k.tensor("y", y_tensor, written=True)

        def put(sums: list[Any], places: list[Any]) -> None:
            for acc, (row, column, channel) in zip(sums, places, strict=True):
                k.set(y, (0, row, column, channel), finish(acc, channel))

        depthwise.emit(offset, lambda channel: bias[channel], put)
        return

    x = k.tensor("x", x_tensor)
    runs = segments(k, weights)
    b = k.tensor("bias", b_tensor)
    zero = k.scalar("x_zero", "int32", _zero_point(x_tensor)) if integer else None
    axes = {"oh": window.out_height, "ow": window.out_width, "co": shape[0]}

    dtype = "int32" if integer else "float32"
    nothing = T.int32(0) if integer else T.float32(0)

    def summed(number: int, run: Segment) -> Any:
        def combine(acc: Any, oh: Any, ow: Any, co: Any, kh: Any, kw: Any, ci: Any) -> Any:
            row, column, inside = window.source(oh, ow, kh, kw)
            channel = run.channel(ci)
            if groups > 1:
                channel = T.floordiv(co, per_group) * inner + channel
            element = x[0, row, column, channel]
            value = T.cast(element, "int32") - zero if integer else element
            product = value * run.read(co, kh, kw, ci)
            return acc + guarded(inside, product, nothing)

        along = {"kh": window.kernel_height, "kw": window.kernel_width, "ci": run.extent}
        name = f"acc{number}" if number else "acc"
        return k.reduce(
            axes, along, dtype, lambda *at: nothing if number else b[at[2]], combine, name
        )

    sums = [summed(number, run) for number, run in enumerate(runs)]
    finish = output_store(k, step, x_tensor, weights, y_tensor)
    y = k.tensor("y", y_tensor, written=True)

    def stored(*at: Any) -> list[tuple[Any, Any, Any]]:
        total = sums[0](*at)
        for more in sums[1:]:
            total = total + more(*at)
        return [(y, finish(total, at[2]), (0, *at))]

    k.store(axes, stored)


def output_store(
    k: KernelBuilder, step: Step, x: Tensor, weights: Sequence[Tensor], y: Tensor
) -> Any:
    """From the accumulator to the stored output of a layer with weights [O, ...]."""
    low = step.attributes.get("low")
    high = step.attributes.get("high")
    if x.dtype == "float32":
        if low is None:
            return lambda acc, co: acc
        lower_bound = k.scalar("low", "float32", low)
        if high is None or high >= LARGEST_FLOAT32:
            return lambda acc, co: T.max(acc, lower_bound)
        upper_bound = k.scalar("high", "float32", high)
        return lambda acc, co: T.min(T.max(acc, lower_bound), upper_bound)
    assert x.quantization is not None
    real = x.quantization.scales * np.broadcast_to(whole_scales(weights), (y.shape[3],))
    if y.dtype == "float32":
        unit = k.table("unit", real.astype(np.float32))
        return lambda acc, co: T.cast(acc, "float32") * unit[co]
    assert y.quantization is not None
    bounds = (-128 if low is None else low, 127 if high is None else high)
    return requantizer(k, real / y.quantization.scales, y.quantization.zero_point, bounds)


def _zero_point(tensor: Tensor) -> int:
    return 0 if tensor.quantization is None else tensor.quantization.zero_point


def _shape(attributes: Any, x: Any, w: Any, b: Any) -> tuple[int, ...]:
    top, left, bottom, right = attributes["padding"]
    stride_height, stride_width = attributes["stride"]
    return (
        1,
        (x[1] + top + bottom - w[1]) // stride_height + 1,
        (x[2] + left + right - w[2]) // stride_width + 1,
        w[0],
    )


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any, w: Any, b: Any) -> list[Any]:
    geometry = {name: list(attributes[name]) for name in ("stride", "padding")}
    groups = attributes["groups"]
    dx = call("conv2d_dx", adjoint, w, shape=list(shape_of(x)), groups=groups, **geometry)
    dw = call("conv2d_dw", adjoint, x, shape=list(shape_of(w)), groups=groups, **geometry)
    return [dx, dw, call("bias_gradient", adjoint)]


register("conv2d", lower, _shape, _gradient)
OPERATOR = Operator(lower, macs, quantize_parameters=quantize_weight_and_bias)
