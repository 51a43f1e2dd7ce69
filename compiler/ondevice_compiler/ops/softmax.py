"""Softmax over the channels, as attention has it; the softmax of the loss is part of the loss.

    y = exp(scale * x - max) / sum(exp(scale * x - max))

In an int8 program it computes in float32 and stores in steps of 1/256.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.float_island import real_gradient_store, real_load, real_store
from ondevice_compiler.ops.operator import Operator, call, register
from ondevice_compiler.program import Program, Quantization, Step, Tensor

PROBABILITY = Quantization((1.0 / 256.0,), -128)  # 0 to 255/256


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = exp(x - top) / total, for each pixel."""
    x_tensor = program.tensor(step.inputs[0])
    _, height, width, channels = x_tensor.shape
    load = real_load(k, "x", x_tensor)
    factor = step.attributes["scale"]
    scale = None if factor == 1.0 else k.scalar("scale", "float32", factor)
    store = real_store(k, step, program.tensor(step.outputs[0]))
    pixels, along = {"h": height, "w": width}, {"c": channels}

    def x(h: Any, w: Any, c: Any) -> Any:
        value = load(0, h, w, c)
        return value if scale is None else value * scale

    def larger(acc: Any, h: Any, w: Any, c: Any) -> Any:
        return T.max(acc, x(h, w, c))

    def exponential(h: Any, w: Any, c: Any) -> Any:
        return k.exponential(x(h, w, c) - top(h, w))

    def add(acc: Any, h: Any, w: Any, c: Any) -> Any:
        return acc + exponential(h, w, c)

    top = k.reduce(pixels, along, "float32", lambda h, w: x(h, w, 0), larger, "top")
    total = k.reduce(pixels, along, "float32", lambda h, w: T.float32(0), add, "total")
    k.store(pixels | along, lambda h, w, c: store(exponential(h, w, c) / total(h, w), (0, h, w, c)))


def lower_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx = scale * y * (g - sum(g * y)), for each pixel."""
    g_tensor, y_tensor = (program.tensor(name) for name in step.inputs[:2])
    _, height, width, channels = g_tensor.shape
    g, y = real_load(k, "g", g_tensor), real_load(k, "y", y_tensor)
    scale = k.scalar("scale", "float32", step.attributes["scale"])
    store = real_gradient_store(k, step, program)
    pixels, along = {"h": height, "w": width}, {"c": channels}

    def add(acc: Any, h: Any, w: Any, c: Any) -> Any:
        return acc + g(0, h, w, c) * y(0, h, w, c)

    def finish(h: Any, w: Any, c: Any) -> list[tuple[Any, Any, Any]]:
        where = (0, h, w, c)
        return store(scale * (y(*where) * (g(*where) - total(h, w))), where)

    total = k.reduce(pixels, along, "float32", lambda h, w: T.float32(0), add, "total")
    k.store(pixels | along, finish)


def _probability(step: Step, tensors: Mapping[str, Tensor]) -> Quantization:
    return PROBABILITY


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any) -> list[Any]:
    return [call("softmax_gradient", adjoint, output, **attributes)]


register("softmax", lower, lambda attributes, x: x, _gradient)
register("softmax_gradient", lower_gradient, lambda attributes, g, y: g)
OPERATOR = Operator(lower, output_quantization=_probability)
GRADIENT = Operator(lower_gradient)
