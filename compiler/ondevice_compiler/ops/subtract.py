"""Difference of two feature maps: the sum's kernel with one multiplier negative."""

from __future__ import annotations

from typing import Any

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops import add
from ondevice_compiler.ops.operator import Operator, call, register
from ondevice_compiler.program import Program, Step


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = clip(a - b)."""
    add.lower(k, step, program, sign=-1)


def _gradient(attributes: Any, adjoint: Any, output: Any, a: Any, b: Any) -> list[Any]:
    return [adjoint, call("lookup_gradient", adjoint, slope="-1.0")]


register("subtract", lower, lambda attributes, a, b: a, _gradient)
OPERATOR = Operator(lower)
