"""Padding of a feature map with a constant; zeros before a convolution fold into it instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.crop import moved
from ondevice_compiler.ops.operator import Operator, call, register, same_quantization, shape_of
from ondevice_compiler.ops.rescale import rescaled
from ondevice_compiler.program import Program, Quantization, Step, Tensor


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = value everywhere, then x at `before`."""
    x_tensor, y_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    before, value = step.attributes["before"], step.attributes["value"]
    read = rescaled(k, "x", x_tensor, y_tensor)
    if y_tensor.quantization is not None:
        units = np.rint(value / y_tensor.quantization.scales[0]) + y_tensor.quantization.zero_point
        constant = T.cast(k.scalar("value", "int32", int(np.clip(units, -128, 127))), "int8")
    else:
        constant = k.scalar("value", "float32", value)
    y = k.tensor("y", y_tensor, written=True)
    k.store(axes_of(y_tensor), lambda *i: [(y, constant, i)])
    k.store(axes_of(x_tensor), lambda *i: [(y, read(*i), moved(i, before))])


def _output_quantization(step: Step, tensors: Mapping[str, Tensor]) -> Quantization | None:
    """Zero is exact in every scale."""
    return same_quantization(step, tensors) if step.attributes["value"] == 0.0 else None


def _shape(attributes: Any, x: Any) -> tuple[int, ...]:
    sides = zip(attributes["before"], x, attributes["after"], strict=True)
    return tuple(sum(side) for side in sides)


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any) -> list[Any]:
    begin, shape = list(attributes["before"]), list(shape_of(x))
    return [call("crop_gradient", adjoint, begin=begin, shape=shape)]


register("pad", lower, _shape, _gradient)
OPERATOR = Operator(lower, output_quantization=_output_quantization)
