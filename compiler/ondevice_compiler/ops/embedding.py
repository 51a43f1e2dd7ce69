"""Embedding: the rows of a table that the model's input, token indices, names.

    y[0, 0, t, c] = table[tokens[t], c]

In an int8 program the table has one scale and a row is requantised as it is read. An index outside
the table reads its nearest row.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import tvm.tirx.script.builder as T
from numpy.typing import NDArray

from ondevice_compiler.kernel_builder import KernelBuilder
from ondevice_compiler.ops.operator import Operator, call, register, shape_of
from ondevice_compiler.ops.parameter_update import parameter_update
from ondevice_compiler.ops.requantization import requantizer
from ondevice_compiler.ops.split_weight import weight_value
from ondevice_compiler.ops.weight_quantization import (
    Q88_HALF,
    Q88_MAXIMUM,
    SMALLEST_SCALE,
)
from ondevice_compiler.program import Program, Quantization, Step, Tensor


def lower(k: KernelBuilder, step: Step, program: Program) -> None:
    """Copies one row for each token."""
    tokens_tensor, table_tensor = (program.tensor(name) for name in step.inputs)
    y_tensor = program.tensor(step.outputs[0])
    rows, width = table_tensor.shape
    tokens, table = k.tensor("tokens", tokens_tensor), k.tensor("table", table_tensor)
    finish = None
    if y_tensor.dtype == "int8":
        assert table_tensor.quantization is not None
        assert y_tensor.quantization is not None
        ratio = table_tensor.quantization.scales / y_tensor.quantization.scales
        finish = requantizer(k, ratio, y_tensor.quantization.zero_point)
    y = k.tensor("y", y_tensor, written=True)

    def copy(t: Any, c: Any) -> list[tuple[Any, Any, Any]]:
        value = weight_value(table[_row(tokens, t, rows), c], table_tensor.dtype)
        return [(y, value if finish is None else finish(value, 0), (0, 0, t, c))]

    k.store({"t": tokens_tensor.shape[3], "c": width}, copy)


def lower_weight_gradient(k: KernelBuilder, step: Step, program: Program) -> None:
    """dtable[v, c] = sum of g[t, c] over the tokens t that are v.

    Plain SGD moves only the rows that were looked up, one token after another; whatever keeps a
    state of every row (momentum, sums), decays it or clips its gradient needs the whole gradient.
    """
    g_tensor, tokens_tensor = (program.tensor(name) for name in step.inputs[:2])
    rows, width = step.attributes["shape"]
    count = tokens_tensor.shape[3]
    integer = g_tensor.dtype == "int8"
    dtype = "int32" if integer else "float32"
    g, tokens = k.tensor("g", g_tensor), k.tensor("tokens", tokens_tensor)
    update = parameter_update(k, step, program)

    def gradient(t: Any, c: Any) -> Any:
        return T.cast(g[0, 0, t, c], dtype)

    others_move = {"weight_decay", "clip_value"} & set(step.attributes)
    if step.attributes.get("update") == "sgd" and not others_move:
        k.store(
            {"t": count, "c": width},
            lambda t, c: update(gradient(t, c), (_row(tokens, t, rows), c)),
        )
        return
    zero = T.int32(0) if integer else T.float32(0)

    def combine(acc: Any, v: Any, c: Any, t: Any) -> Any:
        return acc + T.if_then_else(_row(tokens, t, rows) == v, gradient(t, c), zero)

    axes = {"v": rows, "c": width}
    acc = k.reduce(axes, {"t": count}, dtype, lambda v, c: zero, combine)
    k.store(axes, lambda v, c: update(acc(v, c), (v, c)))


def _row(tokens: Any, t: Any, rows: int) -> Any:
    """Row of a token: never outside the table, whatever the input holds."""
    return T.max(T.min(tokens[0, 0, 0, t], rows - 1), 0)


def quantize_table(
    step: Step, tensors: dict[str, Tensor], values: dict[str, NDArray[Any]], headroom: float
) -> None:
    """Gives the table one scale; Q8.8 where it is trained."""
    name = step.inputs[1]
    table, real = tensors[name], np.asarray(values[name], np.float64)
    scale = max(float(np.abs(real).max()), SMALLEST_SCALE) / 127.0
    scale *= headroom if table.trainable else 1.0
    units = np.rint(real / scale * 256.0) + Q88_HALF
    stored = np.clip(units, -127 * 256, Q88_MAXIMUM).astype(np.int16)
    # A frozen table is the high byte of a trained one.
    values[name] = stored if table.trainable else (stored >> 8).astype(np.int8)
    dtype = "int16" if table.trainable else "int8"
    tensors[name] = replace(table, dtype=dtype, quantization=Quantization((scale,)))


def _gradient(attributes: Any, adjoint: Any, output: Any, tokens: Any, table: Any) -> list[Any]:
    shape = list(shape_of(table))
    return [None, call("embedding_weight_gradient", adjoint, tokens, shape=shape)]


register("embedding", lower, lambda a, tokens, table: (1, 1, tokens[3], table[1]), _gradient)
register("embedding_weight_gradient", lower_weight_gradient, lambda a, g, t: tuple(a["shape"]))
OPERATOR = Operator(lower, quantize_parameters=quantize_table)
WEIGHT_GRADIENT = Operator(lower_weight_gradient)
