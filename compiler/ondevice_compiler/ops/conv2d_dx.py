"""Gradient of a convolution with respect to its input, gathered per input pixel."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.conv2d import weight_value, window_of
from ondevice_compiler.ops.geometry import guarded
from ondevice_compiler.ops.gradient_store import gradient_store
from ondevice_compiler.ops.operator import Operator, register
from ondevice_compiler.program import Program, Step


def macs(step: Step, program: Program) -> int:
    """Multiply-accumulates: as many as the forward pass has."""
    gradient, weight = (program.tensor(name) for name in step.inputs[:2])
    return weight.elements * gradient.shape[1] * gradient.shape[2]


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx[h, w, i] = sum over kh, kw, o of g[(h + top - kh) / stride, ..., o] * w[o, kh, kw, i].

    The weight is read in place, transposed by its indices: no copy, no zero-stuffed gradient.
    """
    g_tensor, w_tensor = (program.tensor(name) for name in step.inputs[:2])
    out_tensor = program.tensor(step.outputs[0])
    window = window_of(step, out_tensor, g_tensor, w_tensor)
    groups = step.attributes["groups"]
    per_group, inner = w_tensor.shape[0] // groups, w_tensor.shape[3]
    integer = g_tensor.dtype == "int8"
    dtype = "int32" if integer else "float32"

    g = k.tensor("g", g_tensor)
    w = k.tensor("w", w_tensor)
    axes = {"ih": window.height, "iw": window.width, "ci": out_tensor.shape[3]}
    along = {"kh": window.kernel_height, "kw": window.kernel_width, "co": per_group}

    def combine(acc: Any, h: Any, col: Any, ci: Any, kh: Any, kw: Any, co: Any) -> Any:
        row, column, inside = window.target(h, col, kh, kw)
        channel = T.floordiv(ci, inner) * per_group + co if groups > 1 else co
        weight = weight_value(w[channel, kh, kw, T.floormod(ci, inner)], w_tensor.dtype)
        gradient = g[0, row, column, channel]
        product = (T.cast(gradient, "int32") if integer else gradient) * weight
        return acc + guarded(inside, product, T.int32(0) if integer else T.float32(0))

    store, _ = gradient_store(k, step, program)
    acc = k.reduce(
        axes, along, dtype, lambda h, w, ci: T.int32(0) if integer else T.float32(0), combine
    )
    k.store(axes, lambda h, w, ci: store(acc(h, w, ci), (0, h, w, ci)))


register("conv2d_dx", lower, lambda attributes, g, w: tuple(attributes["shape"]))
OPERATOR = Operator(lower, macs)
