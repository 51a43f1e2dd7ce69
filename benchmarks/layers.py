"""The layer shapes whose kernels are measured: one integer step each, with realistic operands."""

from __future__ import annotations

from collections.abc import Callable
from math import log2, prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.measure.task import Task
from ondevice_compiler.ops import OPERATORS
from ondevice_compiler.program import Program, Quantization, Step, Tensor

Shape = tuple[int, ...]
SEED = 4
SPREAD = 40.0  # Standard deviation of what a kernel stores, in units of int8.


class _Layer:
    """Tensors and values of one convolution; `groups` is the channels of a depthwise one."""

    def __init__(
        self, size: int, inputs: int, outputs: int, kernel: int = 1, stride: int = 1,
        depthwise: bool = False,
    ) -> None:  # fmt: skip
        self.random = np.random.default_rng(SEED)
        self.groups = inputs if depthwise else 1
        self.stride = stride
        before = (kernel - 1) // 2
        out = (size + 2 * before - kernel) // stride + 1
        self.padding = (before, before, before, before)
        self.x_shape, self.y_shape = (1, size, size, inputs), (1, out, out, outputs)
        self.w_shape = (outputs, kernel, kernel, 1 if depthwise else inputs)
        self.fan_in = prod(self.w_shape[1:])
        self.w_scale = tuple(float(s) for s in self.random.uniform(0.002, 0.02, outputs))
        self.x = Quantization((0.0235,), -128)  # of a ReLU6

    def geometry(self) -> dict[str, Any]:
        stride = (self.stride, self.stride)
        return {"stride": stride, "padding": self.padding, "groups": self.groups}

    def activations(self, shape: Shape) -> NDArray[np.int8]:
        """What a ReLU6 leaves: half of it at the zero point."""
        return _int8(self.random.normal(0.0, 60.0, shape) - 128, -128)

    def weights(self) -> NDArray[np.int8]:
        return _int8(self.random.normal(0, 40, self.w_shape))

    def gradients(self, shape: Shape) -> NDArray[np.int8]:
        return _int8(self.random.normal(0, 25, shape))

    def trained(self) -> NDArray[np.int16]:
        return (self.weights().astype(np.int16) * 256 + 128).astype(np.int16)


def _int8(values: NDArray[np.float64], low: int = -127) -> NDArray[np.int8]:
    rounded: NDArray[np.int8] = np.clip(np.rint(values), low, 127).astype(np.int8)
    return rounded


def _task(
    name: str, step: Step, tensors: list[Tensor], values: dict[str, Any],
    exponents: dict[str, int] | None = None, rate: float = 0.0,
) -> Task:  # fmt: skip
    named = {tensor.name: tensor for tensor in tensors}
    program = Program("layer", named, (step,), {}, step.inputs[0], "", step.outputs[0], "mse")
    macs = OPERATORS[step.op].macs(step, program)
    return Task(name, program, values, exponents or {}, rate, macs)


def _step(op: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> Step:
    return Step(op, op, inputs, (output,), MappingProxyType(attributes))


def forward(name: str, *layer: Any, **more: Any) -> Task:
    """conv2d with a ReLU6 in its clip."""
    at = _Layer(*layer, **more)
    deviation = 0.0235 * float(np.mean(at.w_scale)) * 75.0 * 40.0 * at.fan_in**0.5
    y = Quantization((deviation / SPREAD,), -128)
    step = _step("conv2d", ("x", "w", "b"), "y", low=-128, high=127, **at.geometry())
    tensors = [
        Tensor("x", at.x_shape, "int8", "activation", at.x),
        Tensor("w", at.w_shape, "int8", "parameter", Quantization(at.w_scale)),
        Tensor("b", (at.w_shape[0],), "int32", "parameter", Quantization(at.w_scale)),
        Tensor("y", at.y_shape, "int8", "activation", y),
    ]
    values = {
        "x": at.activations(at.x_shape),
        "w": at.weights(),
        "b": at.random.integers(-5000, 5000, at.w_shape[0]),
    }
    return _task(name, step, tensors, values)


def input_gradient(name: str, *layer: Any, mask: bool = True, **more: Any) -> Task:
    """conv2d_dx: int8 gradient of the input of a layer with frozen weights."""
    at = _Layer(*layer, **more)
    below = tuple(float(s) for s in at.random.uniform(0.002, 0.02, at.x_shape[3]))
    fan_out = at.w_shape[0] // at.groups * at.w_shape[1] * at.w_shape[2] / at.stride**2
    deviation = 25.0 * 40.0 * fan_out**0.5 * float(np.mean(below))
    inputs = ("g", "w", "x") if mask else ("g", "w")
    masked = {"mask": "output", "low": -128, "high": 127} if mask else {}
    step = _step("conv2d_dx", inputs, "dx", shape=at.x_shape, weight="w", **masked, **at.geometry())
    tensors = [
        Tensor("g", at.y_shape, "int8", "gradient", Quantization(at.w_scale)),
        Tensor("w", at.w_shape, "int8", "parameter", Quantization(at.w_scale)),
        *([Tensor("x", at.x_shape, "int8", "activation", at.x)] if mask else []),
        Tensor("dx", at.x_shape, "int8", "gradient", Quantization(below)),
    ]
    values = {"g": at.gradients(at.y_shape), "w": at.weights()}
    if mask:
        values["x"] = at.activations(at.x_shape)
    exponents = {"g": 0, "dx": round(log2(deviation / SPREAD))}
    return _task(name, step, tensors, values, exponents)


def weight_update(name: str, *layer: Any, **more: Any) -> Task:
    """conv2d_dw with plain SGD on Q8.8 weights in place."""
    at = _Layer(*layer, **more)
    step = _step(
        "conv2d_dw", ("g", "x"), "w", shape=at.w_shape, parameter="w", update="sgd", weight="w",
        **at.geometry(),
    )  # fmt: skip
    tensors = [
        Tensor("g", at.y_shape, "int8", "gradient", Quantization(at.w_scale)),
        Tensor("x", at.x_shape, "int8", "activation", at.x),
        Tensor("w", at.w_shape, "int16", "parameter", Quantization(at.w_scale), trainable=True),
    ]
    values = {
        "g": at.gradients(at.y_shape),
        "x": at.activations(at.x_shape),
        "w": at.trained(),
    }
    pixels = at.y_shape[1] * at.y_shape[2]
    unit = 0.0235 * 256 / float(np.mean(at.w_scale)) ** 2
    rate = 20.0 / (unit * 25.0 * 60.0 * pixels**0.5)  # moves a weight by some 20/256
    return _task(name, step, tensors, values, {"g": 0}, rate)


def bias_update(name: str, *layer: Any, **more: Any) -> Task:
    """bias_gradient with plain SGD on an int32 bias in place."""
    at = _Layer(*layer, **more)
    step = _step("bias_gradient", ("g",), "b", parameter="b", update="sgd")
    own = Quantization(tuple(0.0235 * s for s in at.w_scale))
    tensors = [
        Tensor("g", at.y_shape, "int8", "gradient", Quantization(at.w_scale)),
        Tensor("b", (at.w_shape[0],), "int32", "parameter", own, trainable=True),
    ]
    biases = at.random.integers(-5000, 5000, at.w_shape[0])
    values = {"g": at.gradients(at.y_shape), "b": biases}
    return _task(name, step, tensors, values, {"g": 0}, 1e-6)


def residual_add(name: str, size: int, channels: int) -> Task:
    """Sum of two maps."""
    at = _Layer(size, channels, channels)
    step = _step("add", ("a", "b"), "y")
    tensors = [
        Tensor("a", at.x_shape, "int8", "activation", Quantization((0.031,), 3)),
        Tensor("b", at.x_shape, "int8", "activation", Quantization((0.022,), -7)),
        Tensor("y", at.x_shape, "int8", "activation", Quantization((0.038,), -2)),
    ]
    values = {n: at.gradients(at.x_shape) for n in ("a", "b")}
    return _task(name, step, tensors, values)


def gradient_sum(name: str, size: int, channels: int) -> Task:
    """Sum of two int8 gradients of one map, each with its own exponent."""
    at = _Layer(size, channels, channels)
    step = _step("add_gradient", ("a", "b"), "d")
    tensors = [
        Tensor("a", at.x_shape, "int8", "gradient"),
        Tensor("b", at.x_shape, "int8", "gradient"),
        Tensor("d", at.x_shape, "int8", "gradient", Quantization(at.w_scale)),
    ]
    values = {n: at.gradients(at.x_shape) for n in ("a", "b")}
    fold = round(log2(float(np.mean(at.w_scale))))
    return _task(name, step, tensors, values, {"a": -3, "b": -5, "d": -3 + fold})


def packed_mask(name: str, size: int, channels: int, low: int = -128, high: int = 127) -> Task:
    """One bit an element: inside of its clip or not."""
    at = _Layer(size, channels, channels)
    step = _step("pack_mask", ("y",), "bits", low=low, high=high)
    tensors = [
        Tensor("y", at.x_shape, "int8", "activation", at.x),
        Tensor("bits", (-(-prod(at.x_shape) // 8),), "uint8", "mask"),
    ]
    return _task(name, step, tensors, {"y": at.activations(at.x_shape)})


def gradient_copy(name: str, size: int, channels: int) -> Task:
    """An int8 gradient in the scale of another one."""
    at = _Layer(size, channels, channels)
    step = _step("clip_gradient", ("g",), "d")
    tensors = [
        Tensor("g", at.x_shape, "int8", "gradient"),
        Tensor("d", at.x_shape, "int8", "gradient", Quantization(at.w_scale)),
    ]
    fold = round(log2(float(np.mean(at.w_scale))))
    return _task(name, step, tensors, {"g": at.gradients(at.x_shape)}, {"g": -3, "d": -3 + fold})


def average_pool(name: str, size: int, channels: int) -> Task:
    """Mean over the whole map."""
    at = _Layer(size, channels, channels)
    geometry = {"kernel": (size, size), "stride": (1, 1), "padding": (0, 0, 0, 0)}
    step = _step("avg_pool2d", ("x",), "y", **geometry)
    tensors = [
        Tensor("x", at.x_shape, "int8", "activation", at.x),
        Tensor("y", (1, 1, 1, channels), "int8", "activation", Quantization((0.011,), -128)),
    ]
    return _task(name, step, tensors, {"x": at.activations(at.x_shape)})


POINTWISE = ((48, 16, 8), (24, 48, 16), (12, 96, 24), (8, 48, 192))


def tasks() -> dict[str, Callable[[], Task]]:
    """Every measured layer, by name; made when called."""
    made: dict[str, Callable[[], Task]] = {}

    def put(make: Callable[..., Task], name: str, *layer: Any, **more: Any) -> None:
        made[name] = lambda: make(name, *layer, **more)

    for size, inputs, outputs in POINTWISE:
        put(forward, f"1x1 {size}x{size}x{inputs}->{outputs}", size, inputs, outputs)
    put(forward, "dw3x3 24x24x48", 24, 48, 48, 3, depthwise=True)
    put(forward, "dw3x3 s2 24x24x48", 24, 48, 48, 3, 2, depthwise=True)
    put(forward, "dw5x5 12x12x96", 12, 96, 96, 5, depthwise=True)
    put(forward, "dw7x7 12x12x96", 12, 96, 96, 7, depthwise=True)
    put(forward, "3x3 s2 96x96x3->16", 96, 3, 16, 3, 2)
    put(forward, "fc 640->128", 1, 640, 128)
    for size, inputs, outputs in POINTWISE:
        put(input_gradient, f"1x1 dX {size}x{size}x{inputs}->{outputs}", size, inputs, outputs)
    put(input_gradient, "dw3x3 dX 24x24x48", 24, 48, 48, 3, depthwise=True)
    put(input_gradient, "dw3x3 dX s2 24x24x48", 24, 48, 48, 3, 2, depthwise=True)
    put(input_gradient, "dw5x5 dX 12x12x96", 12, 96, 96, 5, depthwise=True)
    put(input_gradient, "3x3 dX 12x12x16->16", 12, 16, 16, 3)
    for size, inputs, outputs in POINTWISE:
        put(weight_update, f"1x1 dW {size}x{size}x{inputs}->{outputs}", size, inputs, outputs)
    put(weight_update, "fc dW 640->16", 1, 640, 16)
    put(weight_update, "3x3 dW 12x12x16->16", 12, 16, 16, 3)
    put(weight_update, "dw3x3 dW 24x24x48", 24, 48, 48, 3, depthwise=True)
    put(bias_update, "bias 12x12x24", 12, 24, 24)
    put(residual_add, "add 24x24x16", 24, 16)
    put(gradient_sum, "add gradient 24x24x16", 24, 16)
    put(gradient_copy, "clip gradient 8x8x48", 8, 48)
    put(packed_mask, "pack mask 12x12x96", 12, 96)
    put(average_pool, "avg pool 8x8x48", 8, 48)
    return made
