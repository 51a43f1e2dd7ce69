"""Elementwise, rearranging and transposed operators in NumPy, written from docs/numerics.md."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from integer_arithmetic import (
    LARGEST,
    Integers,
    encode_factor,
    encode_factors,
    requantize,
    round_shift,
)
from integer_reference import Machine, Slide, group_channels, slide
from ondevice_compiler.program import Step

OPERATORS: dict[str, Callable[..., torch.Tensor]] = {
    "+": torch.add,
    "-": torch.sub,
    "*": torch.mul,
    "/": torch.div,
    "max": torch.maximum,
    "min": torch.minimum,
    "leaky": lambda a, slope: torch.where(a > 0, a, a * slope),
    "exp": lambda a: torch.exp(torch.clamp(a, max=88)),
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "erf": torch.erf,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "step": lambda a: (a > 0).double(),
}
BINARY = ("+", "-", "*", "/", "max", "min", "leaky")


def postfix(text: str, x: torch.Tensor) -> torch.Tensor:
    """Value of a curve's text at float64 points."""
    stack: list[torch.Tensor] = []
    for token in text.split():
        if token == "x":
            stack.append(x)
        elif token in OPERATORS:
            operands = [stack.pop() for _ in range(2 if token in BINARY else 1)]
            stack.append(OPERATORS[token](*operands[::-1]))
        else:
            stack.append(torch.full_like(x, float(token)))
    (value,) = stack
    return value


class ElementwiseMachine(Machine):
    """The reference interpreter with these operators."""

    def _real(self, text: str, name: str) -> NDArray[np.float64]:
        """A curve at the real values of an int8 tensor."""
        real = self._real_scale(name)[0] * self._centred(name)
        return np.asarray(postfix(text, torch.tensor(real, dtype=torch.float64)).numpy())

    def _lookup(self, step: Step) -> None:
        x, y = step.inputs[0], step.outputs[0]
        real = self._real(step.attributes["curve"], x)
        self._write(y, self._bounded(step, np.rint(real / self._real_scale(y)[0]).astype(int)))

    def _lookup_gradient(self, step: Step) -> None:
        g, text = step.inputs[0], step.attributes["slope"]
        if "x" in text.split():
            saved = step.inputs[1]
            # Every value that the saved tensor could have decides the fixed point.
            all_real = self._real_scale(saved)[0] * (np.arange(-128, 128) - self._zero(saved))
            slopes = self._real(text, saved)
        else:
            all_real, slopes = np.zeros(1), np.full(self._value(g).shape, float(text))
        largest = float(postfix(text, torch.tensor(all_real, dtype=torch.float64)).abs().max())
        bits = 0
        while largest > 0 and bits < 30 and largest * 2.0 ** (bits + 1) <= 32767:
            bits += 1
        while largest * 2.0**bits > 32767:
            bits -= 1
        fixed = np.rint(slopes * 2.0**bits).astype(np.int64)
        self._store(step, self._value(g) * fixed, 2.0**-bits)

    def _subtract(self, step: Step) -> None:
        a, b = step.inputs
        y = step.outputs[0]
        ratios = [float(self._real_scale(n)[0] / self._real_scale(y)[0]) for n in (a, b)]
        shift = max(t for t in range(1, 31) if t == 1 or max(ratios) * 2.0**t < 2**21)
        factors = [round(ratio * 2.0**shift) for ratio in ratios]
        total = self._centred(a) * factors[0] - self._centred(b) * factors[1]
        self._write(y, self._bounded(step, round_shift(total, shift)))

    def _multiply(self, step: Step) -> None:
        a, b = step.inputs
        y = step.outputs[0]
        scales = [float(self._real_scale(name)[0]) for name in (a, b, y)]
        factor = encode_factor(scales[0] * scales[1] / scales[2])
        product = self._centred(a) * self._centred(b)
        self._write(y, self._bounded(step, requantize(product, *factor)))

    def _multiply_gradient(self, step: Step) -> None:
        g, other = step.inputs[:2]
        total: Any = self._value(g) * self._centred(other)
        if self.program.tensor(step.outputs[0]).shape != total.shape:
            total = total.sum(axis=(1, 2), keepdims=True)
        self._store(step, total, float(self._real_scale(other)[0]))

    def _upsample2d(self, step: Step) -> None:
        rows, columns = step.attributes["factor"]
        self._write(step.outputs[0], self._value(step.inputs[0]).repeat(rows, 1).repeat(columns, 2))

    def _upsample2d_gradient(self, step: Step) -> None:
        rows, columns = step.attributes["factor"]
        _, height, width, channels = self.program.tensor(step.outputs[0]).shape
        blocks = self._value(step.inputs[0]).reshape(1, height, rows, width, columns, channels)
        self._store(step, blocks.sum(axis=(2, 4)))

    # Rearranging.

    def _in_scale_of(self, name: str, target: str) -> Integers:
        """Values of one tensor in the integers of another, before the zero point."""
        if self._real_scale(name)[0] == self._real_scale(target)[0]:
            return self._centred(name)
        factor = encode_factor(float(self._real_scale(name)[0] / self._real_scale(target)[0]))
        return requantize(self._centred(name), *factor)

    def _concat(self, step: Step) -> None:
        y = step.outputs[0]
        parts = [self._in_scale_of(name, y) for name in step.inputs]
        self._write(y, self._bounded(step, np.concatenate(parts, step.attributes["axis"])))

    def _pad(self, step: Step) -> None:
        x, y = step.inputs[0], step.outputs[0]
        value = int(np.rint(step.attributes["value"] / self._real_scale(y)[0]))
        sides = list(zip(step.attributes["before"], step.attributes["after"], strict=True))
        inner = self._in_scale_of(x, y)
        self._write(y, self._bounded(step, np.pad(inner, sides, constant_values=value)))

    def _box(self, step: Step, shape: tuple[int, ...]) -> tuple[slice, ...]:
        begin = step.attributes["begin"]
        return tuple(slice(b, b + extent) for b, extent in zip(begin, shape, strict=True))

    def _slice(self, step: Step) -> None:
        box = self._box(step, self.program.tensor(step.outputs[0]).shape)
        self._write(step.outputs[0], self._value(step.inputs[0])[box])

    def _crop_gradient(self, step: Step) -> None:
        box = self._box(step, self.program.tensor(step.outputs[0]).shape)
        self._store(step, self._value(step.inputs[0])[box])

    def _slice_gradient(self, step: Step) -> None:
        gradient = self._value(step.inputs[0])
        total = np.zeros(self.program.tensor(step.outputs[0]).shape, np.int64)
        total[self._box(step, gradient.shape)] = gradient
        self._store(step, total)

    # Transposed convolutions: the window slides over the larger map.

    def _transposed(self, step: Step, large: str, small: str, weight: tuple[int, ...]) -> Slide:
        shapes = [self.program.tensor(name).shape for name in (large, small)]
        return slide(step, shapes[0], shapes[1], weight[1:3])

    def _conv2d_transpose(self, step: Step) -> None:
        x, w, b = step.inputs
        y = step.outputs[0]
        weight, source = self._weight(w), self._centred(x)[0]
        window = self._transposed(step, y, x, weight.shape)
        full = window.blank(weight.shape[0], 0)
        for output in range(weight.shape[0]):
            seen = group_channels(weight.shape, step.attributes["groups"], output)
            for kh, kw, where in window.positions():
                full[where][..., output] += source[..., seen] @ weight[output, kh, kw]
        total = window.cropped(full) + self._value(b)
        assert np.abs(total).max() <= LARGEST
        real = self._real_scale(x) * self._real_scale(w)
        if self.program.tensor(y).dtype == "float32":
            self.values[y] = total.astype(np.float32) * real.astype(np.float32)
            return
        factors = encode_factors(real / self._real_scale(y), weight.shape[0])
        self._write(y, self._bounded(step, requantize(total, *factors)))

    def _conv2d_transpose_dx(self, step: Step) -> None:
        g, w = step.inputs[:2]
        out, weight = step.outputs[0], self._weight(w)
        window = self._transposed(step, g, out, weight.shape)
        gradient = window.padded(self._value(g)[0], 0)
        total = np.zeros(self.program.tensor(out).shape[1:], np.int64)
        for output in range(weight.shape[0]):
            seen = group_channels(weight.shape, step.attributes["groups"], output)
            for kh, kw, where in window.positions():
                total[..., seen] += gradient[where][..., output, None] * weight[output, kh, kw]
        self._store(step, total)

    def _conv2d_transpose_dw(self, step: Step) -> None:
        g, x = step.inputs[:2]
        shape = tuple(step.attributes["shape"])
        window = self._transposed(step, g, x, shape)
        gradient, source = window.padded(self._value(g)[0], 0), self._centred(x)[0]
        total = np.zeros(shape, np.int64)
        for output in range(shape[0]):
            seen = group_channels(shape, step.attributes["groups"], output)
            for kh, kw, where in window.positions():
                product = gradient[where][..., output, None] * source[..., seen]
                total[output, kh, kw] = product.sum(axis=(0, 1))
        own = self._real_scale(step.attributes["parameter"])
        self._update(step, total, 256 * self._real_scale(x) / (self._real_scale(g) * own))
