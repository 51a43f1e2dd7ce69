"""Integer form of weights and biases: a scale for each output channel, Q8.8 where trained."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.ops.split_weight import weight_tensors, whole_values
from ondevice_compiler.program import Quantization, Step, Tensor

Q88_HALF = 128  # Makes the high byte of a Q8.8 weight its rounded value.
Q88_MAXIMUM = 127 * 256 + 255
SMALLEST_SCALE = 1e-9
CHANNEL_FLOOR = 1e-3  # Of the largest channel: an all-zero channel must still be able to learn.
SINGLE_HEADROOM = 127 / 64  # A channel's only weight must be able to grow; 64 steps are exact.
LARGEST_PRODUCT = 255 * 127  # Of an activation less its zero point, and a weight.


def quantize_weight_and_bias(
    step: Step,
    tensors: dict[str, Tensor],
    values: dict[str, NDArray[Any]],
    headroom: float,
) -> None:
    """Quantises a step with inputs (x, weight [O, ...], bias [O][, frozen part of the weight]).

    Args:
        step: Reads x, whose quantization is known, the weight and the bias. Its attribute
            `w_scale`, if any, is the weight's scale in the file that it came from.
        tensors: Those of the weight and the bias are replaced.
        values: Likewise.
        headroom: Factor on the scale of a trained weight, so that it can grow.
    """
    x, weight, bias = (tensors[name] for name in step.inputs[:3])
    parts = weight_tensors(step, tensors)
    real = np.asarray(whole_values(parts, values), np.float64)
    if real[0].size == 1:
        headroom = max(headroom, SINGLE_HEADROOM)
    headroom = headroom if weight.trainable else 1.0
    scale = _scales(real, step.attributes.get("w_scale")) * headroom
    units = real / scale.reshape(-1, *[1] * (real.ndim - 1))
    stored = np.clip(np.rint(units * 256.0) + Q88_HALF, -127 * 256, Q88_MAXIMUM).astype(np.int16)
    for tensor in parts:
        mine, own = stored, scale
        if tensor.part is not None:
            channels = list(tensor.part.channels)
            mine = stored.take(channels, tensor.part.axis)
            own = scale[channels] if tensor.part.axis == 0 else scale
        # A frozen weight is the high byte of a trained one: schemes start from the same network.
        values[tensor.name] = mine if tensor.trainable else (mine >> 8).astype(np.int8)
        dtype = "int16" if tensor.trainable else "int8"
        quantization = Quantization(tuple(own.tolist()))
        tensors[tensor.name] = replace(tensor, dtype=dtype, quantization=quantization)
    assert x.quantization is not None
    bias_scale = x.quantization.scales * scale
    rounded = np.rint(np.asarray(values[bias.name], np.float64) / bias_scale)
    # The rest of the accumulator's range is for the products, which must not overflow it.
    limit = 2**31 - 1 - LARGEST_PRODUCT * real[0].size
    values[bias.name] = np.clip(rounded, -limit, limit).astype(np.int32)
    quantization = Quantization(tuple(bias_scale.tolist()))
    tensors[bias.name] = replace(bias, dtype="int32", quantization=quantization)


def _scales(real: NDArray[np.float64], kept: tuple[float, ...] | None) -> NDArray[np.float64]:
    """Scale of each output channel: the file's own, or such that the largest weight is 127."""
    channels = np.abs(real).reshape(real.shape[0], -1)
    scale = channels.max(axis=1) / 127.0 if kept is None else np.asarray(kept, np.float64)
    largest = max(float(scale.max()), SMALLEST_SCALE / 127.0)
    return np.asarray(np.maximum(scale, CHANNEL_FLOOR * largest), np.float64)
