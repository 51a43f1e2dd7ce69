"""What happens to a parameter's gradient: an in-place update, or a sum for a later one.

float32 gradients and parameters: `real_update`. Plain SGD and momentum of an integer program stay
in integers: weights are Q8.8 (int16) and biases int32; the change of a weight in its own integer
units is `acc * unit[channel] * rate`, where

    unit = s_x / (fold * s_w) * 256     for a weight (fold is s_w itself, hence s_w^-2), and
    unit = 1 / (fold * s_b)             for a bias.

That is the rule of Quantization-Aware Scaling (Lin et al., On-Device Training Under 256KB Memory,
2022), here simply SGD on the real-valued graph written in integer units. See docs/numerics.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.gradient_store import fold_of
from ondevice_compiler.ops.operator import Operator
from ondevice_compiler.ops.real_update import Q88_ONE, Stores, Update, real_apply, real_update
from ondevice_compiler.program import Program, Step, Tensor

STATE_FRACTION = {"int16": 16, "int32": 256}  # Units of momentum and sums in one parameter unit.


def parameter_update(k: KernelBuilder, step: Step, program: Program) -> Update:
    """Declares the step's outputs and returns the statements for one accumulated gradient.

    The attribute `update` is "accumulate" (output: sum), "store" (output: the real gradient) or the
    name of the optimiser (outputs: parameter and its state); without it the gradient itself is
    written, as Relax's VM needs it. The accumulator holds int32 or float32 units of the step's
    first input, the output gradient, or of its product with the second for the weight of a
    convolution.
    """
    kind = step.attributes.get("update")
    target = program.tensor(step.outputs[0])
    if kind is None:
        out = k.tensor("out", target, written=True)
        return lambda acc, indices: [(out, acc, indices)]
    if target.dtype == "float32" or step.attributes.get("real"):
        return real_update(k, step, program, _real_unit(step, program))

    integer = IntegerUpdate(k, step, program)
    return lambda acc, indices: integer.stores(integer.delta(acc, indices[0]), indices)


class IntegerUpdate:
    """An update in integers: what one gradient changes, and what the change is added to.

    Args:
        k: Builder; the update's parameters are declared as this is made.
        step: Its attribute `update` is "sgd", "momentum" or "accumulate".
        program: Holds the step's tensors.
    """

    def __init__(self, k: KernelBuilder, step: Step, program: Program) -> None:
        self.k = k
        self.kind = step.attributes["update"]
        self.target = program.tensor(step.outputs[0])
        fraction = 1 if self.kind == "sgd" else STATE_FRACTION[self.target.dtype]
        self._unit = k.table("unit", (_unit(step, program) * fraction).astype(np.float32))
        self._rate = k.rate(step.inputs[0], step.attributes.get("factor", 1.0))
        self._suffix = "q88" if self.target.dtype == "int16" else "i32"
        self.parameter = k.tensor("parameter", self.target, written=True)
        if self.kind == "momentum":
            state = program.tensor(step.outputs[1])
            self._velocity = k.tensor("velocity", state, written=True)
            self._decay = k.scalar("momentum", "int32", round(step.attributes["momentum"] * 32768))

    def rate(self, channel: Any) -> Any:
        """Change for one unit of the gradient, float32."""
        return self._unit[channel] * self._rate

    def delta(self, acc: Any, channel: Any) -> Any:
        """Change for a gradient."""
        return T.call_pure_extern("int32", "od_delta", acc, self.rate(channel))

    def stores(self, change: Any, indices: tuple[Any, ...]) -> Stores:
        """The statements for one change."""
        if self.kind != "momentum":
            name = "od_update" if self.kind == "sgd" else "od_accumulate"
            return [self._moved(name, self.parameter, indices, change)]
        return [
            self._moved("od_decay", self._velocity, indices, self._decay, change),
            _integer_step(self.parameter, self._velocity, self.target, self._suffix, indices),
        ]

    def _moved(self, name: str, state: Any, indices: tuple[Any, ...], *by: Any) -> Any:
        old = T.cast(state[indices], "int32")
        new = T.call_pure_extern("int32", f"{name}_{self._suffix}", old, *by)
        return state, T.cast(new, self.target.dtype), indices


def apply(k: KernelBuilder, step: Step, program: Program) -> None:
    """Moves a parameter by its accumulated gradient (through momentum, if any) and clears it."""
    target, total = program.tensor(step.outputs[0]), program.tensor(step.outputs[1])
    if total.dtype == "float32" or "mean" in step.attributes:
        real_apply(k, step, program)
        return
    axes = {f"i{axis}": extent for axis, extent in enumerate(target.shape)}
    suffix = "q88" if target.dtype == "int16" else "i32"
    parameter = k.tensor("parameter", target, written=True)
    accumulated = k.tensor("sum", total, written=True)
    zero = T.cast(T.int32(0), target.dtype)
    if len(step.outputs) == 2:

        def plain(*indices: Any) -> Stores:
            moved = _integer_step(parameter, accumulated, target, suffix, indices)
            return [moved, (accumulated, zero, indices)]

        k.store(axes, plain)
        return
    velocity = k.tensor("velocity", program.tensor(step.outputs[2]), written=True)
    decay = k.scalar("momentum", "int32", round(step.attributes["momentum"] * 32768))

    def with_momentum(*indices: Any) -> Stores:
        moved = T.call_pure_extern(
            "int32",
            f"od_decay_{suffix}",
            T.cast(velocity[indices], "int32"),
            decay,
            T.cast(accumulated[indices], "int32"),
        )
        return [
            (velocity, T.cast(moved, target.dtype), indices),
            _integer_step(parameter, velocity, target, suffix, indices),
            (accumulated, zero, indices),
        ]

    k.store(axes, with_momentum)


def _integer_step(
    parameter: Any, state: Any, target: Tensor, suffix: str, indices: tuple[Any, ...]
) -> tuple[Any, Any, Any]:
    moved = T.call_pure_extern(
        "int32",
        f"od_step_{suffix}",
        T.cast(parameter[indices], "int32"),
        T.cast(state[indices], "int32"),
    )
    return parameter, T.cast(moved, target.dtype), indices


def _fold(step: Step, program: Program) -> Any:
    """Fold of the step's output gradient, by the parameter's channels."""
    fold = fold_of(program, step.inputs[0])
    if "g_channels" in step.attributes and len(fold) > 1:
        fold = fold[list(step.attributes["g_channels"])]
    return fold


def _unit(step: Step, program: Program) -> Any:
    """Parameter units per accumulator unit, per output channel, for a rate of 1."""
    fold = _fold(step, program)
    parameter = program.tensor(step.attributes["parameter"])
    assert parameter.quantization is not None
    own = parameter.quantization.scales
    if step.op == "bias_gradient":
        unit = 1.0 / (fold * own)
    elif step.op == "embedding_weight_gradient":  # its rows are what they are, not times an input
        unit = Q88_ONE / (fold * own)
    else:
        x = program.tensor(step.inputs[1])
        assert x.quantization is not None
        unit = x.quantization.scales * Q88_ONE / (fold * own)
    return np.broadcast_to(unit, (parameter.shape[0],))


def _real_unit(step: Step, program: Program) -> Any:
    """Real gradient of one accumulator unit per channel, in units of the output gradient."""
    fold = _fold(step, program)
    if step.op not in ("conv2d_dw", "conv2d_transpose_dw"):
        return 1.0 / fold
    x = program.tensor(step.inputs[1])
    return (1.0 if x.quantization is None else x.quantization.scales) / fold


OPERATOR = Operator(apply)
