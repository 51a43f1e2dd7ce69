"""Gradient of a bias: the sum of the output gradient over all pixels, consumed by the update."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.operator import Operator, register
from ondevice_compiler.ops.parameter_update import parameter_update
from ondevice_compiler.program import Program, Step


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """db[o] = sum over pixels of g[h, w, o], then the update."""
    g_tensor = program.tensor(step.inputs[0])
    _, height, width, channels = g_tensor.shape
    integer = g_tensor.dtype == "int8"
    dtype = "int32" if integer else "float32"
    g = k.tensor("g", g_tensor)
    update = parameter_update(k, step, program)

    def combine(acc: Any, co: Any, h: Any, w: Any) -> Any:
        value = g[0, h, w, co]
        return acc + (T.cast(value, "int32") if integer else value)

    acc = k.reduce(
        {"co": channels},
        {"oh": height, "ow": width},
        dtype,
        lambda co: T.int32(0) if integer else T.float32(0),
        combine,
    )
    k.store({"co": channels}, lambda co: update(acc(co), (co,)))


register("bias_gradient", lower, lambda attributes, g: (g[3],))
OPERATOR = Operator(lower)
