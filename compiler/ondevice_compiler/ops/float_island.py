"""How a kernel computes in float32 inside an int8 program: norms and softmax.

Elements become real numbers as they are read and integers as they are stored, so that one kernel
description serves both programs, and no float map is ever in memory (docs/numerics.md). Each
operation is rounded on its own: host, QEMU and silicon agree bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import LARGEST_FLOAT32, KernelBuilder
from ondevice_compiler.ops.gradient_store import Store, fold_of, mask_of
from ondevice_compiler.program import Program, Step, Tensor

Load = Callable[..., Any]


def real_load(k: KernelBuilder, name: str, tensor: Tensor) -> Load:
    """Declares a tensor that is read as float32 numbers.

    Args:
        k: Builder of the kernel.
        name: Of the parameter.
        tensor: float32; an int8 activation, read as scale * (q - zero_point); or an int8 gradient,
            read as its integers, so that the kernel counts in units of 2^exponent.

    Returns:
        The element at given indices.
    """
    buffer = k.tensor(name, tensor)
    if tensor.dtype == "float32":
        return lambda *indices: buffer[indices]
    if tensor.kind == "gradient":
        assert tensor.quantization is None, f"{tensor.name} has a fold that only a layer can read"
        return lambda *indices: T.cast(buffer[indices], "float32")
    assert tensor.quantization is not None
    scale = k.scalar(f"{name}_scale", "float32", tensor.quantization.scale[0])
    zero = k.scalar(f"{name}_zero", "int32", tensor.quantization.zero_point)
    return lambda *indices: T.cast(T.cast(buffer[indices], "int32") - zero, "float32") * scale


def real_store(k: KernelBuilder, step: Step, tensor: Tensor) -> Store:
    """Declares the output `y` and returns the store of a float32 number, clipped as the step asks.

    Args:
        k: Builder that has the step's operands already.
        step: Its attributes `low` and `high` bound y where a clip was fused.
        tensor: The output.
    """
    low, high = step.attributes.get("low"), step.attributes.get("high")
    if tensor.dtype == "float32":
        bottom = None if low is None else k.scalar("low", "float32", low)
        top = None
        if high is not None and high < LARGEST_FLOAT32:
            top = k.scalar("high", "float32", high)
        y = k.tensor("y", tensor, written=True)

        def store_float(value: Any, indices: tuple[Any, ...]) -> list[tuple[Any, Any, Any]]:
            value = value if bottom is None else T.max(value, bottom)
            return [(y, value if top is None else T.min(value, top), indices)]

        return store_float
    assert tensor.quantization is not None
    finish = [
        k.scalar("y_inverse", "float32", 1.0 / tensor.quantization.scale[0]),
        k.scalar("y_zero", "int32", tensor.quantization.zero_point),
        k.scalar("low", "int32", -128 if low is None else low),
        k.scalar("high", "int32", 127 if high is None else high),
    ]
    y = k.tensor("y", tensor, written=True)

    def store(value: Any, indices: tuple[Any, ...]) -> list[tuple[Any, Any, Any]]:
        stored = T.call_pure_extern("int32", "od_quantize", value, *finish)
        return [(y, T.cast(stored, "int8"), indices)]

    return store


def real_gradient_store(k: KernelBuilder, step: Step, program: Program) -> Store:
    """Declares the gradient that the step writes and returns the store of a float32 number.

    The number is in the units of the step's first input, the output gradient; a mask is the step's
    last input, see `gradient_store`.
    """
    output = program.tensor(step.outputs[0])
    mask = mask_of(k, step, program, output.shape)
    if output.dtype == "float32":
        out = k.tensor("out", output, written=True)

        def store_float(value: Any, indices: tuple[Any, ...]) -> list[tuple[Any, Any, Any]]:
            masked = value if mask is None else T.Select(mask(indices), value, T.float32(0))
            return [(out, masked, indices)]

        return store_float
    fold = np.broadcast_to(fold_of(program, output.name), (output.shape[-1],))
    factor = k.table("fold", fold.astype(np.float32))
    exponent = k.shift(step.inputs[0], output.name)
    scale = k.scale(output.name)
    out = k.tensor("out", output, written=True)

    def store(value: Any, indices: tuple[Any, ...]) -> list[tuple[Any, Any, Any]]:
        scaled = value * factor[indices[-1]]
        stored = T.call_extern("int32", "od_store_real_gradient", scaled, exponent, scale)
        if mask is not None:
            stored = T.if_then_else(mask(indices), stored, 0)
        return [(out, T.cast(stored, "int8"), indices)]

    return store
