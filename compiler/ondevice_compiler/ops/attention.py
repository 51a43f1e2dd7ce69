"""The two products of attention: of two computed tensors, for each head, indexed in place.

    head_scores   [1, 1, T, D], [1, 1, S, D] -> [1, heads, T, S]   scale * sum over c of a * b
    head_mix      [1, heads, T, S], [1, 1, S, D] -> [1, 1, T, D]   scale * sum over s of p * v

D holds the heads one after another (Vaswani et al., Attention Is All You Need, 2017): nothing is
transposed or copied. Each is the other's gradient, with an operand transposed by its indices, so
backward has the same two products, of a gradient (always the first input) and an activation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.gradient_store import Store, gradient_store
from ondevice_compiler.ops.operator import Operator, call, register
from ondevice_compiler.ops.requantization import requantizer
from ondevice_compiler.program import Program, Step, Tensor


def scores_macs(step: Step, program: Program) -> int:
    """Multiply-accumulates: T * S * D."""
    a, b = (program.tensor(name) for name in step.inputs[:2])
    return a.elements * b.shape[2]


def mix_macs(step: Step, program: Program) -> int:
    """Multiply-accumulates: T * S * D."""
    v = program.tensor(step.inputs[0 if step.attributes["swapped"] else 1])
    return program.tensor(step.outputs[0]).elements * v.shape[2]


def lower_scores(k: KernelBuilder, step: Step, program: Program) -> None:
    """y[h, t, s] = scale * sum over c of a[t, h, c] * b[s, h, c]."""
    a_tensor, b_tensor = (program.tensor(name) for name in step.inputs[:2])
    heads = step.attributes["heads"]
    inner = a_tensor.shape[3] // heads
    a, b = _operand(k, "a", a_tensor), _operand(k, "b", b_tensor)
    store = _store(k, step, program)

    def combine(acc: Any, h: Any, t: Any, s: Any, c: Any) -> Any:
        return acc + a(0, 0, t, h * inner + c) * b(0, 0, s, h * inner + c)

    axes = {"h": heads, "t": a_tensor.shape[2], "s": b_tensor.shape[2]}
    acc = k.reduce(axes, {"c": inner}, _accumulator(a_tensor), _zero(a_tensor), combine)
    k.store(axes, lambda h, t, s: store(acc(h, t, s), (0, h, t, s)))


def lower_mix(k: KernelBuilder, step: Step, program: Program) -> None:
    """y[t, h, c] = scale * sum over s of p[h, t, s] * v[s, h, c]; `transposed` reads p[h, s, t].

    With `swapped` the inputs come as (v, p).
    """
    first, second = (program.tensor(name) for name in step.inputs[:2])
    swapped, transposed = (bool(step.attributes[name]) for name in ("swapped", "transposed"))
    operands = [_operand(k, name, t) for name, t in zip("ab", (first, second), strict=True)]
    p_tensor, v_tensor = (second, first) if swapped else (first, second)
    p, v = operands[::-1] if swapped else operands
    heads = step.attributes["heads"]
    inner = v_tensor.shape[3] // heads
    store = _store(k, step, program)

    def combine(acc: Any, t: Any, h: Any, c: Any, s: Any) -> Any:
        weight = p(0, h, s, t) if transposed else p(0, h, t, s)
        return acc + weight * v(0, 0, s, h * inner + c)

    rows = p_tensor.shape[3 if transposed else 2]
    axes = {"t": rows, "h": heads, "c": inner}
    along = {"s": v_tensor.shape[2]}
    acc = k.reduce(axes, along, _accumulator(v_tensor), _zero(v_tensor), combine)
    k.store(axes, lambda t, h, c: store(acc(t, h, c), (0, 0, t, h * inner + c)))


def _accumulator(tensor: Tensor) -> str:
    return "int32" if tensor.dtype == "int8" else "float32"


def _zero(tensor: Tensor) -> Any:
    return lambda *indices: T.int32(0) if tensor.dtype == "int8" else T.float32(0)


def _operand(k: KernelBuilder, name: str, tensor: Tensor) -> Any:
    """Reads an element as the product takes it: without its zero point."""
    buffer = k.tensor(name, tensor)
    if tensor.dtype == "float32":
        return lambda *indices: buffer[indices]
    if tensor.kind == "gradient":
        assert tensor.quantization is None, f"{tensor.name} has a fold that only a layer can read"
        return lambda *indices: T.cast(buffer[indices], "int32")
    assert tensor.quantization is not None
    zero = k.scalar(f"{name}_zero", "int32", tensor.quantization.zero_point)
    return lambda *indices: T.cast(buffer[indices], "int32") - zero


def _store(k: KernelBuilder, step: Step, program: Program) -> Store:
    """Stores the accumulator: as an activation, or as a gradient in units of the first input."""
    factor = step.attributes["scale"]
    output = program.tensor(step.outputs[0])
    scales = [t.quantization for t in (program.tensor(name) for name in step.inputs[:2])]
    if output.kind == "gradient":
        for quantization in scales:
            factor *= 1.0 if quantization is None else quantization.scale[0]
        store, _ = gradient_store(k, step, program, factor)
        return store
    if output.dtype == "float32":
        times = None if factor == 1.0 else k.scalar("scale", "float32", factor)
        y = k.tensor("y", output, written=True)
        return lambda acc, indices: [(y, acc if times is None else acc * times, indices)]
    assert output.quantization is not None
    for quantization in scales:
        assert quantization is not None
        factor *= quantization.scale[0]
    factors = np.asarray([factor / output.quantization.scale[0]])
    finish = requantizer(k, factors, output.quantization.zero_point)
    y = k.tensor("y", output, written=True)
    return lambda acc, indices: [(y, finish(acc, 0), indices)]


def _scores_shape(attributes: Any, a: Any, b: Any) -> tuple[int, ...]:
    return (1, attributes["heads"], a[2], b[2])


def _mix_shape(attributes: Any, first: Any, second: Any) -> tuple[int, ...]:
    p, v = (second, first) if attributes["swapped"] else (first, second)
    return (1, 1, p[3 if attributes["transposed"] else 2], v[3])


def _mix(name: str, first: Any, second: Any, attributes: Any, **how: bool) -> Any:
    return call(name, first, second, heads=attributes["heads"], scale=attributes["scale"], **how)


def _scores_gradient(attributes: Any, g: Any, y: Any, a: Any, b: Any) -> list[Any]:
    return [
        _mix("head_mix_gradient", g, b, attributes, transposed=False, swapped=False),
        _mix("head_mix_gradient", g, a, attributes, transposed=True, swapped=False),
    ]


def _mix_gradient(attributes: Any, g: Any, y: Any, p: Any, v: Any) -> list[Any]:
    return [
        _mix("head_scores_gradient", g, v, attributes),
        _mix("head_mix_gradient", g, p, attributes, transposed=True, swapped=True),
    ]


register("head_scores", lower_scores, _scores_shape, _scores_gradient)
register("head_scores_gradient", lower_scores, _scores_shape)
register("head_mix", lower_mix, _mix_shape, _mix_gradient)
register("head_mix_gradient", lower_mix, _mix_shape)
SCORES, MIX = Operator(lower_scores, scores_macs), Operator(lower_mix, mix_macs)
