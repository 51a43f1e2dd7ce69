"""Clip to [low, high]: ReLU and ReLU6. Its gradient needs only where the output lies inside."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import LARGEST_FLOAT32, KernelBuilder
from ondevice_compiler.ops.gradient_store import COPY_SPARE, gradient_store
from ondevice_compiler.ops.operator import Operator, call, register
from ondevice_compiler.ops.requantization import requantizer
from ondevice_compiler.program import Program, Step, Tensor
from ondevice_compiler.tiling.tile import VECTOR

BYTE_BITS = 8


def axes_of(tensor: Tensor) -> dict[str, int]:
    """Loop names and extents over a tensor."""
    return {f"i{axis}": extent for axis, extent in enumerate(tensor.shape)}


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = min(max(x, low), high); int8 also requantises."""
    x_tensor, y_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    low, high = step.attributes["low"], step.attributes["high"]
    x = k.tensor("x", x_tensor)
    axes = axes_of(x_tensor)
    if x_tensor.dtype == "float32":
        bottom = k.scalar("low", "float32", low)
        top = k.scalar("high", "float32", high) if high < LARGEST_FLOAT32 else None
        y = k.tensor("y", y_tensor, written=True)

        def clamp(*i: Any) -> list[tuple[Any, Any, Any]]:
            value = T.max(x[i], bottom)
            return [(y, value if top is None else T.min(value, top), i)]

        k.store(axes, clamp)
        return
    assert x_tensor.quantization is not None
    assert y_tensor.quantization is not None
    ratio = x_tensor.quantization.scales / y_tensor.quantization.scales
    finish = requantizer(k, ratio, y_tensor.quantization.zero_point, (low, high))
    zero = k.scalar("x_zero", "int32", x_tensor.quantization.zero_point)
    y = k.tensor("y", y_tensor, written=True)

    def requantize(*i: Any) -> list[tuple[Any, Any, Any]]:
        return [(y, finish(T.cast(x[i], "int32") - zero, 0), i)]

    k.store(axes, requantize)


def lower_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx = g where low < y < high, else 0; without a mask a plain change of scale."""
    g_tensor = program.tensor(step.inputs[0])
    if "mask" not in step.attributes and len(step.inputs) == 2:
        step = step.with_attributes(mask="output")
    g = k.tensor("g", g_tensor)
    store, _ = gradient_store(k, step, program, spare=COPY_SPARE)
    integer = g_tensor.dtype == "int8"
    k.store(axes_of(g_tensor), lambda *i: store(T.cast(g[i], "int32") if integer else g[i], i))


def lower_mask(k: KernelBuilder, step: Step, program: Program) -> None:
    """Packs low < y < high into one bit an element, least significant bit first."""
    y_tensor, mask_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    count = y_tensor.elements
    dtype = "float32" if y_tensor.dtype == "float32" else "int32"
    y = k.tensor("y", Tensor(y_tensor.name, (count,), y_tensor.dtype, y_tensor.kind))
    high = step.attributes["high"]
    low = k.scalar("low", dtype, step.attributes["low"])
    top = k.scalar("high", dtype, high) if dtype == "int32" or high < LARGEST_FLOAT32 else None
    mask = k.tensor("mask", mask_tensor, written=True)

    if dtype == "int32":
        _pack(k, y, mask, low, top, count)
        return

    def combine(acc: Any, byte: Any, bit: Any) -> Any:
        index = byte * 8 + bit
        value = T.cast(y[index], dtype)
        inside = value > low if top is None else T.And(value > low, value < top)
        if count % 8:
            inside = T.And(index < count, inside)
        return T.bitwise_or(acc, T.shift_left(T.if_then_else(inside, 1, 0), bit))

    axes = {"byte": mask_tensor.shape[0]}
    acc = k.reduce(axes, {"bit": 8}, "int32", lambda byte: T.int32(0), combine)
    k.store(axes, lambda byte: [(mask, T.cast(acc(byte), "uint8"), (byte,))])


def _pack(k: KernelBuilder, y: Any, mask: Any, low: Any, high: Any, count: int) -> None:
    """int8: four elements a vector."""
    whole, rest = divmod(count, BYTE_BITS)
    bits = k.registers("bits", 1)

    def pack(lanes: int, element: Any, bit: int) -> None:
        address = T.address_of(y[element])
        called = T.call_pure_extern(
            "int32", f"od_inside{lanes}", address, low, high, T.int32(1 << bit), bits[0]
        )
        k.set(bits, 0, called)

    with k.loop("byte", 0, whole) as byte:
        k.set(bits, 0, T.int32(0))
        for bit in range(0, BYTE_BITS, VECTOR):
            pack(VECTOR, byte * BYTE_BITS + bit, bit)
        k.set(mask, byte, T.cast(bits[0], "uint8"))
    if rest:
        k.set(bits, 0, T.int32(0))
        for bit in range(rest):
            pack(1, T.int32(whole * BYTE_BITS + bit), bit)
        k.set(mask, T.int32(whole), T.cast(bits[0], "uint8"))


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any) -> list[Any]:
    return [call("clip_gradient", adjoint, output, low=attributes["low"], high=attributes["high"])]


register("clip", lower, lambda attributes, x: x, _gradient)
register("clip_gradient", lower_gradient, lambda attributes, g, y: g)
OPERATOR = Operator(lower)
GRADIENT = Operator(lower_gradient)
MASK = Operator(lower_mask)
