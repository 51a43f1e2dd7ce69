"""An elementwise function of a feature map: in int8, a table of 256 entries.

The attribute `curve` is the function, `slope` its derivative as a function of what is saved for
backward: the input, the output where that tells it (sigmoid, tanh), or nothing where the derivative
is constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tvm.tirx.script.builder as T
from numpy.typing import NDArray

from ondevice_compiler.curve import ONE, Curve, derivative_from_output, parse
from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.clip import axes_of
from ondevice_compiler.ops.gradient_store import gradient_store
from ondevice_compiler.ops.operator import Operator, call, register
from ondevice_compiler.program import Program, Quantization, Step, Tensor

ENTRIES = np.arange(-128, 128)
SIGMOID_QUANTIZATION = Quantization((1.0 / 256.0,), -128)
LARGEST_SLOPE = 32767
MAXIMUM_FRACTION_BITS = 30


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = curve(x)."""
    x_tensor, y_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    curve = parse(step.attributes["curve"])
    x = k.tensor("x", x_tensor)
    axes = axes_of(x_tensor)
    if x_tensor.dtype == "float32":
        value = _float_function(k, curve, axes, x)
    else:
        assert y_tensor.quantization is not None
        scale, zero = y_tensor.quantization.scales[0], y_tensor.quantization.zero_point
        entries = np.rint(_at_entries(curve, x_tensor) / scale) + zero
        value = _entry(k.table("table", np.clip(entries, -128, 127).astype(np.int8)), x)
    y = k.tensor("y", y_tensor, written=True)
    k.store(axes, lambda *i: [(y, value(*i), i)])


def lower_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx = g * slope(saved); int8: slopes in fixed point, their factor in the store."""
    g_tensor, slope = program.tensor(step.inputs[0]), parse(step.attributes["slope"])
    g = k.tensor("g", g_tensor)
    saved_tensor = program.tensor(step.inputs[0 if slope.op == "constant" else 1])
    saved = g if saved_tensor is g_tensor else k.tensor("saved", saved_tensor)
    axes = axes_of(g_tensor)
    if g_tensor.dtype == "float32":
        value = _float_function(k, slope, axes, saved)
        store, _ = gradient_store(k, step, program)
        k.store(axes, lambda *i: store(g[i] * value(*i), i))
        return
    slopes = _at_entries(slope, saved_tensor) if slope.op != "constant" else slope(np.zeros(1))
    bits = fraction_bits(slopes)
    fixed = np.rint(slopes * 2.0**bits).astype(np.int16)
    if slope.op == "constant":
        only = k.scalar("slope", "int32", int(fixed[0]))
        value = lambda *i: only  # noqa: E731
    else:
        value = _entry(k.table("slopes", fixed), saved)
    store, _ = gradient_store(k, step, program, 2.0**-bits)

    def product(*i: Any) -> list[tuple[Any, Any, Any]]:
        return store(T.cast(g[i], "int32") * T.cast(value(*i), "int32"), i)

    k.store(axes, product)


def fraction_bits(slopes: NDArray[np.float64]) -> int:
    """Most bits after the point with which every slope fits an int16."""
    largest = float(np.abs(slopes).max())
    if largest == 0.0:
        return 0
    return min(int(np.floor(np.log2(LARGEST_SLOPE / largest))), MAXIMUM_FRACTION_BITS)


def _at_entries(curve: Curve, tensor: Tensor) -> NDArray[np.float64]:
    """The curve at each of the 256 values of an int8 tensor."""
    assert tensor.quantization is not None
    real = tensor.quantization.scales[0] * (ENTRIES - tensor.quantization.zero_point)
    return np.asarray(curve(real), np.float64)


def _entry(table: Any, x: Any) -> Callable[..., Any]:
    """Reads the table at an element of x."""
    return lambda *i: table[T.cast(x[i], "int32") + 128]


def _float_function(
    k: KernelBuilder, curve: Curve, axes: Mapping[str, int], x: Any
) -> Callable[..., Any]:
    """The curve of an element of x in float32, its constants as parameters of the kernel."""
    constants = {
        number: k.scalar(f"c{index}", "float32", number)
        for index, number in enumerate(curve.constants())
    }
    zero = T.float32(0)
    functions: dict[str, Callable[..., Any]] = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
        "max": T.max,
        "min": T.min,
        "leaky": lambda a, slope: T.Select(a > zero, a, slope * a),
        "step": lambda a: T.Select(a > zero, T.float32(1), zero),
        "abs": lambda a: T.max(a, zero - a),
        "exp": k.exponential,
        "sqrt": k.square_root,
        "log": lambda a: k.runtime_function("od_logf", T.log, a),
        "erf": lambda a: k.runtime_function("od_erff", T.erf, a),
        "tanh": lambda a: k.runtime_function("od_tanhf", T.tanh, a),
        "sigmoid": lambda a: k.runtime_function("od_sigmoidf", T.sigmoid, a),
    }
    shared: dict[Curve, Callable[..., Any]] = {}

    def value(part: Curve) -> Callable[..., Any]:
        earlier = dict(shared)

        def at(*i: Any) -> Any:
            known = {other: read(*i) for other, read in earlier.items()}
            return part.evaluate(x[i], functions, constants.__getitem__, known)

        return at

    for index, part in enumerate(curve.shared()):
        shared[part] = k.value(axes, f"f{index}", "float32", value(part))
    return value(curve)


def _output_quantization(step: Step, tensors: Mapping[str, Tensor]) -> Quantization | None:
    """Of a sigmoid fixed by its range; of others calibrated."""
    return SIGMOID_QUANTIZATION if parse(step.attributes["curve"]).op == "sigmoid" else None


def _gradient(attributes: Any, adjoint: Any, output: Any, x: Any) -> list[Any]:
    curve = parse(attributes["curve"])
    slope = curve.derivative()
    if slope == ONE:
        return [adjoint]
    if slope.op == "constant":
        return [call("lookup_gradient", adjoint, slope=str(slope))]
    by_output = derivative_from_output(curve)
    if by_output is not None:
        return [call("lookup_gradient", adjoint, output, slope=str(by_output))]
    return [call("lookup_gradient", adjoint, x, slope=str(slope))]


register("lookup", lower, lambda attributes, x: x, _gradient)
register("lookup_gradient", lower_gradient, lambda attributes, g, *saved: g)
OPERATOR = Operator(lower, output_quantization=_output_quantization)
GRADIENT = Operator(lower_gradient)
