"""Samples and labels as the bytes that the device reads. Needs no TVM."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice_compiler.errors import UserError


def to_memory_order(manifest: dict[str, Any], x: NDArray[Any]) -> NDArray[Any]:
    """A sample in the user's axis order -> [H, W, C].

    Args:
        manifest: Of the model.
        x: One sample without the batch axis, shape `source_shape[1:]`.
    """
    shape, axes = manifest["input"]["shape"], manifest["input"]["axes"]
    order = [axis - 1 for axis in axes[1:] if axis is not None]
    return np.ascontiguousarray(np.asarray(x).transpose(order)).reshape(shape[1:])


def pack_sample(manifest: dict[str, Any], x: NDArray[Any]) -> bytes:
    """One float sample as the model's input tensor: transposed and, for int8, quantised.

    Args:
        manifest: Of the model.
        x: Shape `source_shape[1:]`; float in real units, or whole numbers for token indices.

    Returns:
        `manifest["input"]["bytes"]` bytes.

    Raises:
        UserError: A token index that is no row of the embedding.
    """
    entry = manifest["input"]
    if entry["dtype"] == "int32":
        return bytes(tokens(to_memory_order(manifest, x), entry["limit"]).astype("<i4").tobytes())
    values = to_memory_order(manifest, np.asarray(x, dtype=np.float32))
    if entry["dtype"] == "float32":
        return bytes(values.astype("<f4").tobytes())
    integers: NDArray[Any] = (
        np.rint(values.astype(np.float64) / entry["scale"]) + entry["zero_point"]
    )
    return bytes(np.clip(integers, -128, 127).astype(np.int8).tobytes())


def tokens(values: NDArray[Any], limit: int) -> NDArray[np.int32]:
    """Token indices as int32, whatever number type carried them.

    Raises:
        UserError: One is not a whole number from 0 to limit - 1.
    """
    numbers = np.asarray(values, np.float64)
    bad = numbers[~((numbers >= 0) & (numbers < limit) & (numbers == np.floor(numbers)))]
    if bad.size:
        raise UserError(
            f"a sample holds the token {bad[0]:g}; allowed: whole numbers 0 to {limit - 1} "
            f"(the embedding has {limit} rows)"
        )
    return numbers.astype(np.int32)


def pack_label(manifest: dict[str, Any], y: Any) -> bytes:
    """A class index, or a target vector in memory order, as bytes."""
    if manifest["label"]["kind"] == "class":
        return int(y).to_bytes(4, "little")
    return np.asarray(y, dtype="<f4").reshape(-1).tobytes()
