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

from ondevice_compiler.fixed_point import HIGH_SHIFT, encode_multipliers
from ondevice_compiler.kernel_builder import LARGEST_FLOAT32, KernelBuilder
from ondevice_compiler.ops.requantization import channel_factor
from ondevice_compiler.program import Program, Step

LAYER_DX = ("conv2d_dx", "conv2d_transpose_dx")  # They read a gradient with the weight's fold.
COPY_SPARE = 12  # Of the sum of up to 4096 elements of an int8 gradient.

Store = Callable[[Any, tuple[Any, ...]], list[tuple[Any, Any, Any]]]
Factor = Callable[[Any], tuple[Any, Any]]  # channel -> (multiplier, shift)


class GradientStore:
    """Stores int8 gradients; made by `gradient_store`.

    Args:
        k: Builder.
        out: Where they are stored.
        factor: Multiplier and shift of a channel.
        exponent: Taken off the shift.
        state: What od_store_gradient needs besides.
        mask: Condition under which a gradient is not 0; None: always.
    """

    def __init__(
        self, k: KernelBuilder, out: Any, factor: Factor, exponent: Any, state: list[Any], mask: Any
    ) -> None:
        self.k = k
        self.out = out
        self.factor = factor
        self.exponent = exponent
        self.state = state
        self.mask = mask

    def __call__(self, value: Any, indices: tuple[Any, ...]) -> list[tuple[Any, Any, Any]]:
        """The statements that store one gradient."""
        multiplier, shift = self.factor(indices[-1])
        arguments = (value, multiplier, shift - self.exponent, *self.state)
        stored = T.call_extern("int32", "od_store_gradient", *arguments)
        if self.mask is not None:
            stored = T.if_then_else(self.mask(indices), stored, 0)
        return [(self.out, T.cast(stored, "int8"), indices)]

    def pixels(self, values: list[Any], indices: list[tuple[Any, ...]]) -> None:
        """Emits the stores of a few pixels of one channel, whose factor is read once."""
        names = ("m", "s", "places")
        multiplier, shift, places = (self.k.registers(name, 1) for name in names)
        read = self.factor(indices[0][-1])
        self.k.set(multiplier, 0, read[0])
        self.k.set(shift, 0, read[1] - self.exponent)
        self.k.set(places, 0, T.call_pure_extern("int32", "od_saturate_5_bits", shift[0]))
        for value, at in zip(values, indices, strict=True):
            opened = 1 if self.mask is None else T.cast(self.mask(at), "int32")
            out = T.address_of(self.out[at])
            arguments = (value, multiplier[0], shift[0], places[0], opened, *self.state, out)
            T.evaluate(T.call_extern("int32", "od_put_gradient", *arguments))


def gradient_store(
    k: KernelBuilder,
    step: Step,
    program: Program,
    factor: float = 1.0,
    raised: Any = None,
    spare: int = 0,
) -> tuple[Store, Callable[[tuple[Any, ...]], Any] | None]:
    """Declares what the store needs and returns it.

    Args:
        k: Builder that has the step's own operands already.
        step: Its last input is the mask where the attribute `mask` is set: "bits" (one bit an
            element) or "output" (the clip's output, compared with `low` and `high`).
        program: Holds the step's tensors.
        factor: Constant factor of the accumulated gradient, such as 1/n of an average pool.
        raised: How many powers of two its unit lies above the first input's; None: none.
        spare: By how many powers of two an integer value can be multiplied without overflow. So
            multiplied, one whose own factor is not below 1/4 is stored in a few instructions too.

    Returns:
        (store, mask): `store(value, indices)` gives the statements that write the gradient;
        `mask(indices)` is the condition under which it is not 0, None where there is no mask.
    """
    output = program.tensor(step.outputs[0])
    if output.dtype == "int8":
        if spare == 0:
            store = integer_store(k, step, program, factor, raised)
            return store, store.mask
        lowered = -spare if raised is None else raised - spare
        store = integer_store(k, step, program, factor, lowered)
        return lambda value, indices: store(value * (1 << spare), indices), store.mask
    mask = mask_of(k, step, program, output.shape)
    multiply = k.scalar("factor", "float32", factor) if factor != 1.0 else None
    out = k.tensor("out", output, written=True)

    def store_float(value: Any, indices: tuple[Any, ...]) -> list[tuple[Any, Any, Any]]:
        scaled = value if multiply is None else value * multiply
        if mask is not None:
            scaled = T.Select(mask(indices), scaled, T.float32(0))
        return [(out, scaled, indices)]

    return store_float, mask


def integer_store(
    k: KernelBuilder,
    step: Step,
    program: Program,
    factor: float = 1.0,
    raised: Any = None,
    shape: tuple[int, ...] | None = None,
) -> GradientStore:
    """The store of an int8 gradient; see `gradient_store`.

    Args:
        k, step, program, factor, raised: As there.
        shape: By which the kernel indexes the gradient, channels last; None: the tensor's own.
    """
    output = program.tensor(step.outputs[0])
    shape = output.shape if shape is None else shape
    mask = mask_of(k, step, program, shape)
    source = program.tensor(step.inputs[0])
    fold = np.broadcast_to(fold_of(program, output.name), (output.shape[-1],))
    inner = 1.0 if step.op in LAYER_DX else fold_of(program, source.name)
    multipliers, shifts = encode_multipliers(fold * factor / np.asarray(inner))
    pairs = np.stack([multipliers, shifts - HIGH_SHIFT], axis=1)
    read = channel_factor(k, pairs[:1] if (pairs == pairs[0]).all() else pairs)
    exponent = k.shift(source.name, output.name)
    if raised is not None:
        exponent = exponent + raised
    lowest = k.scalar("lowest", "int32", int(shifts.min()) - HIGH_SHIFT) - exponent
    scale = k.scale(output.name)
    out = k.tensor("out", output, written=True, shape=shape)
    limit, zeros = (T.address_of(k.registers(name, 1)[0]) for name in ("limit", "zeros"))
    k.around(
        T.call_extern("int32", "od_begin_gradient", lowest, limit, zeros, scale),
        T.call_extern("int32", "od_end_gradient", zeros, scale),
    )
    return GradientStore(k, out, read, exponent, [limit, zeros, scale], mask)


def fold_of(program: Program, gradient: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Per-channel factor folded into an int8 gradient; 1 where none is."""
    quantization = program.tensor(gradient).quantization
    return np.ones(1) if quantization is None else quantization.scales


def mask_of(
    k: KernelBuilder, step: Step, program: Program, shape: tuple[int, ...]
) -> Callable[[tuple[Any, ...]], Any] | None:
    """Declares the step's mask, if any, and returns the condition under which it is open.

    Args:
        k: Builder.
        step: Says by its attributes what the mask is.
        program: Holds the step's tensors.
        shape: By which the kernel indexes the masked gradient.
    """
    kind = step.attributes.get("mask")
    if kind is None:
        return None
    tensor = program.tensor(step.inputs[-1])
    mask = k.tensor("mask", tensor, shape=tensor.shape if kind == "bits" else shape)
    if kind == "bits":

        def bit(indices: tuple[Any, ...]) -> Any:
            flat: Any = 0
            for extent, index in zip(shape, indices, strict=True):
                flat = flat * extent + index
            byte = T.cast(mask[T.shift_right(flat, 3)], "int32")
            return T.bitwise_and(T.shift_right(byte, T.bitwise_and(flat, 7)), 1) != 0

        return bit
    low, high = step.attributes["low"], step.attributes["high"]
    if tensor.dtype == "int8":
        bounds = low + 1, max(high - low - 1, 0)  # Constants: nearly always those of int8.

        def between(indices: tuple[Any, ...]) -> Any:
            value = T.cast(mask[indices], "int32")
            return T.call_pure_extern("int32", "od_is_between", value, *bounds) != 0

        return between
    lower = k.scalar("low", "float32", low)
    upper = k.scalar("high", "float32", high) if high < LARGEST_FLOAT32 else None

    def inside(indices: tuple[Any, ...]) -> Any:
        value = mask[indices]
        return value > lower if upper is None else T.And(value > lower, value < upper)

    return inside
