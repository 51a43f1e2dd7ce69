"""Updates with real gradients in an integer program, in NumPy, from docs/numerics.md alone.

Every operation is rounded in float32, in the order written there.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from integer_arithmetic import Integers, float_delta, quantize_error
from integer_reference import Machine
from noise_reference import noise
from ondevice_compiler.program import Step

Reals = NDArray[np.float32]
F = np.float32


def square_root(value: Any) -> Any:
    """Correctly rounded: the square root of a float32 in float64 is exact enough."""
    return np.sqrt(np.asarray(value, np.float64)).astype(np.float32)


def bias_correction(fresh: float, t: int) -> np.float32:
    """1 - (1 - fresh)^t."""
    correction, weight = F(0), F(fresh)
    for bit in format(t, "b"):
        correction = correction * (F(2) - correction)
        if bit == "1":
            correction = correction + weight * (F(1) - correction)
    return correction


def compensated_squares(gradients: list[Reals]) -> np.float32:
    """The sum of the squares of all elements, with the summation of Kahan (1965)."""
    total, lost = F(0), F(0)
    for value in np.concatenate([gradient.reshape(-1) for gradient in gradients]):
        added = value * value - lost
        after = total + added
        lost = (after - total) - added
        total = after
    return total


class RealMachine(Machine):
    """`Machine` that also updates with real gradients: steps marked so, float32 parameters."""

    unit: np.float32
    clip = F(1)
    updates = 0
    noise_key = bytes(32)

    def train(self, x: NDArray[np.int8], label: Any, learning_rate: float) -> None:
        """One sample; where no later `apply` is needed, also what `apply` does."""
        histories = {name: delayed.history for name, delayed in self.scales.items()}
        super().train(x, label, learning_rate)
        if any(step.op == "private_sum" for step in self.program.steps):
            for name, history in histories.items():  # which do not follow the samples
                self.scales[name].history = history
            return
        updates = [step for step in self.program.steps if step.phase == "update"]
        if not any(step.attributes.get("factor", 1.0) < 1.0 for step in updates):
            self.apply()

    def apply(self) -> None:
        """Moves the parameters by the sums and counts the update."""
        super().apply()
        self.updates += 1

    def _quantize_error(self, step: Step) -> None:
        super()._quantize_error(step)
        error = self.values[step.inputs[0]].reshape(-1)
        fold = np.broadcast_to(self._real_scale(step.outputs[0]), error.shape).astype(np.float32)
        self.unit = quantize_error(error, fold)[1]

    def _update(self, step: Step, total: Integers, unit: NDArray[np.float64]) -> None:
        if not self._is_real(step):
            super()._update(step, total, unit)
            return
        fold = self._real_scale(step.inputs[0])
        if "g_channels" in step.attributes:
            channels = self.program.tensor(step.inputs[0]).shape[-1:]
            fold = np.broadcast_to(fold, channels)[list(step.attributes["g_channels"])]
        real = 1 / fold
        if step.op in ("conv2d_dw", "conv2d_transpose_dw"):
            real = real * self._real_scale(step.inputs[1])
        each = self._by_channel(real.astype(np.float32) * self._unit_of(step), total)
        self._take(step, total.astype(np.float32) * each)

    def _is_real(self, step: Step) -> bool:
        parameter = self.program.tensor(step.attributes["parameter"])
        return bool(step.attributes.get("real")) or parameter.dtype == "float32"

    def _unit_of(self, step: Step) -> np.float32:
        """Real value of one integer of the step's first input, shared among the samples."""
        power = F(2.0 ** self._exponent(step.inputs[0]))
        return F(self.unit * power * F(step.attributes.get("factor", 1.0)))

    def _take(self, step: Step, gradient: Reals) -> None:
        if step.attributes["update"] == "store":
            self.values[step.outputs[0]] = gradient
        elif step.attributes["update"] == "accumulate":
            self.values[step.outputs[0]] = self.values[step.outputs[0]] + gradient
        else:
            self._descend(step, gradient, step.outputs[1:])

    def _clip_norm(self, step: Step) -> None:
        squares = F(0)
        for name in step.inputs:
            for value in self.values[name].reshape(-1):
                squares = squares + value * value
        norm = square_root(squares) + F(1e-6)
        self.clip = min(F(1), F(step.attributes["norm"]) / norm)

    def _private_sum(self, step: Step) -> None:
        gradients = [self.values[n] for n in step.inputs[: len(step.outputs)]]
        limit, units = F(step.attributes["limit"]), F(step.attributes["units"])
        norm = square_root(compensated_squares(gradients))
        factor = units * (limit / norm) if norm > limit else units
        for name, gradient in zip(step.outputs, gradients, strict=True):
            moved = np.trunc(gradient * factor).astype(np.int32)
            self.values[name] = np.clip(self.values[name] + moved, -(2**30), 2**30)

    def _private_noise(self, step: Step) -> None:
        for index, name in enumerate(step.outputs):
            total = self.values[name]
            added = noise(self.noise_key, self.updates, index, total.size)
            self.values[name] = total + added.reshape(total.shape)

    def _apply_update(self, step: Step) -> None:
        if not self._is_real(step):
            super()._apply_update(step)
            return
        total = self.values[step.outputs[1]]
        gradient = total * self.clip if step.attributes.get("clip") else total
        if "mean" in step.attributes:
            gradient = total.astype(np.float32) * F(step.attributes["mean"])
        self._descend(step, gradient, step.outputs[2:])
        self.values[step.outputs[1]] = np.zeros_like(total)

    def _descend(self, step: Step, gradient: Reals, states: tuple[str, ...]) -> None:
        attributes, rate = step.attributes, self.learning_rate
        parameter = attributes["parameter"]
        limit = F(attributes.get("clip_value", math.inf))
        gradient = np.clip(gradient, -limit, limit)
        decay = attributes.get("weight_decay")
        weight = self._real_weight(parameter) if decay else F(0)
        if attributes["update"] == "adam":
            fresh = [1.0 - attributes["beta1"], 1.0 - attributes["beta2"]]
            m, v = (self.values[name] for name in states)
            m = F(attributes["beta1"]) * m + F(fresh[0]) * gradient
            v = F(attributes["beta2"]) * v + F(fresh[1]) * gradient * gradient
            self.values.update(zip(states, (m, v), strict=True))
            first, second = (bias_correction(f, self.updates + 1) for f in fresh)
            root = F(1) / square_root(second)
            change = rate / first * m / (square_root(v) * root + F(attributes["epsilon"]))
            if decay:
                change = change + rate * F(decay) * weight
        else:
            if decay:
                gradient = gradient + F(decay) * weight
            if states:
                gradient = F(attributes["momentum"]) * self.values[states[0]] + gradient
                self.values[states[0]] = gradient
            change = rate * gradient
        assert change.dtype == np.float32
        if self.program.tensor(parameter).dtype == "float32":
            self.values[parameter] = self.values[parameter] - change
            return
        units = 256 if self.program.tensor(parameter).dtype == "int16" else 1
        per_real = (units / self._real_scale(parameter)).astype(np.float32)
        self._move(parameter, float_delta(1, change * self._by_channel(per_real, change)))

    def _real_weight(self, name: str) -> Reals:
        size = (self._real_scale(name) / 256).astype(np.float32)
        stored = self._value(name).astype(np.float32)
        real: Reals = (stored - F(128)) * self._by_channel(size, stored)
        return real

    @staticmethod
    def _by_channel(values: Any, like: NDArray[Any]) -> Any:
        each = np.broadcast_to(values, like.shape[:1])
        return each.reshape(-1, *[1] * (like.ndim - 1))
