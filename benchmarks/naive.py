"""Our plain loops (naive.c) for a task, beside which the compiler's kernels are shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.measure.task import KernelSource, Task
from ondevice_compiler.c_text import literal, table
from ondevice_compiler.fixed_point import encode_multipliers
from ondevice_compiler.program import Tensor

SOURCE = Path(__file__).with_suffix(".c")


def naive_kernel(task: Task) -> KernelSource | None:
    """The same computation in plain loops; None where naive.c has none."""
    make = _CALLS.get(task.program.steps[0].op)
    if make is None:
        return None
    statement, tables = make(task)
    text = "\n".join(table(name, values) for name, values in tables.items())
    return KernelSource(SOURCE.read_text(encoding="utf-8"), statement, text)


_Made = tuple[str, dict[str, NDArray[Any]]]


def _conv2d(task: Task) -> _Made:
    step, (x, w, _, y) = task.program.steps[0], _tensors(task)
    assert x.quantization is not None
    assert w.quantization is not None
    assert y.quantization is not None
    factors = x.quantization.scale[0] * w.quantization.scales / y.quantization.scale[0]
    low, high = step.attributes["low"], step.attributes["high"]
    zeros = f"multiplier, shift, {x.quantization.zero_point}, {y.quantization.zero_point}"
    layer = _layer(task, x, w, y)
    return f"naive_conv2d({layer}, x, w, b, {zeros}, {low}, {high}, y);", _multipliers(factors)


def _conv2d_dx(task: Task) -> _Made:
    step, (g, w, _, dx) = task.program.steps[0], _tensors(task)
    assert dx.quantization is not None
    low, high = step.attributes["low"], step.attributes["high"]
    exponent = "od_scales[0].exponent - od_scales[1].exponent"
    call = (
        f"naive_conv2d_dx({_layer(task, dx, w, g)}, g, w, x, multiplier, shift, {exponent}, "
        f"{low}, {high}, &od_scales[1], dx);"
    )
    return call, _multipliers(dx.quantization.scales)


def _conv2d_dw(task: Task) -> _Made:
    g, x, w = _tensors(task)
    assert x.quantization is not None
    assert w.quantization is not None
    assert g.quantization is not None
    unit = x.quantization.scales * 256.0 / (g.quantization.scales * w.quantization.scales)
    rate = "od_rate(rate, &od_scales[0])"
    zero = x.quantization.zero_point
    call = f"naive_conv2d_dw({_layer(task, x, w, g)}, g, x, {zero}, unit, {rate}, w);"
    return call, {"unit": unit.astype(np.float32)}


_CALLS = {"conv2d": _conv2d, "conv2d_dx": _conv2d_dx, "conv2d_dw": _conv2d_dw}


def _tensors(task: Task) -> tuple[Tensor, ...]:
    return tuple(task.program.tensors.values())


def _layer(task: Task, x: Tensor, w: Tensor, y: Tensor) -> str:
    step = task.program.steps[0]
    fields = [
        *x.shape[1:], *y.shape[1:], w.shape[1],
        step.attributes["stride"][0], step.attributes["padding"][0], step.attributes["groups"],
    ]  # fmt: skip
    return f"(naive_layer_t){{{', '.join(literal(field, 'int32') for field in fields)}}}"


def _multipliers(factors: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    multiplier, shift = encode_multipliers(factors)
    return {"multiplier": multiplier, "shift": shift}
