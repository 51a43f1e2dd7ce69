"""Sum of a map and a parameter of its shape: the position embedding of a transformer.

    y[h, w, c] = x[h, w, c] + table[h, w, c]

In an int8 program the table stays float32, and the kernel computes in float32.
"""

from __future__ import annotations

from typing import Any

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.float_island import real_load, real_store
from ondevice_compiler.ops.operator import Operator, call, register
from ondevice_compiler.ops.parameter_update import parameter_update
from ondevice_compiler.program import Program, Step


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = x + table."""
    x_tensor, table_tensor = (program.tensor(name) for name in step.inputs)
    x, table = real_load(k, "x", x_tensor), k.tensor("table", table_tensor)
    store = real_store(k, step, program.tensor(step.outputs[0]))
    k.store(axes_of(x_tensor), lambda *i: store(x(*i) + table[i], i))


def lower_weight_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dtable = g, and the update."""
    g_tensor = program.tensor(step.inputs[0])
    g = real_load(k, "g", g_tensor)
    update = parameter_update(k, step, program)
    k.store(axes_of(g_tensor), lambda *i: update(g(*i), i))


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any, table: Any) -> list[Any]:
    return [adjoint, call("position_weight_gradient", adjoint)]


register("position", lower, lambda attributes, x, table: x, _gradient)
register("position_weight_gradient", lower_weight_gradient, lambda attributes, g: g)
OPERATOR, WEIGHT_GRADIENT = Operator(lower), Operator(lower_weight_gradient)
