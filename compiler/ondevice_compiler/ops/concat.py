"""Concatenation of feature maps along H, W or C; the gradient of each is a crop."""

from __future__ import annotations

from typing import Any

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.operator import Operator, call, register, shape_of
from ondevice_compiler.ops.rescale import rescaled
from ondevice_compiler.program import Program, Step


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = the inputs side by side along `axis`, each brought to y's scale."""
    y_tensor, axis = program.tensor(step.outputs[0]), step.attributes["axis"]
    parts = [program.tensor(name) for name in step.inputs]
    reads = [rescaled(k, f"x{index}", part, y_tensor) for index, part in enumerate(parts)]
    y = k.tensor("y", y_tensor, written=True)
    start = 0
    for part, read in zip(parts, reads, strict=True):

        def copy(*i: Any, read: Any = read, start: int = start) -> list[tuple[Any, Any, Any]]:
            return [(y, read(*i), (*i[:axis], i[axis] + start, *i[axis + 1 :]))]

        k.store(axes_of(part), copy)
        start += part.shape[axis]


def _shape(attributes: Any, *parts: Any) -> tuple[int, ...]:
    axis = attributes["axis"]
    total = sum(part[axis] for part in parts)
    return (*parts[0][:axis], total, *parts[0][axis + 1 :])


def _gradient(attributes: Any, adjoint: Any, output: Any, *parts: Any) -> list[Any]:
    axis, gradients, start = attributes["axis"], [], 0
    for part in parts:
        begin = [start if index == axis else 0 for index in range(4)]
        gradients.append(call("crop_gradient", adjoint, begin=begin, shape=list(shape_of(part))))
        start += shape_of(part)[axis]
    return gradients


register("concat", lower, _shape, _gradient)
OPERATOR = Operator(lower)
