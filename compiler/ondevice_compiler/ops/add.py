"""Sum of two feature maps (residual), and of two gradients that meet at a branch."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import LARGEST_FLOAT32, KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.gradient_store import gradient_store
from ondevice_compiler.ops.operator import Operator, register
from ondevice_compiler.program import Program, Step

ALIGNED_UNIT = 2.0**-12  # What od_align_gradients counts in, in the coarser unit.
MULTIPLIER_BITS = 21  # |x - zero| < 2^8, so that the sum of two products stays below 2^30.


def lower(k: KernelBuilder, step: Step, program: Program, sign: int = 1) -> None:
    """y = clip(a + sign * b); int8: two multiplies, one rounding shift, operands in one scale."""
    a_tensor, b_tensor = (program.tensor(name) for name in step.inputs)
    y_tensor = program.tensor(step.outputs[0])
    low, high = step.attributes.get("low"), step.attributes.get("high")
    a, b = k.tensor("a", a_tensor), k.tensor("b", b_tensor)
    axes = axes_of(y_tensor)
    if a_tensor.dtype == "float32":
        bottom = None if low is None else k.scalar("low", "float32", low)
        top = None
        if high is not None and high < LARGEST_FLOAT32:
            top = k.scalar("high", "float32", high)
        y = k.tensor("y", y_tensor, written=True)

        def total(*i: Any) -> list[tuple[Any, Any, Any]]:
            value = a[i] + b[i] if sign > 0 else a[i] - b[i]
            value = value if bottom is None else T.max(value, bottom)
            return [(y, value if top is None else T.min(value, top), i)]

        k.store(axes, total)
        return
    quantizations = [a_tensor.quantization, b_tensor.quantization, y_tensor.quantization]
    (sa, za), (sb, zb), (sy, zy) = [(q.scale[0], q.zero_point) for q in quantizations if q]
    shift = MULTIPLIER_BITS - 1 - int(np.floor(np.log2(max(sa, sb) / sy)))
    shift = min(max(shift, 1), 30)
    scalars = {
        "a_zero": za,
        "a_multiplier": round(sa / sy * 2.0**shift),
        "b_zero": zb,
        "b_multiplier": sign * round(sb / sy * 2.0**shift),
    }
    declared = {name: k.scalar(name, "int32", value) for name, value in scalars.items()}
    finish = [
        k.scalar("shift", "int32", shift),
        k.scalar("y_zero", "int32", zy),
        k.scalar("low", "int32", -128 if low is None else low),
        k.scalar("high", "int32", 127 if high is None else high),
    ]
    y = k.tensor("y", y_tensor, written=True)

    def integer_total(*i: Any) -> list[tuple[Any, Any, Any]]:
        left = (T.cast(a[i], "int32") - declared["a_zero"]) * declared["a_multiplier"]
        right = (T.cast(b[i], "int32") - declared["b_zero"]) * declared["b_multiplier"]
        value = T.call_pure_extern("int32", "od_round_shift_clamp", left + right, *finish)
        return [(y, T.cast(value, "int8"), i)]

    k.store(axes, integer_total)


def lower_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """Sum of two gradients of one tensor; int8: brought to the coarser of their two scales."""
    a_tensor, b_tensor = (program.tensor(name) for name in step.inputs[:2])
    a, b = k.tensor("a", a_tensor), k.tensor("b", b_tensor)
    integer = a_tensor.dtype == "int8"
    apart = k.shift(b_tensor.name, a_tensor.name, "apart") if integer else None
    raised = T.max(apart, 0) if integer else None
    store, _ = gradient_store(k, step, program, ALIGNED_UNIT if integer else 1.0, raised)

    def total(*i: Any) -> list[tuple[Any, Any, Any]]:
        if not integer:
            return store(a[i] + b[i], i)
        left, right = T.cast(a[i], "int32"), T.cast(b[i], "int32")
        return store(T.call_pure_extern("int32", "od_align_gradients", left, right, apart), i)

    k.store(axes_of(a_tensor), total)


register("add", lower, lambda attributes, a, b: a, lambda attributes, g, y, a, b: [g, g])
OPERATOR = Operator(lower)
GRADIENT = Operator(lower_gradient)
