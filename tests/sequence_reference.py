"""Norms, attention and embeddings of an int8 program in NumPy, written from docs/numerics.md.

What the device computes in float32 is done here in float32 too, one rounded operation after
another; sums run in the order of docs/numerics.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from integer_arithmetic import Integers, encode_factor, requantize
from ondevice_compiler.program import Step
from optimizer_reference import RealMachine

Floats = NDArray[np.float32]
LARGEST_ROUNDED = 2**30


def round_half_away(value: Floats) -> Integers:
    """trunc(value +- 0.5) in float32, saturated."""
    bounded = np.clip(value, np.float32(-LARGEST_ROUNDED), np.float32(LARGEST_ROUNDED))
    half = np.where(bounded < 0, np.float32(-0.5), np.float32(0.5))
    return np.trunc(bounded + half).astype(np.int64)


def running_sum(parts: Sequence[Floats] | Floats) -> Floats:
    """Sum along the first axis, first to last, each addition rounded."""
    total = np.zeros_like(np.asarray(parts[0]), np.float32)
    for part in parts:
        total = total + part
    return total


class SequenceMachine(RealMachine):
    """Interprets programs with the operators of sequence models as well."""

    # Numbers that the kernels compute with.

    def _real(self, name: str) -> Floats:
        """Elements as float32; those of a gradient in units of its exponent."""
        tensor = self.program.tensor(name)
        if tensor.dtype == "float32":
            return self._held(name).astype(np.float32).reshape(tensor.shape)
        if tensor.kind == "gradient":
            return self._value(name).astype(np.float32)
        return self._centred(name).astype(np.float32) * np.float32(self._real_scale(name)[0])

    def _write_real(self, step: Step, value: Floats) -> None:
        """Stores an activation."""
        y = step.outputs[0]
        inverse = np.float32(1.0 / self._real_scale(y)[0])
        self._write(y, self._bounded(step, round_half_away(value * inverse)))

    def _store_real(self, step: Step, value: Floats) -> None:
        """Masks, rounds and counts a gradient in units of the step's first input."""
        source, target = step.inputs[0], step.outputs[0]
        delayed = self.scales[target]
        value = value * self._real_scale(target).astype(np.float32)
        power = np.clip(self._exponent(source) - delayed.exponent, -126, 127)
        rounded = round_half_away(value * np.float32(2.0 ** float(power)))
        open_ = self._mask(step, value.shape)
        magnitude = np.abs(rounded[open_])
        delayed.amax = max(delayed.amax, int(magnitude.max(initial=0)))
        delayed.saturated += int((magnitude > 127).sum())
        delayed.zeros += int(((magnitude == 0) & (value[open_] != 0)).sum())
        self._write(target, np.where(open_, np.clip(rounded, -127, 127), 0))

    def _update_real(self, step: Step, total: Floats) -> None:
        """Takes a float32 parameter's gradient in units of the step's first input."""
        self._take(step, total * self._unit_of(step))

    # Norms: maps are seen as [elements of a group, groups].

    def _grouped(self, step: Step, value: Floats) -> Floats:
        groups, (_, height, width, channels) = step.attributes["groups"], value.shape
        split = value.reshape(height * width, groups, channels // groups)
        if step.attributes["per_pixel"]:
            return split.transpose(2, 0, 1).reshape(channels // groups, -1)
        return split.transpose(0, 2, 1).reshape(-1, groups)

    def _ungrouped(self, step: Step, value: Floats, shape: tuple[int, ...]) -> Floats:
        groups, (_, height, width, channels) = step.attributes["groups"], shape
        inner, pixels = channels // groups, height * width
        if step.attributes["per_pixel"]:
            split = value.reshape(inner, pixels, groups).transpose(1, 2, 0)
        else:
            split = value.reshape(pixels, inner, groups).transpose(0, 2, 1)
        return split.reshape(shape)

    def _affine(self, step: Step, name: str, like: Floats) -> Floats:
        return self._grouped(step, np.broadcast_to(self._real(name), like.shape))

    def _normal(self, step: Step, x: str) -> tuple[Floats, Floats, Floats]:
        """Normalised elements, mean and inverse deviation of each group."""
        values = self._grouped(step, self._real(x))
        share = np.float32(1.0 / len(values))
        mean = running_sum(values) * share
        apart = values - mean
        variance = running_sum(apart * apart) * share
        root = np.sqrt(variance + np.float32(step.attributes["epsilon"]))
        inverse = np.float32(1) / root
        return apart * inverse, mean, inverse

    def _group_norm(self, step: Step) -> None:
        x, weight, bias = step.inputs
        like = self._real(x)
        normal, _, _ = self._normal(step, x)
        value = normal * self._affine(step, weight, like) + self._affine(step, bias, like)
        self._write_real(step, self._ungrouped(step, value, like.shape))

    def _group_norm_statistics(self, step: Step) -> None:
        _, mean, inverse = self._normal(step, step.inputs[0])
        shape = self.program.tensor(step.outputs[0]).shape
        self.values[step.outputs[0]] = np.stack([mean, inverse], axis=-1).reshape(shape)

    def _group_norm_gradient(self, step: Step) -> None:
        g, x, weight = step.inputs[:3]
        gradient = self._real(g)
        weighted = self._grouped(step, gradient) * self._affine(step, weight, gradient)
        normal, _, inverse = self._normal(step, x)
        share = np.float32(1.0 / len(normal))
        level = running_sum(weighted) * share
        slope = running_sum(weighted * normal) * share
        value = inverse * ((weighted - level) - normal * slope)
        self._store_real(step, self._ungrouped(step, value, gradient.shape))

    def _group_norm_weight_gradient(self, step: Step) -> None:
        g, x = step.inputs[:2]
        gradient = self._real(g)
        normal, _, _ = self._normal(step, x)
        products = gradient * self._ungrouped(step, normal, gradient.shape)
        self._update_real(step, running_sum(products.reshape(-1, products.shape[3])))

    def _group_norm_bias_gradient(self, step: Step) -> None:
        total = self._value(step.inputs[0])[0].sum(axis=(0, 1))
        self._update_real(step, total.astype(np.float32))

    # Softmax and attention.

    exponential: Any = None  # float32 exp, elementwise

    def _softmax(self, step: Step) -> None:
        x = self._real(step.inputs[0])
        if step.attributes["scale"] != 1.0:
            x = x * np.float32(step.attributes["scale"])
        powers = self.exponential(x - x.max(axis=3, keepdims=True))
        total = running_sum(np.moveaxis(powers, 3, 0))
        self._write_real(step, powers / total[..., None])

    def _softmax_gradient(self, step: Step) -> None:
        g, y = (self._real(name) for name in step.inputs[:2])
        total = running_sum(np.moveaxis(g * y, 3, 0))
        self._store_real(step, np.float32(step.attributes["scale"]) * (y * (g - total[..., None])))

    def _heads(self, step: Step, name: str) -> Integers:
        """[1, 1, T, D] -> [heads, T, d]."""
        value = self._centred(name)[0, 0]
        split = value.reshape(len(value), step.attributes["heads"], -1)
        return np.asarray(split.transpose(1, 0, 2))

    def _scores(self, step: Step) -> Integers:
        a, b = (self._heads(step, name) for name in step.inputs[:2])
        return np.asarray(np.einsum("htc,hsc->hts", a, b))[None]

    def _mix(self, step: Step) -> Integers:
        p_name, v_name = step.inputs[:2][:: -1 if step.attributes["swapped"] else 1]
        p, v = self._centred(p_name)[0], self._heads(step, v_name)
        p = p.transpose(0, 2, 1) if step.attributes["transposed"] else p
        mixed = np.einsum("hts,hsc->thc", p, v)
        return np.asarray(mixed.reshape(1, 1, len(mixed), -1))

    def _product(self, step: Step, total: Integers) -> None:
        y = step.outputs[0]
        real = step.attributes["scale"] * np.prod([self._real_scale(n)[0] for n in step.inputs])
        factor = encode_factor(float(real / self._real_scale(y)[0]))
        self._write(y, self._bounded(step, requantize(total, *factor)))

    def _head_scores(self, step: Step) -> None:
        self._product(step, self._scores(step))

    def _head_mix(self, step: Step) -> None:
        self._product(step, self._mix(step))

    def _head_scores_gradient(self, step: Step) -> None:
        factor = step.attributes["scale"] * float(self._real_scale(step.inputs[1])[0])
        self._store(step, self._scores(step), factor)

    def _head_mix_gradient(self, step: Step) -> None:
        factor = step.attributes["scale"] * float(self._real_scale(step.inputs[1])[0])
        self._store(step, self._mix(step), factor)

    # Embeddings.

    def _embedding(self, step: Step) -> None:
        tokens, table = step.inputs
        rows = self._weight(table)[self._value(tokens).reshape(-1)]
        factor = encode_factor(
            float(self._real_scale(table)[0] / self._real_scale(step.outputs[0])[0])
        )
        self._write(step.outputs[0], self._bounded(step, requantize(rows, *factor))[None, None])

    def _embedding_weight_gradient(self, step: Step) -> None:
        g, tokens = step.inputs[:2]
        gradient, named = self._value(g)[0, 0], self._value(tokens).reshape(-1)
        unit = 256 / self._real_scale(step.attributes["parameter"])
        shape = step.attributes["shape"]
        if step.attributes["update"] == "sgd":  # one token after another
            for row, value in zip(named, gradient, strict=True):
                total = np.zeros(shape, np.int64)
                total[row] = value
                self._update(step, total, unit)
            return
        total = np.zeros(shape, np.int64)
        np.add.at(total, named, gradient)
        self._update(step, total, unit)

    def _position(self, step: Step) -> None:
        self._write_real(step, self._real(step.inputs[0]) + self._real(step.inputs[1]))

    def _position_weight_gradient(self, step: Step) -> None:
        self._update_real(step, self._real(step.inputs[0]))
