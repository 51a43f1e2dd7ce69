"""Gradient of a bias: the sum of the output gradient over all pixels, consumed by the update."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.operator import Operator, register
from ondevice_compiler.ops.parameter_update import parameter_update
from ondevice_compiler.ops.real_update import Update
from ondevice_compiler.program import Program, Step
from ondevice_compiler.tiling.turns import vectors_of


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """db[o] = sum over pixels of g[h, w, o], then the update."""
    g_tensor = program.tensor(step.inputs[0])
    _, height, width, channels = g_tensor.shape
    g = k.tensor("g", g_tensor)
    update = parameter_update(k, step, program)
    if g_tensor.dtype == "int8":
        for first, turns, lanes in vectors_of(channels):
            with k.loop("channel", 0, turns) as turn:
                _sums(k, g, height * width, first + turn * lanes, lanes, update)
        return

    def combine(acc: Any, co: Any, h: Any, w: Any) -> Any:
        return acc + g[0, h, w, co]

    acc = k.reduce(
        {"co": channels}, {"oh": height, "ow": width}, "float32", lambda co: T.float32(0), combine
    )
    k.store({"co": channels}, lambda co: update(acc(co), (co,)))


def _sums(k: KernelBuilder, g: Any, pixels: int, first: Any, lanes: int, update: Update) -> None:
    """A few neighbouring channels of an int8 gradient."""
    sums = k.registers("acc", lanes)
    for lane in range(lanes):
        k.set(sums, lane, T.int32(0))
    arguments = T.address_of(g[0, 0, 0, first]), pixels, g.shape[3], T.address_of(sums[0])
    T.evaluate(T.call_extern("int32", f"od_sum{lanes}", *arguments))
    for lane in range(lanes):
        for target, value, indices in update(sums[lane], (first + lane,)):
            k.set(target, indices, value)


register("bias_gradient", lower, lambda attributes, g: (g[3],))
OPERATOR = Operator(lower)
