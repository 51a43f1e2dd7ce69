"""Updates computed with real gradients in float32: all of a float32 program, and those of an
integer program that have no integer form (Adam, weight decay, clipping, float32 parameters).

The rules are PyTorch's. An integer parameter is read as its real value, and the real change is
rounded into its own units; see docs/numerics.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tvm.tirx.script.builder as T
from numpy.typing import NDArray

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.program import Program, Step, Tensor

Q88_ONE = 256  # Q8.8 units in one int8 step of a weight.
Q88_HALF = 128  # Stored Q8.8 weights are this much above their value.

Stores = list[tuple[Any, Any, Any]]
Update = Callable[[Any, tuple[Any, ...]], Stores]
Move = Callable[[Any, tuple[Any, ...]], tuple[Any, Any, Any]]


def real_update(k: KernelBuilder, step: Step, program: Program, unit: NDArray[Any]) -> Update:
    """Declares the step's outputs and returns the statements for one accumulated gradient.

    Args:
        k: Builder that has the step's own operands already.
        step: The attribute `update` is "accumulate", "store" or the optimiser's name.
        program: Holds the step's tensors.
        unit: [channels], real gradient of one accumulator unit, apart from the gradient tensor's
            own unit, which is known at run time.
    """
    gradient = _real_gradient(k, step, program, unit)
    if step.attributes["update"] == "accumulate":
        total = k.tensor("sum", program.tensor(step.outputs[0]), written=True)
        return lambda acc, i: [(total, total[i] + gradient(acc, i), i)]
    if step.attributes["update"] == "store":
        kept = k.tensor("gradient", program.tensor(step.outputs[0]), written=True)
        return lambda acc, i: [(kept, gradient(acc, i), i)]
    rule = _rule(k, step, program, step.outputs[1:])
    return lambda acc, i: rule(gradient(acc, i), i)


def real_apply(k: KernelBuilder, step: Step, program: Program) -> None:
    """Moves a parameter by its summed gradient and clears it; outputs: parameter, sum, state."""
    total_tensor = program.tensor(step.outputs[1])
    total = k.tensor("sum", total_tensor, written=True)
    clip = k.local("clip") if step.attributes.get("clip") else None
    mean = step.attributes.get("mean")  # of integer sums, which DP-SGD has
    real = k.scalar("mean", "float32", mean) if mean is not None else None
    zero = T.float32(0) if real is None else T.int32(0)
    rule = _rule(k, step, program, step.outputs[2:])

    def move(*i: Any) -> Stores:
        gradient = total[i] if real is None else T.cast(total[i], "float32") * real
        gradient = gradient if clip is None else gradient * clip
        return [*rule(gradient, i), (total, zero, i)]

    k.store({f"i{axis}": extent for axis, extent in enumerate(total_tensor.shape)}, move)


def _real_gradient(
    k: KernelBuilder, step: Step, program: Program, unit: NDArray[Any]
) -> Callable[[Any, tuple[Any, ...]], Any]:
    """Accumulator -> real gradient, over the samples of an update."""
    factor = step.attributes.get("factor", 1.0)
    if not program.integer:
        share = k.scalar("factor", "float32", factor) if factor != 1.0 else None
        return lambda acc, i: acc if share is None else acc * share
    scale = k.unit(step.inputs[0], factor)
    if np.all(unit == 1):
        return lambda acc, i: T.cast(acc, "float32") * scale
    channels = program.tensor(step.outputs[0]).shape[0]
    units = k.table("unit", np.broadcast_to(unit, (channels,)).astype(np.float32))
    return lambda acc, i: T.cast(acc, "float32") * (units[i[0]] * scale)


def _rule(k: KernelBuilder, step: Step, program: Program, states: tuple[str, ...]) -> Update:
    """Real gradient -> statements that move the parameter and its state."""
    attributes = step.attributes
    target = program.tensor(attributes["parameter"])
    parameter = k.tensor("parameter", target, written=True)
    move = _mover(k, target, parameter)
    decay = attributes.get("weight_decay")
    weight = _reader(k, target, parameter) if decay else None
    decay = k.scalar("decay", "float32", decay) if decay else None
    kinds = ("m", "v") if attributes["update"] == "adam" else ("velocity",)
    state = [
        k.tensor(kind, program.tensor(name), written=True)
        for kind, name in zip(kinds, states, strict=False)
    ]
    clipped = _clip(k, attributes.get("clip_value"))
    if attributes["update"] == "adam":
        m, v = state
        return _adam(k, step, m, v, clipped, weight, decay, move)
    rate = k.local("learning_rate")
    momentum = k.scalar("momentum", "float32", attributes["momentum"]) if state else None

    def descend(gradient: Any, i: tuple[Any, ...]) -> Stores:
        gradient = clipped(gradient)
        if weight is not None:
            gradient = gradient + decay * weight(i)
        if momentum is None:
            return [move(rate * gradient, i)]
        (velocity,) = state
        return [(velocity, momentum * velocity[i] + gradient, i), move(rate * velocity[i], i)]

    return descend


def _adam(
    k: KernelBuilder, step: Step, m: Any, v: Any, clipped: Any, weight: Any, decay: Any, move: Move
) -> Update:
    """Adam (Kingma and Ba, 2015) with decoupled weight decay (Loshchilov and Hutter, 2019)."""
    attributes = step.attributes
    beta1 = k.scalar("beta1", "float32", attributes["beta1"])
    beta2 = k.scalar("beta2", "float32", attributes["beta2"])
    fresh1 = k.scalar("fresh1", "float32", 1.0 - attributes["beta1"])
    fresh2 = k.scalar("fresh2", "float32", 1.0 - attributes["beta2"])
    epsilon = k.scalar("epsilon", "float32", attributes["epsilon"])
    rate, root = k.local("adam.rate"), k.local("adam.root")
    plain_rate = k.local("learning_rate") if weight is not None else None

    def descend(gradient: Any, i: tuple[Any, ...]) -> Stores:
        gradient = clipped(gradient)
        change = rate * m[i] / (k.square_root(v[i]) * root + epsilon)
        if weight is not None:
            change = change + plain_rate * decay * weight(i)
        return [
            (m, beta1 * m[i] + fresh1 * gradient, i),
            (v, beta2 * v[i] + fresh2 * gradient * gradient, i),
            move(change, i),
        ]

    return descend


def _clip(k: KernelBuilder, largest: float | None) -> Callable[[Any], Any]:
    if largest is None:
        return lambda gradient: gradient
    high, low = k.scalar("high", "float32", largest), k.scalar("low", "float32", -largest)
    return lambda gradient: T.max(T.min(gradient, high), low)


def _reader(k: KernelBuilder, target: Tensor, parameter: Any) -> Callable[[tuple[Any, ...]], Any]:
    """Real value of a weight."""
    if target.dtype == "float32":
        return lambda i: parameter[i]
    assert target.dtype == "int16", "only weights decay"
    size = k.table("size", (_scales(target) / Q88_ONE).astype(np.float32))
    half = T.float32(Q88_HALF)
    return lambda i: (T.cast(parameter[i], "float32") - half) * size[i[0]]


def _mover(k: KernelBuilder, target: Tensor, parameter: Any) -> Move:
    """Subtracts a real change from a parameter, rounded in its own units."""
    if target.dtype == "float32":
        return lambda change, i: (parameter, parameter[i] - change, i)
    suffix, one = ("q88", Q88_ONE) if target.dtype == "int16" else ("i32", 1)
    per_real = k.table("per_real", (one / _scales(target)).astype(np.float32))

    def move(change: Any, i: tuple[Any, ...]) -> tuple[Any, Any, Any]:
        units = T.call_pure_extern("int32", "od_delta", T.int32(1), change * per_real[i[0]])
        old = T.cast(parameter[i], "int32")
        moved = T.call_pure_extern("int32", f"od_update_{suffix}", old, units)
        return parameter, T.cast(moved, target.dtype), i

    return move


def _scales(target: Tensor) -> NDArray[np.float64]:
    assert target.quantization is not None
    return np.broadcast_to(target.quantization.scales, (target.shape[0],))
