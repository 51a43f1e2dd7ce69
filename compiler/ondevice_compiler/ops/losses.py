"""Losses. On the device they are runtime functions (runtime/src/loss.c); Relax sees one operator
each, whose gradient is the error of the logits.
"""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import LARGEST_FLOAT32, KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.operator import Operator, call, register
from ondevice_compiler.program import Program, Step

LOSS_CALLS = {
    "cross_entropy_error": "od_cross_entropy",
    "binary_cross_entropy_error": "od_binary_cross_entropy",
    "mse_error": "od_mse",
}


def lower_cross_entropy_error(k: KernelBuilder, step: Step, program: Program) -> None:
    """softmax(logits) - smoothed one_hot(label); float32, for calibration in the Relax VM."""
    logits_tensor, label_tensor = (program.tensor(name) for name in step.inputs)
    count = logits_tensor.elements
    smoothing = step.attributes.get("smoothing", 0.0)
    wrong, right = smoothing / count, 1.0 - smoothing + smoothing / count
    logits, label = k.tensor("logits", logits_tensor), k.tensor("label", label_tensor)
    out = k.tensor("out", program.tensor(step.outputs[0]), written=True)
    axes, along = {"i": count}, {"j": count}
    top = k.reduce(
        axes,
        along,
        "float32",
        lambda i: T.float32(-LARGEST_FLOAT32),
        lambda acc, i, j: T.max(acc, logits[0, 0, 0, j]),
        "top",
    )
    total = k.reduce(
        axes,
        along,
        "float32",
        lambda i: T.float32(0),
        lambda acc, i, j: acc + T.exp(logits[0, 0, 0, j] - top(i)),
        "total",
    )

    def store(i: Any) -> list[tuple[Any, Any, Any]]:
        hit = T.cast(label[0], "int32") == i
        target = T.Select(hit, T.float32(right), T.float32(wrong))
        return [(out, T.exp(logits[0, 0, 0, i] - top(i)) / total(i) - target, (0, 0, 0, i))]

    k.store(axes, store)


def lower_mse_error(k: KernelBuilder, step: Step, program: Program) -> None:
    """2 / n * (prediction - label); float32, for calibration in the Relax VM."""
    x_tensor, label_tensor = (program.tensor(name) for name in step.inputs)
    x, label = k.tensor("x", x_tensor), k.tensor("label", label_tensor)
    out = k.tensor("out", program.tensor(step.outputs[0]), written=True)
    factor = T.float32(2.0 / x_tensor.elements)
    k.store(axes_of(x_tensor), lambda *i: [(out, (x[i] - label[i]) * factor, i)])


def lower_binary_cross_entropy_error(k: KernelBuilder, step: Step, program: Program) -> None:
    """(sigmoid(logit) - label) / n; float32, for calibration in the Relax VM."""
    x_tensor, label_tensor = (program.tensor(name) for name in step.inputs)
    x, label = k.tensor("x", x_tensor), k.tensor("label", label_tensor)
    out = k.tensor("out", program.tensor(step.outputs[0]), written=True)
    factor, one = T.float32(1.0 / x_tensor.elements), T.float32(1)

    def store(*i: Any) -> list[tuple[Any, Any, Any]]:
        sigmoid = one / (one + T.exp(T.float32(0) - x[i]))
        return [(out, (sigmoid - label[i]) * factor, i)]

    k.store(axes_of(x_tensor), store)


def _no_kernel(k: KernelBuilder, step: Step, program: Program) -> None:
    raise NotImplementedError(f"{step.op} is a runtime function, not a kernel")


def _register(name: str, lower_error: Any) -> None:
    def gradient(attributes: Any, adjoint: Any, output: Any, x: Any, label: Any) -> list[Any]:
        return [call(f"{name}_error", x, label, **attributes), None]

    register(name, _no_kernel, lambda attributes, x, label: (), gradient)
    register(f"{name}_error", lower_error, lambda attributes, x, label: x)


_register("cross_entropy", lower_cross_entropy_error)
_register("binary_cross_entropy", lower_binary_cross_entropy_error)
_register("mse", lower_mse_error)
ERROR = Operator(_no_kernel)
