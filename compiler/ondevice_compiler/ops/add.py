"""Sum of two feature maps (residual), and of two gradients that meet at a branch."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import LARGEST_FLOAT32, KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.gradient_store import gradient_store
from ondevice_compiler.ops.operator import Operator, register
from ondevice_compiler.ops.requantization import INT8
from ondevice_compiler.program import Program, Step
from ondevice_compiler.tiling.elements import each_element

ALIGNED_UNIT = 2.0**-12  # What od_align_gradients counts in, in the coarser unit.
MULTIPLIER_BITS = 21  # |x - zero| < 2^8, so that the sum of two products stays below 2^30.


def lower(k: KernelBuilder, step: Step, program: Program, sign: int = 1) -> None:
    """y = clip(a + sign * b); int8: two multiplies, one rounding shift, operands in one scale."""
    a_tensor, b_tensor = (program.tensor(name) for name in step.inputs)
    y_tensor = program.tensor(step.outputs[0])
    low, high = step.attributes.get("low"), step.attributes.get("high")
    if a_tensor.dtype == "float32":
        a, b = k.tensor("a", a_tensor), k.tensor("b", b_tensor)
        bottom = None if low is None else k.scalar("low", "float32", low)
        top = None
        if high is not None and high < LARGEST_FLOAT32:
            top = k.scalar("high", "float32", high)
        y = k.tensor("y", y_tensor, written=True)

        def total(*i: Any) -> list[tuple[Any, Any, Any]]:
            value = a[i] + b[i] if sign > 0 else a[i] - b[i]
            value = value if bottom is None else T.max(value, bottom)
            return [(y, value if top is None else T.min(value, top), i)]

        k.store(axes_of(y_tensor), total)
        return
    flat = (y_tensor.elements,)
    a, b = k.tensor("a", a_tensor, shape=flat), k.tensor("b", b_tensor, shape=flat)
    quantizations = [a_tensor.quantization, b_tensor.quantization, y_tensor.quantization]
    (sa, za), (sb, zb), (sy, zy) = [(q.scale[0], q.zero_point) for q in quantizations if q]
    shift = MULTIPLIER_BITS - 1 - int(np.floor(np.log2(max(sa, sb) / sy)))
    shift = min(max(shift, 1), 30)
    factors = {
        "a_multiplier": round(sa / sy * 2.0**shift),
        "b_multiplier": sign * round(sb / sy * 2.0**shift),
    }
    m_a, m_b = (k.scalar(name, "int32", value) for name, value in factors.items())
    start = -za * factors["a_multiplier"] - zb * factors["b_multiplier"]
    start = k.scalar("start", "int32", start)
    name, finish = "od_shift_int8", [k.scalar("shift", "int32", shift - 1)]
    finish.append(k.scalar("zero", "int32", 2 * zy + 1))
    if (low, high) not in ((None, None), INT8):
        name = "od_shift_clamp"
        finish.append(k.scalar("low", "int32", -128 if low is None else low))
        finish.append(k.scalar("high", "int32", 127 if high is None else high))
    y = k.tensor("y", y_tensor, written=True, shape=(y_tensor.elements,))

    def add_one(at: Any) -> None:
        left, right = T.cast(a[at], "int32") * m_a, T.cast(b[at], "int32") * m_b
        value = T.call_pure_extern("int32", name, start + left + right, *finish)
        k.set(y, at, T.cast(value, "int8"))

    each_element(k, y_tensor.elements, add_one)


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
