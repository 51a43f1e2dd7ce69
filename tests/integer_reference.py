"""Integer training in NumPy, written from docs/numerics.md alone.

Sums are int64 and never wrap; windows are slices of padded arrays, and gradients are scattered
where the generated C gathers. `Machine` interprets a whole integer `Program` step by step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from integer_arithmetic import (
    LARGEST,
    Integers,
    align,
    encode_factor,
    encode_factors,
    float_delta,
    quantize_error,
    requantize,
    round_shift,
    saturate32,
    scale,
)
from ondevice_compiler.program import Program, Step

Loss = Callable[[NDArray[np.float32], Any], NDArray[np.float32]]

STATE_UNITS = {"int16": 16, "int32": 256}
STATE_LIMIT = {"int16": 32767, "int32": LARGEST}


# Windows: every (kh, kw) of a window with the slice of the padded map that it sees.


@dataclass(frozen=True)
class Slide:
    """Window over a map of `size` giving `out`, padded by `top` and `left`."""

    size: tuple[int, int]
    out: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    top: int
    left: int

    def padded(self, values: NDArray[Any], fill: int) -> NDArray[Any]:
        """[H, W, C] -> with as much padding as any window reaches."""
        full = self.blank(values.shape[2], fill)
        inner = full[self.top : self.top + self.size[0], self.left : self.left + self.size[1]]
        inner[:] = values
        return full

    def blank(self, channels: int, fill: int) -> Integers:
        reach = [
            (o - 1) * s + k for o, s, k in zip(self.out, self.stride, self.kernel, strict=True)
        ]
        height = max(reach[0], self.top + self.size[0])
        width = max(reach[1], self.left + self.size[1])
        return np.full((height, width, channels), fill, np.int64)

    def cropped(self, full: Integers) -> NDArray[Any]:
        return full[self.top : self.top + self.size[0], self.left : self.left + self.size[1]]

    def positions(self) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
        for kh in range(self.kernel[0]):
            for kw in range(self.kernel[1]):
                rows = slice(kh, kh + (self.out[0] - 1) * self.stride[0] + 1, self.stride[0])
                columns = slice(kw, kw + (self.out[1] - 1) * self.stride[1] + 1, self.stride[1])
                yield kh, kw, (rows, columns)


def slide(step: Step, feature: tuple[int, ...], out: tuple[int, ...], kernel: Any) -> Slide:
    stride, padding = tuple(step.attributes["stride"]), step.attributes["padding"]
    return Slide(feature[1:3], out[1:3], tuple(kernel), stride, padding[0], padding[1])  # type: ignore[arg-type]


def group_channels(weight: tuple[int, ...], groups: int, output: int) -> slice:
    """Input channels that an output channel sees."""
    first = output // (weight[0] // groups) * weight[3]
    return slice(first, first + weight[3])


# The machine.


@dataclass
class DelayedScale:
    """Power-of-two scale of one gradient tensor."""

    history: np.float32
    exponent: int = 0
    amax: int = 0
    saturated: int = 0
    zeros: int = 0

    def begin(self) -> None:
        """Smallest exponent with history <= 127 * 2^e, in [-100, 30]."""
        self.amax = 0
        self.exponent = -100
        while self.exponent < 30 and float(self.history) > 127.0 * 2.0**self.exponent:
            self.exponent += 1

    def end(self) -> None:
        seen = np.float32(self.amax) * np.float32(2.0**self.exponent)
        self.history = max(seen, self.history * np.float32(0.9375))


class Machine:
    """Interprets an integer program: `values` holds every tensor, `scales` every gradient's scale.

    Args:
        program: From `quantize` (and `order`).
        histories: First history of each delayed gradient.
        loss: (logits, label) -> error of the logits; float32 and outside this reference.
    """

    def __init__(
        self, program: Program, histories: Mapping[str, float], loss: Loss | None = None
    ) -> None:
        self.program = program
        self.values: dict[str, NDArray[Any]] = {k: v.copy() for k, v in program.values.items()}
        for name, tensor in program.tensors.items():
            if tensor.kind == "state":
                self.values[name] = np.zeros(tensor.shape, tensor.dtype)
        self.scales = {n: DelayedScale(np.float32(h)) for n, h in histories.items()}
        self.rate = np.float32(0)
        self.learning_rate = np.float32(0)
        self._loss = loss

    def train(self, x: NDArray[np.int8], label: Any, learning_rate: float) -> None:
        """One sample: forward, backward and update (or accumulation)."""
        self.learning_rate = np.float32(learning_rate)
        self.values[self.program.input] = x
        self.values[self.program.label] = label
        for step in self.program.steps:
            if step.phase != "apply":
                self.run(step)
        for delayed in self.scales.values():
            delayed.end()

    def apply(self) -> None:
        """Moves the parameters by the sums."""
        for step in self.program.steps:
            if step.phase == "apply":
                self.run(step)

    def run(self, step: Step) -> None:
        """Runs one step."""
        getattr(self, f"_{step.op}")(step)

    # Access.

    def _held(self, name: str) -> NDArray[Any]:
        """As it is stored; a view's elements are those of what it is part of."""
        tensor = self.program.tensor(name)
        if tensor.view_of is None:
            return np.asarray(self.values[name])
        whole = np.asarray(self.values[tensor.view_of]).reshape(-1)
        first = tensor.offset_bytes // whole.itemsize
        return whole[first : first + tensor.elements]

    def _value(self, name: str) -> Integers:
        return self._held(name).astype(np.int64).reshape(self.program.tensor(name).shape)

    def _real_scale(self, name: str) -> NDArray[np.float64]:
        quantization = self.program.tensor(name).quantization
        return np.ones(1) if quantization is None else np.asarray(quantization.scale, np.float64)

    def _centred(self, name: str) -> Integers:
        return self._value(name) - self._zero(name)

    def _zero(self, name: str) -> int:
        quantization = self.program.tensor(name).quantization
        return 0 if quantization is None else quantization.zero_point

    def _weight(self, name: str) -> Integers:
        """As the forward pass computes with it; a weight trained in part is put together."""
        tensor = self.program.tensor(name)
        stored = self._value(name) >> (8 if tensor.dtype == "int16" else 0)
        if tensor.part is None or name.endswith(".frozen"):
            return stored
        return self._joined(name, tensor.part.axis, stored, self._weight(f"{name}.frozen"))

    def _weight_scale(self, name: str) -> NDArray[np.float64]:
        """Of each output channel of the whole weight."""
        part = self.program.tensor(name).part
        if part is None or part.axis != 0:
            return self._real_scale(name)
        return self._joined(name, 0, self._real_scale(name), self._real_scale(f"{name}.frozen"))

    def _joined(self, name: str, axis: int, trained: Any, frozen: Any) -> NDArray[Any]:
        shape = list(trained.shape)
        shape[axis] += frozen.shape[axis]
        whole = np.zeros(shape, trained.dtype)
        for tensor, values in ((name, trained), (f"{name}.frozen", frozen)):
            part = self.program.tensor(tensor).part
            assert part is not None
            where: list[Any] = [slice(None)] * len(shape)
            where[axis] = list(part.channels)
            whole[tuple(where)] = values
        return whole

    def _write(self, name: str, value: NDArray[Any]) -> None:
        tensor = self.program.tensor(name)
        stored = np.asarray(value).reshape(tensor.shape)
        assert np.array_equal(stored, stored.astype(tensor.dtype)), f"{name} overflows"
        self.values[name] = stored.astype(tensor.dtype)

    def _exponent(self, gradient: str) -> int:
        return self.scales[gradient].exponent if gradient in self.scales else 0

    # Forward.

    def _bounded(self, step: Step, value: Integers) -> Integers:
        attributes = step.attributes
        value = value + self._zero(step.outputs[0])
        return np.clip(value, attributes.get("low", -128), attributes.get("high", 127))

    def _conv2d(self, step: Step) -> None:
        x, w, b = step.inputs[:3]
        y = step.outputs[0]
        weight = self._weight(w)
        shape = self.program.tensor(y).shape
        window = slide(step, self.program.tensor(x).shape, shape, weight.shape[1:3])
        source = window.padded(self._centred(x)[0], 0)
        total = np.zeros(shape[1:], np.int64) + self._value(b)
        for output in range(weight.shape[0]):
            seen = group_channels(weight.shape, step.attributes["groups"], output)
            for kh, kw, where in window.positions():
                total[..., output] += source[where][..., seen] @ weight[output, kh, kw]
        assert np.abs(total).max() <= LARGEST, "the C's int32 accumulator would overflow"
        real = self._real_scale(x) * self._weight_scale(w)
        if self.program.tensor(y).dtype == "float32":
            self.values[y] = total.astype(np.float32) * real.astype(np.float32)
            return
        factors = encode_factors(real / self._real_scale(y), shape[3])
        self._write(y, self._bounded(step, requantize(total, *factors)))

    def _add(self, step: Step) -> None:
        a, b = step.inputs
        y = step.outputs[0]
        ratios = [float(self._real_scale(n)[0] / self._real_scale(y)[0]) for n in (a, b)]
        shift = max(t for t in range(1, 31) if t == 1 or max(ratios) * 2.0**t < 2**21)
        factors = [round(ratio * 2.0**shift) for ratio in ratios]
        total = self._centred(a) * factors[0] + self._centred(b) * factors[1]
        self._write(y, self._bounded(step, round_shift(total, shift)))

    def _clip(self, step: Step) -> None:
        x, y = step.inputs[0], step.outputs[0]
        factor = encode_factor(float(self._real_scale(x)[0] / self._real_scale(y)[0]))
        self._write(y, self._bounded(step, requantize(self._centred(x), *factor)))

    def _pack_mask(self, step: Step) -> None:
        y = self._value(step.inputs[0]).reshape(-1)
        inside = (y > step.attributes["low"]) & (y < step.attributes["high"])
        self._write(step.outputs[0], np.packbits(inside, bitorder="little"))

    def _avg_pool2d(self, step: Step) -> None:
        x, y = step.inputs[0], step.outputs[0]
        kernel = step.attributes["kernel"]
        shape = self.program.tensor(y).shape
        window = slide(step, self.program.tensor(x).shape, shape, kernel)
        area = kernel[0] * kernel[1]
        factor = encode_factor(float(self._real_scale(x)[0] / self._real_scale(y)[0] / area))
        tensors = self.program.tensors
        if tensors[x].quantization == tensors[y].quantization and not any(
            step.attributes["padding"]
        ):
            source = window.padded(self._value(x)[0], 0)
            total = np.sum([source[where] for _, _, where in window.positions()], axis=0)
            half_away = (2 * np.abs(total) + area) // (2 * area)
            self._write(y, np.sign(total) * half_away)
            return
        source = window.padded(self._centred(x)[0], 0)
        total = np.sum([source[where] for _, _, where in window.positions()], axis=0)
        self._write(y, self._bounded(step, requantize(total, *factor)))

    def _windows(self, step: Step, x: str, out: tuple[int, ...]) -> Integers:
        shape = self.program.tensor(x).shape
        window = slide(step, shape, out, step.attributes["kernel"])
        source = window.padded(self._value(x)[0], -1000)
        return np.stack([source[where] for _, _, where in window.positions()])

    def _max_pool2d(self, step: Step) -> None:
        y = step.outputs[0]
        windows = self._windows(step, step.inputs[0], self.program.tensor(y).shape)
        self._write(y, windows.max(axis=0))

    def _max_pool2d_argmax(self, step: Step) -> None:
        index = step.outputs[0]
        windows = self._windows(step, step.inputs[0], self.program.tensor(index).shape)
        self._write(index, windows.argmax(axis=0))  # NumPy, too, takes the first maximum.

    # Loss.

    def _cross_entropy_error(self, step: Step) -> None:
        assert self._loss is not None
        error = self._loss(self.values[step.inputs[0]].reshape(-1), self.values[step.inputs[1]])
        self.values[step.outputs[0]] = error

    _mse_error = _binary_cross_entropy_error = _cross_entropy_error

    def _quantize_error(self, step: Step) -> None:
        error = self.values[step.inputs[0]].reshape(-1)
        target = step.outputs[0]
        fold = np.broadcast_to(self._real_scale(target), error.shape).astype(np.float32)
        quantized, unit = quantize_error(error, fold)
        self._write(target, quantized)
        self.rate = self.learning_rate * unit
        for delayed in self.scales.values():
            delayed.begin()

    # Backward.

    def _store(
        self, step: Step, total: Integers, factor: float = 1.0, exponent: int | None = None
    ) -> None:
        """Masks, requantises and counts a gradient's accumulator.

        Its unit has the exponent of the step's first input, if no other is given.
        """
        source, target = step.inputs[0], step.outputs[0]
        delayed = self.scales[target]
        shape = self.program.tensor(target).shape
        inner = np.ones(1) if step.op.endswith("_dx") else self._real_scale(source)
        real = self._real_scale(target) * factor / inner
        multiplier, shift = encode_factors(real, shape[-1])
        own = self._exponent(source) if exponent is None else exponent
        shift = shift - (own - delayed.exponent)
        value = scale(total.reshape(shape), multiplier, shift)
        open_ = self._mask(step, shape)
        magnitude = np.abs(value[open_])
        delayed.amax = max(delayed.amax, int(magnitude.max(initial=0)))
        delayed.saturated += int((magnitude > 127).sum())
        delayed.zeros += int(((magnitude == 0) & (total.reshape(shape)[open_] != 0)).sum())
        self._write(target, np.where(open_, np.clip(value, -127, 127), 0))

    def _mask(self, step: Step, shape: tuple[int, ...]) -> NDArray[np.bool_]:
        kind = step.attributes.get("mask")
        if kind is None:
            return np.ones(shape, bool)
        values = self._held(step.inputs[-1])
        if kind == "bits":
            count = int(np.prod(shape))
            bits = np.unpackbits(values, count=count, bitorder="little")
            return bits.astype(bool).reshape(shape)
        inside = (values > step.attributes["low"]) & (values < step.attributes["high"])
        return np.asarray(inside.reshape(shape))

    def _conv2d_dx(self, step: Step) -> None:
        g, w = step.inputs[:2]
        gradient, weight = self._value(g)[0], self._weight(w)
        shape = self.program.tensor(step.outputs[0]).shape
        window = slide(step, shape, self.program.tensor(g).shape, weight.shape[1:3])
        total = window.blank(shape[3], 0)
        for output in range(weight.shape[0]):
            seen = group_channels(weight.shape, step.attributes["groups"], output)
            for kh, kw, where in window.positions():
                total[where][..., seen] += gradient[..., output, None] * weight[output, kh, kw]
        self._store(step, window.cropped(total))

    def _max_pool2d_gradient(self, step: Step) -> None:
        g, index = (self._value(name)[0] for name in step.inputs[:2])
        shape = self.program.tensor(step.outputs[0]).shape
        window = slide(step, shape, (1, *g.shape), step.attributes["kernel"])
        total = window.blank(shape[3], 0)
        for number, (_, _, where) in enumerate(window.positions()):
            total[where] += np.where(index == number, g, 0)
        self._store(step, window.cropped(total))

    def _avg_pool2d_gradient(self, step: Step) -> None:
        g = self._value(step.inputs[0])[0]
        kernel = step.attributes["kernel"]
        shape = self.program.tensor(step.outputs[0]).shape
        window = slide(step, shape, (1, *g.shape), kernel)
        total = window.blank(shape[3], 0)
        for _, _, where in window.positions():
            total[where] += g
        self._store(step, window.cropped(total), 1.0 / (kernel[0] * kernel[1]))

    def _clip_gradient(self, step: Step) -> None:
        self._store(step, self._value(step.inputs[0]))

    def _add_gradient(self, step: Step) -> None:
        a, b = step.inputs[:2]
        apart = self._exponent(b) - self._exponent(a)
        total = align(self._value(a), self._value(b), apart)
        self._store(step, total, 2.0**-12, max(self._exponent(a), self._exponent(b)))

    # Update.

    def _slice_channels(self, step: Step) -> None:
        chosen = list(step.attributes["channels"])
        self._write(step.outputs[0], self._value(step.inputs[0])[..., chosen])

    def _conv2d_dw(self, step: Step) -> None:
        g, x = step.inputs[:2]
        gradient, feature = self._value(g)[0], self._centred(x)[0]
        fold = self._real_scale(g)
        if "x_channels" in step.attributes:
            feature = feature[..., list(step.attributes["x_channels"])]
        if "g_channels" in step.attributes:
            chosen = list(step.attributes["g_channels"])
            gradient, fold = (
                gradient[..., chosen],
                np.broadcast_to(fold, gradient.shape[2:])[chosen],
            )
        shape = tuple(step.attributes["shape"])
        window = slide(step, (1, *feature.shape), (1, *gradient.shape), shape[1:3])
        source = window.padded(feature, 0)
        total = np.zeros(shape, np.int64)
        for output in range(shape[0]):
            seen = group_channels(shape, step.attributes["groups"], output)
            for kh, kw, where in window.positions():
                product = source[where][..., seen] * gradient[..., output, None]
                total[output, kh, kw] = product.sum(axis=(0, 1))
        own = self._real_scale(step.attributes["parameter"])
        self._update(step, total, 256 * self._real_scale(x) / (fold * own))

    def _bias_gradient(self, step: Step) -> None:
        g = step.inputs[0]
        own = self._real_scale(step.attributes["parameter"])
        total = self._value(g)[0].sum(axis=(0, 1))
        self._update(step, total, 1 / (self._real_scale(g) * own))

    def _update(self, step: Step, total: Integers, unit: NDArray[np.float64]) -> None:
        kind, outputs = step.attributes["update"], step.outputs
        dtype = self.program.tensor(outputs[0]).dtype
        finer = 1 if kind == "sgd" else STATE_UNITS[dtype]
        power = np.float32(2.0 ** self._exponent(step.inputs[0]))
        rate = self.rate * power * np.float32(step.attributes.get("factor", 1.0))
        each = np.broadcast_to((unit * finer).astype(np.float32), total.shape[:1]) * rate
        delta = float_delta(total, each.reshape(-1, *[1] * (total.ndim - 1)))
        if kind == "sgd":
            self._move(outputs[0], delta)
        elif kind == "accumulate":
            limit = STATE_LIMIT[dtype]
            self._write(outputs[0], np.clip(self._value(outputs[0]) + delta, -limit, limit))
        else:
            self._momentum(outputs[0], outputs[1], delta, step.attributes["momentum"])

    def _apply_update(self, step: Step) -> None:
        parameter, total = step.outputs[:2]
        change = self._value(total)
        if len(step.outputs) == 3:
            self._momentum(parameter, step.outputs[2], change, step.attributes["momentum"])
        else:
            self._move(parameter, self._in_parameter_units(parameter, change))
        self._write(total, np.zeros_like(change))

    def _momentum(self, parameter: str, velocity: str, delta: Integers, momentum: float) -> None:
        kept = round_shift(self._value(velocity) * round(momentum * 32768), 15)
        limit = STATE_LIMIT[self.program.tensor(velocity).dtype]
        moved = np.clip(kept + delta, -limit, limit)
        self._write(velocity, moved)
        self._move(parameter, self._in_parameter_units(parameter, moved))

    def _in_parameter_units(self, parameter: str, state: Integers) -> Integers:
        units = STATE_UNITS[self.program.tensor(parameter).dtype]
        return round_shift(state, units.bit_length() - 1)

    def _move(self, parameter: str, change: Integers) -> None:
        moved = self._value(parameter) - change
        if self.program.tensor(parameter).dtype == "int16":
            self._write(parameter, np.clip(moved, -127 * 256, 127 * 256 + 255))
        else:
            self._write(parameter, saturate32(moved))
