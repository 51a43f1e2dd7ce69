"""Integer form of weights and biases: a scale for each output channel, Q8.8 where trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.program import Quantization, Step, Tensor

Q88_HALF = 128  # Makes the high byte of a Q8.8 weight its rounded value.
Q88_MAXIMUM = 127 * 256 + 255
SMALLEST_SCALE = 1e-9
CHANNEL_FLOOR = 1e-3  # Of the largest channel: an all-zero channel must still be able to learn.


def quantize_weight_and_bias(
    step: Step,
    tensors: dict[str, Tensor],
    values: dict[str, NDArray[Any]],
    headroom: float,
) -> None:
    """Quantises a step with inputs (x, weight [O, ...], bias [O]).

    Args:
        step: Reads x, whose quantization is known, the weight and the bias.
        tensors: Those of the weight and the bias are replaced.
        values: Likewise.
        headroom: Factor on the scale of a trained weight, so that it can grow.
    """
    x, weight, bias = (tensors[name] for name in step.inputs)
    real = np.asarray(values[weight.name], np.float64)
    peaks = np.abs(real).reshape(real.shape[0], -1).max(axis=1)
    largest = max(float(peaks.max()), SMALLEST_SCALE)
    headroom = headroom if weight.trainable else 1.0
    scale = np.maximum(peaks, CHANNEL_FLOOR * largest) * headroom / 127.0
    units = real / scale.reshape(-1, *[1] * (real.ndim - 1))
    if weight.trainable:
        stored = np.rint(units * 256.0) + Q88_HALF
        values[weight.name] = np.clip(stored, -127 * 256, Q88_MAXIMUM).astype(np.int16)
    else:
        values[weight.name] = np.clip(np.rint(units), -127, 127).astype(np.int8)
    dtype = "int16" if weight.trainable else "int8"
    quantization = Quantization(tuple(scale.tolist()))
    tensors[weight.name] = replace(weight, dtype=dtype, quantization=quantization)
    assert x.quantization is not None
    bias_scale = x.quantization.scales * scale
    rounded = np.rint(np.asarray(values[bias.name], np.float64) / bias_scale)
    values[bias.name] = np.clip(rounded, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    quantization = Quantization(tuple(bias_scale.tolist()))
    tensors[bias.name] = replace(bias, dtype="int32", quantization=quantization)
