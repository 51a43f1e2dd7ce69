"""An element of a feature map in the scale of another one."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.fixed_point import encode_multipliers
from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.program import Tensor


def rescaled(k: KernelBuilder, name: str, x: Tensor, y: Tensor) -> Any:
    """Adds the parameter `name` and what its scale needs; reads an element at given indices.

    float32, and int8 of the same scale, is copied; other int8 is requantised.
    """
    values = k.tensor(name, x)
    if x.dtype == "float32" or x.quantization == y.quantization:
        return lambda *i: values[i]
    assert x.quantization is not None
    assert y.quantization is not None
    multipliers, shifts = encode_multipliers(x.quantization.scales / y.quantization.scales)
    zero = k.scalar(f"{name}_zero", "int32", x.quantization.zero_point)
    parameters = [
        k.scalar(f"{name}_multiplier", "int32", int(multipliers[0])),
        k.scalar(f"{name}_shift", "int32", int(shifts[0])),
        k.scalar(f"{name}_new_zero", "int32", y.quantization.zero_point),
        T.int32(-128),
        T.int32(127),
    ]

    def read(*i: Any) -> Any:
        value = T.cast(values[i], "int32") - zero
        done = T.call_pure_extern("int32", "od_requantize_clamp", value, *parameters)
        return T.cast(done, "int8")

    return read
