"""An element of a feature map in the scale of another one."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.requantization import requantizer
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
    zero = k.scalar(f"{name}_zero", "int32", x.quantization.zero_point)
    ratio = x.quantization.scales / y.quantization.scales
    finish = requantizer(k, ratio, y.quantization.zero_point, prefix=f"{name}_")
    return lambda *i: finish(T.cast(values[i], "int32") - zero, 0)
