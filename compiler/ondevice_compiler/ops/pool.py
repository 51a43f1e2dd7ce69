"""Max and average pooling; a global average pool is one whose window is the whole map."""

from __future__ import annotations

from typing import Any

import tvm.tirx.script.builder as T

from ondevice_compiler.kernel_builder import LARGEST_FLOAT32, KernelBuilder
from ondevice_compiler.ops.geometry import Window, guarded
from ondevice_compiler.ops.gradient_store import COPY_SPARE, gradient_store
from ondevice_compiler.ops.operator import Operator, call, register, same_quantization, shape_of
from ondevice_compiler.ops.requantization import requantizer
from ondevice_compiler.program import Program, Step

NO_ARGMAX = 255  # Larger than any window index that fits a uint8.


def _window(step: Step, feature: tuple[int, ...], output: tuple[int, ...]) -> Window:
    return Window.of(step, feature, output, tuple(step.attributes["kernel"]))


def _along(window: Window) -> dict[str, int]:
    return {"kh": window.kernel_height, "kw": window.kernel_width}


def _axes(shape: tuple[int, ...]) -> dict[str, int]:
    return {"ih": shape[1], "iw": shape[2], "c": shape[3]}


def lower_max(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = max over the window; same scale as the input."""
    x_tensor, y_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    window = _window(step, x_tensor.shape, y_tensor.shape)
    x, y = k.tensor("x", x_tensor), k.tensor("y", y_tensor, written=True)
    integer = x_tensor.dtype == "int8"
    smallest = T.int32(-128) if integer else T.float32(-LARGEST_FLOAT32)

    def combine(acc: Any, h: Any, w: Any, c: Any, kh: Any, kw: Any) -> Any:
        row, column, inside = window.source(h, w, kh, kw)
        element = x[0, row, column, c]
        return T.max(
            acc, guarded(inside, T.cast(element, "int32") if integer else element, smallest)
        )

    axes = _axes(y_tensor.shape)
    dtype = "int32" if integer else "float32"
    acc = k.reduce(axes, _along(window), dtype, lambda h, w, c: smallest, combine)
    k.store(axes, lambda h, w, c: [(y, T.cast(acc(h, w, c), y_tensor.dtype), (0, h, w, c))])


def lower_argmax(k: KernelBuilder, step: Step, program: Program) -> None:
    """Index in the window of the first element equal to the maximum: all that backward needs."""
    x_tensor, y_tensor = (program.tensor(name) for name in step.inputs)
    out_tensor = program.tensor(step.outputs[0])
    window = _window(step, x_tensor.shape, y_tensor.shape)
    x, y = k.tensor("x", x_tensor), k.tensor("y", y_tensor)
    out = k.tensor("index", out_tensor, written=True)

    def combine(acc: Any, h: Any, w: Any, c: Any, kh: Any, kw: Any) -> Any:
        row, column, inside = window.source(h, w, kh, kw)
        same = x[0, row, column, c] == y[0, h, w, c]
        same = same if inside is None else T.And(inside, same)
        return T.min(acc, T.if_then_else(same, kh * window.kernel_width + kw, NO_ARGMAX))

    axes = _axes(y_tensor.shape)
    acc = k.reduce(axes, _along(window), "int32", lambda h, w, c: T.int32(NO_ARGMAX), combine)
    k.store(axes, lambda h, w, c: [(out, T.cast(acc(h, w, c), out_tensor.dtype), (0, h, w, c))])


def lower_max_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx = sum of the gradients of the windows whose maximum this pixel is."""
    g_tensor, i_tensor = (program.tensor(name) for name in step.inputs[:2])
    out_tensor = program.tensor(step.outputs[0])
    window = _window(step, out_tensor.shape, g_tensor.shape)
    g, index = k.tensor("g", g_tensor), k.tensor("index", i_tensor)
    integer = g_tensor.dtype == "int8"
    zero = T.int32(0) if integer else T.float32(0)

    def combine(acc: Any, h: Any, w: Any, c: Any, kh: Any, kw: Any) -> Any:
        row, column, inside = window.target(h, w, kh, kw)
        chosen = T.cast(index[0, row, column, c], "int32") == kh * window.kernel_width + kw
        chosen = chosen if inside is None else T.And(inside, chosen)
        value = g[0, row, column, c]
        return acc + T.if_then_else(chosen, T.cast(value, "int32") if integer else value, zero)

    _store_gradient(k, step, program, window, combine, 1.0)


def lower_average(k: KernelBuilder, step: Step, program: Program) -> None:
    """y = mean over the window, padding counted as zeros."""
    x_tensor, y_tensor = program.tensor(step.inputs[0]), program.tensor(step.outputs[0])
    window = _window(step, x_tensor.shape, y_tensor.shape)
    area = window.kernel_height * window.kernel_width
    x = k.tensor("x", x_tensor)
    integer = x_tensor.dtype == "int8"
    zero = T.int32(0) if integer else T.float32(0)
    if integer:
        assert x_tensor.quantization is not None
        assert y_tensor.quantization is not None
        ratio = x_tensor.quantization.scales / y_tensor.quantization.scales / area
        x_zero, y_zero = x_tensor.quantization.zero_point, y_tensor.quantization.zero_point
        if x_tensor.quantization == y_tensor.quantization and not any(step.attributes["padding"]):
            # A mean in the same units needs no zero point, and then rounds as TFLite's. A factor
            # just below 1 / area would round ties towards zero.
            x_zero = y_zero = 0
            ratio = ratio * (1.0 + 2.0**-31)
        offset = k.scalar("x_zero", "int32", x_zero)
        bounds = (step.attributes.get("low", -128), step.attributes.get("high", 127))
        finish = requantizer(k, ratio, y_zero, bounds)
    else:
        factor = k.scalar("factor", "float32", 1.0 / area)
    y = k.tensor("y", y_tensor, written=True)

    def combine(acc: Any, h: Any, w: Any, c: Any, kh: Any, kw: Any) -> Any:
        row, column, inside = window.source(h, w, kh, kw)
        element = x[0, row, column, c]
        value = T.cast(element, "int32") - offset if integer else element
        return acc + guarded(inside, value, zero)

    def store(h: Any, w: Any, c: Any) -> list[tuple[Any, Any, Any]]:
        value = acc(h, w, c)
        if integer:
            return [(y, finish(value, 0), (0, h, w, c))]
        return [(y, value * factor, (0, h, w, c))]

    axes = _axes(y_tensor.shape)
    acc = k.reduce(
        axes, _along(window), "int32" if integer else "float32", lambda h, w, c: zero, combine
    )
    k.store(axes, store)


def lower_average_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dx = sum of the gradients of the windows that cover this pixel, divided by their area."""
    g_tensor = program.tensor(step.inputs[0])
    out_tensor = program.tensor(step.outputs[0])
    window = _window(step, out_tensor.shape, g_tensor.shape)
    g = k.tensor("g", g_tensor)
    integer = g_tensor.dtype == "int8"
    zero = T.int32(0) if integer else T.float32(0)

    def combine(acc: Any, h: Any, w: Any, c: Any, kh: Any, kw: Any) -> Any:
        row, column, inside = window.target(h, w, kh, kw)
        value = g[0, row, column, c]
        return acc + guarded(inside, T.cast(value, "int32") if integer else value, zero)

    area = window.kernel_height * window.kernel_width
    if window.out_height == 1 and window.out_width == 1 and not window.top and not window.left:
        # A global pool: every pixel gets the one gradient of its channel.
        store, _ = gradient_store(k, step, program, 1.0 / area, spare=COPY_SPARE)

        def spread(h: Any, w: Any, c: Any) -> list[tuple[Any, Any, Any]]:
            value = g[0, 0, 0, c]
            return store(T.cast(value, "int32") if integer else value, (0, h, w, c))

        k.store(_axes(out_tensor.shape), spread)
        return
    _store_gradient(k, step, program, window, combine, 1.0 / area)


def _store_gradient(
    k: KernelBuilder, step: Step, program: Program, window: Window, combine: Any, factor: float
) -> None:
    integer = program.tensor(step.inputs[0]).dtype == "int8"
    store, _ = gradient_store(k, step, program, factor, spare=COPY_SPARE)
    axes = _axes(program.tensor(step.outputs[0]).shape)
    dtype = "int32" if integer else "float32"
    start = T.int32(0) if integer else T.float32(0)
    acc = k.reduce(axes, _along(window), dtype, lambda h, w, c: start, combine)
    k.store(axes, lambda h, w, c: store(acc(h, w, c), (0, h, w, c)))


def _shape(attributes: Any, x: Any) -> tuple[int, ...]:
    top, left, bottom, right = attributes["padding"]
    (kernel_height, kernel_width), (sh, sw) = attributes["kernel"], attributes["stride"]
    height = (x[1] + top + bottom - kernel_height) // sh + 1
    width = (x[2] + left + right - kernel_width) // sw + 1
    return (1, height, width, x[3])


def _geometry(attributes: Any) -> dict[str, list[int]]:
    return {name: list(attributes[name]) for name in ("kernel", "stride", "padding")}


def _max_gradient(attributes: Any, adjoint: Any, output: Any, x: Any) -> list[Any]:
    index = call("max_pool2d_argmax", x, output, **_geometry(attributes))
    shape = list(shape_of(x))
    return [call("max_pool2d_gradient", adjoint, index, shape=shape, **_geometry(attributes))]


def _average_gradient(attributes: Any, adjoint: Any, output: Any, x: Any) -> list[Any]:
    shape = list(shape_of(x))
    return [call("avg_pool2d_gradient", adjoint, shape=shape, **_geometry(attributes))]


register("max_pool2d", lower_max, _shape, _max_gradient)
register("max_pool2d_argmax", lower_argmax, lambda attributes, x, y: y)
register("max_pool2d_gradient", lower_max_gradient, lambda a, g, i: tuple(a["shape"]))
register("avg_pool2d", lower_average, _shape, _average_gradient)
register("avg_pool2d_gradient", lower_average_gradient, lambda a, g: tuple(a["shape"]))
MAX, ARGMAX, MAX_GRADIENT = (
    Operator(lower_max, output_quantization=same_quantization),
    Operator(lower_argmax),
    Operator(lower_max_gradient),
)
AVERAGE, AVERAGE_GRADIENT = Operator(lower_average), Operator(lower_average_gradient)
