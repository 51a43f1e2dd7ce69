"""How a backward kernel stores a gradient: masked by the clip before it, and requantised.

int8 gradients (docs/numerics.md) hold D = dL/dy * fold / 2^exponent, where `fold` is the weight
scale of the convolution that reads the gradient: with it folded in, the sums over output channels
in dX need no scale of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm.tirx.script.builder as T
from numpy.typing import NDArray

from ondevice_compiler.fixed_point import encode_multipliers
from ondevice_compiler.kernel_builder import LARGEST_FLOAT32, KernelBuilder
from ondevice_compiler.program import Program, Step

LAYER_DX = ("conv2d_dx", "conv2d_transpose_dx")  # They read a gradient with the weight's fold.

WORD = 32  # The kernels' shifts are this much less: they shift a product's high word.

Store = Callable[[Any, tuple[Any, ...]], list[tuple[Any, Any, Any]]]


def gradient_store(
    k: KernelBuilder, step: Step, program: Program, factor: float = 1.0, raised: Any = None
) -> tuple[Store, Callable[[tuple[Any, ...]], Any] | None]:
    """Declares what the store needs and returns it.

    Args:
        k: Builder that has the step's own operands already.
        step: Its last input is the mask where the attribute `mask` is set: "bits" (one bit an
            element) or "output" (the clip's output, compared with `low` and `high`).
        program: Holds the step's tensors.
        factor: Constant factor of the accumulated gradient, such as 1/n of an average pool.
        raised: How many powers of two its unit lies above the first input's; None: none.

    Returns:
        (store, mask): `store(value, indices)` gives the statements that write the gradient;
        `mask(indices)` is the condition under which it is not 0, None where there is no mask.
    """
    output = program.tensor(step.outputs[0])
    axes = len(output.shape)
    mask = mask_of(k, step, program)
    if output.dtype == "float32":
        multiply = k.scalar("factor", "float32", factor) if factor != 1.0 else None
        out = k.tensor("out", output, written=True)

        def store_float(value: Any, indices: tuple[Any, ...]) -> list[tuple[Any, Any, Any]]:
            scaled = value if multiply is None else value * multiply
            if mask is not None:
                scaled = T.Select(mask(indices), scaled, T.float32(0))
            return [(out, scaled, indices)]

        return store_float, mask

    source = program.tensor(step.inputs[0])
    fold = np.broadcast_to(fold_of(program, output.name), (output.shape[-1],))
    inner = 1.0 if step.op in LAYER_DX else fold_of(program, source.name)
    multipliers, shifts = encode_multipliers(fold * factor / np.asarray(inner))
    pairs = np.stack([multipliers, shifts - WORD], axis=1)
    read = _same(k, pairs[0]) if (pairs == pairs[0]).all() else _each(k, pairs)
    exponent = k.shift(source.name, output.name)
    if raised is not None:
        exponent = exponent + raised
    lowest = k.scalar("lowest", "int32", int(shifts.min()) - WORD) - exponent
    scale = k.scale(output.name)
    out = k.tensor("out", output, written=True)
    limit, zeros = (T.address_of(k.registers(name, 1)[0]) for name in ("limit", "zeros"))
    k.around(
        T.call_extern("int32", "od_begin_gradient", lowest, limit, zeros, scale),
        T.call_extern("int32", "od_end_gradient", zeros, scale),
    )

    def store_int8(value: Any, indices: tuple[Any, ...]) -> list[tuple[Any, Any, Any]]:
        multiplier, shift = read(indices[axes - 1])
        stored = T.call_extern(
            "int32",
            "od_store_gradient",
            value,
            multiplier,
            shift - exponent,
            limit,
            zeros,
            scale,
        )
        if mask is not None:
            stored = T.if_then_else(mask(indices), stored, 0)
        return [(out, T.cast(stored, "int8"), indices)]

    return store_int8, mask


def _same(k: KernelBuilder, pair: NDArray[Any]) -> Callable[[Any], tuple[Any, Any]]:
    """Multiplier and shift of any channel: two scalars."""
    scalars = [
        k.scalar(n, "int32", int(v)) for n, v in zip(("multiplier", "shift"), pair, strict=True)
    ]
    return lambda channel: (scalars[0], scalars[1])


def _each(k: KernelBuilder, pairs: NDArray[Any]) -> Callable[[Any], tuple[Any, Any]]:
    """Multiplier and shift of a channel, side by side in a table: one address for both."""
    table = k.table("factor", pairs)
    return lambda channel: (table[channel, 0], table[channel, 1])


def fold_of(program: Program, gradient: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Per-channel factor folded into an int8 gradient; 1 where none is."""
    quantization = program.tensor(gradient).quantization
    return np.ones(1) if quantization is None else quantization.scales


def mask_of(
    k: KernelBuilder, step: Step, program: Program
) -> Callable[[tuple[Any, ...]], Any] | None:
    """Declares the step's mask, if any, and returns the condition under which it is open."""
    kind = step.attributes.get("mask")
    if kind is None:
        return None
    tensor = program.tensor(step.inputs[-1])
    mask = k.tensor("mask", tensor)
    if kind == "bits":
        extents = program.tensor(step.outputs[0]).shape

        def bit(indices: tuple[Any, ...]) -> Any:
            flat: Any = 0
            for extent, index in zip(extents, indices, strict=True):
                flat = flat * extent + index
            byte = T.cast(mask[T.shift_right(flat, 3)], "int32")
            return T.bitwise_and(T.shift_right(byte, T.bitwise_and(flat, 7)), 1) != 0

        return bit
    low, high = step.attributes["low"], step.attributes["high"]
    dtype = "float32" if tensor.dtype == "float32" else "int32"
    lower = k.scalar("low", dtype, low)
    bounded = dtype == "int32" or high < LARGEST_FLOAT32
    upper = k.scalar("high", dtype, high) if bounded else None

    def inside(indices: tuple[Any, ...]) -> Any:
        value = T.cast(mask[indices], dtype)
        return value > lower if upper is None else T.And(value > lower, value < upper)

    return inside
