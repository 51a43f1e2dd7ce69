"""Gradient of a convolution with respect to its input, gathered per input pixel."""

from __future__ import annotations

from math import prod
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.conv2d import window_of
from ondevice_compiler.ops.conv2d_dx_rows import RowsGradient
from ondevice_compiler.ops.depthwise import Depthwise, is_depthwise
from ondevice_compiler.ops.geometry import guarded
from ondevice_compiler.ops.gradient_store import gradient_store, integer_store
from ondevice_compiler.ops.operator import Operator, register
from ondevice_compiler.ops.split_weight import (
    runs_of,
    weight_reader,
    weight_tensors,
    whole_shape,
)
from ondevice_compiler.program import Program, Step
from ondevice_compiler.tiling.taps import axes_of


def macs(step: Step, program: Program) -> int:
    """Multiply-accumulates: as many as the forward pass has."""
    gradient = program.tensor(step.inputs[0])
    elements = prod(whole_shape(weight_tensors(step, program.tensors)))
    return elements * gradient.shape[1] * gradient.shape[2]


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx[h, w, i] = sum over kh, kw, o of g[(h + top - kh) / stride, ..., o] * w[o, kh, kw, i].

    The weight is read in place, transposed by its indices: no copy, no zero-stuffed gradient.
    """
    g_tensor, out_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    weights = weight_tensors(step, program.tensors)
    shape = whole_shape(weights)
    window = window_of(step, out_tensor, g_tensor, shape)
    groups = step.attributes["groups"]
    per_group, inner = shape[0] // groups, shape[3]
    integer = g_tensor.dtype == "int8"
    dtype = "int32" if integer else "float32"

    lines = axes_of(window, transposed=True)
    if integer and is_depthwise(weights, groups, lines[1]):
        depthwise = Depthwise(k, lines, "g", g_tensor, weights)
        put = integer_store(k, step, program, shape=out_tensor.shape[1:]).pixels
        depthwise.emit(T.int32(0), lambda channel: T.int32(0), put)
        return
    if integer and groups == 1 and runs_of(weights)[0]:
        gradient = RowsGradient(k, window, g_tensor, weights)
        gradient.emit(integer_store(k, step, program, shape=gradient.shape))
        return

    g = k.tensor("g", g_tensor)
    weight = weight_reader(k, weights)
    axes = {"ih": window.height, "iw": window.width, "ci": out_tensor.shape[3]}
    along = {"kh": window.kernel_height, "kw": window.kernel_width, "co": per_group}

    def combine(acc: Any, h: Any, col: Any, ci: Any, kh: Any, kw: Any, co: Any) -> Any:
        row, column, inside = window.target(h, col, kh, kw)
        channel = T.floordiv(ci, inner) * per_group + co if groups > 1 else co
        element = g[0, row, column, channel]
        value = T.cast(element, "int32") if integer else element
        product = value * weight(channel, kh, kw, T.floormod(ci, inner))
        return acc + guarded(inside, product, T.int32(0) if integer else T.float32(0))

    store, _ = gradient_store(k, step, program)
    acc = k.reduce(
        axes, along, dtype, lambda h, w, ci: T.int32(0) if integer else T.float32(0), combine
    )
    k.store(axes, lambda h, w, ci: store(acc(h, w, ci), (0, h, w, ci)))


register("conv2d_dx", lower, lambda attributes, g, w: tuple(attributes["shape"]))
OPERATOR = Operator(lower, macs)
